//! One node: what it is called, where it is, what it has to do, and how it is.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Instant;

use http::HeaderValue;
use parking_lot::Mutex;
use xxhash_rust::xxh3::xxh3_64;

use super::addresses::Addresses;
use super::cache_use::CacheUse;
use super::health::{Change, Health, Told};
use super::idle::IdleTime;
use super::load::Load;
use super::pace::Pace;
use super::prefix::Prefixes;
use super::prefix::index::Number;
use super::prefix::room::Room;
use super::probes::Schedule;
use super::queue::Queue;
use super::resolve::Resolve;
use crate::config::NodeUrl;
use crate::metrics::{NodeReading, Traffic};
use crate::names::NodeId;

/// A node. It lives through reloads, and is one for all upstreams that have it: what it has to do and how it is are its
/// own.
pub struct Node {
    /// As configured; of a node that a name was resolved to, with the name.
    pub url: NodeUrl,
    /// Its URL, or the one of its address.
    pub id: NodeId,
    /// The same, for answers that name it.
    pub shown: HeaderValue,
    /// `Host` of the requests that it gets.
    pub host_header: HeaderValue,
    /// Where it is.
    pub addresses: Addresses,
    /// What it has to do.
    pub load: Load,
    /// Whether it may get more.
    pub health: Health,
    /// How full its caches are.
    pub cache_use: CacheUse,
    /// What came of the requests that it got.
    pub traffic: Arc<Traffic>,
    /// How long it keeps idle connections.
    pub idle: Arc<IdleTime>,
    /// How many tokens it makes.
    pub pace: Pace,
    /// When it is looked at.
    pub schedule: Schedule,
    /// What all nodes hold in their caches.
    pub prefixes: Arc<Prefixes>,
    /// How much its own holds.
    pub room: Room,
    /// By which it is known there; none where there are too many nodes.
    pub number: Option<Number>,
    /// Of its id: the same in every gateway.
    pub hash: u64,
    /// The last try reached it.
    reachable: AtomicBool,
    /// When its process began, as it says: the bits of seconds.
    began: AtomicU64,
}

impl Node {
    fn new(url: NodeUrl, address: Option<SocketAddr>, registry: &Registry) -> Self {
        // A checked URL always makes a header; a fallback spares every caller an error that cannot be.
        let host_header = HeaderValue::from_str(&authority(&url))
            .unwrap_or_else(|_| HeaderValue::from_static("localhost"));
        let id = match address {
            None => shown(&url),
            Some(address) => {
                let (host, port) = (address.ip().to_string(), address.port());
                shown(&NodeUrl { host, port, ..url.clone() })
            }
        };
        let resolver = || registry.resolver.clone();
        let addresses = address.map_or_else(|| Addresses::of(&url, resolver()), Addresses::fixed);
        Self {
            shown: HeaderValue::from_str(&id).unwrap_or_else(|_| HeaderValue::from_static("-")),
            hash: xxh3_64(id.as_bytes()),
            id: id.into(),
            prefixes: registry.prefixes.clone(),
            room: Room::default(),
            number: None,
            host_header,
            addresses,
            load: Load::default(),
            health: Health::default(),
            cache_use: CacheUse::default(),
            traffic: Arc::default(),
            idle: Arc::default(),
            pace: Pace::default(),
            schedule: Schedule::default(),
            reachable: AtomicBool::new(true),
            began: AtomicU64::new(0),
            url,
        }
    }

    /// How it is and what it has to do, for the metrics.
    pub fn reading(&self, now: Instant) -> NodeReading {
        let Told { state, reason, lasted } = self.health.told(now);
        NodeReading {
            node: self.id.to_string(),
            state,
            reason,
            lasted,
            takes_work: self.health.standing(now).takes_work(),
            in_flight: self.load.requests(),
            load_bytes: self.load.prompts(),
            foreign: self.load.foreign(),
            gauges: self.load.gauges().map(|gauges| (gauges.running, gauges.waiting)),
            kv_cache: self.cache_use.kv_cache(),
            prefix_hits: self.cache_use.prefix_hits(),
            traffic: self.traffic.clone(),
        }
    }

