//! What became of the requests, and what should not have.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Of the requests that should be answered, so many of a hundred must be: a gateway that refuses everybody gives no wrong answer.
const WELL_MIN_PERCENT: u64 = 80;

/// Wrong answers that are shown.
const EXAMPLES_MAX: u64 = 20;

/// Of each, so much.
const EXAMPLE_CHARS: usize = 1_000;

/// How one request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Outcome {
    /// The right answer, whole.
    Well,
    /// A whole stream, up to its `[DONE]`.
    WellStreamed,
    /// A status that says what is wrong with the nodes, and JSON.
    Refused,
    /// A stream that ends with an event which says so.
    BrokenStream,
    /// Cut where everybody sees it, as its node cut it in the midst of something.
    Cut,
    /// The client left.
    Left,
    /// A lie of the client's was refused, or its connection closed.
    LieRefused,
    /// A key that is none was refused.
    KeyRefused,
}

/// Counted by all clients.
#[derive(Default)]
pub(crate) struct Seen {
    outcomes: Mutex<BTreeMap<Outcome, u64>>,
    wrong: Mutex<u64>,
    /// Requests whose answer a node broke off in the midst of an event, or of a body: only a cut is honest.
    torn: Mutex<HashMap<String, ()>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Seen {
    pub(crate) fn count(&self, outcome: Outcome) {
        *lock(&self.outcomes).entry(outcome).or_default() += 1;
    }

    /// Told at once, and counted.
    pub(crate) fn wrong(&self, what: impl std::fmt::Display) {
        let mut wrong = lock(&self.wrong);
        *wrong += 1;
        if *wrong <= EXAMPLES_MAX {
            let what = what.to_string();
            let shown: String = what.chars().take(EXAMPLE_CHARS).collect();
            println!("WRONG: {shown}");
        }
    }

    /// A node broke off in the midst of what it said to the request with this mark.
    pub(crate) fn tear(&self, mark: &str) {
        lock(&self.torn).insert(mark.to_owned(), ());
    }

    /// Whether a node did so; asked once.
    pub(crate) fn was_torn(&self, mark: &str) -> bool {
        lock(&self.torn).remove(mark).is_some()
    }

    pub(crate) fn wrongs(&self) -> u64 {
        *lock(&self.wrong)
    }

    pub(crate) fn figures(&self) -> String {
        let counted = lock(&self.outcomes);
        let total: u64 = counted.values().sum();
        let all: Vec<_> =
            counted.iter().map(|(outcome, count)| format!("{outcome:?} {count}")).collect();
        format!("{total} requests: {}; wrong {}", all.join(", "), self.wrongs())
    }

    /// The bars that these requests miss.
    pub(crate) fn missed(&self) -> Vec<String> {
        let counted = lock(&self.outcomes);
        let of = |outcomes: &[Outcome]| -> u64 {
            outcomes.iter().filter_map(|outcome| counted.get(outcome)).sum()
        };
        let well = of(&[Outcome::Well, Outcome::WellStreamed]);
        let asked = well + of(&[Outcome::Refused, Outcome::BrokenStream, Outcome::Cut]);
        let mut missed = Vec::new();
        if self.wrongs() > 0 {
            missed.push(format!("{} wrong answers", self.wrongs()));
        }
        if asked == 0 || well * 100 < asked * WELL_MIN_PERCENT {
            missed
                .push(format!("{well} of {asked} answered well, {WELL_MIN_PERCENT} % is the bar"));
        }
        missed
    }
}
