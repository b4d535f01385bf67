//! How many tokens the prompt of a conversation has on a node that runs vLLM.
//!
//! The prompt is rendered as the node renders it, which is quick, and cut into pieces whose counts add up
//! (`pieces.rs`). A session remembers the counts of its last prompt's pieces, so the next one costs what is new in it.

use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::thread;

use data_encoding::BASE64URL_NOPAD;
use serde::{Deserialize, Serialize};
use tokenizers::Tokenizer;
use xxhash_rust::xxh3::xxh3_128_with_seed;

use super::Conversation;
use super::folder::{self, Model};
use super::pieces::Cutter;
use super::template::Template;
use super::words::Words;

/// Pieces that a session remembers: two of each message in a very long conversation, 40 KB.
const REMEMBERED_MAX: usize = 2_000;

/// Bytes that are worth a thread of their own: a tenth of a millisecond to start one, a few to count so many.
const THREAD_BYTES_MIN: usize = 32 << 10;

/// Threads of one count: others want to be served meanwhile.
const THREADS_MAX: usize = 4;

/// A model's folder that prompts cannot be counted with.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// A file is not there, or is not what it should be.
    #[error("{file}: {why}")]
    Unreadable {
        /// Its name in the folder.
        file: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// None of the files that may hold a chat template does.
    #[error("no chat template in chat_template.jinja, chat_template.json or tokenizer_config.json")]
    NoTemplate,
}

/// A conversation whose prompt's tokens are not known here.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Uncountable {
    /// The template refuses it, and so will the node.
    #[error("{0}")]
    Refused(String),
    /// The node alone can tell.
    #[error("cannot be counted here: {0}")]
    Unknown(String),
}

/// Counts the prompts of one model.
pub struct Counter {
    pub(super) tokenizer: Tokenizer,
    cutter: Cutter,
    pub(super) words: Option<Words>,
    pub(super) template: Template,
    with_tools: Option<Template>,
}

impl Counter {
    /// From a folder with `tokenizer.json`, `tokenizer_config.json` and, in one of the places for it, a chat template. Takes about a
    /// second for a large vocabulary.
    ///
    /// # Errors
    /// [`Unusable`] where something is missing, damaged or not supported.
    pub fn load(folder: &Path) -> Result<Self, Unusable> {
        let Model { tokenizer, words, template, with_tools } = folder::read(folder)?;
        let cutter = Cutter::of(&tokenizer).ok_or_else(|| Unusable::Unreadable {
            file: "tokenizer.json",
            why: "too many added tokens".to_owned(),
        })?;
        let words = words.filter(|_| cutter.is_plain());
        Ok(Self { tokenizer, cutter, words, template, with_tools })
    }

    /// Tokens of the prompt, up to where the answer begins. `kept` is what the session remembers of its last count: used
    /// and renewed. Takes up to some tens of milliseconds for a long conversation that is new.
    ///
    /// # Errors
    /// [`Uncountable`]; `kept` stays as it was.
    pub fn count(
        &self,
        conversation: &Conversation<'_>,
        kept: &mut Kept,
    ) -> Result<u64, Uncountable> {
        let has_tools = conversation.extra.get("tools").is_some_and(|tools| !tools.is_null());
        let own = self.with_tools.as_ref().filter(|_| has_tools);
        let prompt = own.unwrap_or(&self.template).render(conversation)?;
        let (mut sum, mut now, mut new) = (0, Vec::new(), Vec::new());
        for piece in self.cutter.pieces(&prompt) {
            let id = kept.id(piece);
            match kept.count(id) {
                Some(count) => {
                    sum += u64::from(count);
                    now.push((id, count));
                }
                None => new.push((id, piece)),
            }
        }
        let pieces: Vec<&str> = new.iter().map(|(_, piece)| *piece).collect();
        for ((id, _), count) in new.iter().zip(self.counts(&pieces)?) {
            sum += count;
            now.extend(u32::try_from(count).map(|count| (*id, count)));
        }
        kept.renew(now);
        Ok(sum)
    }

    /// Tokens of each piece; many are shared out among threads.
    fn counts(&self, pieces: &[&str]) -> Result<Vec<u64>, Uncountable> {
        let bytes: usize = pieces.iter().map(|piece| piece.len()).sum();
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let threads = (bytes / THREAD_BYTES_MIN).min(cores).min(THREADS_MAX);
        // A regular expression gives a very long text up by a panic: there it must be on a thread of its own.
        if bytes < 2 * THREAD_BYTES_MIN {
            return pieces.iter().map(|piece| self.tokens(piece)).collect();
        }
        thread::scope(|scope| {
            let mut rest = pieces;
            let mut shares = Vec::new();
            while !rest.is_empty() {
                let (share, others) = rest.split_at(share_of(rest, bytes.div_ceil(threads)));
                let count = || share.iter().map(|piece| self.tokens(piece)).collect::<Vec<_>>();
                shares.push(scope.spawn(count));
                rest = others;
            }
            let lost = |_| vec![Err(Uncountable::Unknown("a tokenizer panicked".to_owned()))];
            shares.into_iter().flat_map(|share| share.join().unwrap_or_else(lost)).collect()
        })
    }

