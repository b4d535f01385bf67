//! Whose turn it is: requests of one session run one after the other.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::store::Untaken;

/// Requests of one session that wait: no client sends so many questions before the first answer.
const WAITING_MAX: usize = 16;

/// The line before a session.
pub(super) struct Line {
    turn: Arc<Semaphore>,
    waiting: AtomicUsize,
}

/// A turn. Dropping it ends it.
pub(super) type Turn = OwnedSemaphorePermit;

impl Default for Line {
    fn default() -> Self {
        Self { turn: Arc::new(Semaphore::new(1)), waiting: AtomicUsize::new(0) }
    }
}

/// Somebody in line. Dropping it ends that.
struct Waiting<'l>(&'l AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Line {
    /// Waits for a turn: first come, first served.
    pub(super) async fn wait(&self, until: Instant) -> Result<Turn, Untaken> {
        let before = self.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(&self.waiting);
        if before >= WAITING_MAX {
            return Err(Untaken::Busy);
        }
        let turn = tokio::time::timeout_at(until.into(), self.turn.clone().acquire_owned()).await;
        turn.map_err(|_| Untaken::Late)?.map_err(|_closed| Untaken::Unknown)
    }

    /// Nobody has a turn.
    pub(super) fn is_free(&self) -> bool {
        self.turn.available_permits() > 0
    }

    /// The session is over: whoever waits is told so.
    pub(super) fn close(&self) {
        self.turn.close();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn not_many_wait_and_none_for_ever() {
        let (line, until) = (Line::default(), Instant::now() + Duration::from_secs(60));
        let turn = line.wait(until).await.unwrap();
        assert!(!line.is_free());
        assert!(matches!(line.wait(Instant::now()).await, Err(Untaken::Late)));
        let mut waiting: Vec<_> = (0..WAITING_MAX).map(|_| Box::pin(line.wait(until))).collect();
        for one in &mut waiting {
            assert!(futures_util::poll!(one).is_pending());
        }
        assert!(matches!(line.wait(until).await, Err(Untaken::Busy)));
        // One that leaves makes room.
        waiting.pop();
        assert!(futures_util::poll!(Box::pin(line.wait(until))).is_pending());
        drop(turn);
        let turn = waiting.remove(0).await.unwrap();
        line.close();
        drop(turn);
        assert!(matches!(waiting.remove(0).await, Err(Untaken::Unknown)));
    }
}
