//! How much of prompts the cache of one node holds, in bytes: by what the node says of its size, and by what its answers say
//! of prompts that it was thought to hold.

use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU64, Ordering};

use super::super::estimate::{Estimate, about, whole};
use crate::wire::usage::PromptUsage;

/// Bytes of JSON to a token of a prompt before an answer has told: a little under what English text has.
const TOKEN_BYTES: f64 = 4.0;

/// No tokenizer makes fewer or more of text; a prompt of images is no measure.
const TOKEN_BYTES_LIKELY: RangeInclusive<f64> = 1.0..=16.0;

/// Weight of the newest answer against those before.
const NEWEST: f64 = 0.125;

/// Tokens of a prompt that tells something: of a short one the chat template is a large part.
const TELLING_TOKENS: u64 = 64;

/// The part of a cache that is there for prompts to be found again; answers, and requests under way, need some of it.
const FIT_LIKELY: RangeInclusive<f64> = 0.5..=1.25;

/// What one answer changes of it, where less was found than was thought, and where not.
const FIT_LESS: f64 = 0.98;
const FIT_MORE: f64 = 1.004;

/// What was found may be so much of the prompt less than was thought, and the thought still right: blocks end elsewhere.
const FOUND_LESS: f64 = 0.1;

const UNKNOWN: u64 = u64::MAX;

/// The room of one node.
#[derive(Debug)]
pub struct Room {
    /// As the node says; [`UNKNOWN`] where it does not.
    tokens: AtomicU64,
    /// Bytes to a token.
    token_bytes: Estimate,
    /// [`FIT_LIKELY`].
    fit: Estimate,
    /// Bytes of prompts that were in it when one was last sent there.
    used: AtomicU64,
}

impl Default for Room {
    fn default() -> Self {
        Self {
            tokens: AtomicU64::new(UNKNOWN),
            token_bytes: Estimate::of(TOKEN_BYTES),
            fit: Estimate::of(1.0),
            used: AtomicU64::new(0),
        }
    }
}

impl Room {
    /// In bytes of prompts; none where the node does not tell.
    pub fn bytes(&self) -> Option<u64> {
        let tokens = self.tokens.load(Ordering::Relaxed);
        let bytes = || whole(about(tokens) * self.token_bytes.get() * self.fit.get());
        (tokens != UNKNOWN).then(bytes)
    }

    /// Bytes of prompts in it, as of the last one that was sent there.
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// So many bytes of prompts are in it now.
    pub fn holds(&self, used: u64) {
        self.used.store(used, Ordering::Relaxed);
    }

    /// The node said how many tokens its cache holds.
    pub fn is_of(&self, tokens: Option<u64>) {
        self.tokens.store(tokens.unwrap_or(UNKNOWN), Ordering::Relaxed);
    }

    /// An answer told of its prompt of `bytes`, of which `held` were thought to be in the cache. Gives how many tokens these
    /// are.
    pub fn told(&self, usage: PromptUsage, bytes: u64, held: u64) -> u64 {
        let tokens = about(usage.prompt);
        let thought = about(held) / self.token_bytes.get();
        if usage.prompt >= TELLING_TOKENS {
            let sample = about(bytes) / tokens;
            if TOKEN_BYTES_LIKELY.contains(&sample) {
                self.token_bytes.learn(sample, NEWEST);
            }
            if let Some(found) = usage.cached {
                let less = about(found) < thought - tokens * FOUND_LESS;
                let fit = self.fit.get() * if less { FIT_LESS } else { FIT_MORE };
                self.fit.set(fit.clamp(*FIT_LIKELY.start(), *FIT_LIKELY.end()));
            }
        }
        whole(thought)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_answers_tell_corrects_what_is_thought_of_a_cache() {
        let room = Room::default();
        assert_eq!(room.bytes(), None);
        room.is_of(Some(1_000));
        assert_eq!(room.bytes(), Some(4_000));
        let told = |cached: u64, held: u64| {
            room.told(PromptUsage { prompt: 1_000, cached: Some(cached) }, 5_000, held)
        };
        // Five bytes to a token, as the prompts have them.
        (0..200).for_each(|_| assert!(told(800, 4_000) >= 800));
        let about = |bytes: u64| room.bytes().is_some_and(|known| known.abs_diff(bytes) <= 1);
        assert!(told(800, 4_000) == 800 && about(6_250));
        // A cache that holds less than was thought is taken for smaller, to a bound.
        (0..20).for_each(|_| assert_eq!(told(300, 4_000), 800));
        let less = room.bytes().unwrap();
        assert!((3_500..5_000).contains(&less), "{less}");
        (0..200).for_each(|_| assert_eq!(told(0, 4_000), 800));
        assert!(about(2_500));
        // Images are no measure, nor are short prompts.
        room.told(PromptUsage { prompt: 1_000, cached: None }, 5_000_000, 0);
        room.told(PromptUsage { prompt: 8, cached: Some(0) }, 100, 100);
        assert!(about(2_500));
    }
}
