//! Messages of OpenAI's API as those of Ollama's own: each part is a message, and calls have objects.

use data_encoding::BASE64;
use serde_json::Value;

use crate::sim::instance::python_json;
use crate::sim::ollama::body::Fields;
use crate::sim::ollama::context;
use crate::sim::ollama::refusal::Refusal;
use crate::sim::prompt::{IMAGE, Turn};
use crate::sim::tools::Called;

/// What an image may begin with; the first is none at all.
const IMAGES: [&str; 5] = [
    "data:;base64,",
    "data:image/jpeg;base64,",
    "data:image/jpg;base64,",
    "data:image/png;base64,",
    "data:image/webp;base64,",
];

/// Role and text of each message.
///
/// # Errors
/// One is no message, or has a part that Ollama does not know.
pub(super) fn turns(messages: &[Value]) -> Result<Vec<Turn>, Refusal> {
    let mut turns = Vec::new();
    for message in messages {
        let fields = Fields::of(message, "Message")?;
        let role = fields.text("role")?.to_ascii_lowercase();
        let calls = fields.list("tool_calls", "[]openai.ToolCall")?;
        let mut texts = match fields.any("content") {
            Some(Value::String(text)) => vec![text.clone()],
            Some(Value::Array(parts)) => parts.iter().map(part).collect::<Result<_, _>>()?,
            _ if !calls.is_empty() => vec![String::new()],
            other => {
                let kind = go_kind(other);
                return Err(Refusal::bad(format!("invalid message content type: {kind}")));
            }
        };
        let calls = calls.iter().map(called).collect::<Result<Vec<_>, _>>()?;
        if let Some(last) = texts.last_mut() {
            let parts = std::iter::once(&*last).chain(&calls).filter(|part| !part.is_empty());
            *last = parts.cloned().collect::<Vec<_>>().join("\n");
        }
        turns.extend(texts.into_iter().map(|text| (role.clone(), text)));
    }
    Ok(context::joined(turns))
}

/// The text of a part of a message.
fn part(part: &Value) -> Result<String, Refusal> {
    let wrong = || Refusal::bad("invalid message format");
    match part.get("type").and_then(Value::as_str) {
        Some("text") => {
            part.get("text").and_then(Value::as_str).map(str::to_owned).ok_or_else(wrong)
        }
        Some("image_url") => {
            let url = part.get("image_url").ok_or_else(wrong)?;
            let url = url.get("url").unwrap_or(url).as_str().ok_or_else(wrong)?;
            check_image(url)?;
            Ok(IMAGE.to_owned())
        }
        _ => Err(wrong()),
    }
}

fn check_image(url: &str) -> Result<(), Refusal> {
    if url.starts_with("http://") || url.starts_with("https://") {
        return Err(Refusal::bad(
            "image URLs are not currently supported, please use base64 encoded data instead",
        ));
    }
    let base64 = IMAGES.iter().find_map(|begins| url.strip_prefix(begins));
    match base64.map(|base64| BASE64.decode(base64.as_bytes())) {
        Some(Ok(_)) => Ok(()),
        _ => Err(Refusal::bad("invalid image input")),
    }
}

/// A call that was made before, as it stands in the prompt.
fn called(call: &Value) -> Result<String, Refusal> {
    let function = Fields::of(call, "ToolCall")?.any("function").unwrap_or(&Value::Null);
    let text = |name: &str| function.get(name).and_then(Value::as_str).unwrap_or_default();
    match serde_json::from_str(text("arguments")) {
        Ok(arguments @ Value::Object(_)) => {
            Ok(Called::with(text("name"), &python_json(&arguments)).text())
        }
        _ => Err(Refusal::bad("invalid tool call arguments")),
    }
}

/// The type of a value that Go reads into `any`.
pub(super) fn go_kind(value: Option<&Value>) -> &'static str {
    match value {
        None | Some(Value::Null) => "<nil>",
        Some(Value::Bool(_)) => "bool",
        Some(Value::Number(_)) => "float64",
        Some(Value::String(_)) => "string",
        Some(Value::Array(_)) => "[]interface {}",
        Some(Value::Object(_)) => "map[string]interface {}",
    }
}
