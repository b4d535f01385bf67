//! Where a prompt can be cut so that the tokens of the pieces are the tokens of the whole.
//!
//! A tokenizer looks for its added tokens first, the leftmost and longest of them, and tokenizes on its own what stands between two. So a
//! piece from one special token up to the next has as many tokens alone as it has there, whatever stands round it: the
//! special token at its begin also tells a tokenizer that treats a text's first word as another that this is none.

use aho_corasick::{AhoCorasick, Input, MatchKind};
use tokenizers::Tokenizer;

/// Finds added tokens as a tokenizer does.
pub(super) struct Cutter {
    /// None where there are none.
    tokens: Option<AhoCorasick>,
    /// By token: a piece may begin there.
    cuts: Vec<bool>,
    /// Every added token is found by its text alone and takes nothing from what stands round it.
    plain: bool,
}

impl Cutter {
    /// None where there are more or longer tokens than can be looked for.
    pub(super) fn of(tokenizer: &Tokenizer) -> Option<Self> {
        let added = tokenizer.get_added_tokens_decoder();
        let sought: Vec<_> = added.values().filter(|token| !token.normalized).collect();
        let plain = added
            .values()
            .all(|token| !token.normalized && !token.lstrip && !token.rstrip && !token.single_word);
        // What a token takes of the blanks round it, or whether it stands alone, would not be seen across a cut before a letter or a blank.
        let parts =
            |text: &str| plain || text.starts_with(|first: char| first.is_ascii_punctuation());
        let cuts = sought.iter().map(|token| {
            token.special && !token.lstrip && !token.single_word && parts(&token.content)
        });
        let cuts: Vec<bool> = cuts.collect();
        let built = (!sought.is_empty()).then(|| {
            let texts = sought.iter().map(|token| &token.content);
            AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(texts)
        });
        Some(Self { tokens: built.transpose().ok()?, cuts, plain })
    }

    /// [`Self::parts`] tells all there is to know of added tokens.
    pub(super) fn is_plain(&self) -> bool {
        self.plain
    }

    /// Pieces of a prompt: each but the first begins with a special token.
    pub(super) fn pieces<'a>(&self, prompt: &'a str) -> Vec<&'a str> {
        let (mut pieces, mut begin) = (Vec::new(), 0);
        for (at, _) in self.found(prompt).filter(|(_, token)| self.cuts[*token]) {
            if at.start > begin {
                pieces.push(&prompt[begin..at.start]);
                begin = at.start;
            }
        }
        if begin < prompt.len() {
            pieces.push(&prompt[begin..]);
        }
        pieces
    }

    /// What stands between added tokens, and how many of those there are.
    pub(super) fn parts<'a>(&self, piece: &'a str, mut each: impl FnMut(&'a str)) -> u64 {
        let (mut tokens, mut begin) = (0, 0);
        for (at, _) in self.found(piece) {
            each(&piece[begin..at.start]);
            begin = at.end;
            tokens += 1;
        }
        each(&piece[begin..]);
        tokens
    }

    fn found(&self, text: &str) -> impl Iterator<Item = (std::ops::Range<usize>, usize)> {
        let found = self.tokens.iter().flat_map(move |tokens| tokens.find_iter(Input::new(text)));
        found.map(|found| (found.range(), found.pattern().as_usize()))
    }
}
