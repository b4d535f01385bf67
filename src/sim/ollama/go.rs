//! JSON as Go's `encoding/json` writes it, and texts as Go quotes them in errors.

use std::borrow::Cow;
use std::fmt::Write;

use bytes::{BufMut, BytesMut};
use serde_json::Value;

use crate::sim::text::quoted;

/// The first byte of the only letters of more than one byte that Go escapes: U+2028 and U+2029.
const SEPARATOR: u8 = 0xE2;

/// JSON, or a part of it, as Go writes it: with `<`, `>` and `&` escaped, for pages that would take them for HTML.
pub(super) fn escaped(json: &str) -> Cow<'_, str> {
    if json.bytes().all(|byte| !matches!(byte, b'<' | b'>' | b'&' | SEPARATOR)) {
        return json.into();
    }
    let mut out = String::with_capacity(json.len() + 16);
    for letter in json.chars() {
        match letter {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                // Memory grows as needed, so writing cannot fail.
                let _ = write!(out, "\\u{:04x}", u32::from(letter));
            }
            _ => out.push(letter),
        }
    }
    out.into()
}

/// Appends the same.
pub(super) fn put(json: &str, out: &mut BytesMut) {
    out.put_slice(escaped(json).as_bytes());
}

/// `text` as a JSON string.
pub(super) fn string(text: &str) -> String {
    escaped(&quoted(text)).into_owned()
}

/// `value` as JSON.
pub(super) fn json(value: &Value) -> String {
    escaped(&value.to_string()).into_owned()
}

/// `text` within quotes, as `%q` has it.
pub(super) fn quote(text: &str) -> String {
    let mut out = String::from('"');
    for letter in text.chars() {
        let _ = match letter {
            '"' | '\\' => write!(out, "\\{letter}"),
            '\n' => write!(out, "\\n"),
            '\r' => write!(out, "\\r"),
            '\t' => write!(out, "\\t"),
            _ if letter.is_control() => write!(out, "\\x{:02x}", u32::from(letter)),
            _ => write!(out, "{letter}"),
        };
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_page_would_take_for_html_is_escaped() {
        assert_eq!(string("a<b> & \"c\""), r#""a\u003cb\u003e \u0026 \"c\"""#);
        assert_eq!(string("Привет — \u{2028}"), "\"Привет — \\u2028\"");
    }

    #[test]
    fn errors_quote_as_go_does() {
        assert_eq!(quote("a \"b\"\n"), r#""a \"b\"\n""#);
    }
}
