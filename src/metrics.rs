//! Every series that the gateway exposes: a field each, a method for each event. No other file spells a series' name.

mod durations;
mod families;
mod keys;
mod ledger;
mod limit_store;
mod models;
mod nodes;
mod overhead;
mod past;
mod sessions;
mod subjects;
mod traffic;
mod upstreams;
mod whole;

use std::sync::Arc;
use std::time::{Duration, Instant};

use prometheus::core::Collector;
use prometheus::{
    Encoder, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, TextEncoder,
};

pub use durations::{BETWEEN_TOKENS_SECONDS, FIRST_TOKEN_SECONDS, Found, between_tokens};
pub use keys::KeyReading;
pub use ledger::LedgerSeries;
pub use limit_store::{LimitStoreMetrics, RedisMetrics};
pub use models::Known;
pub use nodes::NodeReading;
use overhead::Overhead;
pub use past::{EVERY, Line, POINTS, Percentiles, Recent};
pub use sessions::SessionMetrics;
use subjects::Subjects;
pub use subjects::{Reading, Readings};
pub use traffic::{KeyTraffic, Outcome, Tokens, Traffic};
use upstreams::UpstreamSeries;
pub use upstreams::{Failure, Queued, UpstreamMetrics};
use whole::Whole;
pub use whole::{Overview, Waits};

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
    subjects: Subjects,
    whole: Whole,
    overhead: Overhead,
    upstreams: UpstreamSeries,
    limited: IntCounterVec,
    refusals: IntCounterVec,
    reloads: IntCounterVec,
    certificates: IntCounterVec,
    handshakes: IntCounterVec,
    abort_seconds: [Histogram; Phase::ALL.len()],
    connections: IntGaugeVec,
    /// `sluice_requests_in_flight`: requests begun and not yet logged.
    pub in_flight: IntGauge,
    /// `sluice_live_streams`: event streams under way.
    pub live_streams: IntGauge,
    /// `sluice_client_aborts_total`: requests whose client left before the answer's end.
    pub client_aborts: IntCounter,
    /// `sluice_held_request_bytes`: request bodies in memory, in bytes.
    pub held_bytes: IntGauge,
    /// `sluice_response_ids`: responses whose node and key are remembered.
    pub response_ids: IntGauge,
    /// Of the ledger.
    pub ledger: LedgerSeries,
    /// `sluice_access_log_dropped_total`: lines that did not fit the queue to the writer, or could not be written.
    pub access_log_dropped: IntCounter,
    /// `sluice_config_generation`: 1 at start, one more with each reload that took effect.
    pub config_generation: IntGauge,
    /// `sluice_config_last_reload_successful`: 0 while the files on disk are not what is served.
    pub config_in_effect: IntGauge,
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

/// Why TLS was not agreed on with a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unshaken {
    /// The client said no, as to a certificate that it does not trust.
    Alert,
    /// What came was no TLS, or none that is spoken here.
    Protocol,
    /// It closed the connection.
    Closed,
    /// It took too long.
    Timeout,
}

impl Unshaken {
    const ALL: [Self; 4] = [Self::Alert, Self::Protocol, Self::Closed, Self::Timeout];

    fn label(self) -> &'static str {
        match self {
            Self::Alert => "alert",
            Self::Protocol => "protocol",
            Self::Closed => "closed",
            Self::Timeout => "timeout",
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
             waiting, streaming, non_streaming. With `sse_keepalive` 0 not always observed after the first byte.",
        );
        let all = HistogramVec::new(opts.buckets(ABORT_SECONDS.to_vec()), &["phase"])?;
        let all = self.registered(all)?;
        Ok(Phase::ALL.map(|phase| all.with_label_values(&[phase.label()])))
    }

    fn certificates(&self) -> prometheus::Result<IntCounterVec> {
        let help = "Changes of the files of the listener's certificate, by result: ok, failed.";
        let name = "sluice_tls_certificate_changes_total";
        self.counted_by((name, help), ("result", &["ok", "failed"]))
    }

    fn handshakes(&self) -> prometheus::Result<IntCounterVec> {
        let help = "Connections that ended before TLS was agreed on, by reason: alert (the client refused, as for a certificate \
                    that it does not trust), protocol, closed (by the client, as health checks of balancers do), timeout.";
        let name = "sluice_tls_handshakes_failed_total";
        self.counted_by((name, help), ("reason", &Unshaken::ALL.map(Unshaken::label)))
    }

    /// Counts by `label`, of which these are all values. They are there from the start: the first change is one that an alert
    /// can see.
    fn counted_by(
        &self,
        (name, help): (&str, &str),
        (label, values): (&str, &[&str]),
    ) -> prometheus::Result<IntCounterVec> {
        let counters = self.counters(name, help, &[label])?;
        for value in values {
            counters.with_label_values(&[value]);
        }
        Ok(counters)
    }

    fn build_info(&self) -> prometheus::Result<()> {
        let info = Opts::new("sluice_build_info", "Always 1; the version is the label.");
        let info = info.const_label("version", env!("CARGO_PKG_VERSION"));
        self.registered(IntGauge::with_opts(info)?)?.set(1);
        Ok(())
    }
}

