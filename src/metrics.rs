//! Every series that the gateway exposes: a field each, a method for each event. No other file spells a series' name.

mod ledger;
mod limit_store;
mod nodes;
mod sessions;

use std::collections::HashSet;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use prometheus::core::Collector;
use prometheus::{
    Encoder, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, TextEncoder,
};

pub use ledger::LedgerSeries;
pub use limit_store::{LimitStoreMetrics, RedisMetrics};
use nodes::NodeSeries;
pub use nodes::{NodeReading, Reading, Readings};
pub use sessions::SessionMetrics;

/// vLLM 0.32's own buckets for whole requests (`vllm/v1/metrics/buckets.py`), so that panels overlay, with three below
/// for answers that need no model.
const REQUEST_SECONDS: [f64; 23] = [
    0.005, 0.025, 0.1, 0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0,
    60.0, 120.0, 240.0, 480.0, 960.0, 1920.0,
];

/// From what a machine in the same rack takes to what nobody would call at once.
const ABORT_SECONDS: [f64; 16] = [
    0.000_1, 0.000_2, 0.000_5, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0,
    10.0,
];

/// Values of one label before the rest is counted as [`OTHER`]: a scrape stays small whatever the config holds.
const LABEL_VALUES_MAX: usize = 1_000;

/// Stands for every value past [`LABEL_VALUES_MAX`].
const OTHER: &str = "_other";

/// Handles to all series.
pub struct Metrics {
    registry: Registry,
    nodes: NodeSeries,
    requests: IntCounterVec,
    request_seconds: HistogramVec,
    retries: IntCounterVec,
    failures: IntCounterVec,
    queued: IntGaugeVec,
    queue_seconds: HistogramVec,
    prefix_tokens: IntCounterVec,
    refusals: IntCounterVec,
    reloads: IntCounterVec,
    abort_seconds: [Histogram; Phase::ALL.len()],
    /// Upstreams that have series of their own; locked only while a snapshot is built.
    named: Mutex<HashSet<String>>,
    /// `sluice_requests_in_flight`: requests begun and not yet logged.
    pub in_flight: IntGauge,
    /// `sluice_client_aborts_total`: requests whose client left before the answer's end.
    pub client_aborts: IntCounter,
    /// `sluice_held_request_bytes`: request bodies in memory, in bytes.
    pub held_bytes: IntGauge,
    /// `sluice_response_ids`: responses whose node and key are remembered.
    pub response_ids: IntGauge,
    /// Of the ledger.
    pub ledger: LedgerSeries,
    /// `sluice_access_log_dropped_total`: lines that did not fit the queue to the writer.
    pub access_log_dropped: IntCounter,
    /// `sluice_config_generation`: 1 at start, one more with each reload that took effect.
    pub config_generation: IntGauge,
    /// `sluice_config_last_reload_successful`: 0 while the files on disk are not what is served.
    pub config_in_effect: IntGauge,
}

/// The series of one upstream, resolved once when a snapshot is built: the hot path looks up no label.
#[derive(Clone)]
pub struct UpstreamMetrics {
    answers: [IntCounter; 5],
    seconds: Histogram,
    retries: IntCounter,
    failures: [IntCounter; Failure::ALL.len()],
    queued: IntGauge,
    queue_seconds: Histogram,
    prefix_tokens: [IntCounter; 3],
}

/// A request that waits for a place. Dropping it ends the wait.
pub struct Queued {
    shown: IntGauge,
    seconds: Histogram,
    began: Instant,
}

/// How far a request was when its client left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// A stream was asked for, and no byte of it had come.
    Waiting,
    /// In a stream.
    Streaming,
    /// No stream was asked for.
    NonStreaming,
}

impl Phase {
    const ALL: [Self; 3] = [Self::Waiting, Self::Streaming, Self::NonStreaming];

    fn label(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Streaming => "streaming",
            Self::NonStreaming => "non_streaming",
        }
    }
}

/// How a try at a node fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// No connection.
    Connect,
    /// Too slow.
    Timeout,
    /// Closed, reset or fell short before its answer's good end, or an answer that is no HTTP.
    Broken,
    /// Refused the key that we present.
    Auth,
    /// Told of its own death inside of a stream.
    Died,
}

impl Failure {
    const ALL: [Self; 5] = [Self::Connect, Self::Timeout, Self::Broken, Self::Auth, Self::Died];

    fn label(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Timeout => "timeout",
            Self::Broken => "broken",
            Self::Auth => "auth",
            Self::Died => "died",
        }
    }
}

