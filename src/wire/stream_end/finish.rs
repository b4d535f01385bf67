//! A choice's reason to finish, in a line that comes in pieces.

use std::sync::LazyLock;

use memchr::memmem::Finder;

/// The field's name. Inside of a text its quotes would be escaped.
const FINISH: &[u8] = b"\"finish_reason\":";

static FIND_FINISH: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(FINISH));

/// A search for a reason to finish in a line that comes in pieces.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Finish {
    /// So many bytes of [`FINISH`] stand at the end of the last piece.
    matched: usize,
    /// All of it was there: the value comes.
    value: bool,
    /// It is a text, of which nothing has come.
    text: bool,
}

impl Finish {
    /// True where a reason that is neither null nor empty begins in `part`.
    pub(super) fn is_in(&mut self, mut part: &[u8]) -> bool {
        while let Some((&byte, rest)) = part.split_first() {
            if self.text {
                if byte != b'"' {
                    return true;
                }
                *self = Self::default();
                part = rest;
            } else if self.value {
                self.value = byte.is_ascii_whitespace();
                self.text = byte == b'"';
                if !self.value && !self.text && byte != b'n' {
                    return true;
                }
                part = rest;
            } else if self.matched > 0 {
                self.matched = self.after(byte);
                part = rest;
            } else if let Some(found) = FIND_FINISH.find(part) {
                self.matched = FINISH.len();
                part = &part[found + FINISH.len()..];
            } else {
                let longest = part.len().min(FINISH.len() - 1);
                let ends = |length: &usize| part.ends_with(&FINISH[..*length]);
                self.matched = (1..=longest).rev().find(ends).unwrap_or(0);
                return false;
            }
            if self.matched == FINISH.len() {
                *self = Self { matched: 0, value: true, text: false };
            }
        }
        false
    }

    /// How much is matched after one byte more.
    fn after(&self, byte: u8) -> usize {
        let mut seen = [byte; FINISH.len()];
        seen[..self.matched].copy_from_slice(&FINISH[..self.matched]);
        let seen = &seen[..=self.matched];
        (1..=seen.len()).rev().find(|length| seen.ends_with(&FINISH[..*length])).unwrap_or(0)
    }
}
