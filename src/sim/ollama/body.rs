//! Bodies of requests as Go reads them into structs: null is as good as nothing, and another type is told in Go's words.

use data_encoding::BASE64;
use serde_json::error::Category;
use serde_json::{Map, Value};

use super::refusal::Refusal;
use crate::sim::call::Call;

/// A JSON object that is read into a struct of Go.
pub(super) struct Fields<'a> {
    map: &'a Map<String, Value>,
    /// The struct's name.
    form: &'static str,
}

/// The body, for a struct of Go with this name.
///
/// # Errors
/// It is empty, no JSON, or no object. No media type is asked for.
pub(super) fn object(call: &Call, form: &str) -> Result<Map<String, Value>, Refusal> {
    if call.body.iter().all(u8::is_ascii_whitespace) {
        // The two APIs say it differently, as only Ollama's own looks for it.
        let native = !call.head.uri.path().starts_with("/v1/");
        return Err(Refusal::bad(if native { "missing request body" } else { "EOF" }));
    }
    // What comes after the first value is not read.
    let first = serde_json::Deserializer::from_slice(&call.body).into_iter::<Value>().next();
    match first {
        Some(Ok(Value::Object(map))) => Ok(map),
        Some(Ok(Value::Null)) | None => Ok(Map::new()),
        Some(Ok(other)) => {
            let found = kind(&other);
            let form = if call.head.uri.path().starts_with("/v1/") { "openai" } else { "api" }
                .to_owned()
                + "."
                + form;
            Err(Refusal::bad(format!(
                "json: cannot unmarshal {found} into Go value of type {form}"
            )))
        }
        Some(Err(error)) if error.classify() == Category::Eof => {
            Err(Refusal::bad("unexpected EOF"))
        }
        Some(Err(error)) => {
            let line = call.body.split(|byte| *byte == b'\n').nth(error.line().saturating_sub(1));
            let letter = line.and_then(|line| line.get(error.column().saturating_sub(1)));
            let letter = letter.map_or(' ', |byte| char::from(*byte));
            let says = format!("invalid character '{letter}' looking for beginning of value");
            Err(Refusal::bad(says))
        }
    }
}

/// A value's type, as Go's JSON has it.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

impl<'a> Fields<'a> {
    /// The fields of `map`.
    pub(super) fn new(map: &'a Map<String, Value>, form: &'static str) -> Self {
        Self { map, form }
    }

    /// The fields of `value`, an item of the list `of` whose items have the type `kind`.
    ///
    /// # Errors
    /// It is no object.
    pub(super) fn of(value: &'a Value, form: &'static str) -> Result<Self, Refusal> {
        match value {
            Value::Object(map) => Ok(Self { map, form }),
            other => {
                let found = kind(other);
                let says =
                    format!("json: cannot unmarshal {found} into Go value of type api.{form}");
                Err(Refusal::bad(says))
            }
        }
    }

    /// A field as it is; none if it is null.
    pub(super) fn any(&self, name: &str) -> Option<&'a Value> {
        self.map.get(name).filter(|value| !value.is_null())
    }

    /// A text; empty if there is none.
    pub(super) fn text(&self, name: &str) -> Result<&'a str, Refusal> {
        match self.any(name) {
            None => Ok(""),
            Some(Value::String(text)) => Ok(text),
            Some(other) => Err(self.wrong(name, kind(other), "string")),
        }
    }

    /// True or false.
    pub(super) fn flag(&self, name: &str) -> Result<Option<bool>, Refusal> {
        match self.any(name) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(other) => Err(self.wrong(name, kind(other), "bool")),
        }
    }

    /// A whole number.
    pub(super) fn whole(&self, name: &str) -> Result<Option<i64>, Refusal> {
        match self.any(name) {
            None => Ok(None),
            Some(Value::Number(number)) => match number.as_i64() {
                Some(whole) => Ok(Some(whole)),
                None => Err(self.wrong(name, &format!("number {number}"), "int")),
            },
            Some(other) => Err(self.wrong(name, kind(other), "int")),
        }
    }

    /// Any number; `kind` is its type.
    pub(super) fn number(&self, name: &str, kind: &str) -> Result<Option<f64>, Refusal> {
        match self.any(name) {
            None => Ok(None),
            Some(Value::Number(number)) => Ok(number.as_f64()),
            Some(other) => Err(self.wrong(name, self::kind(other), kind)),
        }
    }

    /// A list of what Go calls `kind`; empty if there is none.
    pub(super) fn list(&self, name: &str, kind: &str) -> Result<&'a [Value], Refusal> {
        match self.any(name) {
            None => Ok(&[]),
            Some(Value::Array(items)) => Ok(items),
            Some(other) => Err(self.wrong(name, self::kind(other), kind)),
        }
    }

    /// An object; `kind` is its type.
    pub(super) fn fields(
        &self,
        name: &str,
        kind: &str,
    ) -> Result<Option<&'a Map<String, Value>>, Refusal> {
        match self.any(name) {
            None => Ok(None),
            Some(Value::Object(map)) => Ok(Some(map)),
            Some(other) => Err(self.wrong(name, self::kind(other), kind)),
        }
    }

    /// How many images a list has.
    pub(super) fn images(&self, name: &str) -> Result<usize, Refusal> {
        let images = self.list(name, "[]api.ImageData")?;
        for image in images {
            let Value::String(base64) = image else {
                return Err(self.wrong(name, kind(image), "api.ImageData"));
            };
            if let Err(error) = BASE64.decode(base64.as_bytes()) {
                let at = error.position;
                return Err(Refusal::bad(format!("illegal base64 data at input byte {at}")));
            }
        }
        Ok(images.len())
    }

    fn wrong(&self, name: &str, found: &str, wanted: &str) -> Refusal {
        let form = self.form;
        Refusal::bad(format!(
            "json: cannot unmarshal {found} into Go struct field {form}.{name} of type {wanted}"
        ))
    }
}
