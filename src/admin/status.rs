//! `GET /api/status`: what there is, how it is, and why.

use std::time::Instant;

use serde::Serialize;

use crate::gateway::Snapshot;
use crate::metrics::NodeReading;
use crate::names::ModelName;
use crate::upstream::Upstream;
use crate::upstream::member::Member;

/// The whole of it.
#[derive(Debug, Serialize)]
pub(super) struct Status {
    /// `ok`; `degraded`: a node that should get work gets none; `down`: an upstream has no node that does; `draining`.
    state: &'static str,
    version: &'static str,
    /// Of the configuration in effect.
    generation: u64,
    upstreams: Vec<UpstreamStatus>,
}

#[derive(Debug, Serialize)]
struct UpstreamStatus {
    upstream: String,
    kind: &'static str,
    balance: &'static str,
    state: &'static str,
    /// Requests that wait for a place at a node.
    queued: usize,
    nodes: Vec<NodeStatus>,
}

#[derive(Debug, Serialize)]
struct NodeStatus {
    node: String,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    takes_work: bool,
    /// Ours, and what they weigh.
    in_flight: u32,
    load_bytes: u64,
    /// Of others.
    foreign: u32,
    /// What the node says of itself.
    running: Option<u32>,
    waiting: Option<u32>,
    /// Where they are learnt from the node.
    models: Option<Vec<String>>,
}

impl Status {
    /// As of now.
    pub(super) fn of(snapshot: &Snapshot, draining: bool, now: Instant) -> Self {
        let upstreams: Vec<_> =
            snapshot.upstreams.iter().map(|one| UpstreamStatus::of(one, now)).collect();
        let any = |state| upstreams.iter().any(|upstream| upstream.state == state);
        let state = match () {
            () if draining => "draining",
            () if any("down") => "down",
            () if any("degraded") => "degraded",
            () => "ok",
        };
        let version = env!("CARGO_PKG_VERSION");
        Self { state, version, generation: snapshot.generation, upstreams }
    }
}

impl UpstreamStatus {
    fn of(upstream: &Upstream, now: Instant) -> Self {
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
        let NodeReading { node, state, takes_work, in_flight, load_bytes, foreign, gauges } =
            member.node.reading(now);
        Self {
            node,
            state,
            reason: member.node.health.told(now).1,
            takes_work,
            in_flight,
            load_bytes,
            foreign,
            running: gauges.map(|(running, _)| running),
            waiting: gauges.map(|(_, waiting)| waiting),
            models: member.models().map(text),
        }
    }
}
