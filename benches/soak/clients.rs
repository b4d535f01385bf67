//! Clients: most ask and want their answer, some leave, some lie, some have no key.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::StreamExt as _;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::answers::Asked;
use super::broken;
use super::dice::Dice;
use super::gateway::{Gateway, KEY};
use super::seen::{Outcome, Seen};

/// Clients at a time.
const LANES: usize = 24;

/// Longer than any answer takes, all tries of it stalled.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long a client keeps an idle connection: less than the gateway does, as its end may come with the next request.
const IDLE: Duration = Duration::from_secs(20);

/// How long a client that lies waits for the end of its connection.
const LIAR_WAITS: Duration = Duration::from_secs(2);

/// All clients.
pub(crate) struct Clients {
    lanes: JoinSet<()>,
    stop: Arc<AtomicBool>,
}

struct Lane {
    address: SocketAddr,
    client: reqwest::Client,
    dice: Dice,
    seen: Arc<Seen>,
}

impl Clients {
    pub(crate) fn start(gateway: &Gateway, dice: &mut Dice, seen: &Arc<Seen>) -> Self {
        let (mut lanes, stop) = (JoinSet::new(), Arc::new(AtomicBool::new(false)));
        for _ in 0..LANES {
            let mut lane = Lane {
                address: gateway.address,
                client: client(),
                dice: dice.child(),
                seen: seen.clone(),
            };
            let stop = stop.clone();
            lanes.spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    lane.one().await;
                }
            });
        }
        Self { lanes, stop }
    }

    /// When this returns, each has its last answer.
    pub(crate) async fn stop(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        while self.lanes.join_next().await.is_some() {}
    }
}

/// With connections of its own.
fn client() -> reqwest::Client {
    reqwest::Client::builder().pool_idle_timeout(IDLE).build().unwrap_or_default()
}

impl Lane {
    async fn one(&mut self) {
        match self.dice.below(100) {
            0..70 => self.ask().await,
            70..82 => {
                let asked = Asked::new(&mut self.dice);
                // A connection that fails is a client that is gone: what this looks for is what the gateway makes of it.
                let _gone = self.leave(&asked).await;
                let _told = self.seen.was_torn(&asked.mark);
                self.seen.count(Outcome::Left);
            }
            82..89 => self.broken_head().await,
            89..95 => self.broken_body().await,
            95..98 => self.wrong_key().await,
            _ => self.models().await,
        }
        tokio::time::sleep(self.dice.up_to_ms(40)).await;
    }

    fn post(&self, key: &str) -> reqwest::RequestBuilder {
        let url = format!("http://{}/v1/chat/completions", self.address);
        self.client.post(url).bearer_auth(key).timeout(PATIENCE)
    }

    async fn ask(&mut self) {
        let asked = Asked::new(&mut self.dice);
        let reply = match self.post(KEY).json(&asked.body()).send().await {
            Ok(reply) => reply,
            Err(error) => return self.seen.wrong(format!("no answer: {error:?}")),
        };
        let status = reply.status().as_u16();
        let kind = reply.headers().get("content-type").and_then(|kind| kind.to_str().ok());
        let events = kind.is_some_and(|kind| kind.starts_with("text/event-stream"));
        let (mut body, mut cut) = (Vec::new(), false);
        let mut pieces = reply.bytes_stream();
        while let Some(piece) = pieces.next().await {
            match piece {
                Ok(piece) => body.extend_from_slice(&piece),
                Err(error) if error.is_timeout() => {
                    return self.seen.wrong(format!("no end in {PATIENCE:?}: {}", asked.body()));
                }
                Err(_) => cut = true,
            }
        }
        let torn = self.seen.was_torn(&asked.mark);
        match asked.judge((status, events), (&body, cut), torn) {
            Ok(outcome) => {
                self.seen.count(outcome);
                if outcome == Outcome::BrokenStream {
                    // The gateway may close the connection of a stream that it had to end itself, and its head could not say so.
                    self.client = client();
                }
            }
            Err(wrong) => self.seen.wrong(wrong),
        }
    }

