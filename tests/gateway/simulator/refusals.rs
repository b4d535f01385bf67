//! Requests that are refused, in vLLM's words.

use reqwest::Method;
use serde_json::{Value, json};
use sluice::sim::Settings;

use super::support::{Node, chat, with};

const CHAT: &str = "/v1/chat/completions";

/// Status and text of the answer to a body that need not be JSON.
async fn refused(node: &Node, path: &str, content_type: &str, body: &str) -> (u16, String) {
    let request = node.client.post(node.url(path)).header("content-type", content_type);
    let reply = request.body(body.to_owned()).send().await.unwrap();
    (reply.status().as_u16(), reply.text().await.unwrap())
}

/// The same for JSON.
async fn refused_json(node: &Node, path: &str, body: &Value) -> (u16, String) {
    refused(node, path, "application/json", &body.to_string()).await
}

#[tokio::test]
async fn only_paths_of_the_api_need_the_key() {
    let node = Node::locked("sk-node-1").await;
    for path in ["/v1/models", "/v1/none", "/v2/none", "/inference", "/cohere/none"] {
        let reply = node.get(path).await;
        assert_eq!((reply.status().as_u16(), reply.headers().get("vary")), (401, None), "{path}");
        assert_eq!(reply.text().await.unwrap(), r#"{"error":"Unauthorized"}"#);
    }
    for path in ["/health", "/metrics", "/version", "/load", "/ping"] {
        assert_eq!(node.get(path).await.status(), 200, "{path}");
    }
    assert_eq!(node.post("/tokenize", &json!({"prompt": "a"})).send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn the_key_is_a_bearers() {
    let node = Node::locked("sk-node-1").await;
    let with_header = |name: &'static str, value: &'static str| {
        node.client.get(node.url("/v1/models")).header(name, value).send()
    };
    for (name, value, status) in [
        ("authorization", "Bearer sk-node-1", 200),
        ("authorization", "bEARER sk-node-1", 200),
        ("authorization", "Bearer sk-node-2", 401),
        ("authorization", "Basic sk-node-1", 401),
        ("x-api-key", "sk-node-1", 401),
    ] {
        assert_eq!(with_header(name, value).await.unwrap().status(), status, "{name}: {value}");
    }
}

#[tokio::test]
async fn unknown_paths_and_methods_are_told_so() {
    let node = Node::start().await;
    let reply = node.get("/nope").await;
    assert_eq!(reply.status(), 404);
    assert_eq!(reply.text().await.unwrap(), r#"{"detail":"Not Found"}"#);
    for (method, path, allow) in [
        (Method::GET, CHAT, "POST"),
        (Method::POST, "/v1/models", "GET"),
        (Method::HEAD, "/health", "GET"),
        (Method::DELETE, "/ping", "GET"),
    ] {
        let reply = node.client.request(method.clone(), node.url(path)).send().await.unwrap();
        assert_eq!(
            (reply.status().as_u16(), &reply.headers()["allow"]),
            (405, &allow.parse().unwrap())
        );
        if method != Method::HEAD {
            assert_eq!(reply.text().await.unwrap(), r#"{"detail":"Method Not Allowed"}"#);
        }
    }
}

#[tokio::test]
async fn an_unknown_model_is_refused_in_the_shape_of_the_path() {
    let node = Node::start().await;
    let body = json!({"model": "nope", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4, "stream": true});
    assert_eq!(
        refused_json(&node, CHAT, &body).await,
        (404, r#"{"error":{"message":"The model `nope` does not exist. Valid aliases: sim-llama.","type":"NotFoundError","param":"model","code":404}}"#.to_owned())
    );
    assert_eq!(
        refused_json(&node, "/v1/messages", &body).await,
        (404, r#"{"type":"error","error":{"type":"NotFoundError","message":"The model `nope` does not exist. Valid aliases: sim-llama."}}"#.to_owned())
    );
}

#[tokio::test]
async fn a_body_that_is_no_request_is_refused_by_its_schema() {
    let node = Node::start().await;
    let json = "application/json";
    let long = "{\"model\": \"tiny-llama\", \"messages\": [";
    for (content_type, body, wanted) in [
        (
            json,
            long,
            r#"{"error":{"message":"1 validation error:\n  {'type': 'json_invalid', 'loc': 'body.37', 'msg': 'JSON decode error', 'input': '<dict of 0 items>', 'ctx': {'error': 'Expecting value'}}","type":"Bad Request","param":"body.37","code":400}}"#,
        ),
        (
            json,
            "",
            r#"{"error":{"message":"1 validation error:\n  {'type': 'missing', 'loc': 'body', 'msg': 'Field required', 'input': 'None'}","type":"Bad Request","param":"body","code":400}}"#,
        ),
        (
            json,
            r#"{"model": "sim-llama"}"#,
            r#"{"error":{"message":"1 validation error:\n  {'type': 'missing', 'loc': 'body.messages', 'msg': 'Field required', 'input': '<dict of 1 items>'}","type":"Bad Request","param":"body.messages","code":400}}"#,
        ),
        (
            json,
            r#"{"model": "sim-llama", "messages": "x"}"#,
            r#"{"error":{"message":"1 validation error:\n  {'type': 'list_type', 'loc': 'body.messages', 'msg': 'Input should be a valid list', 'input': 'x'}","type":"Bad Request","param":"body.messages","code":400}}"#,
        ),
        (
            json,
            r#"{"messages": []}"#,
            r#"{"error":{"message":"Cannot apply chat template to an empty conversation. Provide at least one message.","type":"BadRequestError","param":null,"code":400}}"#,
        ),
        (
            "text/plain",
            "{}",
            r#"{"error":{"message":"1 validation error:\n  Unsupported Media Type: Only 'application/json' is allowed","type":"Bad Request","param":null,"code":400}}"#,
        ),
    ] {
        assert_eq!(refused(&node, CHAT, content_type, body).await, (400, wanted.to_owned()));
    }
    let gzip = node.client.post(node.url(CHAT)).header("content-type", json).body(vec![0x1f, 0x8b]);
    let reply = gzip.send().await.unwrap();
    assert_eq!(reply.text().await.unwrap(), r#"{"detail":"There was an error parsing the body"}"#);

    let (_, told) = refused_json(&node, "/v1/messages", &chat("Hi")).await;
    assert_eq!(
        told,
        r#"{"error":{"message":"1 validation error:\n  {'type': 'missing', 'loc': 'body.max_tokens', 'msg': 'Field required', 'input': '<dict of 2 items>'}","type":"Bad Request","param":"body.max_tokens","code":400}}"#
    );
}

#[tokio::test]
async fn a_value_that_makes_no_sense_is_named() {
    let node = Node::with(Settings { max_model_len: 2048, ..Settings::default() }).await;
    let hi = chat("Hi");
    for (body, wanted) in [
        (
            with(hi.clone(), json!({"max_tokens": -5})),
            r#"{"error":{"message":"max_tokens must be at least 1, got -5. (parameter=max_tokens, value=-5)","type":"BadRequestError","param":"max_tokens","code":400}}"#,
        ),
        (
            with(hi.clone(), json!({"max_tokens": 999_999})),
            r#"{"error":{"message":"max_tokens=999999 cannot be greater than max_model_len=2048. Please request fewer output tokens. (parameter=max_tokens, value=999999)","type":"BadRequestError","param":"max_tokens","code":400}}"#,
        ),
        (
            with(hi.clone(), json!({"temperature": -1})),
            r#"{"error":{"message":"temperature must be non-negative, got -1.0. (parameter=temperature, value=-1.0)","type":"BadRequestError","param":"temperature","code":400}}"#,
        ),
        (
            with(hi, json!({"stream_options": {"include_usage": true}})),
            r#"{"error":{"message":"Stream options can only be defined when `stream=True`. (parameter=stream_options)","type":"BadRequestError","param":"stream_options","code":400}}"#,
        ),
        (
            with(chat(&"word ".repeat(5_000)), json!({"stream": true})),
            r#"{"error":{"message":"This model's maximum context length is 2048 tokens. However, your prompt contains at least 2049 input tokens, which exceeds this limit even without any output tokens. Please reduce the length of the input prompt. (parameter=input_tokens, value=2049)","type":"BadRequestError","param":"input_tokens","code":400}}"#,
        ),
    ] {
        assert_eq!(refused_json(&node, CHAT, &body).await, (400, wanted.to_owned()));
    }
    let (status, told) =
        refused_json(&node, CHAT, &with(chat("Hi"), json!({"max_tokens": 2040}))).await;
    assert_eq!(status, 400);
    assert!(
        told.contains(
            "you requested 2040 output tokens and your prompt contains at least 9 input tokens"
        ),
        "{told}"
    );
}
