//! Five nodes, one killed every five seconds and started again: what clients notice.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::Done;
use super::gateway::{Gateway, KEY, chat, free, simulator};

const NODES: usize = 5;
const KILLS: usize = 12;
const EVERY: Duration = Duration::from_secs(5);
/// How long a killed node is away.
const AWAY: Duration = Duration::from_secs(2);
const LANES: usize = 20;

/// A request takes 20 to 200 ms: 20 tokens, each after 1 to 9 ms.
const PACE: [&str; 4] = ["--first-token", "20ms", "--token-delay", "4ms"];

#[derive(Default)]
struct Seen {
    answers: AtomicU64,
    failed: AtomicU64,
    streams: AtomicU64,
    /// Past their first byte, and told so.
    broken: AtomicU64,
    /// In any other way.
    lost: AtomicU64,
}

pub(crate) async fn run() -> Done {
    let mut addresses = Vec::new();
    let mut nodes = Vec::new();
    for _ in 0..NODES {
        let address = free()?;
        addresses.push(address);
        nodes.push(Some(simulator(address, &PACE)?));
    }
    for address in &addresses {
        super::gateway::listening(*address).await?;
    }
    let gateway = Gateway::before(&addresses, "retry: { attempts: 3 }").await?;
    let (seen, stop) = (Arc::new(Seen::default()), Arc::new(AtomicBool::new(false)));
    let client = reqwest::Client::new();
    let mut lanes = tokio::task::JoinSet::new();
    for number in 0..LANES {
        let lane = Lane { url: gateway.chats(), client: client.clone(), stream: number % 2 == 0 };
        lanes.spawn(lane.run(seen.clone(), stop.clone()));
    }
    for kill in 0..KILLS {
        tokio::time::sleep(EVERY - AWAY).await;
        nodes[kill % NODES] = None;
        tokio::time::sleep(AWAY).await;
        nodes[kill % NODES] = Some(simulator(addresses[kill % NODES], &PACE)?);
    }
    stop.store(true, Ordering::Relaxed);
    while lanes.join_next().await.is_some() {}
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let retries = gateway.series("sluice_retries_total", "").await?;
    let figures = format!(
        "{KILLS} kills; {} answers, {} failed; {} streams, {} ended by an error event, {} lost otherwise; {retries} retries",
        count(&seen.answers),
        count(&seen.failed),
        count(&seen.streams),
        count(&seen.broken),
        count(&seen.lost)
    );
    match count(&seen.failed) + count(&seen.lost) {
        0 => Ok(figures),
        _ => Err(figures),
    }
}

struct Lane {
    url: String,
    client: reqwest::Client,
    stream: bool,
}

impl Lane {
    async fn run(self, seen: Arc<Seen>, stop: Arc<AtomicBool>) {
        while !stop.load(Ordering::Relaxed) {
            let asked = self.client.post(&self.url).bearer_auth(KEY);
            let (status, text) = match asked.json(&chat(self.stream, 20)).send().await {
                Ok(reply) => (reply.status().as_u16(), reply.text().await.unwrap_or_default()),
                Err(error) => (0, error.to_string()),
            };
            let well = status == 200;
            let counter = match self.stream {
                false if well && text.contains("\"finish_reason\"") => &seen.answers,
                false => &seen.failed,
                true if well && text.ends_with("data: [DONE]\n\n") => &seen.streams,
                true if well && text.contains("\n\ndata: {\"error\":") => &seen.broken,
                true => &seen.lost,
            };
            counter.fetch_add(1, Ordering::Relaxed);
            if std::ptr::eq(counter, &raw const seen.failed)
                || std::ptr::eq(counter, &raw const seen.lost)
            {
                eprintln!("{status}: {text}");
            }
        }
    }
}
