//! Responses that a node keeps: each is asked for where it was made, and by the key that made it.

mod continuing;
mod learning;
mod owners;
mod reload;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use reqwest::{RequestBuilder, Response};
use serde_json::{Value, json};

use crate::support::gateway::Setup;
use crate::support::scripted::{Came, Peer, Scripted};
use crate::support::{TestGateway, within};

/// Two applications, and one that may use the model `llama` alone.
const KEYS: &str = "keys:
  - { name: one, key: sk-one }
  - { name: two, key: sk-two }
  - { name: limited, key: sk-limited, models: [llama] }
";

/// Two nodes of every path, the first with the model `llama`, the second with `qwen`.
fn two(first: SocketAddr, second: SocketAddr) -> String {
    format!(
        "upstreams:\n  \
           first: {{ kind: vllm, nodes: [\"http://{first}\"], models: [llama], health: off }}\n  \
           second: {{ kind: vllm, nodes: [\"http://{second}\"], models: [qwen], health: off }}\n\
         routes:\n  \
           - {{ preset: vllm, upstream: first }}\n  \
           - {{ preset: vllm, upstream: second }}\n"
    )
}

/// A gateway with [`KEYS`] in front of two nodes.
async fn before_two(first: &Scripted, second: &Scripted) -> TestGateway {
    Setup::bare().file("routes.yaml", &two(first.addr, second.addr)).keys(KEYS).start().await
}

/// A node that keeps nothing and answers as if it did: it makes `resp_NAME_1`, `resp_NAME_2` and so on, lists
/// `model-NAME`, and says who it is to everything else.
async fn keeper(name: &'static str) -> Scripted {
    let made = Arc::new(AtomicUsize::new(1));
    Scripted::start(move |_, mut peer: Peer| {
        let made = made.clone();
        async move {
            while let Some(came) = peer.request().await {
                let answer = match target(&came) {
                    "/v1/responses" => {
                        let number = made.fetch_add(1, Ordering::Relaxed);
                        format!(r#"{{"id":"resp_{name}_{number}"}}"#)
                    }
                    "/v1/models" => format!(r#"{{"data":[{{"id":"model-{name}"}}]}}"#),
                    _ => name.to_owned(),
                };
                peer.answer("200 OK", &answer).await;
            }
        }
    })
    .await
}

/// Path and query as they came.
fn target(came: &Came) -> &str {
    came.head.split(' ').nth(1).unwrap()
}

/// What was asked of responses that are there: paths and queries.
fn asked(node: &Scripted) -> Vec<String> {
    let targets = node.seen().into_iter().map(|came| target(&came).to_owned());
    targets.filter(|target| target.starts_with("/v1/responses/")).collect()
}

fn post(gateway: &TestGateway, key: &str, body: &Value) -> RequestBuilder {
    gateway.client.post(gateway.url("/v1/responses")).bearer_auth(key).json(body)
}

fn get(gateway: &TestGateway, key: &str, id: &str) -> RequestBuilder {
    gateway.client.get(gateway.url(&format!("/v1/responses/{id}"))).bearer_auth(key)
}

fn cancel(gateway: &TestGateway, key: &str, id: &str) -> RequestBuilder {
    gateway.client.post(gateway.url(&format!("/v1/responses/{id}/cancel"))).bearer_auth(key)
}

/// Makes a response with `key`; its id.
async fn make(gateway: &TestGateway, key: &str, model: &str) -> String {
    let body = json!({ "model": model, "input": "Hi" });
    let reply = within(post(gateway, key, &body).send()).await.unwrap();
    assert_eq!(reply.status(), 200);
    reply.json::<Value>().await.unwrap()["id"].as_str().unwrap().to_owned()
}

/// Status and text of an answer.
async fn told(request: RequestBuilder) -> (u16, String) {
    let reply: Response = within(request.send()).await.unwrap();
    (reply.status().as_u16(), reply.text().await.unwrap())
}

/// What is said of a response that is not known.
fn unknown(id: &str) -> (u16, String) {
    let error = format!(
        r#"{{"error":{{"message":"Response with id '{id}' not found.","type":"invalid_request_error","param":"response_id","code":"response_not_found"}}}}"#
    );
    (404, error)
}

/// The same of one that was to be gone on from.
fn unknown_previous(id: &str) -> (u16, String) {
    let error = format!(
        r#"{{"error":{{"message":"Previous response with id '{id}' not found.","type":"invalid_request_error","param":"previous_response_id","code":"previous_response_not_found"}}}}"#
    );
    (404, error)
}

/// Status and code of a refusal.
async fn refused(request: RequestBuilder) -> (u16, String) {
    let (status, text) = told(request).await;
    let error: Value = serde_json::from_str(&text).unwrap();
    (status, error["error"]["code"].as_str().unwrap().to_owned())
}
