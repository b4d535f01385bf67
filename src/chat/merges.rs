//! Byte-level BPE that counts: of two neighbours those are merged that come first in the model's list, until none are in it.
//!
//! The tokenizers crate does the same with a heap, a string for each token and a hash of each byte's text: for a word that
//! it has not seen, four times as long.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use serde::Deserialize;
use smallvec::SmallVec;

/// No merge.
const NONE: (u32, u32) = (u32::MAX, 0);

/// Two tokens to their rank and the token that they become.
pub(super) struct Merges {
    pairs: HashMap<u64, (u32, u32), BuildHasherDefault<PairHasher>>,
    /// The token of each byte.
    bytes: [u32; 256],
}

#[derive(Deserialize)]
struct File {
    model: Model,
}

#[derive(Deserialize)]
struct Model {
    vocab: HashMap<String, u32>,
    merges: Vec<Merge>,
}

/// Two texts, or, in older files, one with a blank between.
#[derive(Deserialize)]
#[serde(untagged)]
enum Merge {
    Pair(String, String),
    Line(String),
}

impl Merges {
    /// From a `tokenizer.json`; none where its list does not fit its vocabulary.
    pub(super) fn read(json: &[u8]) -> Option<Self> {
        let Model { vocab, merges } = serde_json::from_slice::<File>(json).ok()?.model;
        let mut bytes = [0; 256];
        for (byte, token) in (0..=u8::MAX).zip(&mut bytes) {
            *token = *vocab.get(letter(byte).encode_utf8(&mut [0; 4]) as &str)?;
        }
        let mut pairs =
            HashMap::with_capacity_and_hasher(merges.len(), BuildHasherDefault::default());
        for (rank, merge) in merges.iter().enumerate() {
            let (left, right) = match merge {
                Merge::Pair(left, right) => (left.as_str(), right.as_str()),
                Merge::Line(line) => line.split_once(' ')?,
            };
            let whole = *vocab.get(&format!("{left}{right}"))?;
            let key = key(*vocab.get(left)?, *vocab.get(right)?);
            pairs.insert(key, (u32::try_from(rank).ok()?, whole));
        }
        Some(Self { pairs, bytes })
    }

    /// Tokens of a word. Takes as many steps as the square of its length.
    pub(super) fn count(&self, word: &str) -> usize {
        let bytes = word.bytes().map(|byte| self.bytes[usize::from(byte)]);
        let mut tokens: SmallVec<[u32; 64]> = bytes.collect();
        let pairs = tokens.windows(2).map(|pair| self.merge(pair[0], pair[1]));
        let mut merges: SmallVec<[(u32, u32); 64]> = pairs.collect();
        while let Some((at, &(rank, whole))) =
            merges.iter().enumerate().min_by_key(|(_, (rank, _))| *rank)
        {
            if rank == NONE.0 {
                break;
            }
            tokens[at] = whole;
            tokens.remove(at + 1);
            merges.remove(at);
            if at > 0 {
                merges[at - 1] = self.merge(tokens[at - 1], whole);
            }
            if at < merges.len() {
                merges[at] = self.merge(whole, tokens[at + 1]);
            }
        }
        tokens.len()
    }

    fn merge(&self, left: u32, right: u32) -> (u32, u32) {
        self.pairs.get(&key(left, right)).copied().unwrap_or(NONE)
    }
}

fn key(left: u32, right: u32) -> u64 {
    u64::from(left) << 32 | u64::from(right)
}

/// The letter that stands for a byte in a byte-level vocabulary: itself where it can be seen, else one from U+0100 on.
pub(super) fn letter(byte: u8) -> char {
    let seen = |byte: &u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..);
    if seen(&byte) {
        return char::from(byte);
    }
    let unseen = (0..byte).filter(|byte| !seen(byte)).count();
    u32::try_from(unseen).ok().and_then(|at| char::from_u32(0x100 + at)).unwrap_or_default()
}

/// Keys are numbers of a vocabulary's tokens: nobody can choose many that collide, and mixing them is all that is needed.
#[derive(Default)]
struct PairHasher(u64);

impl Hasher for PairHasher {
    fn write_u64(&mut self, key: u64) {
        // Odd, near 2^64 divided by the golden ratio: it spreads neighbours furthest.
        let mixed = (key ^ key >> 29).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ mixed >> 32;
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(self.0 << 8 | u64::from(*byte)));
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
