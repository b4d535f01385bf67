//! The API like OpenAI's of an Ollama node: what it refuses.

use serde_json::{Value, json};

use super::super::support::with;
use super::{chat, node, told};

const CHAT: &str = "/v1/chat/completions";

fn error(says: &str, kind: &str) -> String {
    json!({"error": {"message": says, "type": kind, "param": null, "code": null}}).to_string()
}

/// As JSON, so that the order of fields does not matter.
fn same(one: &str, other: &str) -> bool {
    one.parse::<Value>().unwrap() == other.parse::<Value>().unwrap()
}

#[tokio::test]
async fn what_is_wrong_with_a_chat_is_told_before_ollama_sees_it() {
    let node = node().await;
    let content = |content: Value| json!({"messages": [{"role": "user", "content": content}]});
    let image = |url: &str| content(json!([{"type": "image_url", "image_url": {"url": url}}]));
    let call = json!({"messages": [{"role": "assistant", "tool_calls": [{"id": "a", "function": {"name": "f", "arguments": "{"}}]}]});
    for (fields, says) in [
        (json!({"messages": []}), "[] is too short - 'messages'"),
        (content(Value::Null), "invalid message content type: <nil>"),
        (content(json!(1)), "invalid message content type: float64"),
        (content(json!([{"type": "input_file"}])), "invalid message format"),
        (
            image("https://a/b.png"),
            "image URLs are not currently supported, please use base64 encoded data instead",
        ),
        (image("data:image/gif;base64,aGk="), "invalid image input"),
        (call, "invalid tool call arguments"),
        (
            json!({"max_tokens": "9"}),
            "json: cannot unmarshal string into Go struct field ChatCompletionRequest.max_tokens of type int",
        ),
        (
            json!({"temperature": "hot"}),
            "json: cannot unmarshal string into Go struct field ChatCompletionRequest.temperature of type float64",
        ),
        (
            json!({"reasoning_effort": "huge"}),
            r#"invalid reasoning value: "huge" (must be "minimal", "low", "medium", "high", "xhigh", "ultra", "max", or "none")"#,
        ),
    ] {
        let (status, content_type, body) =
            told(&node, CHAT, &with(chat("sim-llama", "Hi"), fields)).await;
        assert_eq!((status, content_type.as_str()), (400, "application/json; charset=utf-8"));
        assert!(same(&body, &error(says, "invalid_request_error")), "{body}");
    }
    let reply = node.client.post(node.url(CHAT)).send().await.unwrap();
    assert!(same(&reply.text().await.unwrap(), &error("EOF", "invalid_request_error")));
}

#[tokio::test]
async fn what_ollama_refuses_is_written_anew() {
    let node = node().await;
    for (model, fields, status, says, kind) in [
        ("other", json!({}), 404, "model 'other' not found", "not_found_error"),
        ("", json!({}), 400, "model is required", "invalid_request_error"),
        (
            "sim-llama",
            json!({"reasoning_effort": "low"}),
            400,
            "\"sim-llama\" does not support thinking",
            "invalid_request_error",
        ),
        (
            "nomic-embed-text",
            json!({}),
            400,
            "\"nomic-embed-text\" does not support chat",
            "invalid_request_error",
        ),
        (
            "sim-llama",
            json!({"top_logprobs": 21}),
            400,
            "top_logprobs must be between 0 and 20",
            "invalid_request_error",
        ),
    ] {
        for stream in [false, true] {
            let body = with(with(chat(model, "Hi"), fields.clone()), json!({"stream": stream}));
            let (got, content_type, body) = told(&node, CHAT, &body).await;
            assert_eq!((got, content_type.as_str()), (status, "application/json"));
            assert!(same(&body, &error(says, kind)) && body.ends_with("}\n"), "{body}");
        }
    }
    let reply = node.get("/v1/models/other").await;
    assert_eq!(reply.status(), 404);
    assert!(same(
        &reply.text().await.unwrap(),
        &error("model 'other:latest' not found", "not_found_error")
    ));
}

#[tokio::test]
async fn completions_and_vectors_have_refusals_of_their_own() {
    let node = node().await;
    let prompt = |fields| with(json!({"model": "sim-llama", "prompt": "Hi"}), fields);
    let input = |fields| with(json!({"model": "sim-llama", "input": "Hi"}), fields);
    for (path, body, says) in [
        (
            "/v1/completions",
            prompt(json!({"prompt": ["a"]})),
            "json: cannot unmarshal array into Go struct field CompletionRequest.prompt of type string",
        ),
        (
            "/v1/completions",
            prompt(json!({"stop": ["a", 1]})),
            "invalid type for 'stop' field: float64",
        ),
        (
            "/v1/completions",
            prompt(json!({"suffix": "b"})),
            "registry.ollama.ai/library/sim-llama:latest does not support insert",
        ),
        ("/v1/embeddings", input(json!({"input": [[1, 2]]})), "invalid input type"),
        ("/v1/embeddings", input(json!({"input": []})), "invalid input"),
        (
            "/v1/embeddings",
            input(json!({"encoding_format": "hex"})),
            "Invalid value for 'encoding_format' = hex. Supported values: ['float', 'base64'].",
        ),
    ] {
        let (status, _, told) = told(&node, path, &body).await;
        assert_eq!(status, 400);
        assert!(same(&told, &error(says, "invalid_request_error")), "{told}");
    }
}
