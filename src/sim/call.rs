//! One request, and how it is answered: at once, piece by piece, or as its fault wants it.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{StatusCode, Version};

use super::engine::{Finish, Flight, Job};
use super::events::{Events, Script};
use super::faults::Fault;
use super::node::{Live, Node};
use super::reply::{self, Break, Reply};
use super::wire::{Ending, Line};

/// The engine died before there was an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct EngineDied;

/// One request that arrived whole.
pub(super) struct Call {
    /// Who answers.
    pub(super) node: Arc<Node>,
    /// As of its arrival.
    pub(super) live: Arc<Live>,
    /// Its connection.
    pub(super) line: Arc<Line>,
    /// Its head.
    pub(super) head: Parts,
    /// Its body.
    pub(super) body: Bytes,
    /// What goes wrong with it.
    pub(super) fault: Option<Fault>,
}

/// How long an answer is, and why it ends there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Length {
    /// In tokens, at least 1.
    pub(super) tokens: usize,
    /// Never [`Finish::Error`].
    pub(super) finish: Finish,
}

impl Call {
    /// Hands the request to the engine.
    pub(super) fn begin(&self, job: &Job) -> Flight {
        Flight::begin(&self.node, job, self.live.first_token)
    }

    /// The answer in one piece, when its time has come; `body` writes it then. `tokens` is what all its choices have.
    ///
    /// # Errors
    /// The fault of this request is that the engine dies.
    pub(super) async fn whole(
        &self,
        mut flight: Flight,
        length: Length,
        tokens: usize,
        body: impl FnOnce(&Flight) -> String,
    ) -> Result<Reply, EngineDied> {
        poll_fn(|cx| flight.poll_first_token(cx)).await;
        let rest = self.time_after_first(length.tokens);
        if !rest.is_zero() {
            tokio::time::sleep(rest).await;
        }
        flight.made(tokens);
        match self.broken_off() {
            None if matches!(self.fault, Some(Fault::DieAfter(_))) => {
                flight.finish(Finish::Error);
                Err(EngineDied)
            }
            None => {
                let body = body(&flight);
                flight.finish(length.finish);
                Ok(reply::json(StatusCode::OK, body))
            }
            Some(then) => {
                if matches!(then, Break::End(..)) {
                    flight.finish(Finish::Error);
                }
                Ok(reply::torn(body(&flight).into(), then, flight))
            }
        }
    }

    /// The answer as a stream of events.
    pub(super) fn stream(&self, flight: Flight, script: impl Script + 'static) -> Reply {
        let events = Events::new(Box::new(script), self.live.token_delay, flight);
        let events = match (&self.fault, self.broken_off()) {
            (Some(Fault::DieAfter(after)), _) => events.dying_after(*after),
            (
                Some(Fault::StallAfter(after) | Fault::CutAfter(after) | Fault::ResetAfter(after)),
                Some(then),
            ) => events.breaking_after(*after, then),
            _ => events,
        };
        reply::stream(events)
    }

    /// How the connection ends on this request.
    pub(super) fn ends(&self, ending: Ending) {
        // Over HTTP/2 other requests share the connection: only the stream is reset.
        if self.head.version != Version::HTTP_2 {
            self.line.will_end(ending);
        }
    }

    fn broken_off(&self) -> Option<Break> {
        let line =
            if self.head.version == Version::HTTP_2 { Line::new() } else { self.line.clone() };
        match self.fault {
            Some(Fault::StallAfter(_)) => Some(Break::Stall),
            Some(Fault::CutAfter(_)) => Some(Break::End(line, Ending::Close)),
            Some(Fault::ResetAfter(_)) => Some(Break::End(line, Ending::Reset)),
            _ => None,
        }
    }

    fn time_after_first(&self, tokens: usize) -> Duration {
        let steps = u32::try_from(tokens.saturating_sub(1)).unwrap_or(u32::MAX);
        self.live.token_delay.saturating_mul(steps)
    }
}
