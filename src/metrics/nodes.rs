//! The series of nodes: read when somebody asks, so that no request pays for them and a node that is gone leaves none.

use std::sync::OnceLock;

use parking_lot::Mutex;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntGauge, IntGaugeVec, Opts};

use super::LABEL_VALUES_MAX;

/// One node at one moment.
#[derive(Debug, Clone)]
pub struct NodeReading {
    /// Its URL.
    pub node: String,
    /// Its state in one word.
    pub state: &'static str,
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
}

/// All of them, at one moment.
#[derive(Debug, Clone)]
pub struct Reading {
    /// Each.
    pub nodes: Vec<NodeReading>,
    /// What is remembered of their prompts, in bytes.
    pub prefix_bytes: usize,
}

/// Where readings come from.
pub type Readings = Box<dyn Fn() -> Reading + Send + Sync>;

/// Handles to the series of nodes.
#[derive(Clone)]
pub(super) struct NodeSeries(std::sync::Arc<Series>);

struct Series {
    readings: OnceLock<Readings>,
    state: IntGaugeVec,
    takes_work: IntGaugeVec,
    in_flight: IntGaugeVec,
    load: IntGaugeVec,
    foreign: IntGaugeVec,
    running: IntGaugeVec,
    waiting: IntGaugeVec,
    prefix_bytes: IntGauge,
    /// Held while they are read and shown: two readers must not mix.
    reading: Mutex<()>,
}

impl NodeSeries {
    pub(super) fn new() -> prometheus::Result<Self> {
        let gauge = |name, help, labels: &[&str]| IntGaugeVec::new(Opts::new(name, help), labels);
        let of_node = |name, help| gauge(name, help, &["node"]);
        Ok(Self(std::sync::Arc::new(Series {
            readings: OnceLock::new(),
            state: gauge(
                "sluice_node_state",
                "1 for the state that a node is in: up, starting, ejected, down, resting, paused, asleep, drained.",
                &["node", "state"],
            )?,
            takes_work: of_node("sluice_node_takes_work", "1 while a node may get requests.")?,
            in_flight: of_node(
                "sluice_node_in_flight",
                "Requests of this gateway that are under way at a node.",
            )?,
            load: of_node(
                "sluice_node_load_bytes",
                "Prompts of this gateway that a node has still to compute, in bytes.",
            )?,
            foreign: of_node(
                "sluice_node_foreign_requests",
                "Requests at a node that are not this gateway's, when the node was last asked.",
            )?,
            running: of_node(
                "sluice_node_requests_running",
                "vllm:num_requests_running, when the node was last asked.",
            )?,
            waiting: of_node(
                "sluice_node_requests_waiting",
                "vllm:num_requests_waiting, when the node was last asked.",
            )?,
            prefix_bytes: IntGauge::new(
                "sluice_prefix_index_bytes",
                "What is remembered of prompts for prefix_aware, in bytes.",
            )?,
            reading: Mutex::new(()),
        })))
    }

    /// From now on nodes are read by `readings`. Only the first call counts.
    pub(super) fn read_by(&self, readings: Readings) {
        let _already_set = self.0.readings.set(readings);
    }
}

impl Series {
    fn all(&self) -> [&IntGaugeVec; 7] {
        [
            &self.state,
            &self.takes_work,
            &self.in_flight,
            &self.load,
            &self.foreign,
            &self.running,
            &self.waiting,
        ]
    }

    fn show(&self, reading: &NodeReading) {
        let node = &[reading.node.as_str()];
        // Two nodes of one URL, by different names of one address, are shown as one.
        let add = |series: &IntGaugeVec, value: i64| series.with_label_values(node).add(value);
        self.state.with_label_values(&[node[0], reading.state]).set(1);
        self.takes_work.with_label_values(node).set(i64::from(reading.takes_work));
        add(&self.in_flight, reading.in_flight.into());
        add(&self.load, i64::try_from(reading.load_bytes).unwrap_or(i64::MAX));
        add(&self.foreign, reading.foreign.into());
        if let Some((running, waiting)) = reading.gauges {
            self.running.with_label_values(node).set(running.into());
            self.waiting.with_label_values(node).set(waiting.into());
        }
    }
}

impl Collector for NodeSeries {
    fn desc(&self) -> Vec<&Desc> {
        let of_nodes = self.0.all().into_iter().flat_map(Collector::desc);
        of_nodes.chain(self.0.prefix_bytes.desc()).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let series = &self.0;
        let Some(readings) = series.readings.get() else { return Vec::new() };
        let _reading = series.reading.lock();
        series.all().into_iter().for_each(IntGaugeVec::reset);
        let Reading { nodes, prefix_bytes } = readings();
        nodes.iter().take(LABEL_VALUES_MAX).for_each(|reading| series.show(reading));
        series.prefix_bytes.set(i64::try_from(prefix_bytes).unwrap_or(i64::MAX));
        let of_nodes = series.all().into_iter().flat_map(Collector::collect);
        of_nodes.chain(series.prefix_bytes.collect()).collect()
    }
}
