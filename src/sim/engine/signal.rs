//! How the engine reaches a request that waits: it wakes it, or tells it that there is no engine any more.

use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Waker;

use futures_util::task::AtomicWaker;

/// One request's end of the wire.
#[derive(Default)]
pub(super) struct Signal {
    waker: AtomicWaker,
    stopped: AtomicBool,
}

impl Signal {
    /// Whom to wake. What is looked at after this call is not missed.
    pub(super) fn register(&self, waker: &Waker) {
        self.waker.register(waker);
    }

    /// The request shall look again.
    pub(super) fn wake(&self) {
        self.waker.wake();
    }

    /// Nothing will be made for the request any more.
    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        self.wake();
    }

    /// Whether nothing will be made any more.
    pub(super) fn stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }
}
