//! A node on a free port, a client that knows it, and a look at the bytes.

use std::future::Future;
use std::time::Duration;

use serde_json::{Value, json};
use sluice::sim::{Settings, Simulator};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Far longer than anything here takes; a test that waits so long has failed.
const DEADLINE: Duration = Duration::from_secs(10);

/// A long time between tokens: whoever waits for it would miss the deadline.
pub(super) const FOREVER: Duration = Duration::from_secs(3600);

/// A node and a client for it.
pub(super) struct Node {
    pub(super) sim: Simulator,
    pub(super) client: reqwest::Client,
}

impl Node {
    /// A node with the usual settings.
    pub(super) async fn start() -> Self {
        Self::with(Settings::default()).await
    }

    /// A node with these settings.
    pub(super) async fn with(settings: Settings) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let sim = Simulator::start(listener, settings).await.unwrap();
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(DEADLINE)
            .build()
            .unwrap();
        Self { sim, client }
    }

    /// A node with a key.
    pub(super) async fn locked(key: &str) -> Self {
        Self::with(Settings { api_keys: vec![key.to_owned()], ..Settings::default() }).await
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.sim.addr())
    }

    pub(super) async fn get(&self, path: &str) -> reqwest::Response {
        self.client.get(self.url(path)).send().await.unwrap()
    }

    /// A POST to be sent.
    pub(super) fn post(&self, path: &str, body: &Value) -> reqwest::RequestBuilder {
        self.client.post(self.url(path)).json(body)
    }

    /// The body of the answer to a POST; ids are `ID` where the API lets callers choose, times are 0.
    pub(super) async fn told(&self, path: &str, body: Value) -> String {
        let reply = self.post(path, &body).header("x-request-id", "ID").send().await.unwrap();
        timeless(&reply.text().await.unwrap())
    }

    /// The bytes of the answer to a POST on a connection of its own.
    pub(super) async fn bytes(&self, path: &str, body: &Value, header: &str) -> String {
        let mut socket = self.send(path, body, header).await;
        let mut answer = Vec::new();
        soon(socket.read_to_end(&mut answer)).await.unwrap();
        String::from_utf8(answer).unwrap()
    }

    /// Sends a POST on a connection of its own; `header` is one more line, or nothing.
    pub(super) async fn send(&self, path: &str, body: &Value, header: &str) -> TcpStream {
        let mut socket = TcpStream::connect(self.sim.addr()).await.unwrap();
        let body = body.to_string();
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\n\
             content-length: {}\r\nx-request-id: ID\r\n{header}\r\n",
            body.len()
        );
        socket.write_all(head.as_bytes()).await.unwrap();
        socket.write_all(body.as_bytes()).await.unwrap();
        socket
    }
}

/// A chat that says this.
pub(super) fn chat(says: &str) -> Value {
    json!({"model": "sim-llama", "messages": [{"role": "user", "content": says}]})
}

/// The same chat with more fields.
pub(super) fn with(mut body: Value, fields: Value) -> Value {
    body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    body
}

/// Waits for what must happen soon.
pub(super) async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, what).await.unwrap()
}

/// `text` with the times in it set to 0.
pub(super) fn timeless(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    for name in std::iter::repeat(r#""created":"#) {
        let Some((before, after)) = rest.split_once(name) else { break };
        out.extend([before, name, "0"]);
        rest = after.trim_start_matches(|digit: char| digit.is_ascii_digit());
    }
    out + rest
}

/// The chunks of an answer's body, as the bytes have them.
pub(super) fn chunks(answer: &str) -> Vec<String> {
    let mut rest = answer.split_once("\r\n\r\n").unwrap().1;
    let mut chunks = Vec::new();
    while let Some((size, tail)) = rest.split_once("\r\n") {
        let (chunk, tail) = tail.split_at(usize::from_str_radix(size, 16).unwrap());
        if chunk.is_empty() {
            break;
        }
        chunks.push(timeless(chunk));
        rest = tail.strip_prefix("\r\n").unwrap();
    }
    chunks
}
