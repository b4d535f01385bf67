//! The series of upstreams, resolved once when a snapshot is built: the hot path looks up no label.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
};

use super::traffic::{CLASSES, class};
use super::{LABEL_VALUES_MAX, OTHER, Series};

/// vLLM 0.32's own buckets for whole requests (`vllm/v1/metrics/buckets.py`), so that panels overlay, with three below
/// for answers that need no model.
const REQUEST_SECONDS: [f64; 23] = [
    0.005, 0.025, 0.1, 0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0,
    60.0, 120.0, 240.0, 480.0, 960.0, 1920.0,
];

/// All of them.
pub(super) struct UpstreamSeries {
    requests: IntCounterVec,
    request_seconds: HistogramVec,
    retries: IntCounterVec,
    failures: IntCounterVec,
    queued: IntGaugeVec,
    queue_seconds: HistogramVec,
    prefix_tokens: IntCounterVec,
    /// Upstreams that have series of their own; locked only while a snapshot is built.
    named: Mutex<HashSet<String>>,
}

/// The series of one upstream, resolved once when a snapshot is built: the hot path looks up no label.
#[derive(Clone)]
pub struct UpstreamMetrics {
    answers: [IntCounter; CLASSES.len()],
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
    /// Answered 5xx, and was tried again.
    Status,
}

impl Failure {
    pub(super) const ALL: [Self; 6] =
        [Self::Connect, Self::Timeout, Self::Broken, Self::Auth, Self::Died, Self::Status];

    /// In one word.
    pub fn label(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Timeout => "timeout",
            Self::Broken => "broken",
            Self::Auth => "auth",
            Self::Died => "died",
            Self::Status => "status",
        }
    }
}

impl UpstreamSeries {
    pub(super) fn new(new: &Series) -> prometheus::Result<Self> {
        let help = "Requests that wait for a place at a node, by upstream.";
        let queued = IntGaugeVec::new(Opts::new("sluice_queue_requests", help), &["upstream"])?;
        Ok(Self {
            requests: new.counters(
                "sluice_requests_total",
                "Requests that a node answered, by upstream and class of status.",
                &["upstream", "status"],
            )?,
            request_seconds: seconds(
                new,
                "sluice_request_duration_seconds",
                "From a request's first byte to its answer's last, by upstream.",
            )?,
            retries: new.counters(
                "sluice_retries_total",
                "Tries after a request's first, by upstream.",
                &["upstream"],
            )?,
            failures: new.counters(
                "sluice_upstream_failures_total",
                "Tries that failed, by upstream and kind: connect, timeout, broken, auth, died, status.",
                &["upstream", "kind"],
            )?,
            queued: new.registered(queued)?,
            queue_seconds: seconds(
                new,
                "sluice_queue_seconds",
                "How long requests waited for a place at a node, by upstream; those that did not wait are not in it.",
            )?,
            prefix_tokens: new.counters(
                "sluice_prefix_tokens_total",
                "Tokens of prompts whose answers told of the cache, by upstream and kind: prompt, thought, found.",
                &["upstream", "kind"],
            )?,
            named: Mutex::default(),
        })
    }

    /// Those of `upstream`, or of `_other` once there are too many.
    pub(super) fn of(&self, upstream: &str) -> UpstreamMetrics {
        let mut named = self.named.lock();
        let fits = named.contains(upstream)
            || (named.len() < LABEL_VALUES_MAX && named.insert(upstream.to_owned()));
        let upstream = if fits { upstream } else { OTHER };
        let answers = CLASSES.map(|class| self.requests.with_label_values(&[upstream, class]));
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
}

fn seconds(new: &Series, name: &str, help: &str) -> prometheus::Result<HistogramVec> {
    let opts = HistogramOpts::new(name, help).buckets(REQUEST_SECONDS.to_vec());
    new.registered(HistogramVec::new(opts, &["upstream"])?)
}

impl UpstreamMetrics {
    /// A node's answer reached its end, or its client left.
    pub fn answered(&self, status: u16, took: Duration) {
        self.answers[class(status)].inc();
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
