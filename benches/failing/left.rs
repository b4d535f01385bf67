//! Clients that leave at random moments: every book is right at the end, and nodes hear of it soon.

use std::time::Duration;

use futures_util::StreamExt as _;

use super::Done;
use super::gateway::{Gateway, KEY, chat, free, listening, simulator};

const NODES: usize = 4;
const REQUESTS: u64 = 10_000;
/// Under way at the same time.
const AT_ONCE: usize = 100;
/// Of ten.
const LEAVE: u64 = 3;
const PACE: [&str; 4] = ["--first-token", "20ms", "--token-delay", "2ms"];

pub(crate) async fn run() -> Done {
    let mut addresses = Vec::new();
    let mut nodes = Vec::new();
    for _ in 0..NODES {
        let address = free()?;
        nodes.push(simulator(address, &PACE)?);
        listening(address).await?;
        addresses.push(address);
    }
    let gateway = Gateway::before(&addresses, "balance: least_load").await?;
    let client = reqwest::Client::new();
    let one = |number: u64| {
        let (url, client) = (gateway.chats(), client.clone());
        async move {
            let asked =
                client.post(url).bearer_auth(KEY).json(&chat(number.is_multiple_of(2), 20)).send();
            let whole = async {
                let mut stream = asked.await.map_err(drop)?.bytes_stream();
                while let Some(piece) = stream.next().await {
                    piece.map_err(drop)?;
                }
                Ok::<(), ()>(())
            };
            let leaves = (number * 7) % 10 < LEAVE;
            let patience = if leaves { number * 7_919 % 80 } else { 60_000 };
            match tokio::time::timeout(Duration::from_millis(patience), whole).await {
                Err(_) => (1, 0),
                Ok(ended) => (0, u64::from(ended.is_err())),
            }
        }
    };
    let asked = futures_util::stream::iter((0..REQUESTS).map(one)).buffer_unordered(AT_ONCE);
    let (left, failed) =
        asked.fold((0, 0), |sum, one| async move { (sum.0 + one.0, sum.1 + one.1) }).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let ours = gateway.series("sluice_node_in_flight", "").await?
        + gateway.series("sluice_node_load_bytes", "").await?
        + gateway.series("sluice_requests_in_flight", "").await?;
    let mut theirs = 0.0;
    for address in &addresses {
        theirs += running(address).await?;
    }
    let spread: Vec<String> =
        gateway.nodes().await?.iter().map(|node| node["state"].to_string()).collect();
    let seen = gateway.series("sluice_abort_propagation_seconds_count", "").await?;
    let soon = gateway.series("sluice_abort_propagation_seconds_bucket", "le=\"0.1\"").await?;
    let sum = gateway.series("sluice_abort_propagation_seconds_sum", "").await?;
    let figures = format!(
        "{REQUESTS} requests, {left} clients left, {failed} of the others failed; under way at the end: ours {ours}, the nodes' \
         {theirs}; {soon} of {seen} leavings told to the node within 100 ms, {:.3} ms on average; nodes {}",
        sum / seen.max(1.0) * 1e3,
        spread.join(" ")
    );
    let well = failed == 0 && ours == 0.0 && theirs == 0.0 && soon >= seen;
    if well { Ok(figures) } else { Err(figures) }
}

/// What a node itself says is running and waiting.
async fn running(address: &std::net::SocketAddr) -> Result<f64, String> {
    let reply = reqwest::get(format!("http://{address}/metrics"))
        .await
        .map_err(|error| error.to_string())?;
    let text = reply.text().await.map_err(|error| error.to_string())?;
    let of_load = |line: &&str| {
        line.starts_with("vllm:num_requests_running{")
            || line.starts_with("vllm:num_requests_waiting{")
    };
    let values = text.lines().filter(of_load).filter_map(|line| line.rsplit(' ').next());
    Ok(values.filter_map(|value| value.parse::<f64>().ok()).sum())
}
