//! What a client's connection and the requests on it know of each other.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use http::StatusCode;
use pingora::http::ResponseHeader;
use pingora_core::protocols::Digest;
use pingora_core::protocols::raw_connect::ProxyDigest;

use crate::wire::raw_head::HEAD_BYTES_MAX;

/// Requests of HTTP/2 that a client may give up on one connection before it is judged: the streams that it may have open
/// at once, twice.
const GIVEN_UP_FREE: u32 = 200;

/// And as many more in a second, as long as the connection lives: people who type, many of them behind one proxy, give up
/// much of what they ask for.
const GIVEN_UP_EACH_SECOND: u32 = 20;

/// Bytes of a body that a client may send before it is told that nobody wants it (RFC 9113, 6.9.2).
const WINDOW_BYTES: u64 = 65_535;

/// Shared by a connection and its requests. Neither waits for the other.
#[derive(Debug)]
pub struct Link {
    http2: bool,
    began: Instant,
    /// Odd while a request of HTTP/1 is served, even while a head is waited for. Of HTTP/2: 1 from the first request on.
    turn: AtomicU32,
    /// Bytes that its requests account for, of HTTP/2.
    accounted: AtomicU64,
    /// Requests that ended well, and those that the client gave up.
    answered: AtomicU32,
    given_up: AtomicU32,
    cut: AtomicBool,
    /// Bytes of the request's body and one more, once it has come whole in chunks.
    chunks: AtomicU64,
    /// What came in chunks is no body.
    broken: AtomicBool,
}

impl Link {
    /// Of a connection on which nothing was sent yet.
    pub(super) fn new(http2: bool) -> Arc<Self> {
        Arc::new(Self {
            http2,
            began: Instant::now(),
            turn: AtomicU32::new(0),
            accounted: AtomicU64::new(0),
            answered: AtomicU32::new(0),
            given_up: AtomicU32::new(0),
            cut: AtomicBool::new(false),
            chunks: AtomicU64::new(0),
            broken: AtomicBool::new(false),
        })
    }

    /// That of a request's connection.
    pub fn of(digest: Option<&Digest>) -> Option<&Arc<Self>> {
        let told = digest?.proxy_digest.as_ref()?.user_data.as_ref()?;
        told.downcast_ref()
    }

    /// What carries it through Pingora, which has no place for it but this one: there is no proxy.
    pub(super) fn carried(self: &Arc<Self>) -> Option<Arc<ProxyDigest>> {
        let head = ResponseHeader::build(StatusCode::OK, Some(0)).ok()?;
        Some(Arc::new(ProxyDigest::new(Box::new(head), Some(Box::new(self.clone())))))
    }

    pub(super) fn is_http2(&self) -> bool {
        self.http2
    }

    /// A head was read.
    pub fn request_begins(&self) {
        if self.http2 {
            self.turn.store(1, Relaxed);
            self.accounted.fetch_add(HEAD_BYTES_MAX as u64 + WINDOW_BYTES, Relaxed);
        } else {
            self.turn.store(self.turn.load(Relaxed) | 1, Relaxed);
        }
    }

    /// A request is over; `given_up` by its client before the answer's end. A client that gives up more than it lets
    /// be answered is cut (rapid reset, CVE-2023-44487).
    pub fn request_ends(&self, given_up: bool) {
        if !self.http2 {
            let turn = self.turn.load(Relaxed);
            return self.turn.store(turn.wrapping_add(turn & 1), Relaxed);
        }
        if !given_up {
            self.answered.fetch_add(1, Relaxed);
            return;
        }
        let given_up = self.given_up.fetch_add(1, Relaxed);
        if given_up >= self.may_give_up(self.began.elapsed()) {
            self.cut.store(true, Relaxed);
        }
    }

    /// Which head is waited for; none while a request is served.
    pub(super) fn awaited_head(&self) -> Option<u32> {
        let turn = self.turn.load(Relaxed);
        (turn & 1 == 0).then_some(turn)
    }

    /// How many requests its client may give up while the connection is so old.
    fn may_give_up(&self, age: Duration) -> u32 {
        let seconds = u32::try_from(age.as_secs()).unwrap_or(u32::MAX);
        let by_time = seconds.saturating_mul(GIVEN_UP_EACH_SECOND);
        GIVEN_UP_FREE.saturating_add(self.answered.load(Relaxed)).saturating_add(by_time)
    }

    /// Bytes of a body came.
    pub fn body_came(&self, bytes: usize) {
        if self.http2 {
            // Frames have heads, and may be padded.
            self.accounted.fetch_add(2 * bytes as u64, Relaxed);
        }
    }

    /// A body has come in chunks, whole, with so many bytes.
    pub(super) fn chunks_came(&self, bytes: u64) {
        self.chunks.store(bytes.saturating_add(1), Relaxed);
    }

    /// What came in chunks is no body. Nothing that follows on the connection is a request.
    pub(super) fn chunks_broke(&self) {
        self.broken.store(true, Relaxed);
    }

    /// Another head is waited for.
    pub(super) fn forget_chunks(&self) {
        self.chunks.store(0, Relaxed);
    }

    /// What came in chunks is no body.
    pub fn is_broken(&self) -> bool {
        self.broken.load(Relaxed)
    }

    /// The request's body has come in chunks, whole, and has so many bytes.
    pub fn has_chunks_of(&self, bytes: usize) -> bool {
        !self.is_broken() && self.chunks.load(Relaxed) == (bytes as u64).saturating_add(1)
    }

    /// Bytes that its requests account for, with their heads as large as they may be.
    pub(super) fn accounted(&self) -> u64 {
        self.accounted.load(Relaxed)
    }

    /// The connection is to end at once.
    pub(super) fn is_cut(&self) -> bool {
        self.cut.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_waited_for_between_requests() {
        let link = Link::new(false);
        assert_eq!(link.awaited_head(), Some(0));
        link.request_begins();
        assert_eq!(link.awaited_head(), None);
        link.request_ends(false);
        assert_eq!(link.awaited_head(), Some(2));
        link.request_ends(false);
        assert_eq!(link.awaited_head(), Some(2), "one that never began ends nothing");
    }

    #[test]
    fn a_body_in_chunks_is_one_once_it_has_come_whole() {
        let link = Link::new(false);
        assert!(!link.has_chunks_of(0), "none has come");
        link.chunks_came(0);
        assert!(link.has_chunks_of(0) && !link.has_chunks_of(1));
        link.forget_chunks();
        assert!(!link.has_chunks_of(0));
        link.chunks_came(13);
        link.chunks_broke();
        assert!(link.is_broken() && !link.has_chunks_of(13));
    }

    #[test]
    fn who_gives_up_more_than_is_answered_is_cut() {
        let link = Link::new(true);
        for _ in 0..GIVEN_UP_FREE {
            link.request_begins();
            link.request_ends(true);
        }
        assert!(!link.is_cut());
        link.request_begins();
        link.request_ends(false);
        link.request_begins();
        link.request_ends(true);
        assert!(!link.is_cut(), "one more was answered");
        link.request_begins();
        link.request_ends(true);
        assert!(link.is_cut());
        assert_eq!(link.may_give_up(Duration::from_secs(60)), GIVEN_UP_FREE + 1 + 1_200);
    }
}
