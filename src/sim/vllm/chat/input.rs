//! The conversation behind a request for `/v1/chat/completions`, its tools and its format.

use serde_json::{Value, json};

use crate::sim::call::Length;
use crate::sim::vllm::instance::{instance_of, python_json};
use crate::sim::vllm::prompt::{Turn, content, text_field};
use crate::sim::vllm::refusal::Refusal;
use crate::sim::vllm::request::{is_on, streamed};
use crate::sim::vllm::said::Said;
use crate::sim::vllm::schema::{Field, Kind, whole};
use crate::sim::vllm::tools::{Called, Choice, Tool};

/// What a chat looks like. Messages are not looked into.
pub(super) const FORM: [&[Field]; 1] = [&[
    Field::needed("messages", Kind::List),
    Field::nullable("model", Kind::Text),
    Field::nullable("frequency_penalty", Kind::Number),
    Field::nullable("logprobs", Kind::Switch),
    Field::nullable("top_logprobs", Kind::Whole(i64::MIN)),
    Field::nullable("max_tokens", Kind::Whole(i64::MIN)),
    Field::nullable("max_completion_tokens", Kind::Whole(i64::MIN)),
    Field::nullable("n", Kind::Whole(i64::MIN)),
    Field::nullable("presence_penalty", Kind::Number),
    Field::nullable("seed", Kind::Whole(i64::MIN)),
    Field::nullable("stop", Kind::TextOrList),
    Field::nullable("stream", Kind::Switch),
    Field::nullable("stream_options", Kind::StreamOptions),
    Field::nullable("temperature", Kind::Number),
    Field::nullable("top_p", Kind::Number),
    Field::nullable("tools", Kind::Tools),
    Field::nullable("prompt_logprobs", Kind::Whole(i64::MIN)),
]];

/// The messages of a chat.
pub(in crate::sim::vllm) fn turns(messages: &[Value]) -> Vec<Turn> {
    messages.iter().map(turn).collect()
}

/// One message; the calls of tools that the assistant made are part of what it said.
fn turn(message: &Value) -> Turn {
    let role = text_field(message, "role").unwrap_or("user");
    let mut said = content(message.get("content"));
    let calls = message.get("tool_calls").and_then(Value::as_array);
    for function in calls.into_iter().flatten().filter_map(|call| call.get("function")) {
        if !said.is_empty() {
            said.push('\n');
        }
        let name = text_field(function, "name").unwrap_or_default();
        let arguments = text_field(function, "arguments").unwrap_or("{}");
        said.push_str(&Called::with(name, arguments).text());
    }
    (role.to_owned(), said)
}

/// Refuses what does not go together, in vLLM's order.
///
/// # Errors
/// The request is refused.
pub(super) fn check(body: &Value) -> Result<(), Refusal> {
    if body.get("tools").is_some_and(|tools| tools.as_array().is_some_and(Vec::is_empty)) {
        let says = "`tools` must not be an empty array. Either provide at least one tool or omit the field entirely.";
        return refused("tools", says);
    }
    check_logprobs(body)?;
    let format = body.get("response_format").filter(|format| !format.is_null());
    if format.is_some_and(|format| {
        text_field(format, "type") == Some("json_schema") && format.get("json_schema").is_none()
    }) {
        let says =
            "When response_format type is 'json_schema', the 'json_schema' field must be provided.";
        return refused("response_format", says);
    }
    Ok(())
}

fn check_logprobs(body: &Value) -> Result<(), Refusal> {
    let number = |name: &str| body.get(name).and_then(whole);
    if number("prompt_logprobs").is_some() && streamed(body) {
        let says = "`prompt_logprobs` are not available when `stream=True`.";
        return refused("prompt_logprobs", says);
    }
    match number("top_logprobs") {
        Some(top) if top < -1 => {
            let says = format!(
                "`top_logprobs` must be a positive value or -1. (parameter=top_logprobs, value={top})"
            );
            Err(Refusal::value("top_logprobs", says))
        }
        Some(top) if top != 0 && !is_on(body, "logprobs") => {
            refused("top_logprobs", "when using `top_logprobs`, `logprobs` must be set to true.")
        }
        _ => Ok(()),
    }
}

