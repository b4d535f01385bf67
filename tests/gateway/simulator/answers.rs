//! Answers in one piece, and what a node says of itself.

use serde_json::{Value, json};
use sluice::sim::Settings;

use super::support::{Node, chat, with};

#[tokio::test]
async fn a_node_lists_its_models() {
    let node = Node::start().await;
    node.sim.set_models(&["llama", "qwen"]);

    let reply = node.get("/v1/models").await;
    assert_eq!(reply.headers()["server"], "uvicorn");
    assert_eq!(reply.headers()["content-type"], "application/json");
    assert_eq!(reply.headers()["vary"], "Origin");
    assert!(reply.headers().contains_key("date"));
    let list: Value = reply.json().await.unwrap();
    assert_eq!(list["data"][0]["id"], "llama");
    assert_eq!(list["data"][1]["id"], "qwen");
    assert_eq!(list["data"][1]["max_model_len"], 8192);
}

#[tokio::test]
async fn a_chat_is_answered_word_for_word_as_vllm_shapes_it() {
    let node = Node::start().await;
    let body = with(chat("Good morning"), json!({"max_tokens": 6}));
    assert_eq!(
        node.told("/v1/chat/completions", body).await,
        r#"{"id":"chatcmpl-ID","object":"chat.completion","created":0,"model":"sim-llama","choices":[{"index":0,"message":{"role":"assistant","content":"You said: Good morning Good","refusal":null,"annotations":null,"audio":null,"function_call":null,"reasoning":null},"logprobs":null,"finish_reason":"length","stop_reason":null,"token_ids":null,"routed_experts":null}],"service_tier":null,"system_fingerprint":"vllm-0.32.0-df802a1c","usage":{"prompt_tokens":10,"total_tokens":16,"completion_tokens":6,"prompt_tokens_details":null,"completion_tokens_details":null},"prompt_logprobs":null,"prompt_token_ids":null,"prompt_text":null,"kv_transfer_params":null,"ec_transfer_params":null,"metrics":null}"#
    );
}

#[tokio::test]
async fn an_answer_of_its_own_length_stops_by_itself() {
    let node = Node::with(Settings { tokens: 5, ..Settings::default() }).await;
    let body =
        json!({"messages": [{"role": "user", "content": [{"type": "text", "text": "Hi there"}]}]});
    let reply: Value = node.told("/v1/chat/completions", body).await.parse().unwrap();
    assert_eq!(reply["model"], "sim-llama");
    assert_eq!(reply["choices"][0]["message"]["content"], "You said: Hi there");
    assert_eq!(reply["choices"][0]["finish_reason"], "stop");
}

#[tokio::test]
async fn several_choices_are_counted_together() {
    let node = Node::start().await;
    let body = with(chat("Hi"), json!({"n": 2, "max_tokens": 1, "max_completion_tokens": 4}));
    let reply: Value = node.told("/v1/chat/completions", body).await.parse().unwrap();
    assert_eq!(reply["choices"][1]["index"], 1);
    assert_eq!(reply["choices"][1]["message"]["content"], "You said: Hi");
    assert_eq!(
        (&reply["usage"]["prompt_tokens"], &reply["usage"]["completion_tokens"]),
        (&json!(9), &json!(8))
    );
}

#[tokio::test]
async fn a_completion_is_shaped_as_vllms_and_takes_several_prompts() {
    let node = Node::start().await;
    let body = json!({"model": "sim-llama", "prompt": "Hello", "max_tokens": 4});
    assert_eq!(
        node.told("/v1/completions", body).await,
        r#"{"id":"cmpl-ID","object":"text_completion","created":0,"model":"sim-llama","choices":[{"index":0,"text":"You said: Hello","logprobs":null,"finish_reason":"length","stop_reason":null,"token_ids":null,"prompt_logprobs":null,"prompt_token_ids":null,"routed_experts":null}],"service_tier":null,"system_fingerprint":"vllm-0.32.0-df802a1c","usage":{"prompt_tokens":1,"total_tokens":5,"completion_tokens":4,"prompt_tokens_details":null,"completion_tokens_details":null},"kv_transfer_params":null,"ec_transfer_params":null,"metrics":null}"#
    );

    let body = json!({"prompt": ["one", "two"], "max_tokens": 4});
    let reply: Value = node.told("/v1/completions", body).await.parse().unwrap();
    assert_eq!(reply["choices"][1]["text"], "You said: two");
    assert_eq!(reply["usage"]["prompt_tokens"], 2);
}

