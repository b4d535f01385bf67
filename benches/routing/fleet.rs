//! The nodes of one run, and what they say of it.

use std::net::SocketAddr;

use super::gateway::{Killed, free, listening, simulator};

pub(crate) const NODES: usize = 8;
pub(crate) const SLOTS: usize = 16;
pub(crate) const PREFILL_RATE: u32 = 8_000;
/// Tokens that the cache of one node holds.
pub(crate) const CACHE_TOKENS: usize = 16 * 4_096;

/// Nodes of their own processes, killed when they are dropped.
pub(crate) struct Fleet {
    pub(crate) nodes: Vec<SocketAddr>,
    _processes: Vec<Killed>,
}

/// What all nodes did since their start.
#[derive(Debug, Clone, Default)]
pub(crate) struct Done {
    pub(crate) asked: f64,
    pub(crate) found: f64,
    /// Requests of each.
    pub(crate) requests: Vec<f64>,
}

impl Fleet {
    pub(crate) async fn start() -> Result<Self, String> {
        let (mut nodes, mut processes) = (Vec::new(), Vec::new());
        let (slots, rate) = (SLOTS.to_string(), PREFILL_RATE.to_string());
        let blocks = (CACHE_TOKENS / 16).to_string();
        let arguments = [
            ["--max-num-seqs", &slots],
            ["--prefill-rate", &rate],
            ["--num-gpu-blocks-override", &blocks],
            ["--token-delay", "100ms"],
            ["--max-model-len", "32768"],
        ];
        let mut arguments = arguments.concat();
        arguments.push("--enable-prompt-tokens-details");
        for _ in 0..NODES {
            let address = free()?;
            processes.push(simulator(address, &arguments)?);
            listening(address).await?;
            nodes.push(address);
        }
        Ok(Self { nodes, _processes: processes })
    }

    pub(crate) async fn done(&self) -> Result<Done, String> {
        let mut done = Done::default();
        for node in &self.nodes {
            let text = metrics(*node).await?;
            done.asked += sum(&text, "vllm:prefix_cache_queries_total");
            done.found += sum(&text, "vllm:prefix_cache_hits_total");
            done.requests.push(sum(&text, "vllm:request_success_total"));
        }
        Ok(done)
    }

    /// Tokens of answers since the start.
    pub(crate) async fn generated(&self) -> Result<f64, String> {
        let mut tokens = 0.0;
        for node in &self.nodes {
            tokens += sum(&metrics(*node).await?, "vllm:generation_tokens_total");
        }
        Ok(tokens)
    }
}

async fn metrics(node: SocketAddr) -> Result<String, String> {
    let asked = reqwest::get(format!("http://{node}/metrics"));
    let reply = asked.await.map_err(|error| error.to_string())?;
    reply.text().await.map_err(|error| error.to_string())
}

/// The sum of a series over its labels.
fn sum(text: &str, name: &str) -> f64 {
    let lines = text.lines().filter(|line| line.starts_with(name));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}
