//! The calls of OpenAI's SDK, with the headers that it sends (rows A7, D1).

use reqwest::RequestBuilder;
use serde_json::{Value, json};

use super::credentials;
use crate::support::gateway::{chat, preset};
use crate::support::scripted::Scripted;
use crate::support::{TestGateway, node};

/// As `openai` 2.x for Python sends it.
fn from_sdk(request: RequestBuilder) -> RequestBuilder {
    request
        .header("accept", "application/json")
        .header("user-agent", "OpenAI/Python 2.6.1")
        .header("x-stainless-lang", "python")
        .header("x-stainless-async", "false")
        .header("x-stainless-retry-count", "0")
        .header("openai-organization", "org-1")
        .header("accept-encoding", "gzip, deflate")
}

async fn answered(request: RequestBuilder) -> Value {
    let reply = from_sdk(request).send().await.unwrap();
    assert_eq!(reply.status(), 200);
    assert_eq!(reply.headers()["content-type"], "application/json");
    assert!(reply.headers().contains_key("x-request-id"));
    reply.json().await.unwrap()
}

/// The events of a stream, the last one apart.
async fn streamed(request: RequestBuilder) -> (Vec<Value>, String) {
    let reply = from_sdk(request).send().await.unwrap();
    assert_eq!(reply.status(), 200);
    let content_type = reply.headers()["content-type"].to_str().unwrap();
    assert!(content_type.starts_with("text/event-stream"), "{content_type}");
    let text = reply.text().await.unwrap();
    let mut events: Vec<&str> =
        text.split_terminator("\n\n").map(|e| e.strip_prefix("data: ").unwrap()).collect();
    let last = events.pop().unwrap().to_owned();
    (events.iter().map(|event| serde_json::from_str(event).unwrap()).collect(), last)
}

#[tokio::test(flavor = "multi_thread")]
async fn a7_the_calls_of_the_openai_sdk_are_answered_streamed_or_not() {
    let upstream = node(&["llama"]).await;
    let gateway = TestGateway::before(upstream.addr()).await;

    let models = answered(gateway.get("/v1/models")).await;
    assert_eq!(models["data"][0]["id"], "llama");
    assert_eq!(answered(gateway.get("/v1/models/llama")).await["object"], "model");
    let missing = from_sdk(gateway.get("/v1/models/none")).send().await.unwrap();
    assert_eq!(missing.status(), 404);

    let whole = answered(gateway.chat("llama")).await;
    assert_eq!(whole["object"], "chat.completion");
    let said = whole["choices"][0]["message"]["content"].as_str().unwrap().to_owned();

    let mut body = chat("llama");
    body["stream"] = true.into();
    body["stream_options"] = json!({ "include_usage": true });
    let (chunks, last) = streamed(gateway.post("/v1/chat/completions").json(&body)).await;
    assert_eq!(last, "[DONE]");
    let pieces = chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str());
    assert_eq!(pieces.collect::<String>(), said);
    let total = |answer: &Value| answer["usage"]["total_tokens"].as_u64().unwrap();
    assert_eq!(total(chunks.last().unwrap()), total(&whole));

    let completion = json!({ "model": "llama", "prompt": "Hello there", "stream": true });
    let (chunks, last) = streamed(gateway.post("/v1/completions").json(&completion)).await;
    assert_eq!((chunks[0]["object"].as_str(), &*last), (Some("text_completion"), "[DONE]"));
    let response = json!({ "model": "llama", "input": "Hello there" });
    let response = answered(gateway.post("/v1/responses").json(&response)).await;
    assert_eq!(response["object"], "response");

    for seen in upstream.requests().iter().filter(|seen| seen.method == "POST") {
        assert_eq!(credentials(seen), []);
        assert_eq!(seen.headers["openai-organization"], "org-1");
        assert_eq!(seen.headers["user-agent"], "OpenAI/Python 2.6.1");
        assert!(!seen.headers.contains_key("x-stainless-lang"), "{:?}", seen.headers);
        assert!(!seen.headers.contains_key("accept-encoding"), "{:?}", seen.headers);
    }
    assert_eq!(upstream.requests()[1].body, serde_json::to_vec(&chat("llama")).unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a7_what_the_node_refuses_is_the_clients_to_see() {
    let upstream = node(&["llama"]).await;
    let gateway = TestGateway::before(upstream.addr()).await;
    let direct = gateway.client.post(format!("http://{}/v1/chat/completions", upstream.addr()));
    let bad = json!({ "model": "llama", "messages": "none" });
    let direct = direct.json(&bad).send().await.unwrap();
    let through = gateway.post("/v1/chat/completions").json(&bad).send().await.unwrap();
    assert_eq!(direct.status(), through.status());
    assert_eq!(through.status(), 400);
    assert_eq!(direct.text().await.unwrap(), through.text().await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn d1_chat_completions_and_embeddings_are_answered() {
    let upstream = node(&["llama"]).await;
    let vectors =
        r#"{"object":"list","data":[{"object":"embedding","index":0,"embedding":[0.5]}]}"#;
    let embedder = Scripted::replying(vectors).await;
    // The embeddings' model has a node of its own: a path that two routes share is told apart by the model.
    let bge =
        format!("upstreams:\n  bge: {{ nodes: [\"http://{}\"], models: [bge] }}\n", embedder.addr);
    let routes = preset(upstream.addr()).replace("upstreams:\n", &bge)
        + "  - { path: /v1/embeddings, methods: [POST], upstream: bge }\n";
    let gateway = TestGateway::start(&routes).await;
    assert_eq!(answered(gateway.chat("llama")).await["object"], "chat.completion");
    let prompt = json!({ "model": "llama", "prompt": "Hello there" });
    let completion = answered(gateway.post("/v1/completions").json(&prompt)).await;
    assert_eq!(completion["object"], "text_completion");
    let sent = r#"{"model":"bge","input":["Hello" , "there"],"encoding_format":"float"}"#;
    let reply = gateway.post("/v1/embeddings").body(sent).send().await.unwrap();
    assert_eq!(reply.text().await.unwrap(), vectors);
    assert_eq!(embedder.seen()[0].body, sent.as_bytes());
}
