//! All that a reload replaces, in one piece: no request ever sees an old route with a new key.

use std::collections::HashMap;
use std::sync::Arc;

use crate::access::keys::KeyStore;
use crate::answers::health::Health;
use crate::config::Config;
use crate::metrics::Metrics;
use crate::routing::choice::Choices;
use crate::routing::table::{self, RouteTable};
use crate::upstream::Upstream;
use crate::upstream::resolve::Resolve;

/// Routes, upstreams and keys as of one reading of the configuration. Immutable.
pub struct Snapshot {
    /// 1 for the first, one more for each after it.
    pub generation: u64,
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
}

impl Snapshot {
    /// Builds what `config` says. Nothing is asked of any node.
    ///
    /// # Errors
    /// A path that the router cannot take: its text.
    pub fn build(
        config: &Config,
        generation: u64,
        resolver: &Arc<dyn Resolve>,
        metrics: &Metrics,
    ) -> Result<Self, String> {
        let upstream = |(index, one)| {
            let models_path = table::models_path(config, index);
            Arc::new(Upstream::new(one, models_path, resolver.clone(), metrics))
        };
        let upstreams: Vec<Arc<Upstream>> =
            config.upstreams.iter().enumerate().map(upstream).collect();
        let table = RouteTable::build(config, &upstreams)?;
        let default = config.default_upstream.and_then(|index| upstreams.get(index).cloned());
        let aliases: HashMap<_, _> = config.aliases.iter().cloned().collect();
        Ok(Self {
            generation,
            health: Health::new(&table, &upstreams),
            choices: Choices { aliases, default },
            keys: KeyStore::new(&config.keys),
            table,
            upstreams,
        })
    }
}
