//! One run: all requests of a trace, each at its time.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use serde_json::json;
use tokio::task::JoinSet;

use super::fleet::Fleet;
use super::gateway::{Gateway, KEY, Killed, free, listening, spawn};
use super::oracle::Oracle;
use super::trace::{Kind, Request, text};

/// How long a run takes, and how much of it is not counted: caches are empty at first.
const LENGTH: Duration = Duration::from_secs(90);
const WARM_UP: Duration = Duration::from_secs(35);

/// Probes that tell the size of a cache before much is asked.
const FIELDS: &str = "health: { interval: 1s }";

/// How long a router takes until it has found its nodes.
const ROUTER_START: Duration = Duration::from_secs(15);

/// What came of a run, but for its beginning.
pub(crate) struct Outcome {
    /// To the first token, in seconds, sorted.
    first_tokens: Vec<f64>,
    /// Of the tokens of all prompts.
    pub(crate) found: f64,
    /// Requests of the node with the most, by the mean.
    pub(crate) busiest: f64,
    pub(crate) failed: usize,
}

impl Outcome {
    pub(crate) fn quantile(&self, share: f64) -> f64 {
        let at = (share * self.first_tokens.len() as f64) as usize;
        self.first_tokens
            .get(at.min(self.first_tokens.len().saturating_sub(1)))
            .copied()
            .unwrap_or(0.0)
    }
}

/// Who chooses the node.
enum Chooser {
    Oracle(Oracle, Vec<SocketAddr>),
    Gateway(Gateway),
    Router(SocketAddr, #[expect(dead_code, reason = "it is killed when it is dropped")] Killed),
}

pub(crate) async fn run(kind: Kind, policy: &str, routers: &Path) -> Result<Outcome, String> {
    let fleet = Fleet::start().await?;
    let chooser = Arc::new(match policy {
        "oracle" => Chooser::Oracle(Oracle::new(), fleet.nodes.clone()),
        "vllm-router" | "sglang-router" => {
            let (address, process) = router(policy, routers, &fleet.nodes).await?;
            Chooser::Router(address, process)
        }
        policy => {
            let fields = format!("balance: {policy}, {FIELDS}");
            Chooser::Gateway(Gateway::before(&fleet.nodes, &fields).await?)
        }
    });
    let client = reqwest::Client::new();
    let (began, mut asking) = (Instant::now(), JoinSet::new());
    let mut before = None;
    for request in kind.requests(LENGTH) {
        tokio::time::sleep_until((began + request.at).into()).await;
        let counts = request.at >= WARM_UP;
        if counts && before.is_none() {
            before = Some(fleet.done().await?);
        }
        let (client, chooser) = (client.clone(), chooser.clone());
        asking.spawn(async move { (counts, ask(&client, &chooser, &request).await) });
    }
    let ended = asking.join_all().await;
    let (before, after) = (before.unwrap_or_default(), fleet.done().await?);
    let counted = || ended.iter().filter(|(counts, _)| *counts).map(|(_, told)| told);
    let mut first_tokens: Vec<f64> =
        counted().filter_map(|told| told.as_ref().ok()).map(Duration::as_secs_f64).collect();
    first_tokens.sort_by(f64::total_cmp);
    let failed = counted().filter(|told| told.is_err()).count();
    let requests =
        after.requests.iter().zip(&before.requests).map(|(after, before)| after - before);
    let requests: Vec<f64> = requests.collect();
    let mean = requests.iter().sum::<f64>() / requests.len() as f64;
    Ok(Outcome {
        first_tokens,
        found: (after.found - before.found) / (after.asked - before.asked),
        busiest: requests.iter().fold(0.0, |most, one| f64::max(most, *one)) / mean,
        failed,
    })
}

/// A router of PyPI's with its own policy of this kind.
async fn router(
    name: &str,
    environment: &Path,
    nodes: &[SocketAddr],
) -> Result<(SocketAddr, Killed), String> {
    let (address, metrics) = (free()?, free()?);
    let mut command = Command::new(environment.join("bin/python"));
    command.args(["-m", &format!("{}.launch_router", name.replace('-', "_"))]);
    command.args(["--host", "127.0.0.1", "--policy", "cache_aware", "--worker-urls"]);
    command.args(nodes.iter().map(|node| format!("http://{node}")));
    command.args(["--port", &address.port().to_string()]);
    command.args(["--prometheus-port", &metrics.port().to_string()]);
    let path = environment.display();
    let hint =
        format!("python3 -m venv {path} && {path}/bin/pip install sglang-router vllm-router");
    let process = spawn(&mut command).map_err(|error| format!("{name}: {error}. {hint}"))?;
    listening(address).await?;
    // It listens before it knows its nodes.
    tokio::time::sleep(ROUTER_START).await;
    Ok((address, process))
}

/// Asks, and waits for all of the answer; how long its first token took.
async fn ask(
    client: &reqwest::Client,
    chooser: &Chooser,
    request: &Request,
) -> Result<Duration, String> {
    let parts = request.prompt.iter().map(|(name, words)| text(name, *words));
    let prompt: String = parts.collect();
    let body = json!({
        "model": "m", "prompt": prompt, "max_tokens": request.answer, "stream": true,
        "stream_options": { "include_usage": true },
    });
    let began = Instant::now();
    let (url, at) = match chooser {
        Chooser::Oracle(oracle, nodes) => {
            let at = oracle.choose(&prompt);
            (format!("http://{}/v1/completions", nodes[at]), Some((oracle, at)))
        }
        Chooser::Gateway(Gateway { address, .. }) | Chooser::Router(address, _) => {
            (format!("http://{address}/v1/completions"), None)
        }
    };
    let request = client.post(url).bearer_auth(KEY).header("x-session-id", &request.session);
    let told = first_token(request.json(&body), began).await;
    if let Some((oracle, at)) = at {
        oracle.ended(at);
    }
    told
}

async fn first_token(request: reqwest::RequestBuilder, began: Instant) -> Result<Duration, String> {
    let reply = request.send().await.map_err(|error| error.to_string())?;
    if reply.status() != 200 {
        return Err(format!("status {}", reply.status()));
    }
    let mut pieces = reply.bytes_stream();
    let mut first = None;
    while let Some(piece) = pieces.next().await {
        piece.map_err(|error| error.to_string())?;
        first.get_or_insert_with(|| began.elapsed());
    }
    first.ok_or_else(|| "nothing came".to_owned())
}
