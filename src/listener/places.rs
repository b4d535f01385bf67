//! How many connections there may be at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use prometheus::IntGauge;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::sync::Notify;

/// Descriptors for all but clients and their nodes: files, listeners, Redis, operators.
const DESCRIPTORS_OF_OUR_OWN: u64 = 512;

/// Connections at once where nothing bounds descriptors: what fits into a few gigabytes.
const CONNECTIONS_MAX: u64 = 100_000;

/// Clients at once that are told that there is no place for them; more are closed without a word.
const TOLD_MAX: usize = 256;

/// Counts the connections of one listener.
pub struct Places {
    max: usize,
    taken: AtomicUsize,
    told: AtomicUsize,
    none_taken: Notify,
    gauge: IntGauge,
}

/// A connection's place. Dropping it frees it.
pub(super) struct Place(Arc<Places>);

/// One client that is told why it is turned away.
pub(super) struct Telling<'p>(&'p Places);

impl Places {
    /// For `max` connections; shown by `gauge`.
    pub fn new(max: usize, gauge: IntGauge) -> Arc<Self> {
        Arc::new(Self {
            max,
            taken: AtomicUsize::new(0),
            told: AtomicUsize::new(0),
            none_taken: Notify::new(),
            gauge,
        })
    }

    /// None is taken.
    pub fn are_free(&self) -> bool {
        self.taken.load(Relaxed) == 0
    }

    /// Returns when none is taken.
    pub async fn all_free(&self) {
        loop {
            let freed = self.none_taken.notified();
            if self.are_free() {
                return;
            }
            freed.await;
        }
    }

    /// One of them, if one is free.
    pub(super) fn take(self: &Arc<Self>) -> Option<Place> {
        if !add_below(&self.taken, self.max) {
            return None;
        }
        self.gauge.inc();
        Some(Place(self.clone()))
    }

    /// Whether there is time for one more client that has no place.
    pub(super) fn one_to_tell(&self) -> Option<Telling<'_>> {
        add_below(&self.told, TOLD_MAX).then_some(Telling(self))
    }
}

fn add_below(count: &AtomicUsize, max: usize) -> bool {
    let added = count.fetch_update(Relaxed, Relaxed, |now| (now < max).then_some(now + 1));
    added.is_ok()
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.gauge.dec();
        if self.0.taken.fetch_sub(1, Relaxed) == 1 {
            self.0.none_taken.notify_waiters();
        }
    }
}

impl Drop for Telling<'_> {
    fn drop(&mut self) {
        self.0.told.fetch_sub(1, Relaxed);
    }
}

/// Takes as many descriptors as this process may have, and tells how many clients they are for: each may need one more to
/// its node.
pub fn descriptors() -> usize {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let all = Rlimit { current: limit.maximum, maximum: limit.maximum };
        if let Err(error) = setrlimit(Resource::Nofile, all) {
            log::warn!("the limit of open files stays as it is: {error}");
        }
    }
    let current = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let clients = current.saturating_sub(DESCRIPTORS_OF_OUR_OWN) / 2;
    usize::try_from(clients.clamp(1, CONNECTIONS_MAX)).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_free_again_when_its_connection_is_gone() {
        let gauge = IntGauge::new("places", "of a test").unwrap();
        let places = Places::new(2, gauge.clone());
        let (first, second) = (places.take().unwrap(), places.take().unwrap());
        assert!(places.take().is_none());
        assert_eq!(gauge.get(), 2);
        drop(first);
        assert!(places.take().is_some());
        drop(second);
        assert_eq!(gauge.get(), 0);
        assert!(descriptors() >= 1);
    }
}
