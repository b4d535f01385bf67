//! What of a node's answer has gone by.

use std::mem;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use pingora::http::ResponseHeader;

use super::context::Forward;
use super::guard::Guard;
use super::held::Share;
use super::last_words::LastWords;
use super::mask::Mask;
use crate::wire::events::Tail;
use crate::wire::finish::{Finish, Reason};
use crate::wire::ollama::Answer as Translation;
use crate::wire::response_id::IdSearch;
use crate::wire::usage::Tally;

/// Noted while the answer passes, piece by piece. What the head says is of the last try's answer.
#[derive(Default)]
pub(super) struct AnswerSoFar {
    /// 0 before a head went to the client.
    pub(super) status: u16,
    /// The head of this try's answer is there.
    has_head: bool,
    /// The status of a head that waits for its first byte.
    waiting: u16,
    /// The client has what only this answer can go on from. Comments bind nobody.
    bound: bool,
    pub(super) first_byte: Option<Instant>,
    /// Where an event stream stands.
    pub(super) tail: Option<Tail>,
    /// While the id of a response that is made has not come.
    pub(super) response_id: Option<IdSearch>,
    /// While it is not known what an error is about.
    pub(super) last_words: Option<LastWords>,
    /// Into the client's dialect, where its node speaks another.
    pub(super) translation: Option<Box<Translation>>,
    /// Memory of what is kept of it until it is whole.
    pub(super) held: Option<Share>,
    /// The client of a session is told of it in other words, once it is whole.
    pub(super) in_short: bool,
    /// What it says of its tokens, where somebody needs to know.
    pub(super) tally: Option<Tally>,
    /// In an answer that is no stream: why it ended.
    finish: Option<Finish>,
    /// Over a stream whose good end is known.
    pub(super) guard: Option<Guard>,
    /// Over the body of an error.
    mask: Option<Mask>,
}

impl AnswerSoFar {
    /// Another try begins: the head that waited is lost.
    pub(super) fn next_try(&mut self) {
        (self.has_head, self.waiting, self.held) = (false, 0, None);
    }

    /// The node of this try has sent a head.
    pub(super) fn has_head(&self) -> bool {
        self.has_head
    }

    /// The head of a try's answer is there. `waits`: it goes to the client with the first byte.
    pub(super) fn begin(
        &mut self,
        head: &ResponseHeader,
        forward: Option<&Forward>,
        (stream, waits): (bool, bool),
    ) {
        self.has_head = true;
        self.waiting = head.status.as_u16();
        self.tail = stream.then(Tail::default);
        let noted =
            head.status.is_success() && forward.is_some_and(|forward| forward.notes_response);
        self.response_id = noted.then(|| match stream {
            true => IdSearch::in_events(),
            false => IdSearch::in_object(),
        });
        let told = forward.filter(|_| head.status.is_success() && !stream);
        self.finish = told.and_then(|forward| Finish::of_path(forward.asked.path()));
        self.mask = None;
        if !waits {
            self.bind();
        }
    }

    /// `key` is blotted out where the answer is an error.
    pub(super) fn hide(&mut self, key: &Arc<str>) {
        self.mask = (self.waiting >= 400 || self.status >= 400).then(|| Mask::new(key.clone()));
    }

    /// The head is on its way to the client, if it was not yet.
    pub(super) fn send_head(&mut self) {
        if self.waiting != 0 {
            self.status = mem::take(&mut self.waiting);
        }
    }

    /// The head, and more of this answer than that, is on its way to the client.
    fn bind(&mut self) {
        self.send_head();
        self.bound = true;
    }

    /// The client has all of the answer, or knows already that it broke.
    pub(super) fn is_over(&self) -> bool {
        self.guard.as_ref().is_some_and(Guard::is_over)
    }

    /// Why the answer ended, where it says so.
    pub(super) fn reason(&self) -> Option<Reason> {
        let of_stream = self.guard.as_ref().and_then(Guard::reason);
        of_stream.or_else(|| self.finish.as_ref().and_then(Finish::reason))
    }

    /// What the client gets is not what the node says.
    pub(super) fn is_retold(&self) -> bool {
        self.translation.is_some() || self.in_short
    }

    /// No other answer can take this one's place.
    pub(super) fn is_bound(&self) -> bool {
        self.bound
    }

    /// A piece goes by. True where it is the first that binds.
    pub(super) fn pass(&mut self, body: &mut Option<Bytes>, end: bool) -> bool {
        let was_bound = self.bound;
        if let Some(piece) = body.as_ref().filter(|piece| !piece.is_empty()) {
            self.first_byte.get_or_insert_with(Instant::now);
            if let Some(tail) = &mut self.tail {
                tail.push(piece);
            }
            if let Some(finish) = &mut self.finish {
                finish.push(piece);
            }
            self.bind();
        }
        if end {
            self.bind();
        }
        if let Some(mask) = &mut self.mask {
            let passed = mask.pass(body.as_deref(), end);
            *body = (!passed.is_empty()).then_some(passed);
        }
        !was_bound && self.bound
    }
}
