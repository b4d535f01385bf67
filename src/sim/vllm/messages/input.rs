//! The conversation behind a request for `/v1/messages`, as vLLM makes a chat of it.

use serde_json::Value;

use crate::sim::vllm::instance::python_json;
use crate::sim::vllm::prompt::{IMAGE, SYSTEM, TOOL, Turn, content, text_field};
use crate::sim::vllm::refusal::Refusal;
use crate::sim::vllm::tools::{Called, Choice, Tool};

/// How the instructions of some clients begin that say who pays: vLLM leaves them out, since they change with each
/// request.
const BILLING: &str = "x-anthropic-billing-header";

/// The messages of a request, with its instructions first.
pub(super) fn turns(body: &Value, messages: &[Value]) -> Vec<Turn> {
    let mut turns = Vec::new();
    let instructions = instructions(body.get("system"));
    if !instructions.is_empty() {
        turns.push((SYSTEM.to_owned(), instructions));
    }
    for message in messages {
        let role = text_field(message, "role").unwrap_or("user");
        match message.get("content") {
            said if role == SYSTEM => {
                turns.push((role.to_owned(), instructions_again(said)));
            }
            Some(Value::Array(blocks)) => add(role, blocks, &mut turns),
            said => turns.push((role.to_owned(), content(said))),
        }
    }
    turns.retain(|(role, text)| role != SYSTEM || !text.is_empty());
    turns
}

fn instructions(system: Option<&Value>) -> String {
    match system {
        Some(Value::Array(blocks)) => {
            let texts = blocks.iter().filter_map(|block| text_field(block, "text"));
            texts.filter(|text| !text.starts_with(BILLING)).collect()
        }
        system => content(system),
    }
}

/// The same in the midst of a conversation.
fn instructions_again(said: Option<&Value>) -> String {
    let text = instructions(said);
    if text.starts_with(BILLING) { String::new() } else { text }
}

/// Adds a message of several blocks. What tools answered becomes messages of its own, before the others of the user.
fn add(role: &str, blocks: &[Value], turns: &mut Vec<Turn>) {
    let (mut said, mut calls) = (Vec::new(), Vec::new());
    for block in blocks {
        match text_field(block, "type") {
            Some("text") => said.extend(text_field(block, "text").map(str::to_owned)),
            Some("image") => said.push(IMAGE.to_owned()),
            Some("tool_use") => {
                let arguments = block.get("input").map_or_else(|| "{}".to_owned(), python_json);
                let name = text_field(block, "name").unwrap_or_default();
                calls.push(Called::with(name, &arguments).text());
            }
            Some("tool_result") if role == "user" => add_result(block.get("content"), turns),
            Some("tool_result") => {
                said.push(format!("Tool result: {}", content(block.get("content"))));
            }
            // Thoughts are left out by the template.
            _ => {}
        }
    }
    if role == "user" && said.is_empty() {
        return;
    }
    said.append(&mut calls);
    turns.push((role.to_owned(), said.join("\n")));
}

/// What a tool answered: its text, and its images as if the user had sent them.
fn add_result(result: Option<&Value>, turns: &mut Vec<Turn>) {
    let Some(Value::Array(parts)) = result else {
        return turns.push((TOOL.to_owned(), content(result)));
    };
    let texts: Vec<&str> = parts.iter().filter_map(|part| text_field(part, "text")).collect();
    turns.push((TOOL.to_owned(), texts.join("\n")));
    let images = parts.iter().filter(|part| text_field(part, "type") == Some("image"));
    let images: Vec<&str> = images.map(|_| IMAGE).collect();
    if !images.is_empty() {
        turns.push(("user".to_owned(), images.join("\n")));
    }
}

/// The tools that are offered, and the choice among them.
///
/// # Errors
/// A tool must be called that is not offered.
pub(super) fn offered(body: &Value) -> Result<(Vec<Tool<'_>>, Choice<'_>), Refusal> {
    let tools = body.get("tools").and_then(Value::as_array).into_iter().flatten();
    let tools: Vec<Tool<'_>> = tools
        .filter_map(|tool| {
            Some(Tool { name: text_field(tool, "name")?, schema: tool.get("input_schema") })
        })
        .collect();
    let choice = body.get("tool_choice");
    let choice = match choice.and_then(|choice| text_field(choice, "type")) {
        Some("none") => Choice::Never,
        Some("any") => Choice::Any,
        Some("tool") => {
            let name = choice.and_then(|choice| text_field(choice, "name")).unwrap_or_default();
            if !tools.iter().any(|tool| tool.name == name) {
                let says = format!("The tool with name '{name}' is not found in the tools list.");
                return Err(Refusal::Value { says, param: None });
            }
            Choice::Named(name)
        }
        _ => Choice::Auto,
    };
    Ok((tools, choice))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(body: Value) -> Vec<(String, String)> {
        turns(&body, body["messages"].as_array().unwrap())
    }

    fn turn(role: &str, text: &str) -> Turn {
        (role.to_owned(), text.to_owned())
    }

    #[test]
    fn blocks_become_messages() {
        let body = json!({
        "system": [{"type": "text", "text": "Be "}, {"type": "text", "text": "x-anthropic-billing-header: 1"},
            {"type": "text", "text": "brief"}],
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "Look"}, {"type": "image", "source": {}}]},
            {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "Well"},
                {"type": "tool_use", "id": "1", "name": "f", "input": {"a": 1}}]},
            {"role": "user", "content": [{"type": "text", "text": "So?"},
                {"type": "tool_result", "tool_use_id": "1", "content": [{"type": "text", "text": "sunny"}]}]},
        ]});
        let called =
            "Well\n<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": 1}}\n</tool_call>";
        assert_eq!(
            read(body),
            [
                turn("system", "Be brief"),
                turn("user", "Look\n<image>"),
                turn("assistant", called),
                turn("tool", "sunny"),
                turn("user", "So?"),
            ]
        );
    }

    #[test]
    fn a_user_who_only_brings_results_says_nothing() {
        let result = json!({"type": "tool_result", "tool_use_id": "1", "content": "sunny"});
        let body = json!({"messages": [{"role": "user", "content": [result]}, {"role": "system", "content": ""}]});
        assert_eq!(read(body), [turn("tool", "sunny")]);
    }
}
