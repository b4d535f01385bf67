//! Values as Python writes them in an error.

use std::fmt::Write;

use serde_json::Value;

use crate::sim::vllm::refusal::python;

/// Letters of a value that an error repeats.
const INPUT_LETTERS_MAX: usize = 200;

/// `value` in short: the beginning of a text, the size of a list.
pub(super) fn summary(value: &Value) -> String {
    let text = python(value);
    match text.char_indices().nth(INPUT_LETTERS_MAX) {
        Some((end, _)) => format!("{}...[truncated]", &text[..end]),
        None => text,
    }
}

/// `text` within quotes: single ones, unless it has such itself.
pub(super) fn literal(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut out = String::from(quote);
    for letter in text.chars() {
        // Memory grows as needed, so writing cannot fail.
        let _ = match letter {
            '\\' => write!(out, "\\\\"),
            '\n' => write!(out, "\\n"),
            '\r' => write!(out, "\\r"),
            '\t' => write!(out, "\\t"),
            _ if letter == quote => write!(out, "\\{letter}"),
            _ if letter.is_control() => write!(out, "\\x{:02x}", u32::from(letter)),
            _ => write!(out, "{letter}"),
        };
    }
    out.push(quote);
    out
}

/// `'a'`, `'a' or 'b'`, `'a', 'b' or 'c'`.
pub(super) fn one_of(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
    match quoted.split_last() {
        Some((last, rest @ [_, ..])) => format!("{} or {last}", rest.join(", ")),
        _ => quoted.concat(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_text_is_written_as_python_does() {
        assert_eq!(literal("plain"), "'plain'");
        assert_eq!(literal("it's"), "\"it's\"");
        assert_eq!(literal("it's \"so\"\n"), "'it\\'s \"so\"\\n'");
        assert_eq!(one_of(&["a", "b", "c"]), "'a', 'b' or 'c'");
        assert_eq!(one_of(&["a"]), "'a'");
    }

    #[test]
    fn a_long_value_is_cut() {
        assert_eq!(summary(&json!("é".repeat(201))), format!("{}...[truncated]", "é".repeat(200)));
        assert_eq!(summary(&json!([1, 2])), "<list of 2 items>");
    }
}
