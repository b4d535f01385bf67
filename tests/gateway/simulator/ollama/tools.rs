//! Calls of tools in Ollama's own API: whole, and with objects.

use serde_json::{Value, json};

use super::super::support::with;
use super::{answer, chat, lines, node, streamed, told};

const CHAT: &str = "/api/chat";

fn tools() -> Value {
    json!([{"type": "function", "function": {"name": "get_weather", "parameters": {
        "type": "object", "required": ["city"], "properties": {"city": {"type": "string"}}}}}])
}

fn weather(model: &str) -> Value {
    let says = "Ask get_weather";
    with(chat(model, says), json!({"tools": tools(), "options": {"num_predict": 99}}))
}

#[tokio::test]
async fn a_call_comes_whole_in_a_line_of_its_own() {
    let node = node().await;
    let (_, chunks) = streamed(&node, CHAT, &weather("sim-llama")).await;
    assert_eq!(chunks.len(), 2);
    assert_eq!(
        chunks[0],
        r#"{"model":"sim-llama","created_at":"T","message":{"role":"assistant","content":"","tool_calls":[{"id":"call_ID","function":{"index":0,"name":"get_weather","arguments":{"city":"Ask get_weather"}}}]},"done":false}"#.to_owned() + "\n"
    );
    assert!(
        chunks[1].contains(r#""content":""},"done":true,"done_reason":"stop""#),
        "{}",
        chunks[1]
    );
    let whole = with(weather("sim-llama"), json!({"stream": false}));
    let message = answer(&node, CHAT, &whole).await["message"].clone();
    assert_eq!(message["content"], "");
    assert_eq!(
        message["tool_calls"][0]["function"]["arguments"],
        json!({"city": "Ask get_weather"})
    );
}

#[tokio::test]
async fn a_model_with_a_template_of_its_own_calls_in_its_last_line() {
    let node = node().await;
    let lines = lines(&node, CHAT, &weather("hf.co/me/own:Q4")).await;
    assert_eq!(
        (lines.len(), &lines[0]["done"], &lines[0]["done_reason"]),
        (1, &json!(true), &json!("stop"))
    );
    assert_eq!(lines[0]["message"]["tool_calls"][0]["function"]["name"], "get_weather");
}

#[tokio::test]
async fn a_call_that_is_cut_short_is_not_shown() {
    let node = node().await;
    let body = with(weather("sim-llama"), json!({"options": {"num_predict": 6}}));
    let lines = lines(&node, CHAT, &body).await;
    assert_eq!((lines.len(), &lines[0]["done_reason"]), (1, &json!("length")));
    assert_eq!(lines[0]["message"], json!({"role": "assistant", "content": ""}));
}

#[tokio::test]
async fn who_has_been_answered_does_not_call_again() {
    let node = node().await;
    let body = json!({"model": "sim-llama", "stream": false, "tools": tools(), "messages": [
        {"role": "user", "content": "Ask get_weather"},
        {"role": "assistant", "content": "", "tool_calls": [{"id": "call_1", "function": {"index": 0, "name": "get_weather", "arguments": {"city": "Oslo"}}}]},
        {"role": "tool", "tool_name": "get_weather", "tool_call_id": "call_1", "content": "+3"}]});
    let reply = answer(&node, CHAT, &body).await;
    assert!(reply["message"].get("tool_calls").is_none());
    assert!(reply["message"]["content"].as_str().unwrap().starts_with("You said: Ask get"));
    let fewer = json!({"model": "sim-llama", "stream": false, "messages": body["messages"]});
    let fewer = answer(&node, CHAT, &fewer).await["prompt_eval_count"].as_u64().unwrap();
    assert!(reply["prompt_eval_count"].as_u64().unwrap() > fewer, "tools are part of the prompt");
}

#[tokio::test]
async fn a_model_that_knows_no_tools_refuses_them() {
    let node = node().await;
    let (status, _, says) = told(&node, CHAT, &weather("gemma3:4b")).await;
    assert_eq!(
        (status, says.as_str()),
        (400, r#"{"error":"registry.ollama.ai/library/gemma3:4b does not support tools"}"#)
    );
    let (status, _, says) = told(&node, CHAT, &chat("nomic-embed-text", "Hi")).await;
    assert_eq!(
        (status, says.as_str()),
        (400, r#"{"error":"\"nomic-embed-text\" does not support chat"}"#)
    );
}
