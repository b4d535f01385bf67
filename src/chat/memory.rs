//! Sessions in this process: bounded in number and bytes, lost with it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::id::{Hashed, SessionId};
use super::session::Session;
use super::store::Untaken;
use super::turn::{Line, Turn};
use crate::metrics::SessionMetrics;

/// How much may be kept.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Sessions.
    pub sessions: usize,
    /// All of them, in bytes.
    pub bytes: usize,
    /// How long one is kept after its last request.
    pub idle: Duration,
}

/// All sessions of this process.
pub struct Memory {
    bounds: Bounds,
    kept: Mutex<HashMap<Hashed, Arc<Kept>>>,
    bytes: AtomicUsize,
    metrics: SessionMetrics,
}

struct Kept {
    line: Line,
    state: Mutex<State>,
}

struct State {
    session: Session,
    /// When its last request ended.
    used: Instant,
    /// What is counted of it.
    bytes: usize,
    over: bool,
}

/// A session while one request has it. Dropping it lets the next one have it.
pub struct Held {
    memory: Arc<Memory>,
    kept: Arc<Kept>,
    _turn: Turn,
}

impl Memory {
    /// Nothing is kept yet.
    pub fn new(bounds: Bounds, metrics: SessionMetrics) -> Arc<Self> {
        Arc::new(Self { bounds, kept: Mutex::default(), bytes: AtomicUsize::new(0), metrics })
    }

    /// Keeps a new session.
    pub(super) fn open(
        &self,
        id: &SessionId,
        session: Session,
        now: Instant,
    ) -> Result<(), Untaken> {
        let bytes = session.bytes();
        let mut kept = self.kept.lock();
        let used = self.bytes.load(Ordering::Relaxed);
        if kept.len() >= self.bounds.sessions || used.saturating_add(bytes) > self.bounds.bytes {
            return Err(Untaken::Full);
        }
        let state = State { session, used: now, bytes, over: false };
        let new = Kept { line: Line::default(), state: Mutex::new(state) };
        kept.insert(id.hashed(), Arc::new(new));
        self.count(kept.len(), bytes, 0);
        Ok(())
    }

    /// Takes a session, when it is this request's turn.
    pub(super) async fn take(
        self: &Arc<Self>,
        id: &SessionId,
        until: Instant,
    ) -> Result<(Session, Held), Untaken> {
        let kept = self.find(id, Instant::now()).ok_or(Untaken::Unknown)?;
        let turn = kept.line.wait(until).await?;
        let session = kept.state.lock().session.clone();
        Ok((session, Held { memory: self.clone(), kept, _turn: turn }))
    }

    /// Forgets a session. A request that has it comes to its end; nothing of it is kept.
    pub(super) fn close(&self, id: &SessionId) -> Result<(), Untaken> {
        self.find(id, Instant::now()).ok_or(Untaken::Unknown)?;
        let mut kept = self.kept.lock();
        if let Some(gone) = kept.remove(&id.hashed()) {
            self.count(kept.len(), 0, gone.end());
        }
        Ok(())
    }

    /// Forgets those that nobody has used for long.
    pub fn sweep(&self, now: Instant) {
        let mut kept = self.kept.lock();
        let mut freed = 0;
        kept.retain(|_, one| {
            let over = self.is_over(one, now);
            if over {
                freed += one.end();
            }
            !over
        });
        self.count(kept.len(), 0, freed);
    }

    /// How long one is kept after its last request.
    pub fn idle(&self) -> Duration {
        self.bounds.idle
    }

    /// True where none is to grow.
    pub(super) fn is_full(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) >= self.bounds.bytes
    }

    fn find(&self, id: &SessionId, now: Instant) -> Option<Arc<Kept>> {
        let kept = self.kept.lock().get(&id.hashed()).cloned()?;
        // It may be there until the next sweep.
        (!self.is_over(&kept, now)).then_some(kept)
    }

    /// Nobody has it, and nobody had it for long.
    fn is_over(&self, kept: &Kept, now: Instant) -> bool {
        let idle = now.saturating_duration_since(kept.state.lock().used);
        idle >= self.bounds.idle && kept.line.is_free()
    }

    fn count(&self, sessions: usize, more: usize, less: usize) {
        self.metrics.open.set(i64::try_from(sessions).unwrap_or(i64::MAX));
        self.change(more, less);
    }

    fn change(&self, more: usize, less: usize) {
        self.bytes.fetch_add(more, Ordering::Relaxed);
        self.bytes.fetch_sub(less, Ordering::Relaxed);
        let shown = |bytes: usize| i64::try_from(bytes).unwrap_or(i64::MAX);
        self.metrics.bytes.add(shown(more) - shown(less));
    }
}

