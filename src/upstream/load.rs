//! How much work a node has: what this gateway gave it, and what others did.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::breaker::Fault;
use super::estimate::{Estimate, about, whole};
use super::node::Node;
use super::queue::Queue;
use crate::wire::usage::PromptUsage;

/// What a request weighs beside its prompt, in bytes of a prompt, where nothing is known of what a node holds: the tokens that
/// it will make cost a node as much as reading some thousand.
const REQUEST_BYTES: u64 = 4_096;

/// The same, where it is known what is to be computed: other requests make an answer slower, not later. Four times as much
/// takes chats from nodes that hold more of them (`benches/routing`: half of the first tokens came 1.14 times as late as with
/// an oracle, and 1.04 times with this); a fourth of it leaves the nodes' shares of requests less even.
const RUNNING_BYTES: u64 = 256;

/// Prompts that tell how fast a node computes them, in bytes: of shorter ones the time goes elsewhere.
const TELLING_BYTES: u64 = 8 * 1_024;

/// Weight of the newest of such prompts against those before.
const NEWEST: f64 = 0.125;

/// The load of one node. Only guards write what is ours; health never does.
#[derive(Debug)]
pub struct Load {
    requests: AtomicU32,
    /// Bytes of prompts that are not computed yet.
    prompts: AtomicU64,
    /// The moments below are told from this one on.
    began: Instant,
    /// When a prompt was last computed, or the first of several came, in nanoseconds.
    progress: AtomicU64,
    /// What a byte of a prompt takes, in nanoseconds.
    pace: Estimate,
    /// Requests of others, as of the last look at the node's own gauges.
    foreign: AtomicU32,
    /// The node's own gauges, where they were `seen`.
    running: AtomicU32,
    waiting: AtomicU32,
    seen: AtomicBool,
}

impl Default for Load {
    fn default() -> Self {
        Self {
            requests: AtomicU32::new(0),
            prompts: AtomicU64::new(0),
            began: Instant::now(),
            progress: AtomicU64::new(0),
            pace: Estimate::default(),
            foreign: AtomicU32::new(0),
            running: AtomicU32::new(0),
            waiting: AtomicU32::new(0),
            seen: AtomicBool::new(false),
        }
    }
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

    /// Requests of everyone.
    pub fn all(&self) -> u32 {
        self.requests().saturating_add(self.foreign())
    }

    /// Bytes of our prompts that are not computed yet.
    pub fn prompts(&self) -> u64 {
        self.prompts.load(Ordering::Relaxed)
    }

    /// The same, without what must be done by now of the one that is being computed.
    fn prompts_left(&self, now: Instant) -> u64 {
        let since = self.at(now).saturating_sub(self.progress.load(Ordering::Relaxed));
        let pace = self.pace.get();
        let done = if pace > 0.0 { whole(about(since) / pace) } else { 0 };
        self.prompts().saturating_sub(done)
    }

    fn at(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.began).as_nanos();
        u64::try_from(since).unwrap_or(u64::MAX)
    }

    /// `bytes` of prompts were computed in `time`.
    fn computed(&self, bytes: u64, time: Duration) {
        if bytes >= TELLING_BYTES {
            self.pace.learn(time.as_secs_f64() * 1e9 / about(bytes), NEWEST);
        }
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

    /// All that the node has to do, in bytes of prompts: to whoever knows nothing of its cache.
    pub fn total(&self) -> u64 {
        self.prompts() + u64::from(self.all()) * REQUEST_BYTES
    }

    /// What is before a prompt that comes now, in bytes of prompts.
    pub fn ahead(&self, now: Instant) -> u64 {
        self.prompts_left(now) + u64::from(self.all()) * RUNNING_BYTES
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

/// A request's place at a node. Dropping it gives it back, however the request ends.
pub struct Place {
    node: Arc<Node>,
    /// Bytes of its prompt that are to be computed, until they are.
    prompt: u64,
    /// With those before it.
    with_others: u64,
    /// Bytes of the whole prompt, and of what the node is thought to hold of it; 0 where nobody thought of that.
    whole: (u64, u64),
    taken: Instant,
    trial: Trial,
    queue: Option<Arc<Queue>>,
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
    /// Takes a place at `node`, which has `prompt` bytes to compute.
    pub fn take(node: Arc<Node>, prompt: u64, trial: Trial, now: Instant) -> Self {
        node.load.requests.fetch_add(1, Ordering::Relaxed);
        Self::entered(node, prompt, trial, now)
    }

    /// The same, where fewer than `most` requests of ours are there.
    pub fn take_one_of(
        most: u32,
        node: Arc<Node>,
        prompt: u64,
        trial: Trial,
        now: Instant,
    ) -> Option<Self> {
        let more = |requests: u32| (requests < most).then_some(requests + 1);
        let entered =
            node.load.requests.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok();
        entered.then(|| Self::entered(node, prompt, trial, now))
    }

    /// The request is counted, its prompt not yet.
    fn entered(node: Arc<Node>, prompt: u64, trial: Trial, now: Instant) -> Self {
        let load = &node.load;
        let with_others = load.prompts_left(now) + prompt;
        if load.prompts.fetch_add(prompt, Ordering::Relaxed) == 0 {
            load.progress.store(load.at(now), Ordering::Relaxed);
        }
        Self { node, prompt, with_others, whole: (0, 0), taken: now, trial, queue: None }
    }

    /// Of a prompt of so many bytes, the node is thought to hold what is not to be computed.
    pub fn holding_of(mut self, bytes: u64) -> Self {
        self.whole = (bytes, bytes.saturating_sub(self.prompt));
        self
    }

    /// The answer told of its prompt. Gives how many tokens the node was thought to hold, where somebody thought of that.
    pub fn compare(&self, usage: PromptUsage) -> Option<u64> {
        let (bytes, held) = self.whole;
        (bytes > 0).then(|| self.node.room.told(usage, bytes, held))
    }

    /// Whoever waits in `queue` is told when this place is free.
    pub fn in_line(mut self, queue: Option<&Arc<Queue>>) -> Self {
        self.queue = queue.cloned();
        self
    }

    /// The first byte of the answer is there: the prompt is computed. `stream`: of an event stream.
    pub fn began(&mut self, stream: bool, now: Instant) {
        if let Some(queue) = &self.queue {
            queue.began(stream, now.saturating_duration_since(self.taken));
        }
        let prompt = std::mem::take(&mut self.prompt);
        if prompt > 0 {
            let load = &self.node.load;
            load.prompts.fetch_sub(prompt, Ordering::Relaxed);
            load.progress.store(load.at(now), Ordering::Relaxed);
            if stream {
                // Of an answer in one piece, most of the time went into the answer.
                load.computed(self.with_others, now.saturating_duration_since(self.taken));
            }
        }
    }

    /// Where it is.
    pub fn node(&self) -> &Arc<Node> {
        &self.node
    }

    /// How long the node has had the request.
    pub fn held(&self) -> Duration {
        self.taken.elapsed()
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
        self.node.load.prompts.fetch_sub(self.prompt, Ordering::Relaxed);
        if self.trial == Trial::Alone {
            self.node.health.trial_untold();
        }
        if let Some(queue) = &self.queue {
            queue.left(self.taken.elapsed());
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
        assert_eq!((load.foreign(), load.total()), (3, 3 * REQUEST_BYTES));
        // Ours came after the node counted.
        load.compare(Some(Gauges { running: 1, waiting: 0 }), 4);
        assert_eq!(load.foreign(), 0);
        load.compare(None, 4);
        assert_eq!((load.foreign(), load.gauges()), (0, None));
    }
}
