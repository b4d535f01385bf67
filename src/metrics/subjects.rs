//! Nodes, models and keys, as a scrape finds them.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use prometheus::IntGauge;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;

use super::families::{collect, descriptions};
use super::keys::{self, KeyReading};
use super::models::{self, Models};
use super::nodes::{self, NodeReading};
use super::{LABEL_VALUES_MAX, traffic::Traffic};

/// All that is read when somebody asks.
#[derive(Clone, Default)]
pub struct Reading {
    /// Each node.
    pub nodes: Vec<NodeReading>,
    /// Each key.
    pub keys: Vec<KeyReading>,
    /// Requests that wait for a place at a node.
    pub queued: usize,
    /// What is remembered of prompts, in bytes.
    pub prefix_bytes: usize,
}

/// Where readings come from.
pub type Readings = Box<dyn Fn() -> Reading + Send + Sync>;

/// The one collector of all of them.
#[derive(Clone)]
pub(super) struct Subjects(Arc<Inner>);

struct Inner {
    readings: OnceLock<Readings>,
    models: Models,
    prefix_bytes: IntGauge,
    descriptions: Vec<Desc>,
}

impl Subjects {
    pub(super) fn new() -> prometheus::Result<Self> {
        let prefix_bytes = IntGauge::new(
            "sluice_prefix_index_bytes",
            "What is remembered of prompts for prefix_aware, in bytes.",
        )?;
        let mut all = descriptions(&nodes::FAMILIES)?;
        all.extend(descriptions(&models::FAMILIES)?);
        all.extend(descriptions(&keys::FAMILIES)?);
        all.extend(prefix_bytes.desc().into_iter().cloned());
        let (readings, models) = (OnceLock::new(), Models::new());
        Ok(Self(Arc::new(Inner { readings, models, prefix_bytes, descriptions: all })))
    }

    /// From now on nodes and keys are read by `readings`. Only the first call counts.
    pub(super) fn read_by(&self, readings: Readings) {
        let _already_set = self.0.readings.set(readings);
    }

    pub(super) fn models(&self) -> &Models {
        &self.0.models
    }

    /// Notes the numbers of this moment, of each.
    pub(super) fn note(&self, nodes: Vec<NodeReading>, now: Instant) {
        for (_, traffic) in self.0.models.all() {
            traffic.note(now);
        }
        for node in NodeReading::merged(nodes) {
            node.traffic.note(now);
        }
    }

    pub(super) fn read(&self) -> Reading {
        self.0.readings.get().map(|readings| readings()).unwrap_or_default()
    }
}

impl Collector for Subjects {
    fn desc(&self) -> Vec<&Desc> {
        self.0.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let Reading { nodes, keys, prefix_bytes, .. } = self.read();
        let nodes = NodeReading::merged(nodes);
        let nodes: Vec<_> =
            nodes.iter().take(LABEL_VALUES_MAX).map(|one| (one.node.as_str(), one)).collect();
        let mut all = collect(&nodes::FAMILIES, "node", &nodes);
        let models = self.0.models.all();
        let models: Vec<_> = models
            .iter()
            .map(|(name, traffic)| (name.as_str(), &**traffic))
            .collect::<Vec<(&str, &Traffic)>>();
        all.extend(collect(&models::FAMILIES, "model", &models));
        let keys = KeyReading::bounded(keys);
        let keys: Vec<_> = keys.iter().map(|one| (one.key.as_str(), one)).collect();
        all.extend(collect(&keys::FAMILIES, "key", &keys));
        self.0.prefix_bytes.set(i64::try_from(prefix_bytes).unwrap_or(i64::MAX));
        all.extend(self.0.prefix_bytes.collect());
        all
    }
}
