//! What every API of a node asks of a request: a JSON body, a model, a length.

use http::header::CONTENT_TYPE;
use serde_json::Value;

use super::refusal::{Refusal, python};
use super::schema::{switch, whole};
use crate::names::ModelName;
use crate::sim::call::{Call, Length};
use crate::sim::engine::{self, Finish};
use crate::sim::text;

impl Call {
    /// The body as JSON.
    ///
    /// # Errors
    /// It is another media type, empty, no text, or no JSON.
    pub(super) fn json(&self) -> Result<Value, Refusal> {
        let media_type = self.head.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let essence = media_type.unwrap_or_default().split(';').next().unwrap_or_default();
        if !essence.trim().eq_ignore_ascii_case("application/json") {
            return Err(Refusal::MediaType);
        }
        if self.body.is_empty() {
            return Err(Refusal::NoBody);
        }
        let text = std::str::from_utf8(&self.body).map_err(|_| Refusal::Unreadable)?;
        serde_json::from_str(text).map_err(|error| {
            let before: usize =
                text.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum();
            Refusal::BadJson(before + error.column())
        })
    }

    /// The model that answers: the one named, or the node's own.
    ///
    /// # Errors
    /// The node does not serve it.
    pub(super) fn model(&self, body: &Value) -> Result<ModelName, Refusal> {
        let models = &self.live.models;
        let named = body.get("model").and_then(Value::as_str);
        let found = match named {
            Some(name) => models.iter().find(|model| model.as_str() == name),
            None => models.first(),
        };
        if let Some(model) = found {
            let salt = body.get("cache_salt").and_then(Value::as_str);
            // Noted here, where every handler must come by. A second look at the same body changes nothing.
            let _ = self.salt.set(engine::salt(model.as_str(), salt));
        }
        found.cloned().ok_or_else(|| Refusal::UnknownModel {
            asked: named.unwrap_or_default().to_owned(),
            served: models.iter().map(ModelName::as_str).collect::<Vec<_>>().join(", "),
        })
    }

    /// The length of an answer of which `named` tokens were asked for, to a prompt of `prompt` tokens.
    ///
    /// # Errors
    /// It is less than 1, or there is no room for it.
    pub(super) fn length(&self, named: Option<i64>, prompt: usize) -> Result<Length, Refusal> {
        let max = self.node.max_model_len;
        let named = named.map(|named| tokens_asked(named, max)).transpose()?;
        if prompt > max {
            let over = max + 1;
            return Err(Refusal::value(
                "input_tokens",
                format!(
                    "This model's maximum context length is {max} tokens. However, your prompt contains at least \
                     {over} input tokens, which exceeds this limit even without any output tokens. Please reduce the \
                     length of the input prompt. (parameter=input_tokens, value={over})"
                ),
            ));
        }
        let room = max - prompt;
        match named {
            Some(tokens) if tokens > room => Err(Refusal::value(
                "input_tokens",
                format!(
                    "This model's maximum context length is {max} tokens. However, you requested {tokens} output \
                     tokens and your prompt contains at least {} input tokens, for a total of at least {} tokens. \
                     Please reduce the length of the input prompt or the number of requested output tokens. \
                     (parameter=input_tokens, value={})",
                    room_left(max, tokens),
                    max + 1,
                    room_left(max, tokens),
                ),
            )),
            Some(tokens) => Ok(Length { tokens, finish: Finish::Length }),
            None => Ok(self.own_length(room.max(1))),
        }
    }

    /// The length of an answer that ends by itself, unless `room` ends it first.
    pub(super) fn own_length(&self, room: usize) -> Length {
        let tokens = self.node.tokens.min(room);
        let finish = if tokens < self.node.tokens { Finish::Length } else { Finish::Stop };
        Length { tokens, finish }
    }

