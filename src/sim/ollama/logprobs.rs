//! How likely a token was, and which others there were: made up, and the same for the same token.

use std::fmt::Write;

use super::go;
use crate::sim::tokens;

/// Appends what is told of `token`, with so many of the likeliest beside it, itself among them.
pub(super) fn put(token: &str, others: usize, out: &mut impl Write) {
    // Memory grows as needed, so writing cannot fail.
    let _ = write!(out, "{{{}", of(token, 0));
    for place in 0..u32::try_from(others).unwrap_or_default() {
        let other = if place == 0 { of(token, 0) } else { of(&format!(" other{place}"), place) };
        let _ = write!(out, "{}{{{other}}}", if place == 0 { ",\"top_logprobs\":[" } else { "," });
    }
    let _ = out.write_str(if others > 0 { "]}" } else { "}" });
}

/// The fields of one token, less likely the later its place.
fn of(token: &str, place: u32) -> String {
    let logprob = -f64::from(tokens::id(token) % 100 + 1 + 100 * place) / 100.0;
    let bytes: Vec<_> = token.bytes().map(|byte| byte.to_string()).collect();
    let (token, bytes) = (go::string(token), bytes.join(","));
    format!(r#""token":{token},"logprob":{logprob},"bytes":[{bytes}]"#)
}

/// Several as a list.
pub(super) fn list(tokens: &[(&str, usize)]) -> String {
    let mut out = String::from("[");
    for (place, (token, others)) in tokens.iter().enumerate() {
        out.push_str(if place == 0 { "" } else { "," });
        put(token, *others, &mut out);
    }
    out.push(']');
    out
}
