//! Somebody who knows every cache and all that each node has to do: what could be had at best.

use std::time::{Duration, Instant};

use parking_lot::Mutex;
use sluice::upstream::prefix::chain::Chain;
use sluice::upstream::prefix::index::Index;

use super::fleet::{CACHE_TOKENS, NODES, PREFILL_RATE, SLOTS};

/// Bytes to a token of the traces' texts.
const TOKEN_BYTES: f64 = 4.9;

struct Node {
    cache: Index,
    /// When the prompts that it has are computed.
    computed: Instant,
    running: usize,
    lost: bool,
}

impl Node {
    fn new() -> Self {
        Self { cache: Index::new(64 << 20), computed: Instant::now(), running: 0, lost: false }
    }
}

pub(crate) struct Oracle(Mutex<Vec<Node>>);

impl Oracle {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(std::iter::repeat_with(Node::new).take(NODES).collect()))
    }

    /// The node at which the first token of a prompt would come first.
    pub(crate) fn choose(&self, prompt: &str) -> usize {
        let chain = Chain::new("m", [prompt.as_bytes()]);
        let now = Instant::now();
        let mut nodes = self.0.lock();
        let takes = |node: &Node| {
            let missing = chain.bytes() - node.cache.held(&chain).at(0);
            Duration::from_secs_f64(missing as f64 / TOKEN_BYTES / f64::from(PREFILL_RATE))
        };
        let wait = |node: &Node| {
            let waits = (node.running + 1).saturating_sub(SLOTS) as f64 * 0.1;
            let computed = node.computed.saturating_duration_since(now);
            (computed + takes(node) + Duration::from_secs_f64(waits), node.running)
        };
        let there = nodes.iter().enumerate().filter(|(_, node)| !node.lost);
        let best = there.min_by_key(|(_, node)| wait(node)).map_or(0, |(at, _)| at);
        let node = &mut nodes[best];
        node.computed = node.computed.max(now) + takes(node);
        node.running += 1;
        node.cache.note(0, &chain, (CACHE_TOKENS as f64 * TOKEN_BYTES) as u64);
        best
    }

    pub(crate) fn ended(&self, node: usize) {
        self.0.lock()[node].running -= 1;
    }

    /// A node is lost, or back without all that it held.
    pub(crate) fn lost(&self, node: usize, lost: bool) {
        let node = &mut self.0.lock()[node];
        *node = Node { lost, running: node.running, ..Node::new() };
    }
}
