//! Requests that are under way, and the end of the process waiting for them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use prometheus::IntGauge;
use tokio::sync::Notify;

/// Counts what is under way; knows whether the process is about to stop.
pub struct Drain {
    draining: AtomicBool,
    in_flight: AtomicUsize,
    idle: Notify,
    gauge: IntGauge,
}

/// One request under way. Dropping it ends it.
pub struct InFlight(Arc<Drain>);

impl Drain {
    /// Nothing under way; shown by `gauge`.
    pub fn new(gauge: IntGauge) -> Arc<Self> {
        Arc::new(Self {
            draining: AtomicBool::new(false),
            in_flight: AtomicUsize::new(0),
            idle: Notify::new(),
            gauge,
        })
    }

    /// One more request.
    pub fn enter(self: &Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        self.gauge.inc();
        InFlight(self.clone())
    }

    /// From now on the process is not ready, and connections end with their request.
    pub fn begin(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// True after [`Drain::begin`].
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Returns when nothing is under way.
    pub async fn finished(&self) {
        loop {
            let idle = self.idle.notified();
            if self.in_flight.load(Ordering::Acquire) == 0 {
                return;
            }
            idle.await;
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.gauge.dec();
        if self.0.in_flight.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.idle.notify_waiters();
        }
    }
}
