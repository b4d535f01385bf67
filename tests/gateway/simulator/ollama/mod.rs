//! The simulated node as an Ollama node.

mod chat;
mod embed;
mod failures;
mod generate;
mod host;
mod info;
mod loading;
mod openai;
mod openai_refusals;
mod queue;
mod refusals;
mod settings;
mod thinking;
mod tools;
mod twins;

use serde_json::{Value, json};
use sluice::sim::{Kind, Settings};

use super::support::{Node, chunks};

/// Settings of an Ollama node with models of several kinds.
fn settings() -> Settings {
    let models = ["sim-llama", "qwen3:8b", "gemma3:4b", "hf.co/me/own:Q4", "nomic-embed-text"];
    let models = models.map(Into::into).to_vec();
    Settings { kind: Kind::Ollama, models, ..Settings::default() }
}

async fn node() -> Node {
    Node::with(settings()).await
}

/// A chat with this model.
fn chat(model: &str, says: &str) -> Value {
    json!({"model": model, "messages": [{"role": "user", "content": says}]})
}

/// The answer to a POST: status, content type, and the body with times and ids left out.
async fn told(node: &Node, path: &str, body: &Value) -> (u16, String, String) {
    let reply = node.post(path, body).send().await.unwrap();
    let content_type = reply.headers()["content-type"].to_str().unwrap().to_owned();
    (reply.status().as_u16(), content_type, settled(&reply.text().await.unwrap()))
}

/// The same where it is JSON that was answered with 200.
async fn answer(node: &Node, path: &str, body: &Value) -> Value {
    let reply = node.post(path, body).send().await.unwrap();
    assert_eq!(reply.status(), 200, "{}", reply.text().await.unwrap());
    serde_json::from_str(&reply.text().await.unwrap()).unwrap()
}

/// Head and chunks of the answer to a POST.
async fn streamed(node: &Node, path: &str, body: &Value) -> (String, Vec<String>) {
    let answer = node.bytes(path, body, "").await;
    let head = answer.split_once("\r\n\r\n").unwrap().0.to_owned();
    (head, chunks(&answer).iter().map(|chunk| settled(chunk)).collect())
}

/// The lines of a stream, as JSON.
async fn lines(node: &Node, path: &str, body: &Value) -> Vec<Value> {
    let answer = node.bytes(path, body, "").await;
    chunks(&answer).iter().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// `text` with its times as `T` and `1`, and its ids as `ID`.
fn settled(text: &str) -> String {
    let mut text = text.to_owned();
    for (name, is) in [
        (r#""created_at":""#, "T"),
        (r#""created":"#, "0"),
        (r#"_duration":"#, "1"),
        (r#""id":"chatcmpl-"#, "ID"),
        (r#""id":"cmpl-"#, "ID"),
        (r#""id":"call_"#, "ID"),
    ] {
        let mut out = String::new();
        let mut rest = text.as_str();
        while let Some((before, after)) = rest.split_once(name) {
            out.extend([before, name, is]);
            let end = |letter: char| !(letter.is_ascii_alphanumeric() || "-:.".contains(letter));
            rest = after.trim_start_matches(|letter: char| !end(letter));
        }
        text = out + rest;
    }
    text
}
