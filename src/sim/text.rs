//! The text of an answer: the same request is always answered with the same words.

use super::tokens::{self, END};

/// How every echo begins, in tokens.
const OPENING: [&str; 3] = ["You", " said", ":"];

/// What an empty prompt said.
const NOTHING: &str = "nothing";

/// The words of an answer: `You said:`, then the prompt, again and again; or a text that has an end. Beyond the end every
/// token is [`END`], which shows nothing.
pub(super) struct Text {
    /// Said first, and once.
    opening: &'static [&'static str],
    /// Said then.
    words: Vec<Word>,
    /// Whether the words are said again and again.
    endless: bool,
}

/// One token.
struct Word {
    id: u32,
    /// As it is.
    text: Box<str>,
    /// As JSON writes it within quotes, where that differs: nearly every use of it is in JSON.
    quoted: Option<Box<str>>,
}

impl Word {
    fn new(token: &str) -> Self {
        let quoted = within_quotes(token);
        let quoted = (*quoted != *token).then_some(quoted);
        Self { id: tokens::id(token), text: token.into(), quoted }
    }
}

impl Text {
    /// The echo of `prompt`, of which no more than `length` tokens will be asked.
    pub(super) fn answering(prompt: &str, length: usize) -> Self {
        let prompt = prompt.trim();
        // The opening ends with a mark, so a space comes before the prompt, here and wherever it begins anew.
        let said = format!(" {}", if prompt.is_empty() { NOTHING } else { prompt });
        let words = tokens::split(&said).take(length).map(Word::new).collect();
        Self { opening: &OPENING, words, endless: true }
    }

    /// A text that is said once. No token reaches over the border of two pieces.
    pub(super) fn of<'a>(pieces: impl IntoIterator<Item = &'a str>) -> Self {
        let words = pieces.into_iter().flat_map(tokens::split).map(Word::new).collect();
        Self { opening: &[], words, endless: false }
    }

    /// Tokens before the end.
    pub(super) fn length(&self) -> usize {
        if self.endless { usize::MAX } else { self.words.len() }
    }

    /// The token at `place`, counted from 0, as JSON within quotes.
    pub(super) fn token(&self, place: usize) -> &str {
        match self.opening.get(place) {
            Some(token) => token,
            None => self.word(place).map_or("", |word| word.quoted.as_ref().unwrap_or(&word.text)),
        }
    }

    /// The same as it is.
    pub(super) fn plain(&self, place: usize) -> &str {
        match self.opening.get(place) {
            Some(token) => token,
            None => self.word(place).map_or("", |word| &word.text),
        }
    }

    /// The name of the token at `place`: what it shows, or the mark that it is.
    pub(super) fn name(&self, place: usize) -> &str {
        if place < self.length() { self.plain(place) } else { END }
    }

    /// The id of the token at `place`.
    pub(super) fn id(&self, place: usize) -> u32 {
        match self.opening.get(place) {
            Some(token) => tokens::id(token),
            None => self.word(place).map_or_else(|| tokens::id(END), |word| word.id),
        }
    }

    /// The ids of the first `length` tokens.
    pub(super) fn ids(&self, length: usize) -> Vec<u32> {
        (0..length).map(|place| self.id(place)).collect()
    }

    /// The first `length` tokens, as JSON within quotes.
    pub(super) fn first(&self, length: usize) -> String {
        (0..length).map(|place| self.token(place)).collect()
    }

    fn word(&self, place: usize) -> Option<&Word> {
        let place = place - self.opening.len();
        self.words.get(if self.endless { place % self.words.len() } else { place })
    }
}

/// `text` as JSON writes it between the quotes.
pub(super) fn within_quotes(text: &str) -> Box<str> {
    let quoted = quoted(text);
    quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default().into()
}

/// `text` as a JSON string.
pub(super) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_echoes_its_prompt() {
        assert_eq!(
            Text::answering("Hello, world", 9).first(9),
            "You said: Hello, world Hello, world"
        );
        assert_eq!(Text::answering(" ", 5).first(5), "You said: nothing nothing");
    }

    #[test]
    fn an_answer_is_ready_for_json() {
        assert_eq!(Text::answering("a \"b\"\n", 16).first(7), r#"You said: a \"b\""#);
    }

    #[test]
    fn a_text_with_an_end_ends_with_a_mark() {
        let text = Text::of(["{\"a", "\":1}"]);
        let names: Vec<_> = (0..7).map(|place| text.name(place)).collect();
        assert_eq!(names, ["{", "\"", "a", "\"", ":", "1", "}"]);
        assert_eq!((text.length(), text.name(7), text.token(7)), (7, END, ""));
        assert_eq!(text.first(8), r#"{\"a\":1}"#);
    }
}
