//! `/v1/messages` and `/v1/messages/count_tokens`, as vLLM 0.32 shapes them.

use serde_json::{Value, json};
use sluice::sim::Settings;

use super::support::{Node, chat, chunks, with};

const MESSAGES: &str = "/v1/messages";
const COUNT: &str = "/v1/messages/count_tokens";

/// A tool that needs a city.
fn tools() -> Value {
    let schema =
        json!({"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]});
    json!([{"name": "get_weather", "description": "Weather", "input_schema": schema}])
}

fn asking(says: &str, fields: Value) -> Value {
    with(with(chat(says), json!({"max_tokens": 100})), fields)
}

/// Status and body of the answer to `body`.
async fn told(path: &str, body: Value) -> (u16, Value) {
    let node = Node::start().await;
    let reply = node.post(path, &body).send().await.unwrap();
    (reply.status().as_u16(), reply.json().await.unwrap())
}

/// The events of the answer to `body`.
async fn events(body: Value) -> Vec<Value> {
    let node = Node::start().await;
    let body = with(body, json!({"stream": true}));
    let chunks = chunks(&node.bytes(MESSAGES, &body, "").await);
    let data = chunks.iter().map(|chunk| chunk.split_once("\ndata: ").unwrap().1);
    data.map(|data| data.parse().unwrap()).collect()
}

fn kinds(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["type"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_tool_that_must_be_called_is() {
    for choice in [json!({"type": "any"}), json!({"type": "tool", "name": "get_weather"})] {
        let (_, reply) =
            told(MESSAGES, asking("Paris", json!({"tools": tools(), "tool_choice": choice}))).await;
        let block = &reply["content"][0];
        assert_eq!((&block["type"], &block["name"]), (&json!("tool_use"), &json!("get_weather")));
        assert_eq!(
            (&block["input"], &reply["stop_reason"]),
            (&json!({"city": "Paris"}), &json!("tool_use"))
        );
        assert!(block["id"].as_str().unwrap().starts_with("chatcmpl-tool-"));
    }
}

#[tokio::test]
async fn a_tool_may_be_called_when_the_user_names_it() {
    let named = asking("Try get_weather", json!({"tools": tools()}));
    assert_eq!(told(MESSAGES, named.clone()).await.1["stop_reason"], "tool_use");
    let none = json!({"tool_choice": {"type": "none"}});
    assert_eq!(told(MESSAGES, with(named.clone(), none)).await.1["stop_reason"], "end_turn");
    assert_eq!(
        told(MESSAGES, asking("Hi", json!({"tools": tools()}))).await.1["stop_reason"],
        "end_turn"
    );
    let answered = json!({"messages": [
        {"role": "user", "content": "Try get_weather"},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "1", "name": "get_weather", "input": {}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "1", "content": "sunny"}]},
    ]});
    assert_eq!(told(MESSAGES, with(named, answered)).await.1["content"][0]["type"], "text");
    // Some clients send nothing but the result.
    let result = json!({"type": "tool_result", "tool_use_id": "1", "content": "sunny"});
    let alone = json!({"messages": [{"role": "user", "content": [result]}], "max_tokens": 4});
    let (_, reply) = told(MESSAGES, asking("", alone)).await;
    assert_eq!(reply["content"][0]["text"], "You said: sunny");
}

#[tokio::test]
async fn a_call_streams_its_input() {
    let choice = json!({"tools": tools(), "tool_choice": {"type": "any"}});
    let events = events(asking("Paris", choice)).await;
    let last = events.len() - 3;
    assert_eq!(kinds(&events)[..2], ["message_start", "content_block_start"]);
    assert_eq!(kinds(&events)[last..], ["content_block_stop", "message_delta", "message_stop"]);
    let block = &events[1]["content_block"];
    assert_eq!(
        (&block["type"], &block["name"], &block["input"]),
        (&json!("tool_use"), &json!("get_weather"), &json!({}))
    );
    let deltas = events[2..last].iter().map(|event| &event["delta"]);
    let input: String = deltas.map(|delta| delta["partial_json"].as_str().unwrap()).collect();
    assert_eq!(input, r#"{"city": "Paris"}"#);
    assert_eq!(events[last + 1]["delta"]["stop_reason"], "tool_use");
}

#[tokio::test]
async fn a_call_that_is_cut_short_is_text_but_in_streams() {
    let choice = json!({"tools": tools(), "tool_choice": {"type": "any"}, "max_tokens": 4});
    let cut = asking("Paris", choice);
    let (_, reply) = told(MESSAGES, cut.clone()).await;
    assert_eq!(
        (&reply["content"][0]["type"], &reply["stop_reason"]),
        (&json!("text"), &json!("max_tokens"))
    );
    assert!(reply["content"][0]["text"].as_str().unwrap().starts_with("<tool_call"));
    assert_eq!(kinds(&events(cut).await), ["message_start", "message_delta", "message_stop"]);
}

#[tokio::test]
async fn a_stop_sequence_ends_a_message_and_is_named() {
    let stop = asking("Hi", json!({"stop_sequences": ["xx", "d:"]}));
    let (_, reply) = told(MESSAGES, stop.clone()).await;
    assert_eq!(reply["content"][0]["text"], "You sai");
    assert_eq!(
        (&reply["stop_reason"], &reply["stop_sequence"]),
        (&json!("stop_sequence"), &json!("d:"))
    );
    assert_eq!(reply["usage"]["output_tokens"], 3);
    let events = events(stop).await;
    assert_eq!(events[3]["delta"]["text"], " sai");
    assert_eq!(events[5]["delta"], json!({"stop_reason": "stop_sequence", "stop_sequence": "d:"}));
    assert_eq!(events[5]["usage"], reply["usage"]);
}

#[tokio::test]
async fn a_message_can_be_held_to_a_schema() {
    let schema =
        json!({"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}});
    let config = json!({"output_config": {"format": {"type": "json_schema", "schema": schema}}});
    let (_, reply) = told(MESSAGES, asking("Hi", config)).await;
    assert_eq!(reply["content"][0]["text"], r#"{"n": 1}"#);
}

#[tokio::test]
async fn tokens_are_counted_as_usage_counts_them() {
    let image = json!({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aaaa"}});
    for fields in [
        json!({}),
        json!({"system": "Be brief"}),
        json!({"system": [{"type": "text", "text": "Be"}, {"type": "text", "text": " brief"}], "tools": tools()}),
        json!({"thinking": {"type": "adaptive"}, "messages": [
            {"role": "user", "content": [{"type": "text", "text": "See"}, image]},
            {"role": "assistant", "content": [{"type": "tool_use", "id": "1", "name": "f", "input": {"a": [1, "b"]}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "1", "content": "c"}]},
        ]}),
    ] {
        let body = asking("Hi", fields);
        let (_, reply) = told(MESSAGES, body.clone()).await;
        let tokens = &reply["usage"]["input_tokens"];
        assert!(tokens.as_u64() >= Some(9), "{reply}");
        assert_eq!(
            told(COUNT, body).await.1,
            json!({"input_tokens": tokens, "context_management": {"original_input_tokens": tokens}})
        );
    }
    let node = Node::start().await;
    assert_eq!(node.get(COUNT).await.status(), 405);
}

#[tokio::test]
async fn what_was_found_in_the_cache_is_told_where_the_node_does() {
    let settings = Settings { enable_prompt_tokens_details: true, ..Settings::default() };
    let node = Node::with(settings).await;
    let body = asking(&"word ".repeat(60), json!({}));
    let usage = async |body: &Value| -> Value {
        let text = node.told(MESSAGES, body.clone()).await;
        text.parse::<Value>().unwrap()["usage"].clone()
    };
    let first = usage(&body).await;
    assert_eq!(
        (&first["cache_creation_input_tokens"], &first["cache_read_input_tokens"]),
        (&json!(64), &json!(0))
    );
    let second = usage(&body).await;
    assert_eq!(
        (&second["cache_creation_input_tokens"], &second["cache_read_input_tokens"]),
        (&json!(0), &json!(64))
    );
    assert_eq!(first["input_tokens"], second["input_tokens"]);
    let chunks = chunks(&node.bytes(MESSAGES, &with(body, json!({"stream": true})), "").await);
    assert!(
        chunks[0].contains(r#""usage":{"input_tokens":69,"output_tokens":0}"#),
        "{}",
        chunks[0]
    );
    assert!(
        chunks[chunks.len() - 2]
            .contains(r#""cache_creation_input_tokens":0,"cache_read_input_tokens":64}"#)
    );
}

#[tokio::test]
async fn what_the_handler_finds_is_refused_in_anthropics_shape() {
    for (fields, says) in [
        (
            json!({"messages": []}),
            "Cannot apply chat template to an empty conversation. Provide at least one message.",
        ),
        (
            json!({"temperature": -1}),
            "temperature must be non-negative, got -1.0. (parameter=temperature, value=-1.0)",
        ),
        (json!({"stop_sequences": [""]}), "stop cannot contain an empty string."),
        (
            json!({"max_tokens": 9999}),
            "max_completion_tokens=9999 cannot be greater than max_model_len=8192. Please request fewer output tokens. (parameter=max_completion_tokens, value=9999)",
        ),
        (
            json!({"tools": tools(), "tool_choice": {"type": "tool", "name": "nope"}}),
            "The tool with name 'nope' is not found in the tools list.",
        ),
    ] {
        let wanted =
            json!({"type": "error", "error": {"type": "BadRequestError", "message": says}});
        assert_eq!(told(MESSAGES, asking("Hi", fields)).await, (400, wanted));
    }
    let unknown = asking("Hi", json!({"model": "nope"}));
    let (status, reply) = told(COUNT, unknown).await;
    assert_eq!(
        (status, &reply["type"], &reply["error"]["type"]),
        (404, &json!("error"), &json!("NotFoundError"))
    );
}

#[tokio::test]
async fn a_message_whose_engine_dies_ends_with_an_error_event() {
    let node = Node::start().await;
    let body = asking("Hi", json!({"stream": true}));
    let answer = node.bytes(MESSAGES, &body, "x-sim-fault: die-after=3\r\n").await;
    assert!(answer.ends_with("\r\n0\r\n\r\n"), "{answer}");
    let chunks = chunks(&answer);
    assert_eq!(chunks.len(), 4);
    assert!(chunks[3].starts_with("event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"internal_error\",\"message\":\"2 validation errors for ChatCompletionStreamResponse\\nmodel\\n"));
    let reply = node.post(MESSAGES, &asking("Hi", json!({}))).header("x-sim-fault", "die-after=1");
    let reply = reply.send().await.unwrap();
    assert_eq!(reply.status(), 500);
    assert_eq!(
        reply.text().await.unwrap(),
        r#"{"type":"error","error":{"type":"InternalServerError","message":"EngineCore encountered an issue. See stack trace (above) for the root cause."}}"#
    );
}
