//! The events of an answer that is made in the background, from any of them on.

use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;

use super::store::Store;
use crate::sim::reply::{Break, Broken, Feed};

/// One reader. As in vLLM 0.32 the stream ends with the answer only: of one that was cancelled, or from a place behind
/// the end, there is no byte more and no end.
pub(super) struct Follow {
    store: Arc<Store>,
    id: String,
    next: usize,
    ended: bool,
}

impl Follow {
    /// From the event with this number on.
    pub(super) fn new(store: Arc<Store>, id: &str, next: usize) -> Self {
        Self { store, id: id.to_owned(), next, ended: false }
    }
}

impl Feed for Follow {
    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Broken>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let found = ready!(self.store.poll_event(&self.id, self.next, cx));
        let Some((event, last)) = found else { return Poll::Ready(Some(Err(Broken))) };
        self.next += 1;
        self.ended = last;
        Poll::Ready(Some(Ok(event)))
    }
}

/// What vLLM 0.32 sends of an answer that was never a stream: a head, and then it lets go of the connection.
pub(super) struct NoEvents(Break);

impl NoEvents {
    /// For one reader.
    pub(super) fn new() -> Self {
        Self(Break::EndSoon)
    }
}

impl Feed for NoEvents {
    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Broken>>> {
        self.0.poll(cx).map(|broken| Some(Err(broken)))
    }
}
