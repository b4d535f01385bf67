//! The fields of a request as they stand, and the object that is made of them.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::refusal::Refusal;
use crate::wire::usage::ask::switched;

/// A body's top-level fields.
pub(super) struct Fields<'a>(BTreeMap<Cow<'a, str>, &'a RawValue>);

/// A text, or what may stand in its place.
pub(super) enum TextOr<'a, T> {
    Text(Cow<'a, str>),
    Other(T),
}

impl<'a> Fields<'a> {
    /// Reads `body`, in which no name is there twice: who names the request has seen to that.
    pub(super) fn read(body: &'a [u8]) -> Result<Self, Refusal> {
        let fields = serde_json::from_slice(body).map_err(|error| {
            let message = format!("The request body is not a JSON object: {error}.");
            Refusal::malformed("invalid_json", message)
        })?;
        Ok(Self(fields))
    }

    /// A field that is there, and not null.
    pub(super) fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.0.get(name).copied().filter(|value| value.get() != "null")
    }

    /// A field by its type.
    pub(super) fn read_as<T: Deserialize<'a>>(
        &self,
        name: &'static str,
    ) -> Result<Option<T>, Refusal> {
        self.get(name).map(|value| read(value, name)).transpose()
    }

    /// A field that may be a text.
    pub(super) fn text_or<T: Deserialize<'a>>(
        &self,
        name: &'static str,
    ) -> Result<Option<TextOr<'a, T>>, Refusal> {
        self.get(name).map(|value| text_or(value, name)).transpose()
    }

    /// A switch, read as vLLM reads it: the same request may go to either.
    pub(super) fn flag(&self, name: &'static str) -> Result<bool, Refusal> {
        self.get(name).map_or(Ok(false), |value| switch(value, name))
    }

    /// A number, which the node judges.
    pub(super) fn number(&self, name: &'static str) -> Result<Option<&'a RawValue>, Refusal> {
        let number = self.get(name);
        if number.is_some_and(|value| !value.get().starts_with(is_of_number)) {
            return Err(wrong(name, "it must be a number"));
        }
        Ok(number)
    }
}

/// What a number begins with.
fn is_of_number(letter: char) -> bool {
    letter == '-' || letter.is_ascii_digit()
}

/// The value of `name` by its type.
pub(super) fn read<'a, T: Deserialize<'a>>(
    value: &'a RawValue,
    name: &'static str,
) -> Result<T, Refusal> {
    serde_json::from_str(value.get()).map_err(|error| wrong(name, &error.to_string()))
}

/// The same of a value that may be a text.
pub(super) fn text_or<'a, T: Deserialize<'a>>(
    value: &'a RawValue,
    name: &'static str,
) -> Result<TextOr<'a, T>, Refusal> {
    if is_text(value) {
        return read::<Text<'_>>(value, name).map(|text| TextOr::Text(text.0));
    }
    read(value, name).map(TextOr::Other)
}

/// Whether a value switches something on.
pub(super) fn switch(value: &RawValue, name: &'static str) -> Result<bool, Refusal> {
    switched(value.get()).ok_or_else(|| wrong(name, "it must be true or false"))
}

/// Whether a value is a text.
pub(super) fn is_text(value: &RawValue) -> bool {
    value.get().starts_with('"')
}

/// A text: borrowed where it has no escapes.
#[derive(Deserialize)]
#[serde(transparent)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// A field that cannot be what it is.
pub(super) fn wrong(name: &'static str, why: &str) -> Refusal {
    refused("invalid_parameter", name, format!("The field `{name}` cannot be read: {why}."))
}

/// A refusal that blames the field `name`.
pub(super) fn refused(
    code: &'static str,
    name: &'static str,
    message: impl Into<Cow<'static, str>>,
) -> Refusal {
    Refusal::Malformed { code, message: message.into(), param: Some(name) }
}

/// A JSON object that is written field by field.
pub(super) struct Object {
    out: Vec<u8>,
}

impl Object {
    /// An empty one, with room for so many bytes.
    pub(super) fn with_capacity(bytes: usize) -> Self {
        Self { out: Vec::with_capacity(bytes) }
    }

    /// Writes one field more.
    pub(super) fn put(&mut self, name: &'static str, value: &(impl Serialize + ?Sized)) {
        self.out.extend_from_slice(if self.out.is_empty() { b"{\"" } else { b",\"" });
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
        // What is written was read as JSON, and memory grows as needed.
        let _ = serde_json::to_writer(&mut self.out, value);
    }

    /// Writes a field as it stands, if it does.
    pub(super) fn pass(&mut self, name: &'static str, fields: &Fields<'_>) {
        if let Some(value) = fields.get(name) {
            self.put(name, value);
        }
    }

    /// The whole object; at least one field was written.
    pub(super) fn close(mut self) -> Vec<u8> {
        self.out.push(b'}');
        self.out
    }
}
