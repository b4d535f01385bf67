//! What an Ollama node refuses, and in which words.

use serde_json::{Value, json};

use super::super::support::with;
use super::{chat, node, told};

/// Sends `body` as it is.
async fn raw(node: &super::Node, path: &str, body: &str) -> (u16, String) {
    let reply = node.client.post(node.url(path)).body(body.to_owned()).send().await.unwrap();
    assert_eq!(reply.headers()["content-type"], "application/json; charset=utf-8");
    (reply.status().as_u16(), reply.text().await.unwrap())
}

#[tokio::test]
async fn a_body_must_be_json() {
    let node = node().await;
    for (body, says) in [
        ("", "missing request body"),
        ("{\"model\":", "unexpected EOF"),
        ("{\"model\" x}", "invalid character 'x' looking for beginning of value"),
        ("[]", "json: cannot unmarshal array into Go value of type api.ChatRequest"),
    ] {
        let error = json!({"error": says}).to_string();
        assert_eq!(raw(&node, "/api/chat", body).await, (400, error));
    }
    let twice = format!("{}\n{{", with(chat("sim-llama", "Hi"), json!({"stream": false})));
    let reply = node.client.post(node.url("/api/chat")).body(twice).send().await.unwrap();
    assert_eq!(
        reply.status(),
        200,
        "what comes after the first object is not read, nor a type asked for"
    );
}

#[tokio::test]
async fn fields_must_have_their_types() {
    let node = node().await;
    let field = |name: &str, found: &str, kind: &str| {
        format!("json: cannot unmarshal {found} into Go struct field {name} of type {kind}")
    };
    let message = |message: Value| json!({"messages": [message]});
    for (fields, says) in [
        (json!({"model": 1}), field("ChatRequest.model", "number", "string")),
        (json!({"messages": "a"}), field("ChatRequest.messages", "string", "[]api.Message")),
        (json!({"stream": "no"}), field("ChatRequest.stream", "string", "bool")),
        (json!({"options": []}), field("ChatRequest.options", "array", "map[string]interface {}")),
        (json!({"top_logprobs": 1.5}), field("ChatRequest.top_logprobs", "number 1.5", "int")),
        (
            message(json!({"content": [{"type": "text"}]})),
            field("Alias.content", "array", "string"),
        ),
        (message(json!({"images": ["?"]})), "illegal base64 data at input byte 0".to_owned()),
        (json!({"keep_alive": "5x"}), r#"time: unknown unit "x" in duration "5x""#.to_owned()),
        (json!({"keep_alive": true}), "Unsupported type: 'bool'".to_owned()),
        (json!({"top_logprobs": 21}), "top_logprobs must be between 0 and 20".to_owned()),
    ] {
        let body = with(chat("sim-llama", "Hi"), fields);
        let (status, _, error) = told(&node, "/api/chat", &body).await;
        assert_eq!((status, error), (400, json!({"error": says}).to_string()), "{body}");
    }
}

#[tokio::test]
async fn an_option_of_another_type_is_an_error_of_the_server() {
    let node = node().await;
    for path in ["/api/chat", "/api/generate", "/api/embed"] {
        let body = with(
            chat("sim-llama", "Hi"),
            json!({"prompt": "Hi", "input": "Hi", "options": {"temperature": "hot"}}),
        );
        let (status, content_type, error) = told(&node, path, &body).await;
        assert_eq!((status, content_type.as_str()), (500, "application/json; charset=utf-8"));
        assert_eq!(error, r#"{"error":"option \"temperature\" must be of type float32"}"#);
    }
}

#[tokio::test]
async fn a_model_must_be_there() {
    let node = node().await;
    for (path, asked, status, says) in [
        ("/api/chat", "other", 404, "model 'other' not found"),
        ("/api/chat", "", 400, "model is required"),
        ("/api/chat", "a b", 400, "invalid model name"),
        ("/api/chat", "sim-llama:8b", 404, "model 'sim-llama:8b' not found"),
        ("/api/generate", "other", 404, "model 'other' not found"),
        ("/api/generate", "", 404, "model '' not found"),
        ("/api/embed", "other", 404, r#"model "other" not found, try pulling it first"#),
        ("/api/embeddings", "other", 404, r#"model "other" not found, try pulling it first"#),
        ("/api/embeddings", "", 400, "model is required"),
        ("/api/show", "other", 404, "model 'other:latest' not found"),
        ("/api/show", "", 400, "model is required"),
    ] {
        let body = json!({"model": asked, "prompt": "Hi", "input": "Hi", "stream": true});
        let told = told(&node, path, &body).await;
        let error = json!({"error": says}).to_string();
        assert_eq!(told, (status, "application/json; charset=utf-8".to_owned(), error), "{path}");
    }
}