    /// Tokens that the answer to a prompt of `prompt` tokens may have: those asked for by `name`, as far as there is room.
    ///
    /// # Errors
    /// It asks for none or for more than the context, or the prompt alone is longer than this.
    pub(super) fn room(
        &self,
        (name, named): (&'static str, Option<i64>),
        prompt: usize,
    ) -> Result<usize, Refusal> {
        let max = self.node.max_model_len;
        let asked = named.map(usize::try_from);
        if let Some(Ok(tokens)) = asked.filter(|asked| asked.is_ok_and(|tokens| tokens > max)) {
            let says = format!(
                "{name}={tokens} cannot be greater than max_model_len={max}. Please request fewer output tokens. \
                 (parameter={name}, value={tokens})"
            );
            return Err(Refusal::value(name, says));
        }
        self.length(None, prompt)?;
        let room = max - prompt;
        let tokens = asked.map_or(Ok(room), |asked| asked.map(|tokens| tokens.min(room)));
        match tokens {
            Ok(tokens @ 1..) => Ok(tokens),
            _ => {
                let got = named.filter(|_| room > 0).unwrap_or_default();
                let says = format!(
                    "max_tokens must be at least 1, got {got}. (parameter=max_tokens, value={got})"
                );
                Err(Refusal::value("max_tokens", says))
            }
        }
    }

    /// The id of the answer: the caller's `x-request-id`, else a fresh one. Callers can choose ids in vLLM too.
    pub(super) fn id(&self) -> String {
        let named = self.head.headers.get("x-request-id").and_then(|value| value.to_str().ok());
        named.map_or_else(|| self.node.fresh_id(), |id| text::within_quotes(id).into())
    }

    /// The same where the body can name one too: the header wins.
    pub(super) fn id_in(&self, body: &Value) -> String {
        match body.get("request_id").and_then(Value::as_str) {
            Some(id) if !self.head.headers.contains_key("x-request-id") => {
                text::within_quotes(id).into()
            }
            _ => self.id(),
        }
    }
}

/// The most that a prompt may have beside `tokens`, plus one: vLLM stops counting there.
fn room_left(max: usize, tokens: usize) -> usize {
    (max + 1).saturating_sub(tokens)
}

fn tokens_asked(named: i64, max: usize) -> Result<usize, Refusal> {
    let says = match usize::try_from(named) {
        Ok(tokens @ 1..) if tokens <= max => return Ok(tokens),
        Ok(1..) => format!(
            "max_tokens={named} cannot be greater than max_model_len={max}. Please request fewer output tokens."
        ),
        _ => format!("max_tokens must be at least 1, got {named}."),
    };
    Err(Refusal::value("max_tokens", format!("{says} (parameter=max_tokens, value={named})")))
}

/// An integer field of `body`, or what pydantic takes for one; null is as good as none.
///
/// # Errors
/// It is something else.
pub(super) fn integer(body: &Value, field: &'static str) -> Result<Option<i64>, Refusal> {
    match body.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => whole(value).map(Some).ok_or_else(|| Refusal::Schema {
            kind: "int_type",
            field,
            says: "Input should be a valid integer",
            input: python(value),
        }),
    }
}

/// A field of `body` that must be a list.
///
/// # Errors
/// It is missing or something else.
pub(super) fn list<'a>(body: &'a Value, field: &'static str) -> Result<&'a [Value], Refusal> {
    match body.get(field) {
        None => Err(Refusal::missing(field, body)),
        Some(Value::Array(items)) => Ok(items),
        Some(other) => Err(Refusal::Schema {
            kind: "list_type",
            field,
            says: "Input should be a valid list",
            input: python(other),
        }),
    }
}

/// Whether `body` asks for a stream.
pub(super) fn streamed(body: &Value) -> bool {
    is_on(body, "stream")
}

/// A switch of the body, or what pydantic takes for one.
pub(super) fn is_on(body: &Value, name: &str) -> bool {
    body.get(name).and_then(switch).unwrap_or(false)
}

/// A number of the body, or what pydantic takes for one.
pub(super) fn number(body: &Value, name: &str) -> Option<f64> {
    match body.get(name)? {
        Value::String(text) => text.trim().parse().ok(),
        Value::Bool(on) => Some(f64::from(u8::from(*on))),
        value => value.as_f64(),
    }
}
