//! Nodes on a clock of their own: slots, a queue, prompts computed one after the other, a cache that keeps what was used last.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::{Duration, Instant};

use super::gateways::Gateways;
use super::trace::Request;
use crate::config::Balance;
use crate::upstream::balance::{Affinity, Wish};
use crate::upstream::load::{Gauges, Place};
use crate::upstream::prefix::chain::mixed;
use crate::upstream::prefix::index::Index;
use crate::wire::usage::PromptUsage;

/// Bytes of a prompt to a token.
const TOKEN_BYTES: u32 = 4;

/// What each node is like.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(super) struct Shape {
    /// Nodes
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(super) nodes: u16,
    /// Requests that a node answers at a time; others wait there
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..))]
    slots: u32,
    /// Tokens of prompts that a node computes in a second
    #[arg(long, value_name = "TOKENS", default_value_t = 8_000, value_parser = clap::value_parser!(u32).range(1..))]
    prefill_rate: u32,
    /// Milliseconds from each token of an answer to the next
    #[arg(long, value_name = "MS", default_value_t = 20)]
    token_delay: u32,
    /// Tokens that the cache of a node holds
    #[arg(long, value_name = "TOKENS", default_value_t = 65_536)]
    pub(super) cache_tokens: u32,
    /// Gateways that get a request each by chance, and do not talk with each other
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    replicas: u16,
    /// All requests of a session get the same gateway, as where a balancer before them sees to it
    #[arg(long)]
    by_session: bool,
}

/// Who chooses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Policy {
    /// Gateways.
    Gateway(Balance),
    /// Somebody who knows what every node has to do, and what is in its cache.
    Oracle,
}

/// What came of it.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// Of each request, in seconds, sorted.
    pub(super) first_tokens: Vec<f64>,
    pub(super) prompt_bytes: u64,
    pub(super) found_bytes: u64,
    /// Requests that each node got.
    pub(super) requests: Vec<u32>,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    FirstToken,
    End,
}

struct Node {
    cache: Index,
    running: usize,
    waiting: VecDeque<usize>,
    /// When the prompts that it has are computed.
    computed: Duration,
}

struct Running<'t> {
    request: &'t Request,
    node: usize,
    place: Option<Place>,
    /// Bytes of its prompt that were in the cache.
    found: u64,
}

/// A fleet and its gateways.
pub(super) struct Fleet {
    shape: Shape,
    policy: Policy,
    gateways: Gateways,
    nodes: Vec<Node>,
    began: Instant,
    events: BinaryHeap<Reverse<(Duration, usize, Event)>>,
    outcome: Outcome,
}

impl Fleet {
    /// Nodes with nothing to do.
    pub(super) fn new(shape: Shape, policy: Policy) -> Result<Self, String> {
        let balance = match policy {
            Policy::Gateway(balance) => balance,
            Policy::Oracle => Balance::default(),
        };
        let room = shape.room();
        let node = || Node {
            cache: Index::new(usize::try_from(room).unwrap_or(usize::MAX)),
            running: 0,
            waiting: VecDeque::new(),
            computed: Duration::ZERO,
        };
        Ok(Self {
            shape,
            policy,
            gateways: Gateways::new(shape.replicas, balance, &shape)?,
            nodes: std::iter::repeat_with(node).take(usize::from(shape.nodes)).collect(),
            began: Instant::now(),
            events: BinaryHeap::new(),
            outcome: Outcome { requests: vec![0; usize::from(shape.nodes)], ..Outcome::default() },
        })
    }

    /// Plays all requests.
    pub(super) fn play(mut self, requests: &[Request]) -> Outcome {
        let mut running: Vec<Running<'_>> = Vec::with_capacity(requests.len());
        for request in requests {
            while self.events.peek().is_some_and(|Reverse((at, ..))| *at <= request.at) {
                self.step(&mut running);
            }
            let gauges: Vec<Gauges> = self.nodes.iter().map(Node::gauges).collect();
            self.gateways.look(request.at, &gauges);
            let (node, place) = self.choose(running.len(), request);
            self.outcome.requests[node] += 1;
            running.push(Running { request, node, place, found: 0 });
            self.nodes[node].waiting.push_back(running.len() - 1);
            self.admit(node, &mut running, request.at);
        }
        while !self.events.is_empty() {
            self.step(&mut running);
        }
        self.outcome.first_tokens.sort_by(f64::total_cmp);
        self.outcome
    }

