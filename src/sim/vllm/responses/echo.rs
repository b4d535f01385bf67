//! What an answer of `/v1/responses` repeats of its request, in vLLM's order and with its defaults.

use serde_json::Value;

use crate::sim::text::quoted;

/// Fields of the tools that callers offer most, in the order in which an answer lists them.
const TOOLS: [(&str, &[&str]); 6] = [
    (
        "function",
        &[
            "name",
            "parameters",
            "strict",
            "type",
            "allowed_callers",
            "async",
            "defer_loading",
            "description",
            "output_schema",
        ],
    ),
    (
        "custom",
        &["name", "type", "allowed_callers", "async", "defer_loading", "description", "format"],
    ),
    (
        "web_search",
        &["type", "external_web_access", "filters", "search_context_size", "user_location"],
    ),
    (
        "web_search_preview",
        &["type", "search_content_types", "search_context_size", "user_location"],
    ),
    (
        "mcp",
        &[
            "server_label",
            "type",
            "allowed_callers",
            "allowed_tools",
            "authorization",
            "connector_id",
            "defer_loading",
            "headers",
            "require_approval",
            "server_description",
            "server_url",
            "tunnel_id",
        ],
    ),
    ("code_interpreter", &["container", "type", "allowed_callers"]),
];

/// Fields of `reasoning`.
const REASONING: [&str; 5] = ["context", "effort", "generate_summary", "mode", "summary"];

/// Fields of a format that is a schema.
const SCHEMA: [&str; 5] = ["name", "schema", "type", "description", "strict"];

/// An answer but for what changes while it is made: five pieces, between which details, output, status and usage stand.
pub(super) struct Echo {
    /// Up to `incomplete_details`.
    pub(super) before_details: String,
    /// Up to the items of `output`.
    pub(super) before_output: String,
    /// Up to `status`.
    pub(super) before_status: String,
    /// Up to `usage`.
    pub(super) before_usage: String,
    /// Up to `input_messages`.
    pub(super) before_messages: String,
}

