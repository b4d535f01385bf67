//! Texts to values: durations, numbers, names, keys, headers. Leaves of every check.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method};

use super::Credential;
use super::defaults::{KEY_BYTES_MAX, MODEL_BYTES_MAX, NAME_CHARS_MAX, WAIT_MAX, WAIT_MIN};
use super::report::{Fault, did_you_mean, nearest};
use crate::names::ModelName;

/// A duration such as `500ms`, `5s`, `1m30s`, `2h` within `bounds`.
pub(super) fn duration(text: &str, bounds: RangeInclusive<Duration>) -> Result<Duration, Fault> {
    let wrong = |_| {
        Fault::with_hint("this is no duration", "write a number and a unit: `500ms`, `5s`, `1m`")
    };
    let duration = humantime::parse_duration(text).map_err(wrong)?;
    if bounds.contains(&duration) {
        return Ok(duration);
    }
    Err(format!("this must be {:?} to {:?}", bounds.start(), bounds.end()).into())
}

/// A wait for something: [`WAIT_MIN`] to [`WAIT_MAX`].
pub(super) fn wait(text: &str) -> Result<Duration, Fault> {
    duration(text, WAIT_MIN..=WAIT_MAX)
}

/// A whole number within `bounds`.
pub(super) fn whole(text: &str, bounds: RangeInclusive<u64>) -> Result<u64, Fault> {
    let number = text.parse().map_err(|_| Fault::from("this must be a whole number"))?;
    within(number, bounds)
}

/// `number`, if it lies within `bounds`.
pub(super) fn within(number: u64, bounds: RangeInclusive<u64>) -> Result<u64, Fault> {
    match bounds.contains(&number) {
        true => Ok(number),
        false => Err(format!("this must be {} to {}", bounds.start(), bounds.end()).into()),
    }
}

/// One of a closed set of words, with the nearest one as the hint.
pub(super) fn one_of<T: Copy>(text: &str, words: &[(&'static str, T)]) -> Result<T, Fault> {
    if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
        return Ok(*value);
    }
    let all: Vec<String> = words.iter().map(|(word, _)| format!("`{word}`")).collect();
    let fault = format!("this must be {}", all.join(" or "));
    match nearest(&text.to_lowercase(), words.iter().map(|(word, _)| *word)) {
        Some(word) if words.len() > 1 => Err(Fault::with_hint(fault, did_you_mean(word))),
        _ => Err(fault.into()),
    }
}

/// A model's name: any text without control characters.
pub(super) fn model(text: &str) -> Result<ModelName, Fault> {
    if text.is_empty() || text.len() > MODEL_BYTES_MAX {
        return Err(format!("a model's name is 1 to {MODEL_BYTES_MAX} bytes long").into());
    }
    if text.chars().any(char::is_control) || text.trim() != text {
        return Err("a model's name has no control characters, and no spaces at its ends".into());
    }
    Ok(ModelName::from(text))
}

/// A name for logs and metrics, of `A-Z a-z 0-9` and `others`.
pub(super) fn name<'t>(text: &'t str, others: &str) -> Result<&'t str, Fault> {
    let fits = |c: char| c.is_ascii_alphanumeric() || others.contains(c);
    match (1..=NAME_CHARS_MAX).contains(&text.len()) && text.chars().all(fits) {
        true => Ok(text),
        false => Err(format!(
            "a name is 1 to {NAME_CHARS_MAX} characters long: A-Z, a-z, 0-9 and `{others}`"
        )
        .into()),
    }
}

/// A key as a caller can send it in a header: visible ASCII.
pub(super) fn key(text: &str) -> Result<&str, Fault> {
    if text.is_empty() {
        return Err("a key cannot be empty".into());
    }
    if text.len() > KEY_BYTES_MAX {
        return Err(format!("a key is at most {KEY_BYTES_MAX} bytes long").into());
    }
    match text.bytes().all(|byte| byte.is_ascii_graphic()) {
        true => Ok(text),
        false => Err(Fault::with_hint(
            "a key holds visible ASCII characters only",
            "remove spaces and line ends from it",
        )),
    }
}

/// Names that a file may not put into a request to a node: they frame the message or belong to one connection.
const RESERVED_HEADERS: [&str; 14] = [
    "connection",
    "content-length",
    "cookie",
    "expect",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "set-cookie",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// A request header that may go up to a node.
pub(super) fn header(text: &str) -> Result<HeaderName, Fault> {
    let name = HeaderName::from_bytes(text.as_bytes())
        .map_err(|_| Fault::from("this is no name of a header"))?;
    if name.as_str().contains('_') {
        return Err("servers confuse `_` with `-` in header names: such names are not used".into());
    }
    if RESERVED_HEADERS.contains(&name.as_str()) {
        return Err("this header belongs to the connection and cannot be set".into());
    }
    Ok(name)
}

/// What goes to a node in `header`: `prefix` and `key`.
pub(super) fn credential(
    header: HeaderName,
    prefix: &str,
    key_text: &str,
) -> Result<Credential, Fault> {
    let key_text = key(key_text)?;
    let mut value = HeaderValue::from_str(&format!("{prefix}{key_text}"))
        .map_err(|_| Fault::from("prefix and key do not fit into a header"))?;
    value.set_sensitive(true);
    Ok(Credential { header, value, key: Arc::from(key_text) })
}

/// A prefix of a key: printable ASCII, or nothing.
pub(super) fn prefix(text: &str) -> Result<&str, Fault> {
    match text.len() <= NAME_CHARS_MAX && text.bytes().all(|b| b == b' ' || b.is_ascii_graphic()) {
        true => Ok(text),
        false => Err(format!("a prefix is at most {NAME_CHARS_MAX} printable characters").into()),
    }
}

/// A method that routes may have, in any case.
pub(super) fn method(text: &str) -> Result<Method, Fault> {
    const METHODS: [(&str, Method); 7] = [
        ("GET", Method::GET),
        ("POST", Method::POST),
        ("PUT", Method::PUT),
        ("PATCH", Method::PATCH),
        ("DELETE", Method::DELETE),
        ("HEAD", Method::HEAD),
        ("OPTIONS", Method::OPTIONS),
    ];
    let upper = text.to_ascii_uppercase();
    if let Some((_, method)) = METHODS.iter().find(|(word, _)| *word == upper) {
        return Ok(method.clone());
    }
    let fault = "this is no method that can be forwarded";
    match nearest(&upper, METHODS.iter().map(|(word, _)| *word)) {
        Some(word) => Err(Fault::with_hint(fault, did_you_mean(word))),
        None => Err(fault.into()),
    }
}