    fn tokens(&self, piece: &str) -> Result<u64, Uncountable> {
        let failed = |error: tokenizers::Error| Uncountable::Unknown(error.to_string());
        let Some(words) = &self.words else {
            let encoding = self.tokenizer.encode_fast(piece, false).map_err(failed)?;
            return Ok(encoding.len() as u64);
        };
        let mut sum = Ok(0);
        let tokens = self.cutter.parts(piece, |part| {
            if let Ok(before) = sum {
                sum = words.count(&self.tokenizer, part).map(|count| before + count);
            }
        });
        sum.map(|sum| sum + tokens).map_err(failed)
    }
}

/// How many of the first pieces have about so many bytes, at least one.
fn share_of(pieces: &[&str], bytes: usize) -> usize {
    let mut sum = 0;
    let full = pieces.iter().position(|piece| {
        sum += piece.len();
        sum >= bytes
    });
    full.map_or(pieces.len(), |last| last + 1)
}

/// What a session keeps between counts: 24 bytes for each piece of its last prompt.
///
/// A piece is known by a hash of its text, with a seed that nobody outside knows: no text can be made that passes for another.
#[derive(Clone, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Kept {
    seed: u64,
    /// In the order of their ids.
    counts: Box<[(Id, u32)]>,
}

/// 128 bits in two halves, so that a pair with a count takes no more room than it must.
type Id = [u64; 2];

impl Default for Kept {
    fn default() -> Self {
        Self { seed: RandomState::new().hash_one(0), counts: Box::default() }
    }
}

impl Kept {
    /// What it takes beside itself, in bytes.
    pub fn bytes(&self) -> usize {
        size_of_val(&*self.counts)
    }

    fn id(&self, piece: &str) -> Id {
        let hash = xxh3_128_with_seed(piece.as_bytes(), self.seed).to_le_bytes();
        let half = |at: usize| hash[at..at + 8].try_into().map_or(0, u64::from_le_bytes);
        [half(0), half(8)]
    }

    fn count(&self, id: Id) -> Option<u32> {
        let found = self.counts.binary_search_by_key(&id, |(id, _)| *id).ok()?;
        Some(self.counts[found].1)
    }

    fn renew(&mut self, mut counts: Vec<(Id, u32)>) {
        counts.sort_unstable();
        counts.dedup();
        counts.truncate(REMEMBERED_MAX);
        self.counts = counts.into();
    }
}

/// Bytes of a piece's id and count in the text.
const WRITTEN: usize = 20;

impl From<Kept> for String {
    fn from(kept: Kept) -> Self {
        let mut bytes = kept.seed.to_le_bytes().to_vec();
        for ([first, second], count) in kept.counts {
            bytes.extend(first.to_le_bytes());
            bytes.extend(second.to_le_bytes());
            bytes.extend(count.to_le_bytes());
        }
        BASE64URL_NOPAD.encode(&bytes)
    }
}

/// A text that is not of [`Kept`].
#[derive(Debug, thiserror::Error)]
#[error("not what a session remembers of its counts")]
pub struct Damaged;

impl TryFrom<String> for Kept {
    type Error = Damaged;

    fn try_from(text: String) -> Result<Self, Damaged> {
        let bytes = BASE64URL_NOPAD.decode(text.as_bytes()).map_err(|_| Damaged)?;
        let (seed, pieces) = bytes.split_first_chunk::<8>().ok_or(Damaged)?;
        let (pieces, []) = pieces.as_chunks::<WRITTEN>() else { return Err(Damaged) };
        let number = |bytes: &[u8]| bytes.try_into().map_or(0, u64::from_le_bytes);
        let count = |bytes: &[u8]| bytes.try_into().map_or(0, u32::from_le_bytes);
        let counts = pieces
            .iter()
            .map(|piece| ([number(&piece[..8]), number(&piece[8..16])], count(&piece[16..])));
        let mut kept = Self { seed: u64::from_le_bytes(*seed), counts: Box::default() };
        kept.renew(counts.collect());
        Ok(kept)
    }
}
