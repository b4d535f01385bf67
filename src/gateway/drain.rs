//! Requests that are under way, and the end of the process waiting for them.

use std::future::pending;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use pingora::{Error, ErrorType};
use prometheus::IntGauge;
use tokio::sync::{Notify, watch};

/// What ends a request for which the process does not wait any longer, as its error tells.
const CUT: ErrorType = ErrorType::Custom("the process ends");

/// Counts what is under way; knows whether the process is about to stop.
pub struct Drain {
    draining: AtomicBool,
    handed_over: AtomicBool,
    cut: watch::Sender<bool>,
    /// Has seen nothing: nor has a copy of it, whenever that is made.
    unseen: Cut,
    in_flight: AtomicUsize,
    idle: Notify,
    gauge: IntGauge,
}

/// One request under way. Dropping it ends it.
pub struct InFlight(Arc<Drain>);

/// Tells a request that it is not waited for any longer.
#[derive(Debug, Clone)]
pub(super) struct Cut(watch::Receiver<bool>);

impl Cut {
    /// Returns when the request is to end, with what ends it. Only once.
    pub(super) async fn due(&mut self) -> Box<Error> {
        match self.0.changed().await {
            Ok(()) => Error::new_in(CUT),
            // Whoever could say so is gone.
            Err(_) => pending().await,
        }
    }
}

/// [`Cut::due`], begun once and waited for again and again.
pub(super) type Due = Pin<Box<dyn Future<Output = Box<Error>> + Send + Sync>>;

impl Cut {
    /// For a wait that is given up and taken up with each piece of an answer: to wait anew would take a lock each time.
    pub(super) fn begin(mut self) -> Due {
        Box::pin(async move { self.due().await })
    }
}

/// Returns when `cut` is due; never where it was told.
pub(super) async fn due(cut: &mut Option<Due>) -> Box<Error> {
    match cut {
        Some(cut) => cut.await,
        None => pending().await,
    }
}

/// True of what [`Cut::due`] gives.
pub(super) fn is_cut(error: &Error) -> bool {
    *error.etype() == CUT
}

impl Drain {
    /// Nothing under way; shown by `gauge`.
    pub fn new(gauge: IntGauge) -> Arc<Self> {
        let (cut, unseen) = watch::channel(false);
        Arc::new(Self {
            draining: AtomicBool::new(false),
            handed_over: AtomicBool::new(false),
            cut,
            unseen: Cut(unseen),
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

    /// From now on connections end with their request, and the process is not ready, unless it has handed over.
    pub fn begin(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// From now on connections end with their request: others come to another process, which is as ready as this one was.
    pub fn hand_over(&self) {
        self.handed_over.store(true, Ordering::Relaxed);
    }

    /// True after [`Drain::begin`].
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Work may be sent to where this process listened: it is not about to stop, or another one listens there.
    pub fn is_ready(&self) -> bool {
        !self.is_draining() || self.handed_over.load(Ordering::Relaxed)
    }

    /// True where a connection is to end with its request.
    pub(super) fn ends_connections(&self) -> bool {
        self.is_draining() || self.handed_over.load(Ordering::Relaxed)
    }

    /// Nothing is waited for any longer: what is under way is to tell its client so, and end.
    pub fn cut(&self) {
        self.cut.send_replace(true);
    }

    /// For a request: tells of [`Drain::cut`].
    pub(super) fn told(&self) -> Cut {
        self.unseen.clone()
    }

    /// Nothing is under way.
    pub fn is_idle(&self) -> bool {
        self.in_flight.load(Ordering::Acquire) == 0
    }

    /// Returns when nothing is under way.
    pub async fn finished(&self) {
        loop {
            let idle = self.idle.notified();
            if self.is_idle() {
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
