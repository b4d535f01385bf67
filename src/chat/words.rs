//! Counts a text by its words, where a tokenizer is byte-level BPE over words that patterns cut out: what Qwen, Llama 3,
//! DeepSeek, GPT-OSS and most models of their time are. Others go the way of the tokenizers crate, which takes five times as long.

use std::borrow::Cow;
use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};

use parking_lot::RwLock;
use tokenizers::normalizer::SplitDelimiterBehavior;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::utils::SysRegex;
use tokenizers::{
    Model, ModelWrapper, NormalizedString, Normalizer, NormalizerWrapper, PreTokenizerWrapper,
    Tokenizer,
};

use super::merges::{Merges, letter};

/// Words that are remembered with their counts: a few megabytes, and most of what people write.
const WORDS_MAX: usize = 1 << 16;

/// Bytes of a word that is remembered, and that is merged by steps in the square of them.
const WORD_BYTES_MAX: usize = 64;

/// How GPT-2 cuts words, which `ByteLevel` with `use_regex` stands for.
const GPT_2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";

/// Counts of words.
pub(super) struct Words {
    /// One after the other; what the first does not match is left to the next, as is what it matches.
    patterns: Vec<SysRegex>,
    /// A word that is a token is one, whatever merges would make of it.
    whole_first: bool,
    merges: Merges,
    known: RwLock<HashMap<Box<str>, u32, Seeded>>,
}

impl Words {
    /// None where the tokenizer is not of this kind. `json` is its file.
    pub(super) fn of(tokenizer: &Tokenizer, json: &[u8]) -> Option<Self> {
        let ModelWrapper::BPE(model) = tokenizer.get_model() else { return None };
        let empty = |text: &Option<String>| text.as_ref().is_none_or(String::is_empty);
        if model.dropout.is_some_and(|share| share > 0.0)
            || !empty(&model.continuing_subword_prefix)
            || !empty(&model.end_of_word_suffix)
        {
            return None;
        }
        if !matches!(tokenizer.get_normalizer(), None | Some(NormalizerWrapper::NFC(_))) {
            return None;
        }
        Some(Self {
            patterns: patterns(tokenizer.get_pre_tokenizer()?)?,
            whole_first: model.ignore_merges,
            merges: Merges::read(json)?,
            known: RwLock::new(HashMap::with_hasher(Seeded(RandomState::new().hash_one(0)))),
        })
    }

    /// Tokens of a text without added tokens. The tokenizer is the one that this was made of.
    pub(super) fn count(&self, tokenizer: &Tokenizer, text: &str) -> tokenizers::Result<u64> {
        let text = normalized(tokenizer.get_normalizer(), text)?;
        let mut new = HashMap::with_hasher(self.known.read().hasher().clone());
        let mut sum = 0;
        {
            let known = self.known.read();
            let mut each = |word: &str| {
                let count = match known.get(word).or_else(|| new.get(word)) {
                    Some(count) => *count,
                    None => {
                        let count = self.tokens(tokenizer.get_model(), word)?;
                        if word.len() <= WORD_BYTES_MAX {
                            new.insert(Box::from(word), count);
                        }
                        count
                    }
                };
                sum += u64::from(count);
                Ok(())
            };
            cut(&self.patterns, &text, &mut each)?;
        }
        if !new.is_empty() {
            let mut known = self.known.write();
            if known.len() + new.len() > WORDS_MAX {
                // What is written now comes back at once.
                known.clear();
            }
            known.extend(new.into_iter().take(WORDS_MAX));
        }
        Ok(sum)
    }

    fn tokens(&self, model: &ModelWrapper, word: &str) -> tokenizers::Result<u32> {
        let letters = || word.bytes().map(letter).collect::<String>();
        if self.whole_first && model.token_to_id(&letters()).is_some() {
            return Ok(1);
        }
        let count = if word.len() > WORD_BYTES_MAX {
            model.tokenize(&letters())?.len()
        } else {
            self.merges.count(word)
        };
        Ok(u32::try_from(count)?)
    }
}

fn normalized<'a>(
    normalizer: Option<&NormalizerWrapper>,
    text: &'a str,
) -> tokenizers::Result<Cow<'a, str>> {
    match normalizer {
        Some(normalizer) if !text.chars().all(is_composed) => {
            let mut normalized = NormalizedString::from(text);
            normalizer.normalize(&mut normalized)?;
            Ok(normalized.get().to_owned().into())
        }
        _ => Ok(text.into()),
    }
}

