//! Upstreams, their nodes, and the models on them.

use std::collections::BTreeMap;
use std::time::Instant;

use serde::Serialize;

use super::past::{Line, Percentiles, short, short_line};
use crate::gateway::Snapshot;
use crate::metrics::{Metrics, Outcome};
use crate::names::ModelName;
use crate::upstream::Upstream;
use crate::upstream::member::Member;

#[derive(Debug, Serialize)]
pub(in crate::admin) struct UpstreamStatus {
    pub(in crate::admin) upstream: String,
    pub(in crate::admin) kind: &'static str,
    pub(in crate::admin) balance: &'static str,
    /// `ok`, `degraded`, `down`.
    pub(in crate::admin) state: &'static str,
    /// Requests that wait for a place at a node.
    pub(in crate::admin) queued: usize,
    pub(in crate::admin) nodes: Vec<NodeStatus>,
}

#[derive(Debug, Serialize)]
pub(in crate::admin) struct NodeStatus {
    pub(in crate::admin) node: String,
    /// `up`, `starting`, `ejected`, `down`, `resting`, `paused`, `asleep`, `drained`.
    pub(in crate::admin) state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::admin) reason: Option<String>,
    /// For how long it has been in that state.
    pub(in crate::admin) state_age_seconds: u64,
    pub(in crate::admin) takes_work: bool,
    /// Ours, and what they weigh.
    pub(in crate::admin) in_flight: u32,
    pub(in crate::admin) load_bytes: u64,
    /// Of others.
    pub(in crate::admin) foreign: u32,
    /// What the node says of itself.
    pub(in crate::admin) running: Option<u32>,
    pub(in crate::admin) waiting: Option<u32>,
    /// Part of the KV cache in use, 0 to 1.
    pub(in crate::admin) kv_cache: Option<f64>,
    /// Part of the prompts' tokens that were in the prefix cache in the last five minutes, 0 to 1.
    pub(in crate::admin) prefix_hits: Option<f64>,
    pub(in crate::admin) ttft: Percentiles,
    pub(in crate::admin) inter_token_latency: Percentiles,
    /// Of answers, over the last 10 seconds.
    pub(in crate::admin) tokens_per_second: f64,
    /// Since the gateway knows the node.
    pub(in crate::admin) answers: Answers,
    /// Tokens of answers per second, over the last five minutes.
    pub(in crate::admin) tokens_line: Line,
    /// Where they are learnt from the node.
    pub(in crate::admin) models: Option<Vec<String>>,
}

/// What came of requests.
#[derive(Debug, Default, Clone, Copy, Serialize)]
pub(in crate::admin) struct Answers {
    /// Below 400.
    pub(in crate::admin) ok: u64,
    /// 4xx.
    pub(in crate::admin) refused: u64,
    /// 5xx, and tries that brought no answer or half of one.
    pub(in crate::admin) errors: u64,
    /// Tries that failed here and went on elsewhere.
    pub(in crate::admin) retries: u64,
    /// Clients that left.
    pub(in crate::admin) aborts: u64,
}

#[derive(Debug, Serialize)]
pub(in crate::admin) struct ModelStatus {
    /// As its nodes know it; `_unknown` for what no node has, `_other` past the thousandth.
    pub(in crate::admin) model: String,
    /// That may get a request for it, and all that have it.
    pub(in crate::admin) nodes_up: usize,
    pub(in crate::admin) nodes: usize,
    pub(in crate::admin) requests_per_second: f64,
    pub(in crate::admin) tokens_per_second: f64,
    pub(in crate::admin) ttft: Percentiles,
    pub(in crate::admin) inter_token_latency: Percentiles,
    pub(in crate::admin) answers: Answers,
    pub(in crate::admin) tokens_line: Line,
}

impl UpstreamStatus {
    pub(super) fn of(upstream: &Upstream, now: Instant) -> Self {
        let nodes: Vec<_> =
            upstream.members().iter().map(|member| NodeStatus::of(member, now)).collect();
        let state = if nodes.iter().all(|node| !node.takes_work) {
            "down"
        } else if nodes.iter().all(|node| node.takes_work || node.state == "drained") {
            "ok"
        } else {
            "degraded"
        };
        Self {
            upstream: upstream.name.to_string(),
            kind: upstream.kind.word(),
            balance: upstream.balance.word(),
            state,
            queued: upstream.queue.waiting(),
            nodes,
        }
    }
}

impl NodeStatus {
    fn of(member: &Member, now: Instant) -> Self {
        let text = |models: Vec<ModelName>| models.iter().map(ToString::to_string).collect();
        let reading = member.node.reading(now);
        let recent = reading.traffic.recent(now);
        Self {
            node: reading.node,
            state: reading.state,
            reason: reading.reason,
            state_age_seconds: reading.lasted.as_secs(),
            takes_work: reading.takes_work,
            in_flight: reading.in_flight,
            load_bytes: reading.load_bytes,
            foreign: reading.foreign,
            running: reading.gauges.map(|(running, _)| running),
            waiting: reading.gauges.map(|(_, waiting)| waiting),
            kv_cache: reading.kv_cache.map(part),
            prefix_hits: reading.prefix_hits.map(part),
            ttft: recent.first_token.into(),
            inter_token_latency: recent.between_tokens.into(),
            tokens_per_second: short(recent.tokens),
            answers: reading.traffic.outcome().into(),
            tokens_line: short_line(recent.tokens_line),
            models: member.models().map(text),
        }
    }
}

/// Of one, to a thousandth.
fn part(part: f64) -> f64 {
    (part * 1e3).round() / 1e3
}

impl From<Outcome> for Answers {
    fn from(outcome: Outcome) -> Self {
        let Outcome { ok, refused, errors, retries, aborts } = outcome;
        Self { ok, refused, errors, retries, aborts }
    }
}

/// Those that were asked for, and those that nodes are known to have.
pub(super) fn models(snapshot: &Snapshot, metrics: &Metrics, now: Instant) -> Vec<ModelStatus> {
    let mut known: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    for upstream in &snapshot.upstreams {
        let configured = upstream.models.configured().unwrap_or_default();
        for member in upstream.members().iter() {
            let up = usize::from(member.node.health.standing(now).takes_work());
            let listed = member.models().filter(|_| configured.is_empty()).unwrap_or_default();
            for model in configured.iter().chain(&listed) {
                let (nodes_up, nodes) = known.entry(model.to_string()).or_default();
                (*nodes_up, *nodes) = (*nodes_up + up, *nodes + 1);
            }
        }
    }
    let traffic: BTreeMap<_, _> = metrics.models().into_iter().collect();
    for model in traffic.keys() {
        known.entry(model.clone()).or_default();
    }
    let status = |(model, (nodes_up, nodes)): (String, (usize, usize))| {
        let traffic = traffic.get(&model);
        let recent = traffic.map(|traffic| traffic.recent(now)).unwrap_or_default();
        ModelStatus {
            nodes_up,
            nodes,
            requests_per_second: short(recent.requests),
            tokens_per_second: short(recent.tokens),
            ttft: recent.first_token.into(),
            inter_token_latency: recent.between_tokens.into(),
            answers: traffic.map(|traffic| traffic.outcome().into()).unwrap_or_default(),
            tokens_line: short_line(recent.tokens_line),
            model,
        }
    };
    known.into_iter().map(status).collect()
}