fn refused<T>(param: &'static str, says: &str) -> Result<T, Refusal> {
    Err(Refusal::value(param, format!("{says} (parameter={param})")))
}

/// The tools that are offered, and the choice among them.
///
/// # Errors
/// There is a choice among none, or a tool must be called that is not offered.
pub(super) fn offered(body: &Value) -> Result<(Vec<Tool<'_>>, Choice<'_>), Refusal> {
    let tools = body.get("tools").and_then(Value::as_array).into_iter().flatten();
    let tools: Vec<Tool<'_>> = tools
        .filter_map(|tool| {
            let function = tool.get("function")?;
            Some(Tool { name: text_field(function, "name")?, schema: function.get("parameters") })
        })
        .collect();
    let choice = match body.get("tool_choice").filter(|choice| !choice.is_null()) {
        None => Choice::Auto,
        Some(Value::String(word)) if word == "none" => Choice::Never,
        Some(_) if tools.is_empty() => {
            return refused("tool_choice", "When using `tool_choice`, `tools` must be set.");
        }
        Some(Value::String(word)) => match word.as_str() {
            "auto" => Choice::Auto,
            "required" => Choice::Any,
            word => {
                let says = format!(
                    "Invalid value for `tool_choice`: {word}! Only named tools, \"none\", \"auto\" or \"required\" are supported."
                );
                return refused("tool_choice", &says);
            }
        },
        Some(named) => {
            let name = named.get("function").and_then(|function| text_field(function, "name"));
            match tools.iter().find(|tool| Some(tool.name) == name) {
                Some(tool) => Choice::Named(tool.name),
                None => {
                    let says = "The tool specified in `tool_choice` does not match any of the specified `tools`";
                    return refused("tool_choice", says);
                }
            }
        }
    };
    Ok((tools, choice))
}

/// What is answered in words, or in JSON where the format is that: this has an end of its own, and `room` may be too small
/// for it.
pub(super) fn in_words(body: &Value, asked: &str, (length, room): (Length, usize)) -> Said {
    let format = body.get("response_format");
    let value = match format.and_then(|format| text_field(format, "type")) {
        Some("json_object") => json!({"said": asked}),
        Some("json_schema") => {
            let schema = format.and_then(|format| format.pointer("/json_schema/schema"));
            schema.map_or_else(|| json!({"said": asked}), |schema| instance_of(schema, asked))
        }
        _ => return Said::echo(asked, length),
    };
    Said::whole(&python_json(&value), room)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_part_of_what_the_assistant_said() {
        let call = |name| json!({"id": "1", "type": "function", "function": {"name": name, "arguments": "{\"a\": 1}"}});
        let messages = [
            json!({"role": "user", "content": [{"type": "text", "text": "Look"}, {"type": "image_url", "image_url": {}}]}),
            json!({"role": "assistant", "content": "Well", "tool_calls": [call("f")]}),
            json!({"role": "assistant", "content": null, "tool_calls": [call("g"), call("h")]}),
            json!({"role": "tool", "tool_call_id": "1", "content": "sunny"}),
        ];
        let called = |name| {
            format!(
                "<tool_call>\n{{\"name\": \"{name}\", \"arguments\": {{\"a\": 1}}}}\n</tool_call>"
            )
        };
        let turn = |role: &str, text: &str| (role.to_owned(), text.to_owned());
        assert_eq!(
            turns(&messages),
            [
                turn("user", "Look\n<image>"),
                turn("assistant", &format!("Well\n{}", called("f"))),
                turn("assistant", &format!("{}\n{}", called("g"), called("h"))),
                turn("tool", "sunny"),
            ]
        );
    }
}
