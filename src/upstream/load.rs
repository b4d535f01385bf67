//! How much work a node has: what this gateway gave it, and what others did.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Instant;

use super::breaker::Fault;
use super::node::Node;

/// What a request weighs beside its body, in bytes of a prompt: the tokens that it will make cost a node as much as
/// reading some thousand.
const REQUEST_WEIGHT: u64 = 4_096;

/// The load of one node. Only guards write what is ours; health never does.
#[derive(Debug, Default)]
pub struct Load {
    requests: AtomicU32,
    /// In bytes of prompts.
    weight: AtomicU64,
    /// Requests of others, as of the last look at the node's own gauges.
    foreign: AtomicU32,
    /// The node's own gauges, where they were `seen`.
    running: AtomicU32,
    waiting: AtomicU32,
    seen: AtomicBool,
}

/// What a node says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gauges {
    /// Requests that run.
    pub running: u32,
    /// Requests that wait.
    pub waiting: u32,
}

impl Load {
    /// Requests of ours under way.
    pub fn requests(&self) -> u32 {
        self.requests.load(Ordering::Relaxed)
    }

    /// What ours weigh, in bytes of prompts.
    pub fn weight(&self) -> u64 {
        self.weight.load(Ordering::Relaxed)
    }

    /// Requests of others.
    pub fn foreign(&self) -> u32 {
        self.foreign.load(Ordering::Relaxed)
    }

    /// What the node said when it was last asked.
    pub fn gauges(&self) -> Option<Gauges> {
        let of = |gauge: &AtomicU32| gauge.load(Ordering::Relaxed);
        let seen = self.seen.load(Ordering::Acquire);
        seen.then(|| Gauges { running: of(&self.running), waiting: of(&self.waiting) })
    }

    /// All that the node has to do, others' requests counted as small ones of ours.
    pub fn total(&self) -> u64 {
        self.weight() + u64::from(self.foreign()) * REQUEST_WEIGHT
    }

    /// The node was asked for its gauges: `ours` is the most that we had there meanwhile, so that a request which came or
    /// went in between is not taken for a stranger's.
    pub fn compare(&self, gauges: Option<Gauges>, ours: u32) {
        let Some(gauges) = gauges else {
            self.seen.store(false, Ordering::Relaxed);
            self.foreign.store(0, Ordering::Relaxed);
            return;
        };
        self.running.store(gauges.running, Ordering::Relaxed);
        self.waiting.store(gauges.waiting, Ordering::Relaxed);
        self.seen.store(true, Ordering::Release);
        let all = gauges.running.saturating_add(gauges.waiting);
        self.foreign.store(all.saturating_sub(ours), Ordering::Relaxed);
    }
}

/// What a request with a body of so many bytes weighs.
pub fn weight_of(body_bytes: usize) -> u64 {
    REQUEST_WEIGHT + u64::try_from(body_bytes).unwrap_or(u64::MAX / 4)
}

/// A request's place at a node. Dropping it gives it back, however the request ends.
pub struct Place {
    node: Arc<Node>,
    weight: u64,
    trial: Trial,
}

/// Whether a request tells if an ejected node comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trial {
    /// It does not, or has told.
    No,
    /// It does, and others are kept away meanwhile.
    Alone,
    /// It does, as one of many: no other node was left.
    AmongOthers,
}

impl Place {
    /// Takes a place at `node`.
    pub fn take(node: Arc<Node>, weight: u64, trial: Trial) -> Self {
        node.load.requests.fetch_add(1, Ordering::Relaxed);
        node.load.weight.fetch_add(weight, Ordering::Relaxed);
        Self { node, weight, trial }
    }

    /// Where it is.
    pub fn node(&self) -> &Arc<Node> {
        &self.node
    }

    /// It decides whether an ejected node comes back, and has not told yet.
    pub fn is_trial(&self) -> bool {
        self.trial != Trial::No
    }

    /// A connection is there: a node that was ejected for lack of one is back.
    pub fn connected(&mut self) {
        if self.is_trial() && self.node.health.was_unreachable() {
            self.succeeded();
        }
    }

    /// The node failed the request.
    pub fn failed(&mut self, fault: Fault) {
        let trial = self.told();
        self.node.tell(self.node.health.failed(fault, trial, Instant::now()));
    }

    /// The node did what it should.
    pub fn succeeded(&mut self) {
        if self.is_trial() || !self.node.health.is_calm() {
            let trial = self.told();
            self.node.tell(self.node.health.succeeded(trial, Instant::now()));
        }
    }

    /// True where it was a trial, which it is no more.
    fn told(&mut self) -> bool {
        std::mem::replace(&mut self.trial, Trial::No) != Trial::No
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.node.load.requests.fetch_sub(1, Ordering::Relaxed);
        self.node.load.weight.fetch_sub(self.weight, Ordering::Relaxed);
        if self.trial == Trial::Alone {
            self.node.health.trial_untold();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_ours_is_others() {
        let load = Load::default();
        load.compare(Some(Gauges { running: 5, waiting: 2 }), 4);
        assert_eq!((load.foreign(), load.total()), (3, 3 * REQUEST_WEIGHT));
        // Ours came after the node counted.
        load.compare(Some(Gauges { running: 1, waiting: 0 }), 4);
        assert_eq!(load.foreign(), 0);
        load.compare(None, 4);
        assert_eq!((load.foreign(), load.gauges()), (0, None));
    }
}
