//! One run: all requests of a trace, each at its time.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use serde_json::json;
use tokio::task::JoinSet;

use super::fleet::{Done, Fleet, NODES};
use super::gateway::{Gateway, KEY, Killed, free, listening, spawn};
use super::oracle::Oracle;
use super::outcome::Outcome;
use super::trace::{Kind, Request, text};

/// How long a run takes, and how much of it is not counted: caches are empty at first.
const LENGTH: Duration = Duration::from_secs(120);
const WARM_UP: Duration = Duration::from_secs(35);

/// When a node is lost, and when it is back.
const LOST: Duration = Duration::from_secs(50);
const BACK: Duration = Duration::from_secs(80);

/// Probes that tell the size of a cache before much is asked.
const FIELDS: &str = "health: { interval: 1s }";

/// How long a router takes until it has found its nodes.
const ROUTER_START: Duration = Duration::from_secs(15);

/// What ends a whole answer.
const END: &[u8] = b"data: [DONE]\n\n";

/// Who chooses the node.
enum Chooser {
    Oracle(Oracle, Vec<SocketAddr>),
    Gateway(Gateway),
    Router(SocketAddr, #[expect(dead_code, reason = "it is killed when it is dropped")] Killed),
}

/// How a request ended.
pub(crate) enum Told {
    /// With all of its answer; how long the first of it took.
    Whole(Duration),
    /// After the first of its answer.
    Cut(Duration),
    /// Without an answer.
    Failed,
}

pub(crate) async fn run(kind: Kind, policy: &str, routers: &Path) -> Result<Outcome, String> {
    let fleet = Arc::new(Fleet::start().await?);
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
    let (began, mut asking, mut fate) = (Instant::now(), JoinSet::new(), JoinSet::new());
    if kind == Kind::Lost {
        fate.spawn(lose_one(fleet.clone(), chooser.clone(), began));
    }
    let mut before: Option<Vec<Done>> = None;
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
    for told in fate.join_all().await {
        told?;
    }
    let told = ended.into_iter().filter(|(counts, _)| *counts).map(|(_, told)| told);
    Ok(Outcome::new(&before.unwrap_or_default(), &fleet.done().await?, told))
}

/// The last node is gone for a while.
async fn lose_one(fleet: Arc<Fleet>, chooser: Arc<Chooser>, began: Instant) -> Result<(), String> {
    let at = NODES - 1;
    let tell = |lost| {
        if let Chooser::Oracle(oracle, _) = &*chooser {
            oracle.lost(at, lost);
        }
    };
    tokio::time::sleep_until((began + LOST).into()).await;
    tell(true);
    fleet.lose(at).await?;
    tokio::time::sleep_until((began + BACK).into()).await;
    fleet.bring_back(at).await?;
    tell(false);
    Ok(())
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

/// Asks, and waits for all of the answer.
async fn ask(client: &reqwest::Client, chooser: &Chooser, request: &Request) -> Told {
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
    let told = hear(request.json(&body), began).await;
    if let Some((oracle, at)) = at {
        oracle.ended(at);
    }
    told
}

async fn hear(request: reqwest::RequestBuilder, began: Instant) -> Told {
    let Ok(reply) = request.send().await else { return Told::Failed };
    if reply.status() != 200 {
        return Told::Failed;
    }
    let mut pieces = reply.bytes_stream();
    let (mut first, mut last) = (None, Vec::new());
    while let Some(piece) = pieces.next().await {
        match (piece, first) {
            (Ok(piece), _) => {
                first.get_or_insert_with(|| began.elapsed());
                last.extend_from_slice(&piece);
                last.drain(..last.len().saturating_sub(END.len()));
            }
            (Err(_), Some(first)) => return Told::Cut(first),
            (Err(_), None) => return Told::Failed,
        }
    }
    match first {
        Some(first) if last == END => Told::Whole(first),
        Some(first) => Told::Cut(first),
        None => Told::Failed,
    }
}