/// Makes series that the registry knows.
struct Series(Registry);

impl Series {
    fn registered<C: Collector + Clone + 'static>(&self, series: C) -> prometheus::Result<C> {
        self.0.register(Box::new(series.clone()))?;
        Ok(series)
    }

    fn counters(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> prometheus::Result<IntCounterVec> {
        self.registered(IntCounterVec::new(Opts::new(name, help), labels)?)
    }

    fn counter(&self, name: &str, help: &str) -> prometheus::Result<IntCounter> {
        self.registered(IntCounter::new(name, help)?)
    }

    fn gauge(&self, name: &str, help: &str) -> prometheus::Result<IntGauge> {
        self.registered(IntGauge::new(name, help)?)
    }

    fn abort_seconds(&self) -> prometheus::Result<[Histogram; Phase::ALL.len()]> {
        let opts = HistogramOpts::new(
            "sluice_abort_propagation_seconds",
            "From the moment when the gateway sees that a client left until its node's connection is let go, by phase: \
             waiting, streaming, non_streaming. Not observed after the head of an answer that is no stream.",
        );
        let all = HistogramVec::new(opts.buckets(ABORT_SECONDS.to_vec()), &["phase"])?;
        let all = self.registered(all)?;
        Ok(Phase::ALL.map(|phase| all.with_label_values(&[phase.label()])))
    }

    fn build_info(&self) -> prometheus::Result<()> {
        let info = Opts::new("sluice_build_info", "Always 1; the version is the label.");
        let info = info.const_label("version", env!("CARGO_PKG_VERSION"));
        self.registered(IntGauge::with_opts(info)?)?.set(1);
        Ok(())
    }

    fn prefix_tokens(&self) -> prometheus::Result<IntCounterVec> {
        self.counters(
            "sluice_prefix_tokens_total",
            "Tokens of prompts whose answers told of the cache, by upstream and kind: prompt, thought, found.",
            &["upstream", "kind"],
        )
    }

    fn queues(&self) -> prometheus::Result<(IntGaugeVec, HistogramVec)> {
        let help = "Requests that wait for a place at a node, by upstream.";
        let gauge = IntGaugeVec::new(Opts::new("sluice_queue_requests", help), &["upstream"])?;
        let seconds = self.seconds(
            "sluice_queue_seconds",
            "How long requests waited for a place at a node, by upstream; those that did not wait are not in it.",
        )?;
        Ok((self.registered(gauge)?, seconds))
    }

    fn seconds(&self, name: &str, help: &str) -> prometheus::Result<HistogramVec> {
        let opts = HistogramOpts::new(name, help);
        let opts = opts.buckets(REQUEST_SECONDS.to_vec());
        self.registered(HistogramVec::new(opts, &["upstream"])?)
    }
}

impl Metrics {
    /// Registers every series.
    ///
    /// # Errors
    /// Two series of one name: a fault of this file.
    pub fn new() -> prometheus::Result<Self> {
        let new = Series(Registry::new());
        let (queued, queue_seconds) = new.queues()?;
        let process = prometheus::process_collector::ProcessCollector::for_self();
        new.0.register(Box::new(process))?;
        new.build_info()?;
        Ok(Self {
            requests: new.counters(
                "sluice_requests_total",
                "Requests that a node answered, by upstream and class of status.",
                &["upstream", "status"],
            )?,
            retries: new.counters(
                "sluice_retries_total",
                "Tries after a request's first, by upstream.",
                &["upstream"],
            )?,
            failures: new.counters(
                "sluice_upstream_failures_total",
                "Tries that failed, by upstream and kind: connect, timeout, broken, auth, died.",
                &["upstream", "kind"],
            )?,
            queued,
            queue_seconds,
            prefix_tokens: new.prefix_tokens()?,
            refusals: new.counters(
                "sluice_refusals_total",
                "Requests that the gateway refused or could not have answered, by code.",
                &["code"],
            )?,
            reloads: new.counters(
                "sluice_config_reloads_total",
                "Changes of the configuration, by result: ok, failed.",
                &["result"],
            )?,
            in_flight: new
                .gauge("sluice_requests_in_flight", "Requests begun and not yet ended.")?,
            client_aborts: new.counter(
                "sluice_client_aborts_total",
                "Requests whose client left before the answer's end.",
            )?,
            abort_seconds: new.abort_seconds()?,
            held_bytes: new
                .gauge("sluice_held_request_bytes", "Bytes of request bodies held in memory.")?,
            response_ids: new.gauge(
                "sluice_response_ids",
                "Responses of /v1/responses whose node and key are remembered.",
            )?,
            ledger: LedgerSeries::new(&new)?,
            access_log_dropped: new.counter(
                "sluice_access_log_dropped_total",
                "Access log lines that did not fit the queue to the writer.",
            )?,
            config_generation: new.gauge(
                "sluice_config_generation",
                "1 at start, one more with each reload that took effect.",
            )?,
            config_in_effect: new.gauge(
                "sluice_config_last_reload_successful",
                "0 while the files on disk are not what is served.",
            )?,
            nodes: new.registered(NodeSeries::new()?)?,
            named: Mutex::new(HashSet::new()),
            request_seconds: new.seconds(
                "sluice_request_duration_seconds",
                "From a request's first byte to its answer's last, by upstream.",
            )?,
            registry: new.0,
        })
    }

