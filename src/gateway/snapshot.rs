//! All that a reload replaces, in one piece: no request ever sees an old route with a new key.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use crate::access::keys::KeyStore;
use crate::answers::docs::Document;
use crate::answers::health::Health;
use crate::config::{Config, Kind};
use crate::metrics::{Known, Metrics};
use crate::routing::choice::Choices;
use crate::routing::table::{self, RouteTable};
use crate::upstream::Upstream;
use crate::upstream::node::{Node, Registry};

/// Routes, upstreams and keys as of one reading of the configuration. Immutable.
pub struct Snapshot {
    /// 1 for the first, one more for each after it.
    pub generation: u64,
    /// When it was built.
    pub since: Instant,
    /// In file order.
    pub upstreams: Vec<Arc<Upstream>>,
    /// Paths and methods → candidates.
    pub table: RouteTable,
    /// Which of the candidates.
    pub choices: Choices,
    /// Who may come in.
    pub keys: KeyStore,
    /// Who is asked for `GET /health`.
    pub health: Health,
    /// What all of it looks like to clients.
    pub document: Document,
}

impl Snapshot {
    /// Builds what `config` says, of the nodes in `registry`: those that were there `before` go on as they are. Nothing is
    /// asked of any node.
    ///
    /// # Errors
    /// A path that the router cannot take: its text.
    pub fn build(
        config: &Config,
        before: Option<&Self>,
        registry: &Arc<Registry>,
        metrics: &Metrics,
    ) -> Result<Self, String> {
        let upstream = |(one, models_path)| {
            let upstream = Upstream::new(one, models_path, registry, metrics);
            for before in before.iter().flat_map(|before| &before.upstreams) {
                upstream.inherit(before);
            }
            Arc::new(upstream)
        };
        let upstreams: Vec<Arc<Upstream>> =
            config.upstreams.iter().zip(table::models_paths(config)).map(upstream).collect();
        for model in upstreams.iter().filter_map(|one| one.models.configured()).flatten() {
            let _has_series_now = metrics.of_model(Some(model.as_str()), Known::Listed);
        }
        let table = RouteTable::build(config, &upstreams)?;
        forget_unprobed(registry, &upstreams);
        let default = config.default_upstream.and_then(|index| upstreams.get(index).cloned());
        let aliases: HashMap<_, _> = config.aliases.iter().cloned().collect();
        let fallbacks: HashMap<_, _> = config.fallbacks.iter().cloned().collect();
        Ok(Self {
            generation: before.map_or(1, |before| before.generation + 1),
            since: Instant::now(),
            health: Health::new(&table, &upstreams),
            choices: Choices { aliases, fallbacks, default },
            keys: KeyStore::new(&config.keys, before.map(|before| &before.keys)),
            document: Document::default(),
            table,
            upstreams,
        })
    }
}

/// What probes found holds only while somebody probes.
fn forget_unprobed(registry: &Registry, upstreams: &[Arc<Upstream>]) {
    let has = |upstream: &Upstream, node: &Arc<Node>| {
        upstream.members().iter().any(|member| Arc::ptr_eq(&member.node, node))
    };
    for node in registry.nodes() {
        let mut probing = upstreams.iter().filter(|one| one.health.is_some() && has(one, &node));
        // The first one that probes it does so for all.
        match probing.next() {
            None => node.health.forget(true),
            Some(first) if first.kind != Kind::Vllm => node.health.forget(false),
            Some(_) => {}
        }
    }
}