impl Kept {
    /// It is over: whoever waits for it is told so. Gives the bytes that are free.
    fn end(&self) -> usize {
        self.line.close();
        let mut state = self.state.lock();
        state.over = true;
        std::mem::take(&mut state.bytes)
    }
}

impl Held {
    /// Keeps what became of the session, unless it was ended meanwhile.
    pub(super) fn keep(&self, session: Session) {
        let bytes = session.bytes();
        let mut state = self.kept.state.lock();
        if state.over {
            return;
        }
        let before = std::mem::replace(&mut state.bytes, bytes);
        state.session = session;
        // Whoever ends the session now gives back what is counted.
        self.memory.change(bytes, before);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.kept.state.lock().used = Instant::now();
    }
}

#[cfg(test)]
mod tests {
    use super::super::session::Owner;
    use super::*;
    use crate::metrics::Metrics;

    const MINUTE: Duration = Duration::from_secs(60);

    fn memory(sessions: usize, bytes: usize) -> Arc<Memory> {
        let metrics = Metrics::new().unwrap().of_sessions().unwrap();
        Memory::new(Bounds { sessions, bytes, idle: MINUTE }, metrics)
    }

    fn session() -> Session {
        Session::new(Owner::Key("team".into()), "system".into())
    }

    fn opened(memory: &Memory) -> SessionId {
        let id = SessionId::fresh().unwrap();
        memory.open(&id, session(), Instant::now()).unwrap();
        id
    }

    #[tokio::test]
    async fn requests_of_a_session_run_one_after_the_other() {
        let memory = memory(10, 1 << 20);
        let (id, until) = (opened(&memory), Instant::now() + MINUTE);
        let (mut taken, held) = memory.take(&id, until).await.unwrap();
        let mut next = std::pin::pin!(memory.take(&id, until));
        assert!(futures_util::poll!(next.as_mut()).is_pending());
        assert!(memory.take(&opened(&memory), until).await.is_ok());
        taken.go_on(0, "q".into(), "a".into());
        held.keep(taken);
        drop(held);
        assert_eq!(next.await.unwrap().0.pairs(), 1);
    }

    #[tokio::test]
    async fn nothing_is_kept_of_a_session_that_was_ended_meanwhile() {
        let memory = memory(10, 1 << 20);
        let (id, until) = (opened(&memory), Instant::now() + MINUTE);
        let (taken, held) = memory.take(&id, until).await.unwrap();
        memory.close(&id).unwrap();
        held.keep(taken);
        drop(held);
        assert!(matches!(memory.take(&id, until).await, Err(Untaken::Unknown)));
        assert_eq!(memory.bytes.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn what_is_not_used_is_forgotten_but_not_under_somebodys_hands() {
        let memory = memory(10, 1 << 20);
        let (idle, used, until) = (opened(&memory), opened(&memory), Instant::now() + MINUTE);
        let (_, held) = memory.take(&used, until).await.unwrap();
        let later = Instant::now() + MINUTE;
        assert!(memory.find(&idle, later).is_none());
        memory.sweep(later);
        assert_eq!(memory.kept.lock().len(), 1);
        assert!(matches!(memory.close(&idle), Err(Untaken::Unknown)));
        drop(held);
        memory.sweep(Instant::now());
        assert!(memory.take(&used, until).await.is_ok());
        memory.sweep(Instant::now() + MINUTE);
        assert!(memory.kept.lock().is_empty());
        assert_eq!(memory.bytes.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn neither_sessions_nor_bytes_come_past_their_bounds() {
        let two = memory(2, 1 << 20);
        let id = opened(&two);
        opened(&two);
        let third = two.open(&SessionId::fresh().unwrap(), session(), Instant::now());
        assert!(matches!(third, Err(Untaken::Full)));
        two.close(&id).unwrap();
        opened(&two);
        let small = memory(10, session().bytes());
        let id = opened(&small);
        let second = small.open(&SessionId::fresh().unwrap(), session(), Instant::now());
        assert!(matches!(second, Err(Untaken::Full)) && small.is_full());
        let (mut taken, held) = small.take(&id, Instant::now() + MINUTE).await.unwrap();
        taken.system = "".into();
        held.keep(taken);
        assert!(!small.is_full());
    }
}
