//! What a request is to the engine: so many tokens, and the names of the blocks that they fill.

use std::hash::{DefaultHasher, Hash, Hasher};

use super::flight::Job;

/// Token ids in blocks. A block's name is a hash of its tokens and of all those before it, so two sequences share a name
/// exactly as far as they begin alike.
#[derive(Debug, Clone, Default)]
pub(super) struct Sequence {
    /// Of the full blocks, from the first on; none where nothing is to be found again.
    names: Vec<u64>,
    /// Whether it has names at all, once it is long enough.
    named: bool,
    /// Tokens of the prompt.
    pub(super) prompt: usize,
    /// Tokens of the answer.
    pub(super) answer: usize,
    /// Tokens of one block.
    block_size: usize,
}

impl Sequence {
    /// The tokens of `job`, without names.
    pub(super) fn unnamed(job: &Job, block_size: usize) -> Self {
        let (prompt, answer) = (job.prompt.len(), job.answer.len());
        Self { names: Vec::new(), named: false, prompt, answer, block_size }
    }

    /// The tokens of `job`; only sequences of the same salt have names in common.
    pub(super) fn named(job: &Job, salt: u64, block_size: usize) -> Self {
        let unnamed = Self::unnamed(job, block_size);
        let blocks = unnamed.computed(unnamed.answer) / block_size;
        let mut tokens = job.prompt.iter().chain(&job.answer);
        let mut name = salt;
        let names = (0..blocks).map(|_| {
            let mut hasher = DefaultHasher::new();
            hasher.write_u64(name);
            tokens.by_ref().take(block_size).for_each(|token| hasher.write_u32(*token));
            name = hasher.finish();
            name
        });
        Self { names: names.collect(), named: true, ..unnamed }
    }

    /// Whether its blocks are looked for, and can be found.
    pub(super) fn is_named(&self) -> bool {
        self.named
    }

    /// Blocks that the prompt and the whole answer need.
    pub(super) fn blocks(&self) -> usize {
        (self.prompt + self.answer).div_ceil(self.block_size)
    }

    /// Tokens whose keys and values are there when the prompt is computed and `made` tokens of the answer were made: the
    /// last one was not yet fed back into the model.
    pub(super) fn computed(&self, made: usize) -> usize {
        self.prompt + made.min(self.answer).saturating_sub(1)
    }

    /// Names of the blocks that may be found instead of being computed. The last token of a prompt is always computed:
    /// the first of the answer comes from it.
    pub(super) fn findable(&self) -> &[u64] {
        self.full(self.prompt.saturating_sub(1))
    }

    /// Names of the blocks that the first `tokens` fill.
    pub(super) fn full(&self, tokens: usize) -> &[u64] {
        &self.names[..self.names.len().min(tokens / self.block_size)]
    }

    /// Tokens in so many full blocks.
    pub(super) fn tokens_in(&self, blocks: usize) -> usize {
        blocks * self.block_size
    }
}

/// What the names of a request's blocks begin with: nothing is shared between models, nor between the `cache_salt`s of
/// vLLM's API.
pub(in crate::sim) fn salt(model: &str, cache_salt: Option<&str>) -> u64 {
    let mut hasher = DefaultHasher::new();
    (model, cache_salt).hash(&mut hasher);
    hasher.finish()
}