/// Patterns of a pre-tokenizer that isolates their matches and then writes bytes as letters.
fn patterns(of: &PreTokenizerWrapper) -> Option<Vec<SysRegex>> {
    let (last, splits) = match of {
        PreTokenizerWrapper::Sequence(sequence) => sequence.as_ref().split_last()?,
        single => (single, &[][..]),
    };
    let PreTokenizerWrapper::ByteLevel(ByteLevel { add_prefix_space: false, use_regex, .. }) = last
    else {
        return None;
    };
    let mut patterns = Vec::new();
    for split in splits {
        match split {
            PreTokenizerWrapper::Split(split)
                if split.behavior == SplitDelimiterBehavior::Isolated && !split.invert =>
            {
                patterns.push(split.clone().regex);
            }
            _ => return None,
        }
    }
    if *use_regex {
        patterns.push(SysRegex::new(GPT_2).ok()?);
    }
    Some(patterns)
}

/// Cuts a text by the first pattern, and what comes of that by the others.
fn cut(
    patterns: &[SysRegex],
    text: &str,
    each: &mut dyn FnMut(&str) -> tokenizers::Result<()>,
) -> tokenizers::Result<()> {
    let Some((first, others)) = patterns.split_first() else {
        return if text.is_empty() { Ok(()) } else { each(text) };
    };
    let mut begin = 0;
    for (start, end) in first.find_iter(text) {
        cut(others, &text[begin..start], each)?;
        cut(others, &text[start..end], each)?;
        begin = end;
    }
    cut(others, &text[begin..], each)
}

/// True only of characters that NFC leaves alone wherever they stand: they do not change, combine with none before
/// them, and keep their place.
fn is_composed(c: char) -> bool {
    matches!(c, '\0'..='\u{2ff}'          // Latin
        | '\u{400}'..='\u{482}' | '\u{48a}'..='\u{52f}'    // Cyrillic
        | '\u{2010}'..='\u{205f}'         // punctuation
        | '\u{20a0}'..='\u{20bf}'         // currencies
        | '\u{2190}'..='\u{2328}' | '\u{2400}'..='\u{27bf}'    // arrows, signs, boxes
        | '\u{3001}'..='\u{3029}' | '\u{3041}'..='\u{3096}' | '\u{30a1}'..='\u{30fa}'    // Japanese
        | '\u{4e00}'..='\u{9fff}' | '\u{ac00}'..='\u{d7a3}'    // Chinese, Korean
        | '\u{fe0f}' | '\u{ff01}'..='\u{ff5e}'    // emoji's selector, wide letters
        | '\u{1f300}'..='\u{1faff}') // emoji
}

/// Words are what people write: without a seed they could be chosen to collide.
#[derive(Clone)]
struct Seeded(u64);

impl BuildHasher for Seeded {
    type Hasher = Xxh3Str;

    fn build_hasher(&self) -> Xxh3Str {
        Xxh3Str { seed: self.0, hash: 0 }
    }
}

/// One-shot: a streaming hasher has a buffer of its own to fill.
struct Xxh3Str {
    seed: u64,
    hash: u64,
}

impl Hasher for Xxh3Str {
    fn write(&mut self, bytes: &[u8]) {
        self.hash = xxhash_rust::xxh3::xxh3_64_with_seed(bytes, self.seed);
    }

    /// The end of a string, which its length tells already.
    fn write_u8(&mut self, _: u8) {}

    fn finish(&self) -> u64 {
        self.hash
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use tokenizers::normalizers::unicode::{NFC, NFD};

    use super::*;

    /// By Unicode's own rule (annex 15): characters that are composed, never second in a composition and never moved.
    #[test]
    fn composed_characters_are_those_that_nfc_leaves_alone_anywhere() {
        let all = || ('\0'..=char::MAX).filter(|c| !is_composed(*c) || !c.is_ascii());
        let run = |normalizer: &dyn Fn(&mut NormalizedString), text: String| {
            let mut normalized = NormalizedString::from(text);
            normalizer(&mut normalized);
            normalized.get().to_owned()
        };
        let nfc = |text| run(&|text| NFC.normalize(text).unwrap(), text);
        let nfd = |text| run(&|text| NFD.normalize(text).unwrap(), text);
        let composed = all().filter(|c| !matches!(c, '\u{ac00}'..='\u{d7a3}' | '\u{f0000}'..));
        let second: HashSet<char> =
            composed.flat_map(|c| nfd(c.into()).chars().skip(1).collect::<Vec<_>>()).collect();
        for c in all().filter(|c| is_composed(*c)) {
            assert_eq!(nfc(c.into()), String::from(c));
            assert!(!second.contains(&c), "{c:?} may be second");
            // A mark of the lowest class would be moved before one of a higher.
            let marked = format!("{c}\u{334}");
            assert_eq!(nfc(marked.clone()), marked);
        }
    }
}
