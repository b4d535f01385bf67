//! A node that closes idle connections just when a request comes, as uvicorn does after 5 s: nobody notices, and nothing is
//! executed twice.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::Done;
use super::gateway::{Gateway, KEY, chat};

/// How hard it is tried.
#[derive(Clone, Copy)]
pub(crate) struct Scale {
    /// When the node closes.
    idle: Duration,
    lanes: u64,
    /// Of each lane.
    requests: u64,
    /// Gaps are so much shorter and longer than `idle`.
    around: Duration,
}

pub(crate) const QUICK: Scale = Scale {
    idle: Duration::from_millis(500),
    lanes: 100,
    requests: 100,
    around: Duration::from_millis(50),
};

pub(crate) const FULL: Scale = Scale {
    idle: Duration::from_secs(5),
    lanes: 20,
    requests: 10,
    around: Duration::from_millis(500),
};

/// How often each request was executed.
type Executed = Arc<Mutex<HashMap<String, u32>>>;

pub(crate) async fn run(scale: Scale) -> Done {
    let executed = Executed::default();
    let node = serve(scale.idle, executed.clone()).await.map_err(|error| error.to_string())?;
    // Longer than the node's: what is not learnt runs into closed connections.
    let gateway = Gateway::before(&[node], "keepalive_idle: 60s, health: off").await?;
    let mut lanes = tokio::task::JoinSet::new();
    for lane in 0..scale.lanes {
        // One connection each: a lane must not get another one's.
        lanes.spawn(lane_of(gateway.chats(), reqwest::Client::new(), lane, scale));
    }
    let mut failed = 0;
    while let Some(wrong) = lanes.join_next().await {
        failed += wrong.map_err(|error| error.to_string())?;
    }
    let retries = gateway.series("sluice_retries_total", "").await?;
    let executed = executed.lock().unwrap_or_else(PoisonError::into_inner);
    let twice = executed.values().filter(|times| **times > 1).count();
    let sent = scale.lanes * scale.requests;
    let figures = format!(
        "closed after {:?}, gaps around that: {sent} requests, {failed} failed, {twice} executed twice, {retries} tries more",
        scale.idle
    );
    if failed == 0 && twice == 0 && executed.len() as u64 == sent {
        Ok(figures)
    } else {
        Err(figures)
    }
}

async fn lane_of(url: String, client: reqwest::Client, lane: u64, scale: Scale) -> u64 {
    let mut failed = 0;
    for number in 0..scale.requests {
        let asked = client
            .post(&url)
            .bearer_auth(KEY)
            .header("x-request-id", format!("r-{lane}-{number}-"));
        match asked.json(&chat(false, 1)).send().await {
            Ok(reply) if reply.status() == 200 => {}
            other => {
                eprintln!("{other:?}");
                failed += 1;
            }
        }
        // Every part of the span, in an order without pattern.
        let part = f64::from(u32::try_from((lane * 7_919 + number * 104_729) % 1_000).unwrap_or(0));
        let gap = scale.idle - scale.around + scale.around.mul_f64(2.0 * part / 1_000.0);
        tokio::time::sleep(gap).await;
    }
    failed
}

/// Answers at once, and closes what was idle for so long.
async fn serve(idle: Duration, executed: Executed) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream, idle, executed.clone()));
        }
    });
    Ok(address)
}

async fn answer(mut stream: TcpStream, idle: Duration, executed: Executed) {
    let mut held = Vec::new();
    loop {
        while let Some((id, length)) = whole(&held) {
            held.drain(..length);
            *executed.lock().unwrap_or_else(PoisonError::into_inner).entry(id).or_default() += 1;
            let answer =
                b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}";
            if stream.write_all(answer).await.is_err() {
                return;
            }
        }
        match tokio::time::timeout(idle, stream.read_buf(&mut held)).await {
            Ok(Ok(1..)) => {}
            _ => return,
        }
    }
}

/// The name that a client gave a request which is there whole, and how long that is.
fn whole(held: &[u8]) -> Option<(String, usize)> {
    let end = memchr::memmem::find(held, b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&held[..end]).to_ascii_lowercase();
    let value = |name: &str| {
        let line = head.lines().find_map(|line| line.strip_prefix(name))?;
        Some(line.trim().to_owned())
    };
    let length = end + value("content-length:")?.parse::<usize>().ok()?;
    // Each try has a suffix of its own.
    let id = value("x-request-id:")?;
    let id = id.rsplit_once('-')?.0.to_owned();
    (held.len() >= length).then_some((id, length))
}
