//! Who waits for a place at a node of an upstream while all of them have as much as they may: first come, first served, and
//! nobody who could not be served in time.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use smallvec::SmallVec;
use tokio::sync::Notify;

use super::estimate::Estimate;

/// How often the first one looks for a place without having been told of one: a node may be back, or a reload lets it have
/// more, or another upstream has the same node.
const LOOK: Duration = Duration::from_millis(100);

/// Weight of the newest observation against those before.
const NEWEST: f64 = 0.05;

/// What is added to an estimate: half of all requests take longer than the mean.
const MARGIN: f64 = 1.2;

/// The queue of one upstream. It lives through reloads.
#[derive(Debug, Default)]
pub struct Queue {
    line: Mutex<VecDeque<InLine>>,
    /// Its length.
    waiting: AtomicUsize,
    /// Requests of ours at one node, at most; 0 for as many as come.
    most: AtomicU32,
    /// How long a request has its place, in seconds.
    held: Estimate,
    /// From its place to the first byte, in seconds: of answers in one piece, and of streams.
    first_byte: [Estimate; 2],
}

/// Somebody who waits.
#[derive(Debug)]
struct InLine {
    /// Who may have the same nodes. Others are not waited for.
    kind: u64,
    /// It has lost a node.
    again: bool,
    turn: Arc<Notify>,
}

/// How long somebody may wait, and for what.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// Until the first byte must be there.
    pub left: Duration,
    /// An event stream: its first byte comes earlier.
    pub stream: bool,
    /// Those that may wait, in all.
    pub most: usize,
    /// Which nodes will do, as a hash: nobody waits for others than those who want the same.
    pub kind: u64,
    /// Places that there are.
    pub places: usize,
    /// It had a place, whose node failed: it came before all who wait, but for others of its kind. There are no more of them
    /// than there were places.
    pub again: bool,
}

/// It would take too long: so long until somebody who comes now would have a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLong(pub Duration);

/// A place in the line, which is left when it is dropped.
#[derive(Debug)]
pub struct Waiting {
    queue: Arc<Queue>,
    kind: u64,
    turn: Arc<Notify>,
}

impl Queue {
    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// True where somebody waits for the same nodes.
    pub fn waits_for(&self, kind: u64) -> bool {
        self.waiting() > 0 && self.line.lock().iter().any(|one| one.kind == kind)
    }

    /// Requests of ours at one node, at most.
    pub fn limit(&self) -> Option<u32> {
        let most = self.most.load(Ordering::Relaxed);
        (most > 0).then_some(most)
    }

    /// Sets it, also for those that wait.
    pub fn set_limit(&self, most: Option<u32>) {
        self.most.store(most.unwrap_or(0), Ordering::Relaxed);
    }

    /// Waits at the end of the line, or before those who had no place yet.
    ///
    /// # Errors
    /// [`TooLong`]: as many wait as may, or the first byte would not be there in time.
    pub fn join(self: &Arc<Self>, patience: &Patience) -> Result<Waiting, TooLong> {
        let mut line = self.line.lock();
        let at = match patience.again {
            true => line.iter().take_while(|one| one.again).count(),
            false => line.len(),
        };
        let before = line.range(..at).filter(|one| one.kind == patience.kind).count();
        let wait = self.wait(before + 1, patience.places);
        let full = line.len() >= patience.most && !patience.again;
        if full || !self.is_in_time(wait, patience) {
            return Err(TooLong(wait));
        }
        let turn = Arc::new(Notify::new());
        let Patience { kind, again, .. } = *patience;
        line.insert(at, InLine { kind, again, turn: turn.clone() });
        self.waiting.store(line.len(), Ordering::Relaxed);
        Ok(Waiting { queue: self.clone(), kind: patience.kind, turn })
    }

    /// True where the first byte may be there in time after such a wait.
    pub fn is_in_time(&self, wait: Duration, patience: &Patience) -> bool {
        let first_byte = self.first_byte[usize::from(patience.stream)].get();
        (wait.as_secs_f64() + first_byte) * MARGIN <= patience.left.as_secs_f64()
    }

