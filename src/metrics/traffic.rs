//! What came of the requests of one node, one model or one key: plain counters, which whoever asks reads.

use std::array;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::Failure;
use super::durations::{Durations, Found};
use super::families::Told;
use super::past::{Past, Recent, Sample};

/// Classes of status: 1xx to 5xx.
pub(super) const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// Kinds of tokens.
const TOKENS: [&str; 3] = ["prompt", "cached", "completion"];

/// Counts up.
#[derive(Debug, Default)]
pub(super) struct Count(AtomicU64);

impl Count {
    pub(super) fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Tokens of one request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tokens {
    /// Of its prompt.
    pub prompt: u64,
    /// Of them, those that were found in a cache.
    pub cached: u64,
    /// Of its answer.
    pub completion: u64,
}

/// Answers and tokens.
#[derive(Debug, Default)]
pub(super) struct Totals {
    pub(super) answers: [Count; CLASSES.len()],
    pub(super) tokens: [Count; TOKENS.len()],
}

impl Totals {
    fn answered(&self, status: u16, tokens: Tokens) {
        self.answers[class(status)].add(1);
        let amounts = [tokens.prompt, tokens.cached, tokens.completion];
        // Most requests of a gateway whose tokens nobody needs have none.
        for (count, amount) in self.tokens.iter().zip(amounts).filter(|(_, amount)| *amount > 0) {
            count.add(amount);
        }
    }

    /// Answers by their class of status.
    pub(super) fn tell_answers(&self, told: &mut Told<'_>) {
        for (class, count) in CLASSES.iter().zip(&self.answers) {
            told.count_of("status", class, count.get());
        }
    }

    /// Tokens by their kind.
    pub(super) fn tell_tokens(&self, told: &mut Told<'_>) {
        for (kind, count) in TOKENS.iter().zip(&self.tokens) {
            told.count_of("kind", kind, count.get());
        }
    }

    fn requests(&self) -> u64 {
        self.answers.iter().map(Count::get).sum()
    }
}

/// Where `status` stands in [`CLASSES`].
pub(super) fn class(status: u16) -> usize {
    usize::from(status / 100).clamp(1, CLASSES.len()) - 1
}

/// What came of requests, as numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Answers below 400.
    pub ok: u64,
    /// 4xx.
    pub refused: u64,
    /// 5xx, and tries that brought no whole answer.
    pub errors: u64,
    /// Tries that failed and went on elsewhere.
    pub retries: u64,
    /// Clients that left.
    pub aborts: u64,
}

/// Of a node, or of a model.
pub struct Traffic {
    pub(super) totals: Totals,
    pub(super) failures: [Count; Failure::ALL.len()],
    pub(super) retries: Count,
    pub(super) aborts: Count,
    /// Tokens of answers as they pass: those of a stream are seen long before it is over.
    pub(super) made: Count,
    pub(super) first_token: Durations,
    pub(super) between_tokens: Durations,
    past: Mutex<Past>,
}

impl Default for Traffic {
    fn default() -> Self {
        Self {
            totals: Totals::default(),
            failures: array::from_fn(|_| Count::default()),
            retries: Count::default(),
            aborts: Count::default(),
            made: Count::default(),
            first_token: Durations::first_token(),
            between_tokens: Durations::between_tokens(),
            past: Mutex::default(),
        }
    }
}

impl Traffic {
    /// An answer reached its end, or its client left.
    pub fn answered(&self, status: u16, tokens: Tokens) {
        self.totals.answered(status, tokens);
    }

    /// A try failed.
    pub fn failed(&self, how: Failure) {
        self.failures[how as usize].add(1);
    }

    /// It was tried again.
    pub fn retried(&self) {
        self.retries.add(1);
    }

    /// A client left.
    pub fn aborted(&self) {
        self.aborts.add(1);
    }

    /// So many tokens of answers were seen.
    pub fn made(&self, tokens: u64) {
        self.made.add(tokens);
    }

    /// The first token of a stream came.
    pub fn first_token(&self, took: Duration) {
        self.first_token.observe(took);
    }

    /// More tokens of a stream came, each so long after the one before.
    pub fn next_tokens(&self, each: Found, tokens: u64) {
        self.between_tokens.add(each, tokens);
    }

    /// Something came of some request.
    pub(super) fn is_used(&self) -> bool {
        self.totals.requests() > 0
    }

    /// What came of all requests.
    pub fn outcome(&self) -> Outcome {
        let answers = self.totals.answers.each_ref().map(Count::get);
        let failures: u64 = self.failures.iter().map(Count::get).sum();
        Outcome {
            ok: answers[0] + answers[1] + answers[2],
            refused: answers[3],
            errors: answers[4] + failures,
            retries: self.retries.get(),
            aborts: self.aborts.get(),
        }
    }

    /// The numbers of this moment.
    pub(super) fn sample(&self, at: Instant) -> Sample {
        let outcome = self.outcome();
        Sample {
            at,
            requests: self.totals.requests(),
            errors: outcome.errors,
            prompt_tokens: self.totals.tokens[0].get(),
            tokens: self.made.get(),
            first_token: self.first_token.counts().into(),
            between_tokens: self.between_tokens.counts().into(),
        }
    }

    /// Notes the numbers of this moment.
    pub(super) fn note(&self, at: Instant) {
        let sample = self.sample(at);
        self.past.lock().push(sample);
    }

    /// Of the last minutes.
    pub fn recent(&self, now: Instant) -> Recent {
        let sample = self.sample(now);
        self.past.lock().recent(&sample, (&self.first_token, &self.between_tokens))
    }
}

/// Of a key.
#[derive(Debug, Default)]
pub struct KeyTraffic {
    pub(super) totals: Totals,
    pub(super) limited: Count,
}

impl KeyTraffic {
    /// An answer of a node reached its end, or its client left.
    pub fn answered(&self, status: u16, tokens: Tokens) {
        self.totals.answered(status, tokens);
    }

    /// With what came of another's requests.
    pub(super) fn add(&self, other: &Self) {
        let both = |own: &[Count], others: &[Count]| {
            own.iter().zip(others).for_each(|(own, other)| own.add(other.get()));
        };
        both(&self.totals.answers, &other.totals.answers);
        both(&self.totals.tokens, &other.totals.tokens);
        self.limited.add(other.limited.get());
    }

    /// Something came of some request.
    pub fn is_used(&self) -> bool {
        self.totals.requests() > 0
    }

    /// A limit refused it.
    pub fn limited(&self) {
        self.limited.add(1);
    }

    /// Requests, those that a limit refused, and tokens.
    pub fn told(&self) -> (u64, u64, Tokens) {
        let [prompt, cached, completion] = self.totals.tokens.each_ref().map(Count::get);
        let tokens = Tokens { prompt, cached, completion };
        (self.totals.requests(), self.limited.get(), tokens)
    }
}
