//! The API like OpenAI's of an Ollama node: what it answers.

use serde_json::{Value, json};

use super::super::support::with;
use super::{answer, chat, node, streamed, told};

const CHAT: &str = "/v1/chat/completions";
const COMPLETIONS: &str = "/v1/completions";

fn stream(body: Value) -> Value {
    with(body, json!({"stream": true}))
}

fn chunk(choice: &str) -> String {
    format!(
        "data: {{\"id\":\"chatcmpl-ID\",\"object\":\"chat.completion.chunk\",\"created\":0,\"model\":\"sim-llama\",\"system_fingerprint\":\"fp_ollama\",\"choices\":[{choice}]}}\n\n"
    )
}

#[tokio::test]
async fn a_chat_is_answered_in_one_piece_unless_a_stream_is_wanted() {
    let node = node().await;
    let (status, content_type, body) =
        told(&node, CHAT, &with(chat("sim-llama", "a & b"), json!({"max_tokens": 6}))).await;
    assert_eq!((status, content_type.as_str()), (200, "application/json"));
    assert_eq!(
        body,
        r#"{"id":"chatcmpl-ID","object":"chat.completion","created":0,"model":"sim-llama","system_fingerprint":"fp_ollama","choices":[{"index":0,"message":{"role":"assistant","content":"You said: a \u0026 b"},"finish_reason":"length"}],"usage":{"prompt_tokens":11,"completion_tokens":6,"total_tokens":17}}"#.to_owned() + "\n"
    );
}

