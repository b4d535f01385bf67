//! The promises of the five services that Sluice replaces, played by the clients that rely on them: a test for each row
//! of `tests/replaced-services.yaml`, and its name begins with the row's.

mod chat;
mod containers;
mod docs;
mod health;
mod keys;
mod limits;
mod logs;
mod merged;
mod ollama;
mod openai;
mod paths;
pub(crate) mod process;
mod reload;
mod starts;
mod terminal;
mod timeouts;
mod upstream_keys;
mod web;

use std::collections::BTreeSet;
use std::net::SocketAddr;

use serde_json::Value;
use sluice::sim::Seen;

use crate::support::scripted::Came;

/// Headers in which clients show their keys.
const CREDENTIALS: [&str; 4] = ["authorization", "x-proxy-secret", "x-internal-auth", "x-api-key"];

/// What clients sent: without what the gateway asks by itself.
fn of_clients(seen: Vec<Seen>) -> Vec<Seen> {
    let own = |one: &Seen| {
        one.headers.get("user-agent").is_some_and(|agent| agent.as_bytes().starts_with(b"sluice/"))
    };
    seen.into_iter().filter(|one| !own(one)).collect()
}

/// A line of `routes.yaml` in the short form: POST `path` to the same path of `node`.
fn route(path: &str, node: SocketAddr) -> String {
    format!("  - path: {path}\n    methods: [POST]\n    upstream_url: http://{node}{path}\n")
}

/// The same for `/v1/chat/completions`, with a key.
fn chat_route(node: SocketAddr, key: &str) -> String {
    format!("{}    upstream_key: {key}\n", route("/v1/chat/completions", node))
}

/// `code` of an error in OpenAI's form.
async fn code(reply: reqwest::Response) -> String {
    reply.json::<Value>().await.unwrap()["error"]["code"].as_str().unwrap().to_owned()
}

/// Path and query of a request as a node read it.
fn target(came: &Came) -> &str {
    came.head.split(' ').nth(1).unwrap()
}

/// The credentials that a node was shown, by header.
fn credentials(seen: &Seen) -> Vec<(&str, &str)> {
    let shown = |name: &&'static str| Some((*name, seen.headers.get(*name)?.to_str().unwrap()));
    CREDENTIALS.iter().filter_map(shown).collect()
}

/// The `id` of each model of a list.
fn ids(list: &Value) -> BTreeSet<&str> {
    list["data"].as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap()).collect()
}
