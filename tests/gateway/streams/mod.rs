//! Event streams: heads that wait for a first event, limits, comments, clients that leave. With `replay.rs` the gate for
//! every new version of Pingora.

mod comments;
mod ends;
mod hand_over;
mod held;
mod http2;
mod last_words;
mod leaving;
mod limits;
mod recorded;
mod reuse;

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::StreamExt;
use reqwest::{Client, RequestBuilder};
use serde_json::Value;

use crate::support::gateway::{Setup, chat, preset};
use crate::support::scripted::{Peer, Scripted};
use crate::support::{KEY, TestGateway, within};

/// The head of an event stream.
const HEAD: &str =
    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";

/// Two events and a good end, as vLLM says it.
const EVENTS: [&str; 3] = [
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"one\"},\"finish_reason\":null}]}\n\n",
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\" two\"},\"finish_reason\":\"stop\"}]}\n\n",
    "data: [DONE]\n\n",
];

/// What the gateway writes into a silent stream.
const COMMENT: &str = ": keep-alive\n\n";

/// Far shorter than a node of these tests is silent, far longer than a machine that does something else lets wait.
const SILENCE: Duration = Duration::from_millis(500);

/// A node is silent for a while.
async fn pause() {
    tokio::time::sleep(SILENCE).await;
}

impl Peer {
    /// A chunk of a body.
    async fn chunk(&mut self, text: &str) {
        self.send(format!("{:x}\r\n{text}\r\n", text.len()).as_bytes()).await;
    }

    /// All of [`EVENTS`] and the end.
    async fn events(&mut self) {
        for event in EVENTS {
            self.chunk(event).await;
        }
        self.send(b"0\r\n\r\n").await;
    }
}

/// A node that streams [`EVENTS`] to every request.
async fn streaming() -> Scripted {
    Scripted::start(|_, mut peer| async move {
        while peer.request().await.is_some() {
            peer.send(HEAD.as_bytes()).await;
            peer.events().await;
        }
    })
    .await
}

/// A gateway before one node, with words for its upstream and a time between comments, and a client of each version.
async fn gateway(node: SocketAddr, upstream: &str, keepalive: &str) -> (TestGateway, [Client; 2]) {
    let routes = preset(node).replace("kind: vllm", &format!("kind: vllm{upstream}"));
    let setup = Setup::routes(&routes).flags(|flags| {
        flags.h2c = Some("true".into());
        flags.sse_keepalive = Some(keepalive.to_owned());
    });
    let gateway = setup.start().await;
    let http2 = Client::builder().http2_prior_knowledge().build().unwrap();
    let clients = [gateway.client.clone(), http2];
    (gateway, clients)
}

/// A chat that asks for a stream.
fn ask(client: &Client, gateway: &TestGateway) -> RequestBuilder {
    let mut body = chat("m");
    body["stream"] = true.into();
    client.post(gateway.url("/v1/chat/completions")).bearer_auth(KEY).json(&body)
}

/// What an answer's body says, to a good end or not.
async fn read(reply: reqwest::Response) -> (String, bool) {
    let (mut text, mut pieces) = (String::new(), reply.bytes_stream());
    while let Some(piece) = within(pieces.next()).await {
        let Ok(piece) = piece else { return (text, false) };
        text += std::str::from_utf8(&piece).unwrap();
    }
    (text, true)
}

/// The whole answer of one chat: its status, its text, and whether that ended well.
async fn stream(client: &Client, gateway: &TestGateway) -> (u16, String, bool) {
    let reply = within(ask(client, gateway).send()).await.unwrap();
    let status = reply.status().as_u16();
    let (text, well) = read(reply).await;
    (status, text, well)
}

/// The code of the error event that `text` ends with.
fn code_at_end(text: &str) -> String {
    let last = text.trim_end().rsplit("\n\n").next().unwrap();
    let data = last.strip_prefix("data: ").expect(text);
    let event: Value = serde_json::from_str(data).unwrap();
    event["error"]["code"].as_str().expect(text).to_owned()
}