#[tokio::test]
async fn tokens_turn_back_into_their_text() {
    let node = Node::start().await;
    let text = "Привет, мир 😀 \"again\"\n";
    let reply: Value = node.told("/tokenize", json!({"prompt": text})).await.parse().unwrap();
    assert_eq!(reply["count"], 8);
    assert_eq!(reply["max_model_len"], 8192);
    assert_eq!(reply["token_strs"], Value::Null);

    let back = node.told("/detokenize", json!({"tokens": reply["tokens"]})).await;
    assert_eq!(back.parse::<Value>().unwrap(), json!({"prompt": text}));
    assert_eq!(node.told("/detokenize", json!({"tokens": [1]})).await, r#"{"prompt":"�"}"#);
}

#[tokio::test]
async fn a_chat_has_as_many_tokens_as_usage_says() {
    let node = Node::start().await;
    let body = with(chat("Hello"), json!({"return_token_strs": true}));
    let tokens: Value = node.told("/tokenize", body).await.parse().unwrap();
    let start = ["<|im_start|>", "user", "\n", "Hello", "<|im_end|>", "\n", "<|im_start|>"];
    assert_eq!(tokens["token_strs"].as_array().unwrap()[..7], start);
    let reply: Value = node.told("/v1/chat/completions", chat("Hello")).await.parse().unwrap();
    assert_eq!(reply["usage"]["prompt_tokens"], tokens["count"]);
}

#[tokio::test]
async fn a_response_is_incomplete_when_its_length_was_reached() {
    let node = Node::start().await;
    let body =
        json!({"model": "sim-llama", "input": "Hi", "max_output_tokens": 4, "temperature": 0});
    let reply: Value = node.told("/v1/responses", body).await.parse().unwrap();
    assert_eq!(reply["status"], "incomplete");
    assert_eq!(reply["incomplete_details"], json!({"reason": "max_output_tokens"}));
    assert_eq!(reply["output"][0]["content"][0]["text"], "You said: Hi");
    assert_eq!(reply["usage"]["total_tokens"], 13);
    let whole =
        node.told("/v1/responses", json!({"input": [{"role": "user", "content": "Hi"}]})).await;
    assert_eq!(whole.parse::<Value>().unwrap()["status"], "completed");
}

#[tokio::test]
async fn a_message_is_shaped_as_vllms() {
    let node = Node::start().await;
    assert_eq!(
        node.told("/v1/messages", with(chat("Hi"), json!({"max_tokens": 4}))).await,
        r#"{"id":"chatcmpl-ID","type":"message","role":"assistant","content":[{"type":"text","text":"You said: Hi"}],"model":"sim-llama","stop_reason":"max_tokens","usage":{"input_tokens":9,"output_tokens":4}}"#
    );
    let whole = node.told("/v1/messages", with(chat("Hi"), json!({"max_tokens": 4096}))).await;
    assert_eq!(whole.parse::<Value>().unwrap()["stop_reason"], "end_turn");
}

#[tokio::test]
async fn small_questions_have_small_answers() {
    let node = Node::start().await;
    assert_eq!(node.get("/health").await.content_length(), Some(0));
    assert_eq!(node.get("/ping").await.status(), 200);
    assert_eq!(node.post("/ping", &json!({})).send().await.unwrap().status(), 200);
    assert_eq!(node.get("/version").await.text().await.unwrap(), r#"{"version":"0.32.0"}"#);
    assert_eq!(node.get("/load").await.text().await.unwrap(), r#"{"server_load":0}"#);
}

#[tokio::test]
async fn metrics_follow_what_happened() {
    let node = Node::start().await;
    node.told("/v1/chat/completions", with(chat("Hi"), json!({"max_tokens": 4}))).await;
    let reply = node.get("/metrics").await;
    assert_eq!(reply.headers()["content-type"], "text/plain; version=1.0.0; charset=utf-8");
    let text = reply.text().await.unwrap();
    for line in [
        r#"vllm:num_requests_running{engine="0",model_name="sim-llama"} 0.0"#,
        r#"vllm:num_requests_waiting{engine="0",model_name="sim-llama"} 0.0"#,
        r#"vllm:kv_cache_usage_perc{engine="0",model_name="sim-llama"} 0.0"#,
        r#"vllm:prompt_tokens_total{engine="0",model_name="sim-llama"} 9.0"#,
        r#"vllm:generation_tokens_total{engine="0",model_name="sim-llama"} 4.0"#,
        r#"vllm:request_success_total{engine="0",finished_reason="length",model_name="sim-llama"} 1.0"#,
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
}

#[tokio::test]
async fn what_arrived_can_be_looked_at() {
    let node = Node::with(Settings { record: true, ..Settings::default() }).await;
    node.told("/v1/chat/completions?a=%20b", chat("Hi")).await;
    let seen = node.sim.requests();
    assert_eq!((seen.len(), seen[0].method.as_str()), (1, "POST"));
    assert_eq!(seen[0].target, "/v1/chat/completions?a=%20b");
    assert_eq!(seen[0].headers["x-request-id"], "ID");
    assert_eq!(seen[0].body, chat("Hi").to_string());
}
