//! The text of an answer: the same request is always answered with the same words.

use super::tokens;

/// How every answer begins, in tokens.
const OPENING: [&str; 3] = ["You", " said", ":"];

/// What an empty prompt said.
const NOTHING: &str = "nothing";

/// The words of an answer: `You said:`, then the prompt, again and again. Each token is kept as JSON writes it within
/// quotes, since every use of it is in JSON.
pub(super) struct Text {
    echo: Vec<Box<str>>,
    /// Ids of `echo`.
    ids: Vec<u32>,
}

impl Text {
    /// The answer to `prompt`, of which no more than `length` tokens will be asked.
    pub(super) fn answering(prompt: &str, length: usize) -> Self {
        let prompt = prompt.trim();
        // The opening ends with a mark, so a space comes before the prompt, here and wherever it begins anew.
        let said = format!(" {}", if prompt.is_empty() { NOTHING } else { prompt });
        let ids = tokens::ids(tokens::split(&said).take(length));
        let echo = tokens::split(&said).take(length).map(within_quotes).collect();
        Self { echo, ids }
    }

    /// The token at `place`, counted from 0, as JSON within quotes.
    pub(super) fn token(&self, place: usize) -> &str {
        match OPENING.get(place) {
            Some(token) => token,
            None => &self.echo[(place - OPENING.len()) % self.echo.len()],
        }
    }

    /// The ids of the first `length` tokens.
    pub(super) fn ids(&self, length: usize) -> Vec<u32> {
        let opening = tokens::ids(OPENING.into_iter().take(length));
        let rest = length.saturating_sub(opening.len());
        opening.into_iter().chain(self.ids.iter().copied().cycle().take(rest)).collect()
    }

    /// The first `length` tokens, as JSON within quotes.
    pub(super) fn first(&self, length: usize) -> String {
        (0..length).map(|place| self.token(place)).collect()
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
}
