//! What of a node's answer has gone by.

use std::time::Instant;

use bytes::Bytes;
use http::header;
use pingora::http::ResponseHeader;

use super::context::Forward;
use super::mask::Mask;
use crate::wire::events::Tail;
use crate::wire::response_id::IdSearch;

/// Noted while the answer passes, piece by piece.
#[derive(Default)]
pub(super) struct AnswerSoFar {
    /// 0 before the head.
    pub(super) status: u16,
    pub(super) first_byte: Option<Instant>,
    /// Where an event stream stands.
    pub(super) tail: Option<Tail>,
    /// While the id of a response that is made has not come.
    pub(super) response_id: Option<IdSearch>,
    /// Over the body of an error.
    mask: Option<Mask>,
}

impl AnswerSoFar {
    /// The head goes by.
    pub(super) fn begin(&mut self, head: &ResponseHeader, forward: Option<&Forward>) {
        self.status = head.status.as_u16();
        let content_type = head.headers.get(header::CONTENT_TYPE);
        let stream = content_type.is_some_and(|v| v.as_bytes().starts_with(b"text/event-stream"));
        self.tail = stream.then(Tail::default);
        let noted =
            head.status.is_success() && forward.is_some_and(|forward| forward.notes_response);
        self.response_id = noted.then(|| match stream {
            true => IdSearch::in_events(),
            false => IdSearch::in_object(),
        });
        let credential = forward.and_then(|forward| forward.route.upstream.credential.as_ref());
        if let Some(credential) = credential.filter(|_| self.status >= 400) {
            self.mask = Some(Mask::new(credential.key.clone()));
        }
    }

    /// A piece goes by.
    pub(super) fn pass(&mut self, body: &mut Option<Bytes>, end: bool) {
        if let Some(piece) = body.as_ref().filter(|piece| !piece.is_empty()) {
            self.first_byte.get_or_insert_with(Instant::now);
            if let Some(tail) = &mut self.tail {
                tail.push(piece);
            }
        }
        if let Some(mask) = &mut self.mask {
            let passed = mask.pass(body.as_deref(), end);
            *body = (!passed.is_empty()).then_some(passed);
        }
    }
}
