//! Messages of a chat: one for one, with calls as objects and images beside the text.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::content::{Content, Said};
use super::fields::{TextOr, refused, text_or};
use crate::refusal::Refusal;

/// The field that is to blame.
const MESSAGES: &str = "messages";

/// A message of OpenAI's API.
#[derive(Deserialize)]
pub(super) struct Message<'a> {
    #[serde(borrow)]
    role: Cow<'a, str>,
    #[serde(borrow)]
    content: Option<&'a RawValue>,
    #[serde(borrow)]
    reasoning: Option<&'a RawValue>,
    /// The same, as vLLM had it before.
    #[serde(borrow)]
    reasoning_content: Option<&'a RawValue>,
    #[serde(borrow)]
    tool_calls: Option<Vec<ToolCall<'a>>>,
    #[serde(borrow)]
    tool_call_id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    name: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct ToolCall<'a> {
    #[serde(borrow)]
    id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    function: Function<'a>,
}

#[derive(Deserialize)]
struct Function<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    /// JSON in a text; some clients send the object itself.
    #[serde(borrow)]
    arguments: Option<&'a RawValue>,
}

/// A message of Ollama's.
#[derive(Serialize)]
pub(super) struct Turn<'a> {
    role: Cow<'a, str>,
    content: Said<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    images: Vec<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<Called<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_name: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_call_id: Option<Cow<'a, str>>,
}

#[derive(Serialize)]
struct Called<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<Cow<'a, str>>,
    function: CalledFunction<'a>,
}

#[derive(Serialize)]
struct CalledFunction<'a> {
    index: usize,
    name: Cow<'a, str>,
    arguments: Box<RawValue>,
}

/// All messages of a chat.
///
/// # Errors
/// One says what has no twin, or calls a tool with what is no object.
pub(super) fn turns(messages: Vec<Message<'_>>) -> Result<Vec<Turn<'_>>, Refusal> {
    // Names of tools by the ids of their calls: results name these alone.
    let mut names = BTreeMap::new();
    messages.into_iter().map(|message| turn(message, &mut names)).collect()
}

fn turn<'a>(
    message: Message<'a>,
    names: &mut BTreeMap<Cow<'a, str>, Cow<'a, str>>,
) -> Result<Turn<'a>, Refusal> {
    let role = match message.role.as_ref() {
        "developer" => "system".into(),
        "function" => "tool".into(),
        _ => message.role,
    };
    let Content { text: content, images } = Content::read(message.content)?;
    let mut tool_calls = Vec::new();
    for (index, ToolCall { id, function }) in message.tool_calls.into_iter().flatten().enumerate() {
        let Function { name, arguments } = function;
        if let Some(id) = &id {
            names.insert(id.clone(), name.clone());
        }
        let arguments = object(arguments)?;
        tool_calls.push(Called { id, function: CalledFunction { index, name, arguments } });
    }
    let id = message.tool_call_id;
    let known = || id.as_ref().and_then(|id| names.get(id)).cloned();
    let tool_name = if role == "tool" { message.name.or_else(known) } else { None };
    let thinking = message.reasoning.or(message.reasoning_content);
    Ok(Turn { role, content, thinking, images, tool_calls, tool_name, tool_call_id: id })
}

/// The arguments of a call: none are an empty object.
fn object(arguments: Option<&RawValue>) -> Result<Box<RawValue>, Refusal> {
    let json = match arguments.map(|value| text_or::<&RawValue>(value, MESSAGES)).transpose()? {
        None => "{}".to_owned(),
        Some(TextOr::Text(text)) if text.trim().is_empty() => "{}".to_owned(),
        Some(TextOr::Text(text)) => text.into_owned(),
        Some(TextOr::Other(value)) => value.get().to_owned(),
    };
    let object = RawValue::from_string(json).ok();
    object.filter(|object| object.get().starts_with('{')).ok_or_else(|| {
        refused("invalid_parameter", MESSAGES, "The arguments of a tool call are no JSON object.")
    })
}