    /// Leaves somewhere between the first byte of its request and the last of its answer.
    async fn leave(&mut self, asked: &Asked) -> std::io::Result<()> {
        let body = asked.body().to_string();
        let request = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {KEY}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut stream = TcpStream::connect(self.address).await?;
        if self.dice.of_hundred(50) {
            // Not a FIN but a RST.
            stream.set_zero_linger()?;
        }
        if self.dice.of_hundred(40) {
            // In its head, or in its body.
            let sent = self.dice.below(request.len());
            stream.write_all(&request.as_bytes()[..sent]).await?;
            tokio::time::sleep(self.dice.up_to_ms(20)).await;
            return Ok(());
        }
        stream.write_all(request.as_bytes()).await?;
        // While it waits, or after some of its answer; what was read at most ends long before the answer.
        let (most, mut read) = (self.dice.below(2_000), Vec::new());
        let some = async {
            while read.len() < most && stream.read_buf(&mut read).await? > 0 {}
            Ok::<(), std::io::Error>(())
        };
        tokio::time::timeout(self.dice.up_to_ms(60), some).await.unwrap_or(Ok(()))
    }

    /// Everything up to the end of the connection, or what came until then.
    async fn raw(&self, bytes: &[u8]) -> std::io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect(self.address).await?;
        let mut read = Vec::new();
        let told = async {
            stream.write_all(bytes).await?;
            while stream.read_buf(&mut read).await? > 0 {}
            Ok::<(), std::io::Error>(())
        };
        // A reset is an answer, too.
        let _closed = tokio::time::timeout(LIAR_WAITS, told).await;
        Ok(read)
    }

    async fn broken_head(&mut self) {
        let number = self.dice.below(broken::HEADS);
        let sent = broken::head(number, KEY);
        let Ok(answer) = self.raw(&sent).await else {
            return self.seen.wrong("no connection");
        };
        let text = String::from_utf8_lossy(&answer);
        if text.contains("HTTP/1.1 2") || text.contains("HTTP/1.1 1") {
            let sent = String::from_utf8_lossy(&sent[..sent.len().min(600)]).into_owned();
            return self.seen.wrong(format!("a broken head ({number}) got {text}: {sent}"));
        }
        self.seen.count(Outcome::LieRefused);
    }

    async fn broken_body(&mut self) {
        let number = self.dice.below(broken::BODY_KINDS);
        let asked = self.post(KEY).header("content-type", "application/json");
        match asked.body(broken::body(number)).send().await {
            Ok(reply) if reply.status().as_u16() >= 400 => {
                let status = reply.status();
                let error = reply.json::<Value>().await.unwrap_or_default();
                match error["error"].is_object() {
                    true => self.seen.count(Outcome::LieRefused),
                    false => {
                        self.seen.wrong(format!("a broken body ({number}) got {status} {error}"))
                    }
                }
            }
            other => self.seen.wrong(format!("a broken body ({number}) got {other:?}")),
        }
    }

    async fn wrong_key(&mut self) {
        let key = if self.dice.of_hundred(50) { "sk-of-nobody" } else { "" };
        let asked = Asked::new(&mut self.dice);
        match self.post(key).json(&asked.body()).send().await {
            Ok(reply) if reply.status() == 401 => self.seen.count(Outcome::KeyRefused),
            other => self.seen.wrong(format!("a wrong key got {other:?}")),
        }
    }

    async fn models(&mut self) {
        let url = format!("http://{}/v1/models", self.address);
        let reply = match self.client.get(url).bearer_auth(KEY).timeout(PATIENCE).send().await {
            Ok(reply) => reply,
            Err(error) => return self.seen.wrong(format!("no models: {error:?}")),
        };
        let list = reply.json::<Value>().await.unwrap_or_default();
        let all = list["data"].as_array();
        match all.is_some_and(|all| all.iter().all(|model| model["id"] == "m")) {
            true => self.seen.count(Outcome::Well),
            false => self.seen.wrong(format!("models: {list}")),
        }
    }
}
