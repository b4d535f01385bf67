//! Probabilities of tokens as completions have them: lists side by side, where chats and Ollama have an object for each token.

use std::fmt::Write;

use bytes::{BufMut, BytesMut};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::line::Text;

#[derive(Deserialize)]
struct Token<'a> {
    #[serde(borrow)]
    token: Text<'a>,
    #[serde(borrow)]
    logprob: &'a RawValue,
    #[serde(borrow, default)]
    top_logprobs: Vec<Other<'a>>,
}

#[derive(Deserialize)]
struct Other<'a> {
    #[serde(borrow)]
    token: Text<'a>,
    #[serde(borrow)]
    logprob: &'a RawValue,
}

/// Appends what is `told` of the tokens after `offset` characters of text, which becomes that after them.
pub(super) fn put(told: &RawValue, offset: &mut usize, out: &mut BytesMut) {
    let Ok(tokens) = serde_json::from_str::<Vec<Token<'_>>>(told.get()) else {
        out.put_slice(b"null");
        return;
    };
    list("{\"tokens\":[", &tokens, out, |token, out| out.put_slice(token.token.json().as_bytes()));
    list("],\"token_logprobs\":[", &tokens, out, |token, out| {
        out.put_slice(token.logprob.get().as_bytes());
    });
    list("],\"text_offset\":[", &tokens, out, |token, out| {
        // Memory grows as needed, so writing cannot fail.
        let _ = write!(out, "{offset}");
        let text: String = serde_json::from_str(token.token.json()).unwrap_or_default();
        *offset += text.chars().count();
    });
    list("],\"top_logprobs\":[", &tokens, out, |token, out| {
        list("{", &token.top_logprobs, out, |Other { token, logprob }, out| {
            let _ = write!(out, "{}:{logprob}", token.json());
        });
        out.put_slice(b"}");
    });
    out.put_slice(b"]}");
}

/// Appends `begin`, and each item with commas between them.
fn list<T>(begin: &str, items: &[T], out: &mut BytesMut, mut put: impl FnMut(&T, &mut BytesMut)) {
    out.put_slice(begin.as_bytes());
    for (place, item) in items.iter().enumerate() {
        if place > 0 {
            out.put_slice(b",");
        }
        put(item, out);
    }
}
