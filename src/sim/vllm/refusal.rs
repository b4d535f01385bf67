//! Requests that a node does not answer, in the words of vLLM 0.32.

use bytes::Bytes;
use http::header::{ALLOW, VARY};
use http::{HeaderValue, Method, StatusCode};
use serde_json::Value;

use crate::sim::call::EngineDied;
use crate::sim::reply::{self, Reply};
use crate::sim::text::quoted;

/// The message of vLLM 0.32 when its engine has died.
const ENGINE_DIED: &str =
    "EngineCore encountered an issue. See stack trace (above) for the root cause.";

/// Why a request is not answered.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::sim) enum Refusal {
    /// The key is missing or wrong.
    Unauthorized,
    /// No such path.
    UnknownPath,
    /// The path knows other methods, this one among them.
    Method(&'static Method),
    /// The body is larger than the simulator takes. vLLM itself has no bound.
    TooLarge,
    /// The body is no text.
    Unreadable,
    /// The `content-type` is not JSON.
    MediaType,
    /// There is no body.
    NoBody,
    /// The body is not JSON from this byte on.
    BadJson(usize),
    /// A field is missing or has another type.
    Schema {
        /// pydantic's name of the error.
        kind: &'static str,
        /// Where: a field of the body.
        field: &'static str,
        /// What pydantic says.
        says: &'static str,
        /// What was there instead, as [`python`] writes it.
        input: String,
    },
    /// A field has a value that makes no sense, or the prompt is too long.
    Value {
        /// What vLLM says.
        says: String,
        /// The field.
        param: Option<&'static str>,
    },
    /// The node serves other models.
    UnknownModel {
        /// What was asked for.
        asked: String,
        /// What it serves, joined by commas.
        served: String,
    },
    /// Whatever else vLLM refuses, with its status and its name of the error.
    Other {
        /// The status.
        status: StatusCode,
        /// `type`.
        kind: &'static str,
        /// What vLLM says.
        says: String,
        /// The field.
        param: Option<String>,
    },
    /// A form that is none, in Starlette's words.
    Detail(&'static str),
    /// The simulator does not know what fault is meant, or has met one that is an error.
    Fault(StatusCode, String),
}

/// In which API the caller is told.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::sim) enum Shape {
    /// `{"error":{...}}`.
    OpenAi,
    /// `{"type":"error","error":{...}}`; only for what the handler of `/v1/messages` itself finds.
    Anthropic,
}

impl From<EngineDied> for Refusal {
    fn from(_: EngineDied) -> Self {
        Self::Fault(StatusCode::INTERNAL_SERVER_ERROR, ENGINE_DIED.to_owned())
    }
}

impl Refusal {
    /// A field that is not there.
    pub(super) fn missing(field: &'static str, body: &Value) -> Self {
        Self::Schema { kind: "missing", field, says: "Field required", input: python(body) }
    }

    /// A field whose value makes no sense; `says` ends with the parameter, as all of them do.
    pub(super) fn value(param: &'static str, says: String) -> Self {
        Self::Value { says, param: Some(param) }
    }

    /// The answer.
    pub(in crate::sim) fn reply(&self, shape: Shape) -> Reply {
        let mut reply = reply::json(self.status(), self.body(shape));
        match self {
            // The key is checked before CORS is.
            Self::Unauthorized => drop(reply.headers_mut().remove(VARY)),
            Self::Method(allowed) => {
                drop(reply.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed.as_str())));
            }
            _ => {}
        }
        reply
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::UnknownPath | Self::UnknownModel { .. } => StatusCode::NOT_FOUND,
            Self::Method(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Fault(status, _) | Self::Other { status, .. } => *status,
            Self::Unreadable
            | Self::MediaType
            | Self::NoBody
            | Self::BadJson(_)
            | Self::Detail(_)
            | Self::Schema { .. }
            | Self::Value { .. } => StatusCode::BAD_REQUEST,
        }
    }

    fn body(&self, shape: Shape) -> Bytes {
        let code = self.status().as_u16();
        match self {
            Self::Unauthorized => Bytes::from_static(br#"{"error":"Unauthorized"}"#),
            Self::UnknownPath => Bytes::from_static(br#"{"detail":"Not Found"}"#),
            Self::Method(_) => Bytes::from_static(br#"{"detail":"Method Not Allowed"}"#),
            Self::TooLarge => Bytes::from_static(br#"{"detail":"Payload Too Large"}"#),
            Self::Unreadable => {
                Bytes::from_static(br#"{"detail":"There was an error parsing the body"}"#)
            }
            Self::MediaType => {
                validation("Unsupported Media Type: Only 'application/json' is allowed", None)
            }
            Self::NoBody => {
                let says =
                    "{'type': 'missing', 'loc': 'body', 'msg': 'Field required', 'input': 'None'}";
                validation(says, Some("body"))
            }
            Self::BadJson(at) => {
                let says = format!(
                    "{{'type': 'json_invalid', 'loc': 'body.{at}', 'msg': 'JSON decode error', \
                     'input': '<dict of 0 items>', 'ctx': {{'error': 'Expecting value'}}}}"
                );
                validation(&says, Some(&format!("body.{at}")))
            }
            Self::Schema { kind, field, says, input } => {
                let at = format!("body.{field}");
                let says = format!(
                    "{{'type': '{kind}', 'loc': '{at}', 'msg': '{says}', 'input': '{input}'}}"
                );
                validation(&says, Some(&at))
            }
            Self::Value { says, param } => error(says, "BadRequestError", (*param, code), shape),
            Self::UnknownModel { asked, served } => {
                let says = format!("The model `{asked}` does not exist. Valid aliases: {served}.");
                error(&says, "NotFoundError", (Some("model"), code), shape)
            }
            Self::Other { kind, says, param, .. } => {
                error(says, kind, (param.as_deref(), code), shape)
            }
            Self::Detail(says) => format!(r#"{{"detail":{}}}"#, quoted(says)).into(),
            Self::Fault(_, says) => error(says, "InternalServerError", (None, code), shape),
        }
    }
}

/// What FastAPI finds before vLLM sees the request: always in OpenAI's shape.
fn validation(says: &str, param: Option<&str>) -> Bytes {
    let says = format!("1 validation error:\n  {says}");
    error(&says, "Bad Request", (param, 400), Shape::OpenAi)
}

/// The shape of nearly every error, with its parameter and its code.
fn error(says: &str, kind: &str, (param, code): (Option<&str>, u16), shape: Shape) -> Bytes {
    let says = quoted(says);
    let text = match shape {
        Shape::OpenAi => {
            let param = param.map_or_else(|| "null".to_owned(), quoted);
            format!(
                r#"{{"error":{{"message":{says},"type":"{kind}","param":{param},"code":{code}}}}}"#
            )
        }
        Shape::Anthropic => {
            format!(r#"{{"type":"error","error":{{"type":"{kind}","message":{says}}}}}"#)
        }
    };
    text.into()
}

/// A value as the error names it: text and numbers as they are, the rest by its size.
pub(super) fn python(value: &Value) -> String {
    match value {
        Value::Null => "None".to_owned(),
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.clone(),
        Value::Array(items) => format!("<list of {} items>", items.len()),
        Value::Object(fields) => format!("<dict of {} items>", fields.len()),
    }
}