    fn step(&mut self, running: &mut [Running<'_>]) {
        let Some(Reverse((at, id, event))) = self.events.pop() else { return };
        let one = &mut running[id];
        match event {
            Event::FirstToken => {
                self.outcome.first_tokens.push((at - one.request.at).as_secs_f64());
                let now = self.began + at;
                one.place.iter_mut().for_each(|place| place.began(true, now));
                // What answers say of the cache corrects what their gateway thinks of it.
                let _thought = one.place.as_ref().and_then(|place| place.compare(one.usage()));
            }
            Event::End => {
                one.place = None;
                let node = one.node;
                self.nodes[node].running -= 1;
                self.admit(node, running, at);
            }
        }
    }

    fn choose(&self, number: usize, request: &Request) -> (usize, Option<Place>) {
        let affinity = match self.policy {
            Policy::Oracle => return (self.best(request), None),
            Policy::Gateway(Balance::ConsistentHash) => Affinity::Session(request.session),
            Policy::Gateway(_) => Affinity::Prompt(&request.chain),
        };
        let bytes = usize::try_from(request.chain.bytes()).unwrap_or(usize::MAX);
        let wish = Wish { affinity, bytes, ..Wish::ANY };
        let number = u64::try_from(number).unwrap_or_default();
        let hash = match self.shape.by_session {
            true if request.session != 0 => request.session,
            _ => mixed(number),
        };
        self.gateways.choose(hash, &wish, self.began + request.at)
    }

    /// Where the first token would come first.
    fn best(&self, request: &Request) -> usize {
        let wait = |node: &Node| {
            let found = node.cache.held(&request.chain).at(0);
            let own = self.computing(request.chain.bytes() - found);
            let busy = node.running + node.waiting.len();
            (node.computed.saturating_sub(request.at) + own + self.shape.slot_wait(busy), busy)
        };
        let waits = self.nodes.iter().map(wait).enumerate();
        waits.min_by_key(|(_, wait)| *wait).map_or(0, |(node, _)| node)
    }

    fn computing(&self, bytes: u64) -> Duration {
        let rate = f64::from(self.shape.prefill_rate) * f64::from(TOKEN_BYTES);
        Duration::from_secs_f64(bytes as f64 / rate)
    }

    /// Moves up whoever waits, as far as there are slots.
    fn admit(&mut self, node: usize, running: &mut [Running<'_>], now: Duration) {
        let room = self.shape.room();
        loop {
            let at = &mut self.nodes[node];
            if at.running >= self.shape.slots() {
                return;
            }
            let Some(id) = at.waiting.pop_front() else { return };
            let request = running[id].request;
            let found = at.cache.held(&request.chain).at(0);
            at.cache.note(0, &request.chain, room);
            at.running += 1;
            running[id].found = found;
            self.outcome.prompt_bytes += request.chain.bytes();
            self.outcome.found_bytes += found;
            let takes = self.computing(request.chain.bytes() - found);
            let at = &mut self.nodes[node];
            at.computed = at.computed.max(now) + takes;
            let first = at.computed;
            let end = first + self.shape.token() * request.answer;
            self.events.push(Reverse((first, id, Event::FirstToken)));
            self.events.push(Reverse((end, id, Event::End)));
        }
    }
}

impl Node {
    fn gauges(&self) -> Gauges {
        let of = |requests| u32::try_from(requests).unwrap_or(u32::MAX);
        Gauges { running: of(self.running), waiting: of(self.waiting.len()) }
    }
}

impl Running<'_> {
    /// What the node says of its prompt, with `--enable-prompt-tokens-details`.
    fn usage(&self) -> PromptUsage {
        let tokens = |bytes: u64| bytes / u64::from(TOKEN_BYTES);
        PromptUsage { prompt: tokens(self.request.chain.bytes()), cached: Some(tokens(self.found)) }
    }
}

impl Shape {
    fn room(&self) -> u64 {
        u64::from(self.cache_tokens) * u64::from(TOKEN_BYTES)
    }

    fn slots(&self) -> usize {
        usize::try_from(self.slots).unwrap_or(usize::MAX)
    }

    fn token(&self) -> Duration {
        Duration::from_millis(u64::from(self.token_delay))
    }

    /// About how long a request waits for a slot where so many are before it.
    fn slot_wait(&self, busy: usize) -> Duration {
        let over = (busy + 1).saturating_sub(self.slots());
        self.token() * 100 * u32::try_from(over).unwrap_or(u32::MAX) / self.slots
    }
}
