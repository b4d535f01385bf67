//! Recorded answers of a real vLLM 0.32 beside the simulated node's to the same bytes: status, headers, the names, types
//! and order of fields, the values that no model makes up, the order of events and how they are cut into chunks.

mod http;
mod json;

use std::path::{Path, PathBuf};

use serde_json::json;
use sluice::sim::Settings;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use self::http::{Answer, Sample};
use super::support::{Node, chat, soon, with};

/// Samples that are answered otherwise on purpose, and why. The simulator's own page has the same
/// list in words.
const ON_PURPOSE: [(&str, &str); 26] = [
    ("plain/chat_batch", UNKNOWN),
    ("plain/chat_render", UNKNOWN),
    ("plain/generative_scoring", UNKNOWN),
    ("plain/get_kv_event_sources", UNKNOWN),
    ("plain/systemone", UNKNOWN),
    ("plain/post_v1_embeddings", EVERY_API),
    ("plain/post_pooling", EVERY_API),
    ("plain/post_classify", EVERY_API),
    ("plain/post_score", EVERY_API),
    ("plain/post_v1_score", EVERY_API),
    ("plain/post_rerank", EVERY_API),
    ("plain/post_v1_rerank", EVERY_API),
    ("plain/post_v2_rerank", EVERY_API),
    ("plain/post_v1_audio_transcriptions", EVERY_API),
    ("plain/post_v1_audio_translations", EVERY_API),
    ("plain/get_is_paused", DEVELOPMENT),
    ("plain/post_pause", DEVELOPMENT),
    ("plain/post_resume", DEVELOPMENT),
    ("plain/chat_tools_named", TOOLS),
    ("plain/chat_tools_named_stream", TOOLS),
    ("plain/chat_tools_required", TOOLS),
    ("plain/err_400_tools_auto_not_enabled", TOOLS),
    ("pooling/embeddings_dims", "vectors can be cut to any length"),
    ("options/chat_tools_required", "the first tool is called that is offered"),
    ("options/responses_tool", SORTED),
    ("options/responses_tool_stream", SORTED),
];

const UNKNOWN: &str = "no contract lists the path";
const EVERY_API: &str = "one node has every API";
const DEVELOPMENT: &str = "there without `VLLM_SERVER_DEV_MODE=1`";
const SORTED: &str = "what an answer repeats of its request is sorted";
const TOOLS: &str = "tools are called without `--enable-auto-tool-choice`";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/gateway/simulator/samples")
}

/// The samples of a folder, by name.
fn samples(name: &str) -> Vec<Sample> {
    let entries = std::fs::read_dir(folder().join(name)).unwrap();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| Sample::read(path)).collect()
}

/// A node as the real one was started.
async fn node(model: &str) -> Node {
    Node::with(Settings {
        models: vec![model.into()],
        api_keys: ["sk-node-1", "sk-node-2", "sk-node-3"].map(str::to_owned).to_vec(),
        max_model_len: 2048,
        ..Settings::default()
    })
    .await
}

/// What the node answers to these bytes.
async fn answer(node: &Node, request: &[u8]) -> Answer {
    let mut socket = TcpStream::connect(node.sim.addr()).await.unwrap();
    socket.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    soon(socket.read_to_end(&mut answer)).await.unwrap();
    Answer::parse(&answer)
}

/// Compares a folder, and tells all that is wrong at once.
async fn compare(folder: &str, model: &str) {
    let mut wrong = String::new();
    for sample in samples(folder) {
        let node = node(model).await;
        let found = sample.answer.differences(&answer(&node, &sample.request).await);
        let purpose = ON_PURPOSE.iter().any(|(name, _)| sample.name == *name);
        match (found.is_empty(), purpose) {
            (true, true) => wrong += &format!("\n{}: on the list, and not different", sample.name),
            (false, false) => wrong += &format!("\n{}:\n    {}", sample.name, found.join("\n    ")),
            _ => {}
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[tokio::test]
async fn answers_are_those_of_a_node_started_plainly() {
    compare("plain", "tiny-llama").await;
}

#[tokio::test]
async fn answers_are_those_of_a_node_that_calls_tools() {
    compare("options", "tiny-llama").await;
}

#[tokio::test]
async fn answers_are_those_of_a_node_in_development() {
    compare("dev", "tiny-llama").await;
}

#[tokio::test]
async fn answers_are_those_of_a_node_that_embeds() {
    compare("pooling", "tiny-embed").await;
}

#[tokio::test]
async fn a_stream_whose_engine_was_killed_ends_like_a_recorded_one() {
    let recorded = std::fs::read(folder().join("engine_killed_mid_stream.http")).unwrap();
    let node = node("tiny-llama").await;
    let body = with(chat("Hi"), json!({"model": "tiny-llama", "stream": true})).to_string();
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: sim\r\nauthorization: Bearer sk-node-1\r\nx-sim-fault: kill-after=3,exit=1ms\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let found = Answer::parse(&recorded).differences(&answer(&node, request.as_bytes()).await);
    assert!(found.is_empty(), "{found:?}");
}
