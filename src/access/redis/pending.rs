//! What is still to be written to Redis of requests that have ended, and the places of those that have not.
//!
//! A request ends where nobody can wait, so what becomes of it goes through a queue; who asks next with the same key waits
//! until that is written, and finds what was given back.

use std::collections::{HashMap, HashSet};

use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};

use super::script::Change;
use crate::names::KeyName;

/// Changes that may wait, about 20 MB: what thousands of requests a second leave in an outage of 10 s. What comes past it
/// is not written: too much stays taken until it leaves its window, and a place until its lease ends.
const QUEUED_MAX: usize = 65_536;

/// A change of a key, by the number in which order it came.
pub(super) type Numbered = (u64, KeyName, Change);

/// Keeps the order.
pub(super) struct Pending {
    kept: Mutex<Kept>,
    queue: mpsc::Sender<Numbered>,
    /// Up to which number all are done.
    done: watch::Sender<u64>,
}

#[derive(Default)]
struct Kept {
    /// Of the last change.
    number: u64,
    /// By keys that have changes which are not done: the number of the last.
    last: HashMap<KeyName, u64>,
    /// By keys that have requests under way.
    places: HashMap<KeyName, HashSet<String>>,
}

impl Pending {
    /// With the end of the queue at which changes are written.
    pub(super) fn new() -> (Self, mpsc::Receiver<Numbered>) {
        let (queue, changes) = mpsc::channel(QUEUED_MAX);
        (Self { kept: Mutex::default(), queue, done: watch::Sender::new(0) }, changes)
    }

    /// A request of `key` has a place.
    pub(super) fn hold(&self, key: &KeyName, place: String) {
        self.kept.lock().places.entry(key.clone()).or_default().insert(place);
    }

    /// Every place that is taken.
    pub(super) fn places(&self) -> Vec<(KeyName, Vec<String>)> {
        let kept = self.kept.lock();
        let of_key = |(key, places): (&KeyName, &HashSet<String>)| {
            (key.clone(), places.iter().cloned().collect())
        };
        kept.places.iter().map(of_key).collect()
    }

    /// A request of `key` has ended. False where the change does not fit the queue.
    pub(super) fn push(&self, key: &KeyName, change: Change) -> bool {
        let mut kept = self.kept.lock();
        if let (Some(place), Some(places)) = (&change.place, kept.places.get_mut(key)) {
            places.remove(place);
            if places.is_empty() {
                kept.places.remove(key);
            }
        }
        // Under the lock, so that numbers stand in the queue in their order.
        let number = kept.number + 1;
        let fits = self.queue.try_send((number, key.clone(), change)).is_ok();
        if fits {
            kept.number = number;
            kept.last.insert(key.clone(), number);
        }
        fits
    }

    /// Waits until all changes of `key` are done that are there now.
    pub(super) async fn settled(&self, key: &KeyName) {
        let last = self.kept.lock().last.get(key).copied();
        if let Some(last) = last {
            self.reached(last).await;
        }
    }

    /// Waits until all changes are done that are there now.
    pub(super) async fn all_settled(&self) {
        let last = self.kept.lock().number;
        self.reached(last).await;
    }

    async fn reached(&self, number: u64) {
        let mut done = self.done.subscribe();
        // The sender is ours: it is never gone.
        let _number = done.wait_for(|done| *done >= number).await;
    }

    /// These changes, the next in the queue, were written, or cannot be.
    pub(super) fn done(&self, changes: &[Numbered]) {
        let mut kept = self.kept.lock();
        for (number, key, _) in changes {
            if kept.last.get(key) == Some(number) {
                kept.last.remove(key);
            }
        }
        drop(kept);
        if let Some((number, ..)) = changes.last() {
            self.done.send_replace(*number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> KeyName {
        "team".into()
    }

    fn of_place(place: &str) -> Change {
        Change { place: Some(place.to_owned()), ..Change::default() }
    }

    #[tokio::test]
    async fn who_asks_waits_for_what_came_before_of_the_same_key() {
        let (pending, mut changes) = Pending::new();
        pending.hold(&key(), "a".to_owned());
        pending.hold(&key(), "b".to_owned());
        assert_eq!(pending.places().len(), 1);
        assert!(pending.push(&key(), of_place("a")) && pending.push(&key(), of_place("b")));
        assert_eq!(pending.places(), []);
        pending.settled(&"other".into()).await;
        let mut batch = Vec::new();
        changes.recv_many(&mut batch, 1).await;
        pending.done(&batch);
        let team = key();
        let mut settled = std::pin::pin!(pending.settled(&team));
        assert!(futures_util::poll!(settled.as_mut()).is_pending());
        batch.clear();
        changes.recv_many(&mut batch, 1).await;
        pending.done(&batch);
        settled.await;
        pending.all_settled().await;
        assert!(pending.kept.lock().last.is_empty());
    }

    #[test]
    fn what_does_not_fit_is_told_and_nobody_waits_for_it() {
        let (pending, changes) = Pending::new();
        for _ in 0..QUEUED_MAX {
            assert!(pending.push(&key(), of_place("a")));
        }
        assert!(!pending.push(&"other".into(), of_place("a")));
        assert!(!pending.kept.lock().last.contains_key("other"));
        drop(changes);
    }
}
