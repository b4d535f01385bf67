//! Answers that a node keeps, for those who ask for them later or go on from them.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use tokio::task::AbortHandle;

use crate::sim::vllm::prompt::Turn;

/// Answers kept: more than any test makes. vLLM keeps all of them, and says of itself that this leaks.
const ENTRIES_MAX: usize = 1_000;

/// Bytes of answers, events and conversations kept: far more than a test's, and it still fits beside one.
const BYTES_MAX: usize = 64 * 1024 * 1024;

/// The last answers; of too many the oldest go.
#[derive(Default)]
pub(in crate::sim) struct Store {
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    entries: HashMap<String, Entry>,
    /// Ids of the entries, oldest first.
    order: VecDeque<String>,
    bytes: usize,
}

/// One answer.
struct Entry {
    /// As `GET` shows it.
    shown: Bytes,
    state: State,
    /// The conversation up to here, without what is only said to this answer.
    turns: Vec<Turn>,
    /// Its events, where it was asked for as a stream.
    events: Option<Vec<Bytes>>,
    /// Those who wait for the next event.
    readers: Vec<Waker>,
    bytes: usize,
}

enum State {
    /// It is being made in the background.
    Making {
        /// The answer as it is when cancelled.
        cancelled: Bytes,
        /// Who makes it, from the moment that this is known.
        task: Option<AbortHandle>,
    },
    Cancelled,
    Complete,
}

/// What became of a wish to cancel.
pub(super) enum Cancelled {
    /// It is.
    Now(Bytes),
    /// It was over before, or is not made in the background.
    TooLate,
    /// There is none.
    Unknown,
}

impl Store {
    /// Keeps an answer that is complete; one that was cancelled stays so. `said` is what the next one goes on from.
    pub(super) fn keep(&self, id: &str, shown: Bytes, turns: &[Turn], said: Option<Turn>) {
        let mut kept = self.lock();
        match kept.entries.get_mut(id) {
            Some(entry) if matches!(entry.state, State::Making { .. }) => {
                let more = shown.len() + said.as_ref().map_or(0, turn_bytes);
                entry.state = State::Complete;
                entry.shown = shown;
                entry.turns.extend(said);
                kept.grow(id, more);
                return;
            }
            Some(entry) if matches!(entry.state, State::Cancelled) => return,
            _ => {}
        }
        let turns = turns.iter().cloned().chain(said).collect();
        kept.insert(id, Entry::new(shown, turns));
    }

    /// Keeps an answer that is made in the background, as it is until then, and as it is when cancelled.
    pub(super) fn begin(
        &self,
        id: &str,
        (shown, cancelled): (Bytes, Bytes),
        turns: Vec<Turn>,
        streamed: bool,
    ) {
        let mut entry = Entry::new(shown, turns);
        entry.bytes += cancelled.len();
        entry.state = State::Making { cancelled, task: None };
        entry.events = streamed.then(Vec::new);
        self.lock().insert(id, entry);
    }

    /// Notes who makes an answer. One that is over, cancelled or gone needs nobody.
    pub(super) fn made_by(&self, id: &str, task: AbortHandle) {
        match self.lock().entries.get_mut(id).map(|entry| &mut entry.state) {
            Some(State::Making { task: by, .. }) => *by = Some(task),
            _ => task.abort(),
        }
    }

    /// One more event of an answer, for those who read them; false if nobody can ask for it any more.
    pub(super) fn append(&self, id: &str, event: Bytes) -> bool {
        let mut kept = self.lock();
        let bytes = event.len();
        let Some(entry) = kept.entries.get_mut(id) else { return false };
        let Some(events) = &mut entry.events else { return true };
        events.push(event);
        entry.readers.drain(..).for_each(Waker::wake);
        kept.grow(id, bytes);
        kept.entries.contains_key(id)
    }

    /// The answer as it is now.
    pub(super) fn get(&self, id: &str) -> Option<Bytes> {
        self.lock().entries.get(id).map(|entry| entry.shown.clone())
    }

    /// What was said up to the end of the answer.
    pub(super) fn turns(&self, id: &str) -> Option<Vec<Turn>> {
        self.lock().entries.get(id).map(|entry| entry.turns.clone())
    }

    /// Whether the answer has events.
    pub(super) fn is_streamed(&self, id: &str) -> bool {
        self.lock().entries.get(id).is_some_and(|entry| entry.events.is_some())
    }

    /// Stops the making of an answer.
    pub(super) fn cancel(&self, id: &str) -> Cancelled {
        let mut kept = self.lock();
        let Some(entry) = kept.entries.get_mut(id) else { return Cancelled::Unknown };
        match std::mem::replace(&mut entry.state, State::Cancelled) {
            State::Making { cancelled, task } => {
                entry.shown = cancelled.clone();
                if let Some(task) = task {
                    task.abort();
                }
                Cancelled::Now(cancelled)
            }
            over @ (State::Cancelled | State::Complete) => {
                entry.state = over;
                Cancelled::TooLate
            }
        }
    }