impl Metrics {
    /// Registers every series.
    ///
    /// # Errors
    /// Two series of one name: a fault of this file.
    pub fn new() -> prometheus::Result<Self> {
        let new = Series(Registry::new());
        let process = prometheus::process_collector::ProcessCollector::for_self();
        new.0.register(Box::new(process))?;
        new.build_info()?;
        Ok(Self {
            upstreams: UpstreamSeries::new(&new)?,
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
            certificates: new.certificates()?,
            handshakes: new.handshakes()?,
            connections: new.registered(IntGaugeVec::new(
                Opts::new("sluice_connections", "Open connections, by listener: public, operators."),
                &["listener"],
            )?)?,
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
                "Access log lines that did not fit the queue to the writer, or could not be written.",
            )?,
            config_generation: new.gauge(
                "sluice_config_generation",
                "1 at start, one more with each reload that took effect.",
            )?,
            config_in_effect: new.gauge(
                "sluice_config_last_reload_successful",
                "0 while the files on disk are not what is served.",
            )?,
            subjects: new.registered(Subjects::new()?)?,
            whole: Whole::default(),
            overhead: new.registered(Overhead::new()?)?,
            limited: new.counters(
                "sluice_limit_refusals_total",
                "Requests that a limit of their key has refused, by limit: rpm, rpd, tpm, tpd, concurrent.",
                &["limit"],
            )?,
            live_streams: new.gauge("sluice_live_streams", "Event streams under way.")?,
            registry: new.0,
        })
    }

    /// The series of `upstream`; those of `_other` once there are too many.
    pub fn of_upstream(&self, upstream: &str) -> UpstreamMetrics {
        self.upstreams.of(upstream)
    }

    /// What came of requests for `model`, which has series of its own from now on where it is known.
    pub fn of_model(&self, model: Option<&str>, how: Known) -> Arc<Traffic> {
        self.subjects.models().of(model, how)
    }

    /// Every model that has series, by name.
    pub fn models(&self) -> Vec<(String, Arc<Traffic>)> {
        self.subjects.models().all()
    }

    /// From now on nodes and keys are read by `readings`. Only the first call counts.
    pub fn read_by(&self, readings: Readings) {
        self.subjects.read_by(readings);
    }

    /// Notes the numbers of this moment: to be called every [`EVERY`].
    pub fn note(&self, now: Instant) {
        let reading = self.subjects.read();
        let waits = self.waits(&reading);
        self.subjects.note(reading.nodes, now);
        self.whole.note(&self.models(), waits, now);
    }

    /// The gateway as a whole.
    pub fn overview(&self, now: Instant) -> Overview {
        let waits = self.waits(&self.subjects.read());
        self.whole.overview(&self.models(), waits, now)
    }

    fn waits(&self, reading: &Reading) -> Waits {
        let in_flight = u64::try_from(self.in_flight.get()).unwrap_or(0);
        Waits { in_flight, queued: reading.queued as u64 }
    }

    /// A request took so much time of the gateway's own.
    pub fn took(&self, own: Duration) {
        self.overhead.observe(own);
    }

    /// A limit of its key has refused a request.
    pub fn limited(&self, limit: &str) {
        self.limited.with_label_values(&[limit]).inc();
    }

    /// A request was refused. `code` is a [`Refusal::code`](crate::refusal::Refusal::code): a bounded set.
    pub fn refused(&self, code: &str) {
        self.refusals.with_label_values(&[code]).inc();
    }

    /// A client left in `phase`; its node was let go after `took`.
    pub fn aborted(&self, phase: Phase, took: Duration) {
        self.abort_seconds[phase as usize].observe(took.as_secs_f64());
    }

    /// Open connections of `listener`: `public` or `operators`.
    pub fn connections(&self, listener: &str) -> IntGauge {
        self.connections.with_label_values(&[listener])
    }

    /// A change of the certificate's files took effect, or did not.
    pub fn certificate_exchanged(&self, ok: bool) {
        self.certificates.with_label_values(&[if ok { "ok" } else { "failed" }]).inc();
    }

    /// TLS was not agreed on with a client.
    pub fn handshake_failed(&self, why: Unshaken) {
        self.handshakes.with_label_values(&[why.label()]).inc();
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