#[tokio::test]
async fn a_stream_has_its_role_first_and_its_reason_in_a_chunk_of_its_own() {
    let node = node().await;
    let body = with(stream(chat("sim-llama", "Hi")), json!({"max_tokens": 2}));
    let (head, chunks) = streamed(&node, CHAT, &body).await;
    assert!(head.contains("\r\ncontent-type: text/event-stream\r\n"), "{head}");
    let first = r#"{"index":0,"delta":{"role":"assistant","content":"You"},"finish_reason":null}"#;
    let second = r#"{"index":0,"delta":{"content":" said"},"finish_reason":null}"#;
    let last = chunk(r#"{"index":0,"delta":{},"finish_reason":"length"}"#);
    let done = "data: [DONE]\n\n";
    assert_eq!(chunks, [chunk(first), chunk(second), format!("{last}{done}")]);

    let body = with(body, json!({"stream_options": {"include_usage": true}}));
    let (_, chunks) = streamed(&node, CHAT, &body).await;
    let usage = chunk("").replace(
        "[]}",
        r#"[],"usage":{"prompt_tokens":9,"completion_tokens":2,"total_tokens":11}}"#,
    );
    assert_eq!(chunks[2], format!("{last}{usage}{done}"));
}

#[tokio::test]
async fn an_empty_answer_opens_with_a_role_all_the_same() {
    let node = node().await;
    let body = with(stream(chat("sim-llama", "Hi")), json!({"max_tokens": 0}));
    let (_, chunks) = streamed(&node, CHAT, &body).await;
    let role = r#"{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}"#;
    assert_eq!(chunks.len(), 1);
    assert!(chunks[0].starts_with(&chunk(role)), "{}", chunks[0]);
}

#[tokio::test]
async fn max_completion_tokens_is_not_read() {
    let node = node().await;
    let body = with(chat("sim-llama", "Hi"), json!({"max_completion_tokens": 2}));
    let reply = answer(&node, CHAT, &body).await;
    assert_eq!(
        (&reply["usage"]["completion_tokens"], &reply["choices"][0]["finish_reason"]),
        (&json!(16), &json!("stop"))
    );
    let body =
        with(chat("sim-llama", "Hi"), json!({"stop": "said", "n": 3, "tool_choice": "none"}));
    let reply = answer(&node, CHAT, &body).await;
    assert_eq!(
        (&reply["choices"][0]["message"]["content"], reply["choices"].as_array().unwrap().len()),
        (&json!("You "), 1)
    );
}

#[tokio::test]
async fn a_call_is_a_reason_of_its_own_and_has_its_arguments_as_text() {
    let node = node().await;
    let tools = json!([{"type": "function", "function": {"name": "add", "parameters": {
        "type": "object", "properties": {"a": {"type": "integer"}}}}}]);
    for model in ["sim-llama", "hf.co/me/own:Q4"] {
        let body = with(chat(model, "add"), json!({"tools": tools, "max_tokens": 99}));
        let reply = answer(&node, CHAT, &body).await;
        let choice = &reply["choices"][0];
        assert_eq!(
            (&choice["finish_reason"], &choice["message"]["content"]),
            (&json!("tool_calls"), &json!(""))
        );
        let call = &choice["message"]["tool_calls"][0];
        assert_eq!(call["function"], json!({"name": "add", "arguments": "{\"a\":1}"}));
        assert!(call["id"].as_str().unwrap().starts_with("call_"));
        let (_, chunks) = streamed(&node, CHAT, &stream(body)).await;
        let text = chunks.concat();
        assert!(
            text.contains(r#""delta":{"role":"assistant","content":"","tool_calls":[{"id":"call_ID","index":0,"type":"function","function":{"name":"add","arguments":"{\"a\":1}"}}]},"finish_reason":null"#),
            "{text}"
        );
        assert!(text.contains(r#""delta":{},"finish_reason":"tool_calls""#), "{text}");
    }
}

#[tokio::test]
async fn thoughts_are_reasoning() {
    let node = node().await;
    let body =
        with(chat("qwen3:8b", "Hi"), json!({"reasoning_effort": "minimal", "max_tokens": 20}));
    let message = &answer(&node, CHAT, &body).await["choices"][0]["message"];
    assert_eq!(message["reasoning"], "The user wants an answer.");
    let (_, chunks) = streamed(&node, CHAT, &stream(body.clone())).await;
    assert!(
        chunks[0].contains(r#""delta":{"role":"assistant","content":"","reasoning":"The"}"#),
        "{}",
        chunks[0]
    );
    let none = answer(&node, CHAT, &with(body, json!({"reasoning": {"effort": "none"}}))).await;
    assert!(none["choices"][0]["message"].get("reasoning").is_none());
}

#[tokio::test]
async fn parts_images_and_formats_are_taken() {
    let node = node().await;
    let body = json!({"model": "sim-llama", "max_tokens": 30, "messages": [{"role": "user", "content": [
        {"type": "text", "text": "Look"}, {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}]}]});
    let says = answer(&node, CHAT, &body).await["choices"][0]["message"]["content"].clone();
    assert!(says.as_str().unwrap().starts_with("You said: Look\n\n<image>"), "{says}");
    for (format, says) in [
        (json!({"type": "json_object"}), r#"{"said": "Hi"}"#),
        (
            json!({"type": "json_schema", "json_schema": {"schema": {"type": "object", "properties": {"a": {"const": 7}}}}}),
            r#"{"a": 7}"#,
        ),
    ] {
        let body =
            with(chat("sim-llama", "Hi"), json!({"response_format": format, "max_tokens": 30}));
        assert_eq!(answer(&node, CHAT, &body).await["choices"][0]["message"]["content"], says);
    }
    let body = with(stream(chat("sim-llama", "Hi")), json!({"logprobs": true, "max_tokens": 1}));
    let (_, chunks) = streamed(&node, CHAT, &body).await;
    assert!(chunks[0].contains(r#""finish_reason":null,"logprobs":{"content":[{"token":"You","logprob":-0.5,"bytes":[89,111,117]}]}}]}"#), "{}", chunks[0]);
}

#[tokio::test]
async fn completions_show_usage_of_none_in_every_chunk_but_the_last() {
    let node = node().await;
    let body = json!({"model": "sim-llama", "prompt": "Hi", "max_tokens": 1});
    assert_eq!(
        told(&node, COMPLETIONS, &body).await.2,
        r#"{"id":"cmpl-ID","object":"text_completion","created":0,"model":"sim-llama","system_fingerprint":"fp_ollama","choices":[{"text":"You","index":0,"finish_reason":"length"}],"usage":{"prompt_tokens":9,"completion_tokens":1,"total_tokens":10}}"#.to_owned() + "\n"
    );
    let chunk = |choices: &str, usage: &str| {
        format!(
            "data: {{\"id\":\"cmpl-ID\",\"object\":\"text_completion\",\"created\":0,\"choices\":[{choices}],\"model\":\"sim-llama\",\"system_fingerprint\":\"fp_ollama\"{usage}}}\n\n"
        )
    };
    let (text, end) = (
        r#"{"text":"You","index":0,"finish_reason":null}"#,
        r#"{"text":"","index":0,"finish_reason":"length"}"#,
    );
    let (_, chunks) = streamed(&node, COMPLETIONS, &stream(body.clone())).await;
    assert_eq!(chunks, [chunk(text, ""), chunk(end, "") + "data: [DONE]\n\n"]);
    let body = with(stream(body), json!({"stream_options": {"include_usage": true}}));
    let (_, chunks) = streamed(&node, COMPLETIONS, &body).await;
    let none = r#","usage":{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}"#;
    let all = r#","usage":{"prompt_tokens":9,"completion_tokens":1,"total_tokens":10}"#;
    assert_eq!(
        chunks,
        [chunk(text, none), chunk(end, none) + &chunk("", all) + "data: [DONE]\n\n"]
    );
    let (_, _, says) = told(&node, COMPLETIONS, &json!({"model": "sim-llama"})).await;
    assert!(says.contains(r#""choices":[{"text":"","index":0,"finish_reason":"load"}]"#), "{says}");
}

#[tokio::test]
async fn vectors_are_numbers_or_base64() {
    let node = node().await;
    let body = json!({"model": "nomic-embed-text", "input": ["one", "two"], "dimensions": 2});
    let reply = answer(&node, "/v1/embeddings", &body).await;
    assert_eq!(reply["usage"], json!({"prompt_tokens": 2, "total_tokens": 2}));
    assert_eq!((&reply["object"], &reply["data"][1]["index"]), (&json!("list"), &json!(1)));
    let numbers: Vec<f32> = reply["data"][0]["embedding"]
        .as_array()
        .unwrap()
        .iter()
        .map(|n| n.as_f64().unwrap() as f32)
        .collect();
    let packed =
        answer(&node, "/v1/embeddings", &with(body, json!({"encoding_format": "base64"}))).await;
    let bytes = data_encoding::BASE64
        .decode(packed["data"][0]["embedding"].as_str().unwrap().as_bytes())
        .unwrap();
    let unpacked: Vec<f32> =
        bytes.chunks(4).map(|four| f32::from_le_bytes(four.try_into().unwrap())).collect();
    assert_eq!(unpacked, numbers);
}

#[tokio::test]
async fn models_are_listed_by_their_short_names() {
    let node = node().await;
    let reply = node.get("/v1/models").await;
    assert_eq!(reply.headers()["content-type"], "application/json");
    let list: Value = reply.text().await.unwrap().parse().unwrap();
    assert_eq!(list["data"][0]["id"], "sim-llama:latest");
    assert_eq!(
        (&list["data"][1]["owned_by"], &list["data"][3]["owned_by"]),
        (&json!("library"), &json!("me"))
    );
    for id in ["sim-llama", "sim-llama%3Alatest"] {
        let model: Value =
            node.get(&format!("/v1/models/{id}")).await.text().await.unwrap().parse().unwrap();
        assert_eq!(model["id"], id.replace("%3A", ":"));
    }
}