    /// True where `name` means this node: its URL, or without the scheme.
    pub fn is_called(&self, name: &str) -> bool {
        let (id, name) = (self.id.as_str(), name.strip_suffix('/').unwrap_or(name));
        id == name || id.split_once("://").is_some_and(|(_, place)| place == name)
    }

    /// Its process says when it began: where that is another one than before, its cache is empty.
    pub fn began_at(&self, seconds: Option<f64>) {
        let Some(bits) = seconds.map(f64::to_bits) else { return };
        let before = self.began.swap(bits, Ordering::Relaxed);
        if before != 0 && before != bits {
            self.lost_cache();
        }
    }

    /// It may have been started anew: nothing is believed of what it held.
    pub fn lost_cache(&self) {
        self.number.into_iter().for_each(|number| self.prefixes.forget(number));
        self.room.holds(0);
    }

    /// Takes note whether a try reached it.
    pub fn reached(&self, yes: bool) {
        if self.reachable.load(Ordering::Relaxed) != yes {
            self.reachable.store(yes, Ordering::Relaxed);
        }
    }

    /// False after a try that did not reach it. True before the first.
    pub fn is_reachable(&self) -> bool {
        self.reachable.load(Ordering::Relaxed)
    }

    /// Writes to the log what changed.
    pub fn tell(&self, change: Change) {
        match change {
            Change::None => {}
            Change::Up => {
                log::info!("node {} gets work again", self.id);
                self.lost_cache();
            }
            Change::Down(why) => log::warn!("node {} gets no work: {why}", self.id),
        }
    }

    /// The path that this node sees for `path` (SPEC 2.2): `/v1/x` below its base, others at its root.
    pub fn path_for(&self, path: &str) -> String {
        match path.strip_prefix("/v1/") {
            Some(rest) if !self.url.base.is_empty() => format!("{}/{rest}", self.url.base),
            _ => path.to_owned(),
        }
    }
}

/// `host`, or `host:port` where the port is not the scheme's own.
fn authority(url: &NodeUrl) -> String {
    let host = if url.host.contains(':') { format!("[{}]", url.host) } else { url.host.clone() };
    let own_port = if url.tls { 443 } else { 80 };
    if url.port == own_port { host } else { format!("{host}:{}", url.port) }
}

/// A URL as people write it.
pub(super) fn shown(url: &NodeUrl) -> String {
    let scheme = if url.tls { "https" } else { "http" };
    format!("{scheme}://{}{}", authority(url), url.base)
}

/// Every node that somebody has: the same one for the same URL and address, over reloads.
pub struct Registry {
    resolver: Arc<dyn Resolve>,
    prefixes: Arc<Prefixes>,
    nodes: Mutex<Vec<Weak<Node>>>,
    queues: Mutex<HashMap<String, Weak<Queue>>>,
}

impl Registry {
    /// No node yet; names are looked up by `resolver`, and what nodes hold in their caches is known in `prefix_bytes`.
    pub fn new(resolver: Arc<dyn Resolve>, prefix_bytes: usize) -> Self {
        Self {
            resolver,
            prefixes: Arc::new(Prefixes::new(prefix_bytes)),
            nodes: Mutex::default(),
            queues: Mutex::default(),
        }
    }

    /// The queue of the upstream of this name, whose nodes have `most` requests each from now on: also for those that wait
    /// already.
    pub fn queue(&self, upstream: &str, most: Option<u32>) -> Arc<Queue> {
        let mut queues = self.queues.lock();
        queues.retain(|_, queue| queue.strong_count() > 0);
        let known = queues.get(upstream).and_then(Weak::upgrade);
        let queue = known.unwrap_or_else(|| {
            let queue = Arc::default();
            queues.insert(upstream.to_owned(), Arc::downgrade(&queue));
            queue
        });
        queue.set_limit(most);
        queue
    }

    /// What all nodes hold in their caches.
    pub fn prefixes(&self) -> &Prefixes {
        &self.prefixes
    }

