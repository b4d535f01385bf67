//! The simulated tokenizer: a word or a mark, with the space before it, is one token.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// Bytes of one token at most; a longer word is several. Longer than any word that people write.
const TOKEN_BYTES_MAX: usize = 64;

/// The mark that ends an answer, and a message of a chat. No answer shows it.
pub(super) const END: &str = "<|im_end|>";

/// Texts that a node can turn back from ids: more than any test asks, some megabytes at most.
const VOCABULARY_MAX: usize = 65_536;

/// What an id that was never given out means, as a byte-level tokenizer would write it.
const UNKNOWN: &str = "\u{FFFD}";

/// The tokens of `text`, in order; joined they are `text` again.
pub(super) fn split(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (token, tail) = rest.split_at(first_token_bytes(rest));
        rest = tail;
        Some(token)
    })
}

/// Length in bytes of the first token: space, then letters and digits or one other mark.
fn first_token_bytes(text: &str) -> usize {
    let mut in_space = true;
    for (at, letter) in text.char_indices() {
        if at + letter.len_utf8() > TOKEN_BYTES_MAX {
            return at;
        }
        let in_word = letter.is_alphanumeric();
        if in_space && !in_word && !letter.is_whitespace() {
            return at + letter.len_utf8();
        }
        if !in_space && !in_word {
            return at;
        }
        in_space = in_space && !in_word;
    }
    text.len()
}

/// The texts behind the ids that a node gave out.
///
/// An id is a hash of its text, so every node gives the same; of two texts with one hash the first keeps it.
#[derive(Default)]
pub(super) struct Vocabulary {
    texts: Mutex<HashMap<u32, Box<str>>>,
}

impl Vocabulary {
    /// The ids of `tokens`.
    pub(super) fn ids<'a>(&self, tokens: impl Iterator<Item = &'a str>) -> Vec<u32> {
        let mut texts = self.texts.lock().unwrap_or_else(PoisonError::into_inner);
        tokens
            .map(|token| {
                let id = id(token);
                if texts.len() < VOCABULARY_MAX {
                    texts.entry(id).or_insert_with(|| token.into());
                }
                id
            })
            .collect()
    }

    /// The text of `ids`.
    pub(super) fn text(&self, ids: impl Iterator<Item = u64>) -> String {
        let texts = self.texts.lock().unwrap_or_else(PoisonError::into_inner);
        ids.map(|id| {
            let text = u32::try_from(id).ok().and_then(|id| texts.get(&id));
            text.map_or(UNKNOWN, AsRef::as_ref)
        })
        .collect()
    }
}

/// The ids of `tokens`, without a memory of their texts.
pub(super) fn ids<'a>(tokens: impl Iterator<Item = &'a str>) -> Vec<u32> {
    tokens.map(id).collect()
}

/// The id of one token: FNV-1a, folded to 31 bits: clients keep ids in signed integers.
pub(super) fn id(token: &str) -> u32 {
    let hash = token.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    ((hash >> 33) ^ (hash & 0x7fff_ffff)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_or_a_mark_with_its_space_is_one_token() {
        let tokens: Vec<_> = split("Привет, мир 😀!  \n").collect();
        assert_eq!(tokens, ["Привет", ",", " мир", " 😀", "!", "  \n"]);
        assert_eq!(split("").count(), 0);
    }

    #[test]
    fn tokens_joined_are_the_text_again() {
        let text = format!("{} a\tb  {}é", "x".repeat(200), "é".repeat(77));
        assert_eq!(split(&text).collect::<String>(), text);
        assert!(split(&text).all(|token| !token.is_empty() && token.len() <= TOKEN_BYTES_MAX));
    }

    #[test]
    fn ids_turn_back_into_their_text() {
        let vocabulary = Vocabulary::default();
        let ids = vocabulary.ids(split("one two, two"));
        assert_eq!(ids[1], ids[3]);
        assert_eq!(vocabulary.text(ids.into_iter().map(u64::from)), "one two, two");
        assert_eq!(vocabulary.text([7].into_iter()), UNKNOWN);
    }
}
