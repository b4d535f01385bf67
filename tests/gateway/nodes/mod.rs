//! Several nodes behind one upstream: who gets which request, and what clients notice when one of them fails.

mod admin;
mod affinity;
mod certified;
mod failing;
mod fallbacks;
mod fleet;

mod followed;
mod foreign;
mod health;
mod kept;
mod models;
mod ollama;
mod operate;
mod queue;
mod spread;

use std::net::SocketAddr;

use serde_json::Value;
use sluice::sim::Simulator;

use crate::support::{TestGateway, eventually};

/// Probes that tell a node's state soon, so that a test sees what operators see.
pub(crate) const QUICK: &str =
    "health: { interval: 20ms, timeout: 2s, unhealthy_after: 2, healthy_after: 2 }";

/// `routes.yaml` of one vLLM upstream with these nodes and fields.
pub(crate) fn upstream(nodes: &[SocketAddr], fields: &str) -> String {
    let nodes: Vec<String> = nodes.iter().map(|node| format!("'http://{node}'")).collect();
    format!(
        "upstreams:\n  llama: {{ kind: vllm, nodes: [{}], {fields} }}\nroutes:\n  - {{ preset: vllm, upstream: llama }}\n",
        nodes.join(", ")
    )
}

/// The chats that a node got.
fn chats(node: &Simulator) -> usize {
    node.requests().iter().filter(|one| one.target == "/v1/chat/completions").count()
}

/// What operators see.
async fn status(gateway: &TestGateway) -> Value {
    let url = format!("http://{}/api/status", gateway.admin);
    gateway.client.get(url).send().await.unwrap().json().await.unwrap()
}

/// The state of one node, in one word.
async fn state_of(gateway: &TestGateway, node: SocketAddr) -> String {
    let status = status(gateway).await;
    let nodes = status["upstreams"].as_array().unwrap().iter();
    let nodes = nodes.flat_map(|upstream| upstream["nodes"].as_array().unwrap().clone());
    let url = format!("http://{node}");
    let node = nodes.into_iter().find(|one| one["node"] == url.as_str());
    node.map_or_else(|| "gone".to_owned(), |node| node["state"].as_str().unwrap().to_owned())
}

/// Waits until a node is in this state.
async fn until(gateway: &TestGateway, node: SocketAddr, state: &str) {
    eventually(|| async { state_of(gateway, node).await == state }).await;
}

/// The sum over the nodes of our own requests under way, as operators see it.
async fn in_flight(gateway: &TestGateway) -> u64 {
    let status = status(gateway).await;
    let nodes = status["upstreams"].as_array().unwrap().iter();
    let nodes = nodes.flat_map(|upstream| upstream["nodes"].as_array().unwrap().clone());
    nodes
        .map(|node| node["in_flight"].as_u64().unwrap() + node["load_bytes"].as_u64().unwrap())
        .sum()
}