    /// Looks names up.
    pub fn resolver(&self) -> &dyn Resolve {
        &*self.resolver
    }

    /// The node of `url`; at `address`, where the URL's name stands for several.
    pub fn node(&self, url: &NodeUrl, address: Option<SocketAddr>) -> Arc<Node> {
        let mut new = Node::new(url.clone(), address, self);
        let mut nodes = self.nodes.lock();
        nodes.retain(|node| node.strong_count() > 0);
        let known: Vec<_> = nodes.iter().filter_map(Weak::upgrade).collect();
        let same = |node: &Arc<Node>| node.id == new.id && node.host_header == new.host_header;
        if let Some(known) = known.iter().find(|node| same(node)) {
            return known.clone();
        }
        let taken = |number: &Number| known.iter().any(|node| node.number == Some(*number));
        new.number = (0..=Number::MAX).find(|number| !taken(number));
        // By another name of one address it is the same to whoever looks.
        if let Some(known) = known.iter().find(|node| node.id == new.id) {
            new.traffic = known.traffic.clone();
        }
        // It may have been another's.
        new.number.into_iter().for_each(|number| self.prefixes.forget(number));
        let new = Arc::new(new);
        nodes.push(Arc::downgrade(&new));
        new
    }

    /// Those that somebody has, oldest first.
    pub fn nodes(&self) -> Vec<Arc<Node>> {
        self.nodes.lock().iter().filter_map(Weak::upgrade).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::prefix::chain::Chain;
    use super::*;
    use crate::upstream::resolve::SystemResolver;

    fn url(host: &str, base: &str) -> NodeUrl {
        NodeUrl { tls: false, host: host.into(), port: 8000, base: base.into() }
    }

    #[test]
    fn paths_below_v1_go_below_the_base() {
        let registry = Registry::new(Arc::new(SystemResolver), 0);
        let node = |base| registry.node(&url("h", base), None);
        assert_eq!(node("").path_for("/v1/chat/completions"), "/v1/chat/completions");
        assert_eq!(node("/v1/openai").path_for("/v1/models"), "/v1/openai/models");
        assert_eq!(node("/v1/openai").path_for("/health"), "/health");
    }

    #[test]
    fn a_node_that_began_anew_or_is_back_holds_nothing() {
        let registry = Registry::new(Arc::new(SystemResolver), 1 << 20);
        let node = registry.node(&url("gpu", ""), None);
        let chain = Chain::new("m", [&[b'x'; 1024][..]]);
        let number = node.number.unwrap();
        let held = || registry.prefixes().held(&chain).at(number);
        for change in [Some(7.0), Some(7.0), None, Some(8.0)] {
            registry.prefixes().note(number, &chain, None);
            node.began_at(change);
            assert_eq!(held(), if change == Some(8.0) { 0 } else { 1024 });
        }
        registry.prefixes().note(number, &chain, None);
        node.tell(Change::Down("refused".into()));
        assert_eq!(held(), 1024);
        node.tell(Change::Up);
        assert_eq!(held(), 0);
        // Nor does one that gets the number of another.
        registry.prefixes().note(number, &chain, None);
        drop(node);
        assert_eq!(registry.node(&url("other", ""), None).number, Some(number));
        assert_eq!(held(), 0);
    }

    #[test]
    fn a_node_is_one_for_all_who_have_it_and_forgotten_after_the_last() {
        let registry = Registry::new(Arc::new(SystemResolver), 0);
        let one = registry.node(&url("gpu", ""), None);
        assert!(Arc::ptr_eq(&one, &registry.node(&url("gpu", ""), None)));
        let address = |last| Some(SocketAddr::from(([10, 0, 0, last], 8000)));
        let (two, three) = (
            registry.node(&url("gpu", ""), address(1)),
            registry.node(&url("gpu", ""), address(2)),
        );
        assert_eq!(
            (two.id.as_str(), three.id.as_str()),
            ("http://10.0.0.1:8000", "http://10.0.0.2:8000")
        );
        assert_eq!(two.host_header, "gpu:8000");
        drop((two, three));
        assert_eq!(registry.nodes().len(), 1);
    }
}
