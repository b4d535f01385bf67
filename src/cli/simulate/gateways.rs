//! Gateways that do not talk with each other: each gets its share of the requests, and asks nodes now and then what they do.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::fleet::Shape;
use crate::config::{Balance, Kind, NodeUrl, Nodes, UpstreamConfig, with_defaults};
use crate::metrics::Metrics;
use crate::upstream::Upstream;
use crate::upstream::balance::Wish;
use crate::upstream::load::{Gauges, Place};
use crate::upstream::node::Registry;
use crate::upstream::resolve::SystemResolver;

/// What the model of a gateway remembers, in bytes: as by default.
const INDEX_BYTES: usize = 64 << 20;

/// All gateways of a fleet.
pub(super) struct Gateways {
    them: Vec<Upstream>,
    /// Looks at the nodes so far: one gateway after the other.
    looks: usize,
    /// When the next one is due.
    due: Duration,
}

impl Gateways {
    /// So many of them, none of which knows anything yet.
    pub(super) fn new(count: u16, balance: Balance, shape: &Shape) -> Result<Self, String> {
        let metrics = Metrics::new().map_err(|error| error.to_string())?;
        let url = |port| NodeUrl { tls: false, host: "node".to_owned(), port, base: String::new() };
        let nodes = Nodes::Listed((1..=shape.nodes).map(url).collect());
        let config =
            UpstreamConfig { balance, ..with_defaults("simulated".into(), Kind::Vllm, nodes) };
        let gateway = || {
            let registry = Arc::new(Registry::new(Arc::new(SystemResolver), INDEX_BYTES));
            let upstream = Upstream::new(&config, None, &registry, &metrics);
            for member in upstream.members().iter() {
                member.node.room.is_of(Some(u64::from(shape.cache_tokens)));
            }
            upstream
        };
        let them = std::iter::repeat_with(gateway).take(usize::from(count)).collect();
        Ok(Self { them, looks: 0, due: Duration::ZERO })
    }

    /// The node that a request gets, and its place there, from the gateway that `hash` sends it to.
    pub(super) fn choose(
        &self,
        hash: u64,
        wish: &Wish<'_>,
        now: Instant,
    ) -> (usize, Option<Place>) {
        let count = u64::try_from(self.them.len()).unwrap_or(u64::MAX);
        let gateway = &self.them[usize::try_from(hash % count).unwrap_or_default()];
        let place = gateway.pick_at(wish, now).ok();
        let members = gateway.members();
        let at =
            |place: &Place| members.iter().position(|one| Arc::ptr_eq(&one.node, place.node()));
        (place.as_ref().and_then(at).unwrap_or_default(), place)
    }

    /// Whoever is due by `now` asks each node for its gauges, as probes do: the gateways take turns within an interval.
    pub(super) fn look(&mut self, now: Duration, gauges: &[Gauges]) {
        let health = self.them.first().and_then(|gateway| gateway.health.as_ref());
        let Some(interval) = health.map(|health| health.interval) else { return };
        let count = self.them.len();
        // Nothing comes of looks while nobody asks for anything.
        self.due = self.due.max(now.saturating_sub(interval));
        while self.due <= now {
            for (member, gauges) in self.them[self.looks % count].members().iter().zip(gauges) {
                let load = &member.node.load;
                load.compare(Some(*gauges), load.requests());
            }
            self.looks += 1;
            self.due += interval / u32::try_from(count).unwrap_or(u32::MAX);
        }
    }
}
