//! The series of nodes.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use prometheus::proto::MetricType;

use super::Failure;
use super::families::Family;
use super::traffic::Traffic;

/// One node at one moment.
#[derive(Clone)]
pub struct NodeReading {
    /// Its URL.
    pub node: String,
    /// Its state in one word.
    pub state: &'static str,
    /// Why it is in that state.
    pub reason: Option<String>,
    /// For how long it has been.
    pub lasted: Duration,
    /// It may get work.
    pub takes_work: bool,
    /// Requests of ours under way.
    pub in_flight: u32,
    /// What they weigh, in bytes of prompts.
    pub load_bytes: u64,
    /// Requests of others, as of the last look.
    pub foreign: u32,
    /// What the node itself says: requests that run, and that wait.
    pub gauges: Option<(u32, u32)>,
    /// Part of its KV cache that is in use, 0 to 1.
    pub kv_cache: Option<f64>,
    /// Part of the prompts' tokens that it found in its cache of late, 0 to 1.
    pub prefix_hits: Option<f64>,
    /// What came of the requests that it got.
    pub traffic: Arc<Traffic>,
}

impl NodeReading {
    /// Two nodes of one URL, by different names of one address, are shown as one.
    pub(super) fn merged(nodes: Vec<Self>) -> Vec<Self> {
        let mut places = HashMap::new();
        let mut merged: Vec<Self> = Vec::with_capacity(nodes.len());
        for node in nodes {
            match places.get(&node.node).and_then(|place: &usize| merged.get_mut(*place)) {
                Some(known) => {
                    known.in_flight = known.in_flight.saturating_add(node.in_flight);
                    known.load_bytes = known.load_bytes.saturating_add(node.load_bytes);
                    known.foreign = known.foreign.saturating_add(node.foreign);
                    known.gauges = known.gauges.or(node.gauges);
                }
                None => {
                    places.insert(node.node.clone(), merged.len());
                    merged.push(node);
                }
            }
        }
        merged
    }
}

/// In the order of the exposition's source; it is told in that of names.
pub(super) const FAMILIES: [Family<NodeReading>; 16] = [
    Family {
        name: "sluice_node_state",
        help: "1 for the state that a node is in: up, starting, ejected, down, resting, paused, asleep, drained.",
        kind: MetricType::GAUGE,
        tell: |node, told| told.word("state", node.state),
    },
    Family {
        name: "sluice_node_takes_work",
        help: "1 while a node may get requests.",
        kind: MetricType::GAUGE,
        tell: |node, told| told.gauge(f64::from(u8::from(node.takes_work))),
    },
    Family {
        name: "sluice_node_in_flight",
        help: "Requests of this gateway that are under way at a node.",
        kind: MetricType::GAUGE,
        tell: |node, told| told.gauge(node.in_flight.into()),
    },
    Family {
        name: "sluice_node_load_bytes",
        help: "Prompts of this gateway that a node has still to compute, in bytes.",
        kind: MetricType::GAUGE,
        tell: |node, told| told.gauge(super::durations::about(node.load_bytes)),
    },
    Family {
        name: "sluice_node_foreign_requests",
        help: "Requests at a node that are not this gateway's, when the node was last asked.",
        kind: MetricType::GAUGE,
        tell: |node, told| told.gauge(node.foreign.into()),
    },
    Family {
        name: "sluice_node_requests_running",
        help: "vllm:num_requests_running, when the node was last asked.",
        kind: MetricType::GAUGE,
        tell: |node, told| {
            node.gauges.iter().for_each(|(running, _)| told.gauge((*running).into()))
        },
    },
    Family {
        name: "sluice_node_requests_waiting",
        help: "vllm:num_requests_waiting, when the node was last asked.",
        kind: MetricType::GAUGE,
        tell: |node, told| {
            node.gauges.iter().for_each(|(_, waiting)| told.gauge((*waiting).into()))
        },
    },
    Family {
        name: "sluice_node_kv_cache_usage_ratio",
        help: "vllm:kv_cache_usage_perc, the mean of a node's engines, when it was last asked: 0 to 1.",
        kind: MetricType::GAUGE,
        tell: |node, told| node.kv_cache.iter().for_each(|part| told.gauge(*part)),
    },
    Family {
        name: "sluice_node_prefix_hit_ratio",
        help: "Part of the prompts' tokens that a node found in its prefix cache in the last five minutes: 0 to 1.",
        kind: MetricType::GAUGE,
        tell: |node, told| node.prefix_hits.iter().for_each(|part| told.gauge(*part)),
    },
    Family {
        name: "sluice_node_requests_total",
        help: "Requests that a node answered, by class of status.",
        kind: MetricType::COUNTER,
        tell: |node, told| node.traffic.totals.tell_answers(told),
    },
    Family {
        name: "sluice_node_tokens_total",
        help: "Tokens of the requests that a node answered, as far as they are known, by kind: prompt, cached, completion.",
        kind: MetricType::COUNTER,
        tell: |node, told| node.traffic.totals.tell_tokens(told),
    },
    Family {
        name: "sluice_node_failures_total",
        help: "Tries that failed at a node, by kind: connect, timeout, broken, auth, died, status.",
        kind: MetricType::COUNTER,
        tell: |node, told| {
            for (kind, count) in Failure::ALL.iter().zip(&node.traffic.failures) {
                told.count_of("kind", kind.label(), count.get());
            }
        },
    },
    Family {
        name: "sluice_node_retries_total",
        help: "Tries that ended at a node without an answer, and were followed by another.",
        kind: MetricType::COUNTER,
        tell: |node, told| told.count(node.traffic.retries.get()),
    },
    Family {
        name: "sluice_node_client_aborts_total",
        help: "Requests at a node whose client left before the answer's end.",
        kind: MetricType::COUNTER,
        tell: |node, told| told.count(node.traffic.aborts.get()),
    },
    Family {
        name: "sluice_node_time_to_first_token_seconds",
        help: "From a request's first byte to the first token of its stream, by the node that made it; vLLM's buckets.",
        kind: MetricType::HISTOGRAM,
        tell: |node, told| told.durations_if_any(&node.traffic.first_token),
    },
    Family {
        name: "sluice_node_inter_token_latency_seconds",
        help: "Between two tokens of a stream, by the node that made them; vLLM's buckets.",
        kind: MetricType::HISTOGRAM,
        tell: |node, told| told.durations_if_any(&node.traffic.between_tokens),
    },
];
