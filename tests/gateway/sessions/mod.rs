//! Chat sessions: the service that had nothing else, played call by call, and what happens where something goes wrong.

mod keys;
mod life;
mod rows;
mod shared;
mod window;

use reqwest::Response;
use serde_json::{Value, json};
use sluice::sim::{Settings, Simulator};

use crate::support::gateway::Setup;
use crate::support::{TestGateway, node_with};

/// The key that the node wants, and that clients give.
const NODE_KEY: &str = "sk-node";

/// A simulated node that wants a key.
async fn guarded() -> Simulator {
    guarded_with(Settings::default()).await
}

async fn guarded_with(settings: Settings) -> Simulator {
    let (models, api_keys) = (vec!["m".into()], vec![NODE_KEY.to_owned()]);
    node_with(Settings { models, api_keys, ..settings }).await
}

/// The gateway of the service that is replaced: variables alone.
fn replaced(node: &Simulator) -> Setup {
    Setup::bare()
        .env("VLLM_BASE_URL", &format!("http://{}/v1", node.addr()))
        .env("VLLM_API_KEY", NODE_KEY)
        .env("VLLM_MODEL_NAME", "m")
}

/// A POST without any credential.
async fn post(gateway: &TestGateway, path: &str, body: Value) -> Response {
    gateway.client.post(gateway.url(path)).json(&body).send().await.unwrap()
}

async fn init(gateway: &TestGateway, key: &str) -> Response {
    post(gateway, "/init_session", json!({ "vllm_api_key": key })).await
}

/// Begins a session.
async fn begin(gateway: &TestGateway, key: &str) -> String {
    let begun = init(gateway, key).await;
    assert_eq!(begun.status(), 200);
    begun.json::<Value>().await.unwrap()["session_id"].as_str().unwrap().to_owned()
}

/// Asks; `more` is what else the question says.
async fn ask(gateway: &TestGateway, id: &str, message: &str, more: Value) -> Response {
    let mut body = json!({ "session_id": id, "message": message });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    post(gateway, "/chat", body).await
}

/// Asks, and is answered.
async fn answered(gateway: &TestGateway, id: &str, message: &str) -> Value {
    let reply = ask(gateway, id, message, json!({})).await;
    let status = reply.status();
    let reply: Value = reply.json().await.unwrap();
    assert_eq!(status, 200, "{reply}");
    reply
}

/// The bodies of the chats that a node was asked for.
fn chats(node: &Simulator) -> Vec<Value> {
    let seen = node.requests();
    let chats = seen.iter().filter(|seen| seen.target == "/v1/chat/completions");
    chats.map(|seen| serde_json::from_slice(&seen.body).unwrap()).collect()
}

/// Who said what, in the last chat that a node was asked for.
fn said(node: &Simulator) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let last = chats(node).pop().unwrap();
    let messages = last["messages"].as_array().unwrap();
    messages.iter().map(|message| (text(&message["role"]), text(&message["content"]))).collect()
}

async fn error(reply: Response) -> (u16, String) {
    let status = reply.status().as_u16();
    let body: Value = reply.json().await.unwrap();
    (status, body["error"]["code"].as_str().unwrap_or_default().to_owned())
}
