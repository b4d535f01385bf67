//! What of an answer is written to the client now, and what waits.

use std::mem;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use http::header;
use pingora::Result;
use pingora_core::protocols::http::HttpTask;

use super::super::{Farewell, has_begun, is_stream};
use super::StandIn;
use crate::gateway::failure;

impl StandIn {
    /// Keeps a head to which nothing has come yet, and what an earlier try's client has already. Gives what is to be
    /// written of it all, and whether that holds bytes of an answer.
    pub(super) fn sort(&mut self, mut tasks: Vec<HttpTask>) -> Result<(Vec<HttpTask>, bool)> {
        let begun = has_begun(self.real.response_written());
        let (bytes, end) = self.look_at(&tasks);
        let breaks = tasks.iter().any(|task| matches!(task, HttpTask::Failed(_)));
        let passes = self.shared.passes.load(Relaxed);
        if !(passes || bytes || end || breaks && self.shared.written.load(Relaxed)) {
            return Ok((self.keep_head(tasks, begun)?, false));
        }
        if bytes || self.shared.written.load(Relaxed) {
            self.end_well(&mut tasks);
        }
        if begun {
            tasks.retain(|task| !matches!(task, HttpTask::Header(..)));
        } else if let Some(head) = self.head.take() {
            tasks.insert(0, HttpTask::Header(head, false));
        }
        Ok((tasks, bytes))
    }

    /// Ends a stream that its node has broken off after a whole event: as the proxy would, but with a good end.
    fn end_well(&mut self, tasks: &mut [HttpTask]) {
        let Some(last) = tasks.last_mut() else { return };
        if let HttpTask::Failed(_) = last
            && self.open_ended
            && self.tail.begun()
            && self.tail.between_events()
        {
            let failed = mem::replace(last, HttpTask::Body(None, true));
            let HttpTask::Failed(error) = failed else { return };
            if self.shared.settled.load(Relaxed) {
                return;
            }
            let Farewell { dialect, id, .. } = &self.farewell;
            let event = failure::name_of(&error).event(*dialect, id.as_str());
            *last = HttpTask::Body(Some(event.into()), true);
            self.broke = Some(error);
        }
    }

    /// Whether there are bytes of a body in `tasks`, and whether they end it.
    fn look_at(&mut self, tasks: &[HttpTask]) -> (bool, bool) {
        let (mut bytes, mut ends) = (false, false);
        for task in tasks {
            match task {
                HttpTask::Header(head, end) => {
                    if is_stream(head) {
                        self.clock.stream_begins(Instant::now());
                        self.open_ended |= !head.headers.contains_key(header::CONTENT_LENGTH);
                    }
                    ends |= *end;
                }
                HttpTask::Body(body, end) | HttpTask::UpgradedBody(body, end) => {
                    if let Some(body) = body.as_ref().filter(|body| !body.is_empty()) {
                        bytes = true;
                        self.tail.push(body);
                    }
                    ends |= *end;
                }
                HttpTask::Trailer(_) | HttpTask::Done => ends = true,
                HttpTask::Failed(_) => {}
            }
        }
        (bytes, ends)
    }

    /// Keeps the head of an answer of which nothing is to be written; gives what has to go before it.
    fn keep_head(&mut self, tasks: Vec<HttpTask>, begun: bool) -> Result<Vec<HttpTask>> {
        let mut before = Vec::new();
        for task in tasks {
            match task {
                HttpTask::Header(..) if begun => {}
                HttpTask::Header(head, end) if head.status.is_informational() => {
                    before.push(HttpTask::Header(head, end));
                }
                HttpTask::Header(head, _) => {
                    self.head = Some(head);
                    self.keep_alarm_early();
                }
                HttpTask::Failed(error) => return Err(error),
                _ => {}
            }
        }
        Ok(before)
    }
}
