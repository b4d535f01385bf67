//! What must hold in the engine whatever comes in whatever order.

mod batch;
mod cache;

use super::flight::Job;
use super::sequence::Sequence;

/// Tokens in a block: few, so that short sequences have several.
const BLOCK: usize = 4;

fn sequence(prompt: &[u32], answer: &[u32], salt: u64) -> Sequence {
    Sequence::named(&Job { prompt: prompt.to_vec(), answer: answer.to_vec() }, salt, BLOCK)
}
