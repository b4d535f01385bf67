//! The nodes of one run, and what they say of it.

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use parking_lot::Mutex;
use sluice::sim::{Settings, Simulator};

pub(crate) const NODES: usize = 8;
pub(crate) const SLOTS: usize = 16;
pub(crate) const PREFILL_RATE: u32 = 8_000;
/// Tokens that the cache of one node holds.
pub(crate) const CACHE_TOKENS: usize = 16 * 4_096;

/// Simulated nodes.
pub(crate) struct Fleet {
    pub(crate) nodes: Vec<SocketAddr>,
    there: Mutex<Vec<Option<Simulator>>>,
    /// What nodes did that are gone, each before its end.
    gone: Mutex<Vec<Done>>,
}

/// What nodes did since their start.
#[derive(Debug, Clone, Default)]
pub(crate) struct Done {
    /// Tokens of prompts.
    pub(crate) asked: f64,
    /// Of those, tokens found in the cache.
    pub(crate) found: f64,
    /// Tokens of answers.
    pub(crate) generated: f64,
    pub(crate) requests: f64,
    /// From a request's arrival to its first token.
    pub(crate) first_tokens: Vec<Duration>,
}

impl Fleet {
    pub(crate) async fn start() -> Result<Self, String> {
        let (mut nodes, mut there) = (Vec::new(), Vec::new());
        for _ in 0..NODES {
            let node = node("127.0.0.1:0").await?;
            nodes.push(node.addr());
            there.push(Some(node));
        }
        let gone = vec![Done::default(); NODES];
        Ok(Self { nodes, there: Mutex::new(there), gone: Mutex::new(gone) })
    }

    /// A node is gone at once, with all that it holds.
    pub(crate) async fn lose(&self, at: usize) -> Result<(), String> {
        let done = self.done_by(at).await?;
        let node = self.there.lock()[at].take();
        if let Some(node) = node {
            node.kill().await;
        }
        self.gone.lock()[at] = done;
        Ok(())
    }

    /// A node that was lost is back, with an empty cache.
    pub(crate) async fn bring_back(&self, at: usize) -> Result<(), String> {
        let back = node(&self.nodes[at].to_string()).await?;
        self.there.lock()[at] = Some(back);
        Ok(())
    }

    /// What each node did.
    pub(crate) async fn done(&self) -> Result<Vec<Done>, String> {
        let mut done = Vec::new();
        for at in 0..NODES {
            done.push(self.done_by(at).await?);
        }
        Ok(done)
    }

    async fn done_by(&self, at: usize) -> Result<Done, String> {
        let before = self.gone.lock()[at].clone();
        let first_tokens = self.there.lock()[at].as_ref().map(Simulator::first_tokens);
        let Some(first_tokens) = first_tokens else { return Ok(before) };
        let text = metrics(self.nodes[at]).await?;
        Ok(Done {
            asked: before.asked + sum(&text, "vllm:prefix_cache_queries_total"),
            found: before.found + sum(&text, "vllm:prefix_cache_hits_total"),
            generated: before.generated + sum(&text, "vllm:generation_tokens_total"),
            requests: before.requests + sum(&text, "vllm:request_success_total"),
            first_tokens: [before.first_tokens, first_tokens].concat(),
        })
    }
}

async fn node(address: &str) -> Result<Simulator, String> {
    let listener = TcpListener::bind(address).map_err(|error| error.to_string())?;
    let settings = Settings {
        models: vec!["m".into()],
        max_num_seqs: SLOTS,
        prefill_rate: PREFILL_RATE,
        num_gpu_blocks_override: u32::try_from(CACHE_TOKENS / 16).ok(),
        token_delay: Duration::from_millis(100),
        max_model_len: 32_768,
        enable_prompt_tokens_details: true,
        record: true,
        ..Settings::default()
    };
    Simulator::start(listener, settings).await.map_err(|error| error.to_string())
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
