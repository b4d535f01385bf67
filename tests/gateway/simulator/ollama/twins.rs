//! What the gateway makes of Ollama's own API is what Ollama's `/v1` makes of it.

use serde_json::{Value, json};
use sluice::wire::ollama::{Call, request};

use super::super::support::with;
use super::{Node, chat, node, settled};

/// The answer of `/v1`, and that of Ollama's own API with both ways translated: events, or one object.
async fn both(node: &Node, path: &str, body: &Value) -> [Vec<Value>; 2] {
    let own = node.post(path, body).send().await.unwrap().text().await.unwrap();
    let call = Call::of_path(path).unwrap();
    let asked = request(call, body.to_string().as_bytes(), &[]).unwrap();
    let native: Value = serde_json::from_slice(&asked.body).unwrap();
    let reply = node.post(call.path(), &native).send().await.unwrap();
    let mut answer = asked.answer.begin("1", reply.status().as_u16(), 0);
    let mut told = answer.push(&reply.bytes().await.unwrap()).to_vec();
    told.extend(answer.finish());
    [read(&own), read(&String::from_utf8(told).unwrap())]
}

/// Each event, or all of it, without ids, times and what is null.
fn read(told: &str) -> Vec<Value> {
    let events = told.split("\n\n").map(|event| event.strip_prefix("data: ").unwrap_or(event));
    let events = events.filter(|event| !event.is_empty());
    let read = |event| {
        let event = settled(event);
        let mut event = serde_json::from_str(&event).unwrap_or(json!(event));
        forget_nulls(&mut event);
        event
    };
    events.map(read).collect()
}

fn forget_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, value| !value.is_null());
            fields.values_mut().for_each(forget_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(forget_nulls),
        _ => {}
    }
}

#[tokio::test]
async fn a_chat_is_the_same_either_way() {
    let node = node().await;
    let tools = json!([{"type": "function", "function": {"name": "get_weather", "parameters": {
        "type": "object", "properties": {"city": {"type": "string"}}}}}]);
    let schema = json!({"type": "object", "properties": {"city": {"type": "string"}}});
    let parts = json!([{"role": "developer", "content": "Кратко"}, {"role": "user", "content": [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,QUJD"}}]}]);
    for (model, fields) in [
        ("sim-llama", json!({"max_tokens": 6, "stop": "zzz", "seed": 1})),
        ("sim-llama", json!({"max_tokens": 6, "logprobs": true, "top_logprobs": 1})),
        ("sim-llama", json!({"messages": parts.clone(), "max_tokens": 9})),
        (
            "sim-llama",
            json!({"tools": tools.clone(), "messages": [{"role": "user", "content": "Ask get_weather"}]}),
        ),
        (
            "hf.co/me/own:Q4",
            json!({"tools": tools, "messages": [{"role": "user", "content": "Ask get_weather"}]}),
        ),
        (
            "sim-llama",
            json!({"response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": schema}}, "max_tokens": 99}),
        ),
        ("qwen3:8b", json!({"reasoning_effort": "low", "max_tokens": 9})),
        ("qwen3:8b", json!({"reasoning_effort": "none", "max_tokens": 9})),
    ] {
        for stream in [
            json!({}),
            json!({"stream": true}),
            json!({"stream": true, "stream_options": {"include_usage": true}}),
        ] {
            let body = with(with(chat(model, "Hi"), fields.clone()), stream);
            let [own, translated] = both(&node, "/v1/chat/completions", &body).await;
            assert_eq!(translated, own, "{body}");
        }
    }
}

#[tokio::test]
async fn a_completion_is_the_same_either_way() {
    let node = node().await;
    for fields in [json!({}), json!({"stream": true})] {
        let body = with(json!({"model": "sim-llama", "prompt": "Hi", "max_tokens": 5}), fields);
        let [own, translated] = both(&node, "/v1/completions", &body).await;
        assert_eq!(translated, own, "{body}");
    }
}

#[tokio::test]
async fn vectors_are_the_same_either_way() {
    let node = node().await;
    for fields in [
        json!({"input": "Hi"}),
        json!({"input": ["Hi", "you"], "encoding_format": "base64"}),
        json!({"input": "Hi", "dimensions": 3}),
    ] {
        let body = with(json!({"model": "nomic-embed-text"}), fields);
        let [own, translated] = both(&node, "/v1/embeddings", &body).await;
        assert_eq!(translated, own, "{body}");
    }
}
