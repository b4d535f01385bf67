//! How much of a request's time is the gateway's own: a watch that stands while a client or a node is waited for.

use std::time::{Duration, Instant};

/// The watch of one request. Runs from the beginning.
#[derive(Debug)]
pub(super) struct OwnTime {
    sum: Duration,
    since: Option<Instant>,
    last: Instant,
}

impl OwnTime {
    pub(super) fn begun(now: Instant) -> Self {
        Self { sum: Duration::ZERO, since: Some(now), last: now }
    }

    /// Somebody else is waited for.
    pub(super) fn stop(&mut self) {
        if let Some(since) = self.since.take() {
            self.sum += since.elapsed();
        }
    }

    /// It is up to us again, from this moment on.
    pub(super) fn go(&mut self) {
        if self.since.is_none() {
            self.last = Instant::now();
            self.since = Some(self.last);
        }
    }

    /// When it last went on: when a piece of an answer came.
    pub(super) fn came(&self) -> Instant {
        self.last
    }

    pub(super) fn sum(&self) -> Duration {
        self.sum
    }
}
