//! The nodes: where they are, what they serve, how we ask them something ourselves.

pub mod client;
pub mod connection;
pub mod models;
pub mod node;
pub mod refresh;
pub mod resolve;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::config::{Credential, Kind, Timeouts, UpstreamConfig};
use crate::metrics::{Metrics, UpstreamMetrics};
use crate::names::UpstreamName;
use models::ModelList;
use node::Node;
use resolve::Resolve;

/// Nodes that serve the same thing. One node, for now.
pub struct Upstream {
    /// Unique in a snapshot.
    pub name: UpstreamName,
    /// What may be assumed of its node.
    pub kind: Kind,
    /// The node.
    pub node: Node,
    /// What we present to it.
    pub credential: Option<Credential>,
    /// How long to wait for it.
    pub timeouts: Timeouts,
    /// How long an idle connection to it is kept.
    pub keepalive_idle: Duration,
    /// Tries in all, at least 1.
    pub attempts: usize,
    /// What it serves.
    pub models: ModelList,
    /// Where its node lists them.
    pub models_path: String,
    /// Its series.
    pub metrics: UpstreamMetrics,
    /// The last try reached it.
    reachable: AtomicBool,
    /// The last answer refused our key.
    key_refused: AtomicBool,
}

impl Upstream {
    /// Builds it. Nothing is asked of the node yet. `models_path` where its models are listed elsewhere than at
    /// `/v1/models` below its base.
    pub fn new(
        config: &UpstreamConfig,
        models_path: Option<String>,
        resolver: Arc<dyn Resolve>,
        metrics: &Metrics,
    ) -> Self {
        let node = Node::new(config.nodes.first().clone(), resolver);
        Self {
            name: config.name.clone(),
            kind: config.kind,
            models_path: models_path.unwrap_or_else(|| node.path_for("/v1/models")),
            node,
            credential: config.credential.clone(),
            timeouts: config.timeouts,
            keepalive_idle: config.keepalive_idle,
            attempts: config.attempts,
            models: ModelList::new(config.models.clone()),
            metrics: metrics.of_upstream(config.name.as_str()),
            reachable: AtomicBool::new(true),
            key_refused: AtomicBool::new(false),
        }
    }

    /// Takes note whether the node refused our key; true where that is news.
    pub fn key_refused(&self, yes: bool) -> bool {
        self.key_refused.load(Ordering::Relaxed) != yes
            && self.key_refused.swap(yes, Ordering::Relaxed) != yes
    }

    /// Takes note whether a try reached the node.
    pub fn reached(&self, yes: bool) {
        if self.reachable.load(Ordering::Relaxed) != yes {
            self.reachable.store(yes, Ordering::Relaxed);
        }
    }

    /// False after a try that did not reach the node. True before the first.
    pub fn is_reachable(&self) -> bool {
        self.reachable.load(Ordering::Relaxed)
    }
}
