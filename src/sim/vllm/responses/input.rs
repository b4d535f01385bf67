//! The conversation behind the `input` of `/v1/responses`: a text, or a list of items, and what was said before.

use serde_json::Value;

use crate::sim::vllm::prompt::{SYSTEM, TOOL, Turn, content, text_field};
use crate::sim::vllm::refusal::Refusal;
use crate::sim::vllm::tools::{Called, Choice, Tool};

const ASSISTANT: &str = "assistant";

/// The messages of a request, which goes on from `before`. Instructions hold for one answer only, so those of before are
/// left out.
///
/// # Errors
/// There is no input, or an item that vLLM makes no message of.
pub(super) fn turns(body: &Value, before: Vec<Turn>) -> Result<Vec<Turn>, Refusal> {
    let mut turns = Vec::new();
    if let Some(instructions) = text_field(body, "instructions").filter(|text| !text.is_empty()) {
        turns.push((SYSTEM.to_owned(), instructions.to_owned()));
    }
    turns.extend(before.into_iter().filter(|(role, _)| role != SYSTEM));
    match body.get("input") {
        Some(Value::Array(items)) => {
            for item in items {
                add(item, &mut turns)?;
            }
        }
        input => turns.push(("user".to_owned(), content(input))),
    }
    Ok(turns)
}

/// Adds the message of an item. Calls of tools are part of the assistant's message before them.
fn add(item: &Value, turns: &mut Vec<Turn>) -> Result<(), Refusal> {
    let kind = text_field(item, "type").unwrap_or("message");
    match kind {
        "function_call" => {
            let arguments = text_field(item, "arguments").unwrap_or("{}");
            let call = Called::with(text_field(item, "name").unwrap_or_default(), arguments);
            say(&call.text(), turns);
        }
        "custom_tool_call" => {
            let input = text_field(item, "input").unwrap_or_default();
            let arguments = format!(r#"{{"input": {}}}"#, Value::from(input));
            let call = Called::with(text_field(item, "name").unwrap_or_default(), &arguments);
            say(&call.text(), turns);
        }
        "function_call_output" | "custom_tool_call_output" => {
            turns.push((TOOL.to_owned(), content(item.get("output"))));
        }
        "reasoning" if text_field(item, "encrypted_content").is_some() => {
            let says = "Encrypted content is not supported. (parameter=input)";
            return Err(Refusal::value("input", says.to_owned()));
        }
        // The template leaves out what was thought.
        "reasoning" => say("", turns),
        "message" => match text_field(item, "role") {
            Some(ASSISTANT) => say(&first_text(item.get("content")), turns),
            role => turns.push((role.unwrap_or("user").to_owned(), content(item.get("content")))),
        },
        _ => {
            let says = format!("Unsupported input item type: {kind} (parameter=input)");
            return Err(Refusal::value("input", says));
        }
    }
    Ok(())
}

/// The assistant says `text`, in its last message if that is open: one that was only thought, or is followed by a call.
fn say(text: &str, turns: &mut Vec<Turn>) {
    let calls = text.starts_with("<tool_call>");
    match turns.last_mut() {
        Some((role, said)) if role == ASSISTANT && (calls || said.is_empty()) => {
            if !said.is_empty() {
                said.push('\n');
            }
            said.push_str(text);
        }
        _ => turns.push((ASSISTANT.to_owned(), text.to_owned())),
    }
}

/// Of what the assistant said before vLLM takes the first part only.
fn first_text(said: Option<&Value>) -> String {
    match said {
        Some(Value::Array(parts)) => {
            parts.first().and_then(|part| text_field(part, "text")).unwrap_or_default().to_owned()
        }
        _ => content(said),
    }
}

/// The tools that are functions, and the choice among them.
///
/// # Errors
/// A tool must be called that is not offered.
pub(super) fn offered(body: &Value) -> Result<(Vec<Tool<'_>>, Choice<'_>), Refusal> {
    let tools = body.get("tools").and_then(Value::as_array);
    let names = tools.into_iter().flatten();
    let tools: Vec<Tool<'_>> = names
        .filter(|tool| text_field(tool, "type") == Some("function"))
        .filter_map(|tool| {
            Some(Tool { name: text_field(tool, "name")?, schema: tool.get("parameters") })
        })
        .collect();
    let refused =
        |says: &str| Err(Refusal::value("tool_choice", format!("{says} (parameter=tool_choice)")));
    let choice = match body.get("tool_choice") {
        Some(Value::String(choice)) => match choice.as_str() {
            "none" => Choice::Never,
            "required" if tools.is_empty() => {
                return refused("Tool choice 'required' must be specified with 'tools' parameter.");
            }
            "required" => Choice::Any,
            _ => Choice::Auto,
        },
        Some(choice) if text_field(choice, "type") == Some("function") => {
            let name = text_field(choice, "name").unwrap_or_default();
            if !tools.iter().any(|tool| tool.name == name) {
                return refused("Tool choice 'function' not found in 'tools' parameter.");
            }
            Choice::Named(name)
        }
        Some(choice) if text_field(choice, "mode") == Some("required") => Choice::Any,
        _ => Choice::Auto,
    };
    Ok((tools, choice))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(input: Value) -> Vec<Turn> {
        turns(&json!({"input": input}), Vec::new()).unwrap()
    }

    fn turn(role: &str, text: &str) -> Turn {
        (role.to_owned(), text.to_owned())
    }

    #[test]
    fn items_become_messages() {
        let items = json!([
            {"role": "developer", "content": "Be brief"},
            {"role": "user", "content": [{"type": "input_text", "text": "See"}, {"type": "input_image", "image_url": "data:,"}]},
            {"type": "reasoning", "summary": []},
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Well"}]},
            {"type": "function_call", "name": "f", "call_id": "1", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "1", "output": "sunny"},
        ]);
        let called = "Well\n<tool_call>\n{\"name\": \"f\", \"arguments\": {}}\n</tool_call>";
        assert_eq!(
            read(items),
            [
                turn("developer", "Be brief"),
                turn("user", "See\n<image>"),
                turn("assistant", called),
                turn("tool", "sunny"),
            ]
        );
    }

    #[test]
    fn instructions_hold_for_one_answer() {
        let body = json!({"input": "And?", "instructions": "Shout"});
        let before = vec![turn("system", "Whisper"), turn("user", "Hi"), turn("assistant", "Yes")];
        assert_eq!(
            turns(&body, before).unwrap(),
            [
                turn("system", "Shout"),
                turn("user", "Hi"),
                turn("assistant", "Yes"),
                turn("user", "And?")
            ]
        );
    }
}