    /// How long the one at this place of the line waits: so many must leave before.
    fn wait(&self, place: usize, places: usize) -> Duration {
        let seconds = self.held.get() * place as f64 / places.max(1) as f64;
        Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
    }

    /// A request got its first byte so long after its place.
    pub fn began(&self, stream: bool, after: Duration) {
        self.first_byte[usize::from(stream)].learn(after.as_secs_f64(), NEWEST);
    }

    /// A request left its place after so long.
    pub fn left(&self, after: Duration) {
        self.held.learn(after.as_secs_f64(), NEWEST);
        if self.waiting() > 0 {
            wake_first(&self.line.lock());
        }
    }
}

/// Wakes the first of each kind: nobody knows whose nodes have a place.
fn wake_first(line: &VecDeque<InLine>) {
    let mut kinds = SmallVec::<[u64; 8]>::new();
    for one in line {
        if !kinds.contains(&one.kind) {
            kinds.push(one.kind);
            one.turn.notify_one();
        }
    }
}

impl Waiting {
    /// Until it may be this one's turn.
    pub async fn turn(&self) {
        loop {
            let _net = tokio::time::timeout(LOOK, self.turn.notified()).await;
            let line = self.queue.line.lock();
            let first = line.iter().find(|one| one.kind == self.kind);
            if first.is_some_and(|first| Arc::ptr_eq(&first.turn, &self.turn)) {
                return;
            }
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut line = self.queue.line.lock();
        if let Some(at) = line.iter().position(|one| Arc::ptr_eq(&one.turn, &self.turn)) {
            line.remove(at);
        }
        self.queue.waiting.store(line.len(), Ordering::Relaxed);
        // There may be more than one place.
        wake_first(&line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const PATIENT: Patience = Patience {
        left: Duration::from_secs(60),
        stream: true,
        most: 3,
        kind: 0,
        places: 2,
        again: false,
    };

    #[tokio::test]
    async fn who_came_first_is_first_and_who_leaves_is_missed_by_nobody() {
        let queue = Arc::<Queue>::default();
        let [first, second, third] = [(); 3].map(|()| queue.join(&PATIENT).unwrap());
        assert!(queue.join(&PATIENT).is_err());
        let is_due =
            async |waiting: &Waiting| tokio::time::timeout(3 * LOOK, waiting.turn()).await.is_ok();
        assert!(is_due(&first).await);
        assert!(!is_due(&second).await);
        drop(second);
        assert!(!is_due(&third).await);
        drop(first);
        assert!(is_due(&third).await);
        drop(third);
        assert_eq!(queue.waiting(), 0);
    }

    #[tokio::test]
    async fn nobody_waits_for_those_who_want_other_nodes() {
        let queue = Arc::<Queue>::default();
        let _first = queue.join(&PATIENT).unwrap();
        let other = queue.join(&Patience { kind: 1, ..PATIENT }).unwrap();
        assert!(queue.waits_for(0) && queue.waits_for(1) && !queue.waits_for(2));
        tokio::time::timeout(3 * LOOK, other.turn()).await.unwrap();
    }

    #[test]
    fn nobody_waits_for_what_would_come_too_late() {
        let queue = Arc::<Queue>::default();
        // Nothing is known: whoever comes may try.
        let hurried = Patience { left: 3 * SECOND, most: 10, ..PATIENT };
        drop(queue.join(&hurried).unwrap());
        queue.left(2 * SECOND);
        queue.began(true, SECOND);
        // Two places, each free after 2 s: one a second. And 1 s more to the first byte.
        let _first = queue.join(&hurried).unwrap();
        assert_eq!(queue.join(&hurried).unwrap_err(), TooLong(2 * SECOND));
        let _second = queue.join(&Patience { left: 4 * SECOND, ..hurried }).unwrap();
        // Answers in one piece are not streams.
        queue.began(false, 10 * SECOND);
        let whole = Patience { stream: false, left: 10 * SECOND, ..hurried };
        assert_eq!(queue.join(&whole).unwrap_err(), TooLong(3 * SECOND));
        assert!(!queue.is_in_time(Duration::ZERO, &whole));
    }
}
