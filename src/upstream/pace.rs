//! How many tokens a node's prompts and answers have had of late, by what can be seen of them: for the account of requests
//! whose client left before the node told.

use std::time::Duration;

use super::estimate::{Estimate, about, whole};

/// How much one request counts: some hundreds of them are remembered.
const WEIGHT: f64 = 1.0 / 128.0;

/// Means of what a node told.
#[derive(Debug, Default)]
pub struct Pace {
    prompt: Estimate,
    estimated: Estimate,
    answer: Estimate,
    seconds: Estimate,
}

/// What a node told of one request.
#[derive(Debug, Clone, Copy)]
pub struct Told {
    /// Tokens of the prompt.
    pub prompt: u64,
    /// What they were estimated to be.
    pub estimated: u64,
    /// Tokens of the answer.
    pub answer: u64,
    /// How long it had the request.
    pub took: Duration,
}

impl Pace {
    /// A whole answer told of its tokens.
    pub fn note(&self, told: Told) {
        self.prompt.learn(about(told.prompt), WEIGHT);
        self.estimated.learn(about(told.estimated), WEIGHT);
        self.answer.learn(about(told.answer), WEIGHT);
        self.seconds.learn(told.took.as_secs_f64(), WEIGHT);
    }

    /// Tokens of a prompt that is estimated to have so many.
    pub fn prompt(&self, estimated: u64) -> u64 {
        let known = scaled(about(estimated), &self.prompt, &self.estimated);
        known.unwrap_or(estimated)
    }

    /// Tokens that the node may have made of an answer in this time; 0 where it has not told of any.
    pub fn answer(&self, took: Duration) -> u64 {
        scaled(took.as_secs_f64(), &self.answer, &self.seconds).unwrap_or(0)
    }
}

fn scaled(amount: f64, over: &Estimate, under: &Estimate) -> Option<u64> {
    let (over, under) = (over.get(), under.get());
    (over > 0.0 && under > 0.0).then(|| whole(amount * over / under))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(prompt: u64, estimated: u64, answer: u64) -> Told {
        Told { prompt, estimated, answer, took: Duration::from_secs(1) }
    }

    #[test]
    fn what_was_told_of_late_is_what_is_thought() {
        let pace = Pace::default();
        let half = Duration::from_millis(500);
        assert_eq!((pace.prompt(100), pace.answer(half)), (100, 0));
        pace.note(told(50, 100, 20));
        assert_eq!((pace.prompt(10), pace.answer(half)), (5, 10));
        (0..2_000).for_each(|_| pace.note(told(200, 100, 60)));
        assert_eq!((pace.prompt(100), pace.answer(half)), (199, 29));
        pace.note(told(0, 0, 0));
        assert!(pace.prompt(100) >= 190);
    }
}