    /// The series of `upstream`; those of `_other` once there are too many.
    pub fn of_upstream(&self, upstream: &str) -> UpstreamMetrics {
        let mut named = self.named.lock();
        let fits = named.contains(upstream)
            || (named.len() < LABEL_VALUES_MAX && named.insert(upstream.to_owned()));
        let upstream = if fits { upstream } else { OTHER };
        let answers = ["1xx", "2xx", "3xx", "4xx", "5xx"]
            .map(|class| self.requests.with_label_values(&[upstream, class]));
        UpstreamMetrics {
            answers,
            seconds: self.request_seconds.with_label_values(&[upstream]),
            retries: self.retries.with_label_values(&[upstream]),
            failures: Failure::ALL
                .map(|kind| self.failures.with_label_values(&[upstream, kind.label()])),
            queued: self.queued.with_label_values(&[upstream]),
            queue_seconds: self.queue_seconds.with_label_values(&[upstream]),
            prefix_tokens: ["prompt", "thought", "found"]
                .map(|kind| self.prefix_tokens.with_label_values(&[upstream, kind])),
        }
    }

    /// From now on the series of nodes are read by `readings`. Only the first call counts.
    pub fn read_nodes_by(&self, readings: Readings) {
        self.nodes.read_by(readings);
    }

    /// A request was refused. `code` is a [`Refusal::code`](crate::refusal::Refusal::code): a bounded set.
    pub fn refused(&self, code: &str) {
        self.refusals.with_label_values(&[code]).inc();
    }

    /// A client left in `phase`; its node was let go after `took`.
    pub fn aborted(&self, phase: Phase, took: Duration) {
        self.abort_seconds[phase as usize].observe(took.as_secs_f64());
    }

    /// A change of the configuration took effect, or did not.
    pub fn reloaded(&self, ok: bool) {
        self.config_in_effect.set(i64::from(ok));
        if ok {
            self.config_generation.inc();
        }
        // Last: who sees that a reload was tried sees what came of it.
        self.reloads.with_label_values(&[if ok { "ok" } else { "failed" }]).inc();
    }

    /// The exposition, Prometheus' text format 0.0.4.
    ///
    /// # Errors
    /// A series that cannot be written: a fault of this file.
    pub fn render(&self) -> prometheus::Result<Vec<u8>> {
        let mut text = Vec::with_capacity(16 * 1024);
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }
}

impl UpstreamMetrics {
    /// A node's answer reached its end, or its client left.
    pub fn answered(&self, status: u16, took: Duration) {
        let class = usize::from(status / 100).clamp(1, 5) - 1;
        self.answers[class].inc();
        self.seconds.observe(took.as_secs_f64());
    }

    /// A try after the first.
    pub fn retried(&self) {
        self.retries.inc();
    }

    /// Of a prompt, a node was thought to hold so many tokens, and found so many.
    pub fn prefix(&self, prompt: u64, thought: u64, found: u64) {
        let counts = [prompt, thought, found];
        self.prefix_tokens.iter().zip(counts).for_each(|(series, count)| series.inc_by(count));
    }

    /// A request waits for a place, until what this gives is dropped.
    pub fn queued(&self) -> Queued {
        self.queued.inc();
        let (shown, seconds) = (self.queued.clone(), self.queue_seconds.clone());
        Queued { shown, seconds, began: Instant::now() }
    }

    /// A try failed.
    pub fn failed(&self, how: Failure) {
        self.failures[how as usize].inc();
    }
}

impl Drop for Queued {
    fn drop(&mut self) {
        self.shown.dec();
        self.seconds.observe(self.began.elapsed().as_secs_f64());
    }
}