impl Echo {
    /// What is repeated of `body`; the answer is `model`'s, may have `room` tokens and shows so many other tokens beside
    /// each, if any.
    pub(super) fn of(
        body: &Value,
        (id, created): (&str, u64),
        model: &str,
        (room, logprobs): (usize, Option<usize>),
    ) -> Self {
        let field = |name: &str| compact(body.get(name));
        let number = |name: &str, usual: f64| {
            format!("{:?}", body.get(name).and_then(Value::as_f64).unwrap_or(usual))
        };
        let or = |name: &str, usual: &str| {
            let given = body.get(name).filter(|value| !value.is_null());
            given.map_or_else(|| usual.to_owned(), Value::to_string)
        };
        let (id, model) = (quoted(id), quoted(model));
        let logprobs = logprobs.map_or_else(|| "null".to_owned(), |count| count.to_string());
        Self {
            before_details: format!(r#"{{"id":{id},"created_at":{created},"incomplete_details":"#),
            before_output: format!(
                r#","instructions":{},"metadata":{},"model":{model},"object":"response","output":["#,
                field("instructions"),
                field("metadata"),
            ),
            before_status: format!(
                r#"],"parallel_tool_calls":{},"temperature":{},"tool_choice":{},"tools":{},"top_p":{},"background":{},"max_output_tokens":{room},"max_tool_calls":{},"previous_response_id":{},"prompt":null,"reasoning":{},"service_tier":{},"status":""#,
                or("parallel_tool_calls", "true"),
                number("temperature", 1.0),
                tool_choice(body),
                tools(body),
                number("top_p", 1.0),
                or("background", "false"),
                field("max_tool_calls"),
                field("previous_response_id"),
                filled(body.get("reasoning"), &REASONING),
                or("service_tier", r#""auto""#),
            ),
            before_usage: format!(
                r#"","text":{},"top_logprobs":{logprobs},"truncation":{},"usage":"#,
                text(body.get("text")),
                or("truncation", r#""disabled""#),
            ),
            before_messages: format!(
                r#","user":{},"presence_penalty":{},"frequency_penalty":{},"kv_transfer_params":null,"ec_transfer_params":null,"input_messages":"#,
                field("user"),
                number("presence_penalty", 0.0),
                number("frequency_penalty", 0.0),
            ),
        }
    }
}

fn compact(value: Option<&Value>) -> String {
    value.map_or_else(|| "null".to_owned(), Value::to_string)
}

/// `value` with `names` first and in this order, null where it has none.
fn filled(value: Option<&Value>, names: &[&str]) -> String {
    let Some(Value::Object(fields)) = value else { return compact(value) };
    let named = names.iter().map(|name| format!("{}:{}", quoted(name), compact(fields.get(*name))));
    let others = fields.iter().filter(|(name, _)| !names.contains(&name.as_str()));
    let others = others.map(|(name, value)| format!("{}:{value}", quoted(name)));
    format!("{{{}}}", named.chain(others).collect::<Vec<_>>().join(","))
}

fn kind(value: &Value) -> &str {
    value.get("type").and_then(Value::as_str).unwrap_or_default()
}

fn tools(body: &Value) -> String {
    let tool = |tool: &Value| {
        let known = TOOLS.iter().find(|(name, _)| *name == kind(tool));
        filled(Some(tool), known.map_or(&[], |(_, names)| names))
    };
    let tools = body.get("tools").and_then(Value::as_array);
    let tools: Vec<String> = tools.into_iter().flatten().map(tool).collect();
    format!("[{}]", tools.join(","))
}

/// Without tools there is no choice.
fn tool_choice(body: &Value) -> String {
    let offered =
        body.get("tools").and_then(Value::as_array).is_some_and(|tools| !tools.is_empty());
    match body.get("tool_choice") {
        Some(choice) if choice.is_object() => compact(Some(choice)),
        Some(Value::String(choice)) if offered => quoted(choice),
        _ if offered => quoted("auto"),
        _ => quoted("none"),
    }
}

fn text(value: Option<&Value>) -> String {
    let Some(Value::Object(fields)) = value else { return compact(value) };
    let format = fields.get("format");
    let names: &[&str] = match format.map(kind) {
        Some("json_schema") => &SCHEMA,
        _ => &[],
    };
    format!(
        r#"{{"format":{},"verbosity":{}}}"#,
        filled(format, names),
        compact(fields.get("verbosity"))
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_request_leaves_out_is_repeated_as_null() {
        let body = json!({"tools": [{"type": "function", "name": "f", "mine": 1}], "reasoning": {"effort": "low"}});
        assert_eq!(
            tools(&body),
            r#"[{"name":"f","parameters":null,"strict":null,"type":"function","allowed_callers":null,"async":null,"defer_loading":null,"description":null,"output_schema":null,"mine":1}]"#
        );
        assert_eq!(
            filled(body.get("reasoning"), &REASONING),
            r#"{"context":null,"effort":"low","generate_summary":null,"mode":null,"summary":null}"#
        );
        assert_eq!(text(body.get("text")), "null");
    }

    #[test]
    fn a_format_is_repeated_in_its_order() {
        let text_of = |format: Value| text(Some(&json!({"format": format})));
        assert_eq!(
            text_of(json!({"type": "text"})),
            r#"{"format":{"type":"text"},"verbosity":null}"#
        );
        assert_eq!(
            text_of(json!({"type": "json_schema", "name": "n", "schema": {"type": "object"}})),
            r#"{"format":{"name":"n","schema":{"type":"object"},"type":"json_schema","description":null,"strict":null},"verbosity":null}"#
        );
    }

    #[test]
    fn a_choice_is_none_without_tools() {
        assert_eq!(tool_choice(&json!({})), r#""none""#);
        let tools = json!([{"type": "function", "name": "f"}]);
        assert_eq!(tool_choice(&json!({"tools": tools})), r#""auto""#);
        let named = json!({"type": "function", "name": "f"});
        assert_eq!(
            tool_choice(&json!({"tools": tools, "tool_choice": named})),
            r#"{"name":"f","type":"function"}"#
        );
    }
}