    /// The event at `place` and whether it is the last; none when the answer is gone.
    pub(super) fn poll_event(
        &self,
        id: &str,
        place: usize,
        cx: &mut Context<'_>,
    ) -> Poll<Option<(Bytes, bool)>> {
        let mut kept = self.lock();
        let Some(entry) = kept.entries.get_mut(id) else { return Poll::Ready(None) };
        let events = entry.events.as_deref().unwrap_or_default();
        if let Some(event) = events.get(place) {
            return Poll::Ready(Some((event.clone(), is_completed(event))));
        }
        if !entry.readers.iter().any(|reader| reader.will_wake(cx.waker())) {
            entry.readers.push(cx.waker().clone());
        }
        Poll::Pending
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        // A panic while holding the lock leaves a valid map: carry on.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn new(shown: Bytes, turns: Vec<Turn>) -> Self {
        let bytes = shown.len() + turns.iter().map(turn_bytes).sum::<usize>();
        let (events, readers) = (None, Vec::new());
        Self { shown, state: State::Complete, turns, events, readers, bytes }
    }
}

impl Kept {
    fn insert(&mut self, id: &str, entry: Entry) {
        // Callers can choose ids.
        self.remove(id);
        self.bytes += entry.bytes;
        self.entries.insert(id.to_owned(), entry);
        self.order.push_back(id.to_owned());
        self.shrink();
    }

    fn grow(&mut self, id: &str, bytes: usize) {
        if let Some(entry) = self.entries.get_mut(id) {
            entry.bytes += bytes;
            self.bytes += bytes;
        }
        self.shrink();
    }

    fn shrink(&mut self) {
        while self.order.len() > ENTRIES_MAX || self.bytes > BYTES_MAX {
            let Some(oldest) = self.order.front().cloned() else { break };
            self.remove(&oldest);
        }
    }

    fn remove(&mut self, id: &str) {
        let Some(entry) = self.entries.remove(id) else { return };
        self.order.retain(|kept| kept != id);
        self.bytes -= entry.bytes;
        if let State::Making { task: Some(task), .. } = entry.state {
            task.abort();
        }
        entry.readers.into_iter().for_each(Waker::wake);
    }
}

fn turn_bytes((role, text): &Turn) -> usize {
    role.len() + text.len()
}

fn is_completed(event: &[u8]) -> bool {
    event.starts_with(b"event: response.completed\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keep(store: &Store, id: &str, text: &str) {
        store.keep(id, Bytes::copy_from_slice(text.as_bytes()), &[], None);
    }

    fn begin(store: &Store, id: &str) {
        let shown = (Bytes::from_static(b"queued"), Bytes::from_static(b"cancelled"));
        store.begin(id, shown, Vec::new(), true);
    }

    #[test]
    fn of_too_many_answers_the_oldest_go() {
        let store = Store::default();
        for number in 0..=ENTRIES_MAX {
            keep(&store, &number.to_string(), "answer");
        }
        assert_eq!(store.get("0"), None);
        assert!(store.get("1").is_some() && store.get(&ENTRIES_MAX.to_string()).is_some());
    }

    #[test]
    fn of_too_large_answers_the_oldest_go() {
        let store = Store::default();
        let half = "x".repeat(BYTES_MAX / 2);
        keep(&store, "first", &half);
        keep(&store, "second", &half);
        assert!(store.get("first").is_some());
        begin(&store, "third");
        assert_eq!((store.get("first"), store.get("third")), (None, Some("queued".into())));
        let event = Bytes::from(half);
        assert!(store.append("third", event.clone()));
        assert_eq!(store.get("second"), None);
        assert!(!store.append("third", Bytes::from(vec![0; BYTES_MAX])));
        assert_eq!(store.get("third"), None);
        assert_eq!(store.lock().bytes, 0);
    }

    #[test]
    fn what_was_cancelled_stays_so() {
        let store = Store::default();
        begin(&store, "id");
        assert!(matches!(store.cancel("id"), Cancelled::Now(_)));
        keep(&store, "id", "answer");
        assert_eq!(store.get("id"), Some("cancelled".into()));
        assert!(matches!(store.cancel("id"), Cancelled::TooLate));
        assert!(matches!(store.cancel("none"), Cancelled::Unknown));
    }

    #[test]
    fn a_reader_is_told_which_event_is_the_last() {
        let store = Store::default();
        begin(&store, "id");
        let cx = &mut Context::from_waker(Waker::noop());
        assert!(store.poll_event("id", 0, cx).is_pending());
        store.append("id", Bytes::from_static(b"event: response.created\n"));
        store.append("id", Bytes::from_static(b"event: response.completed\n"));
        let last =
            |place| match store.poll_event("id", place, &mut Context::from_waker(Waker::noop())) {
                Poll::Ready(Some((_, last))) => last,
                _ => panic!("there is no event {place}"),
            };
        assert!(!last(0) && last(1));
        assert!(store.poll_event("id", 2, cx).is_pending());
        assert!(matches!(store.poll_event("gone", 0, cx), Poll::Ready(None)));
    }
}
