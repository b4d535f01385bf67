//! A prompt of messages and tools: what was said, what is offered, and whether the model calls it.

use serde_json::Value;

use super::conversation::Conversation;
use super::tools::{Choice, Tool};

/// Role and text of a message.
pub(in crate::sim) type Turn = (String, String);

/// The role of what tools answer.
pub(super) const TOOL: &str = "tool";

/// The role of instructions.
pub(super) const SYSTEM: &str = "system";

/// What stands for an image in the prompt.
pub(super) const IMAGE: &str = "<image>";

/// The text of `content`: itself, or that of its parts, one a line.
pub(super) fn content(content: Option<&Value>) -> String {
    match content {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(parts)) => parts.iter().filter_map(part).collect::<Vec<_>>().join("\n"),
        _ => String::new(),
    }
}

fn part(part: &Value) -> Option<&str> {
    match text_field(part, "type") {
        Some("image" | "image_url" | "input_image") => Some(IMAGE),
        _ => text_field(part, "text"),
    }
}

/// The prompt: the tools that are offered, then what was said.
pub(super) fn conversation(tools: Option<&Value>, turns: &[Turn]) -> Conversation {
    let mut chat = Conversation::default();
    if let Some(tools @ Value::Array(offered)) = tools
        && !offered.is_empty()
    {
        chat.say(SYSTEM, tools.to_string());
    }
    turns.iter().for_each(|(role, text)| chat.say(role, text.clone()));
    chat
}

/// What the model is to answer: the last message of the user or, if there is none, the last of all.
pub(super) fn asked(turns: &[Turn]) -> &str {
    let user = turns.iter().rfind(|(role, _)| role == "user");
    user.or(turns.last()).map_or("", |(_, text)| text)
}

/// The tool that is called when these were the last messages.
pub(super) fn called<'a>(
    choice: Choice<'a>,
    tools: &[Tool<'a>],
    turns: &[Turn],
) -> Option<Tool<'a>> {
    let answered = turns.last().is_some_and(|(role, _)| role == TOOL);
    choice.of(tools, asked(turns), answered)
}

/// A field of `value` that is a text.
pub(super) fn text_field<'a>(value: &'a Value, name: &str) -> Option<&'a str> {
    value.get(name).and_then(Value::as_str)
}
