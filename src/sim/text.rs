//! The text of an answer: the same request is always answered with the same words.

use super::tokens;

/// How every answer begins, in tokens.
const OPENING: [&str; 3] = ["You", " said", ":"];

/// What an empty prompt said.
const NOTHING: &str = " nothing";

/// The words of an answer: `You said:`, then the prompt, again and again. Each token is kept as JSON writes it within
/// quotes, since every use of it is in JSON.
pub(super) struct Text {
    echo: Vec<Box<str>>,
}

impl Text {
    /// The answer to `prompt`, of which no more than `length` tokens will be asked.
    pub(super) fn answering(prompt: &str, length: usize) -> Self {
        let prompt = prompt.trim();
        let mut echo: Vec<Box<str>> =
            tokens::split(prompt).take(length).map(within_quotes).collect();
        match echo.first_mut() {
            Some(first) => *first = format!(" {first}").into(),
            None => echo.push(NOTHING.into()),
        }
        Self { echo }
    }

    /// The token at `place`, counted from 0, as JSON within quotes.
    pub(super) fn token(&self, place: usize) -> &str {
        match OPENING.get(place) {
            Some(token) => token,
            None => &self.echo[(place - OPENING.len()) % self.echo.len()],
        }
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
