//! `GET /api/status`: what there is, how it is, and why. The page, `sluice status` and the tests read the same.

mod nodes;
mod past;
mod people;

use std::time::Instant;

use serde::Serialize;

pub(super) use nodes::{Answers, ModelStatus, NodeStatus, UpstreamStatus};
pub(super) use past::{Line, Percentiles};
pub(super) use people::{
    ErrorStatus, KeyStatus, LimitStatus, SessionsStatus, StoreStatus, StreamStatus,
};

use past::{short, short_line};

use super::Seen;
use crate::gateway::Snapshot;
use crate::metrics::{EVERY, Overview};

/// The whole of it. Times are ages, so that a reader's clock has no part in them.
#[derive(Debug, Serialize)]
pub(super) struct Status {
    /// `ok`; `degraded`: a node that should get work gets none; `down`: an upstream has no node that does; `draining`.
    pub(super) state: &'static str,
    pub(super) version: &'static str,
    pub(super) uptime_seconds: u64,
    /// Of the configuration in effect.
    pub(super) generation: u64,
    /// How long it has been in effect.
    pub(super) generation_age_seconds: u64,
    /// Why the files on disk are not what is served.
    pub(super) failed_reload: Option<FailedReload>,
    pub(super) totals: Totals,
    pub(super) upstreams: Vec<UpstreamStatus>,
    pub(super) models: Vec<ModelStatus>,
    pub(super) keys: Vec<KeyStatus>,
    /// Those whose last token is the oldest first; 20 at most.
    pub(super) streams: Vec<StreamStatus>,
    /// The newest first; 200 at most.
    pub(super) errors: Vec<ErrorStatus>,
    /// Where limits are kept, and sessions, where there are any.
    pub(super) stores: Vec<StoreStatus>,
    pub(super) sessions: Option<SessionsStatus>,
}

/// A configuration that was not taken.
#[derive(Debug, Serialize)]
pub(super) struct FailedReload {
    pub(super) age_seconds: u64,
    /// In words: file, line, what is wrong. May have several lines.
    pub(super) message: String,
}

/// Of the whole gateway. Rates are of the last 10 seconds, percentiles and lines of the last 5 minutes.
#[derive(Debug, Default, Serialize)]
pub(super) struct Totals {
    pub(super) in_flight: u64,
    pub(super) queued: u64,
    pub(super) requests_per_second: f64,
    /// Of answers.
    pub(super) tokens_per_second: f64,
    pub(super) prompt_tokens_per_second: f64,
    /// Answers of 5xx, and streams that broke.
    pub(super) errors_per_second: f64,
    pub(super) ttft: Percentiles,
    pub(super) inter_token_latency: Percentiles,
    /// Seconds between two points of the lines below.
    pub(super) seconds_per_point: u64,
    pub(super) in_flight_line: Line,
    pub(super) queued_line: Line,
    pub(super) requests_line: Line,
    pub(super) tokens_line: Line,
    pub(super) errors_line: Line,
    /// Half of the first tokens came within so many milliseconds.
    pub(super) ttft_line: Line,
}

/// Where it all is known.
pub(super) struct Sources<'s> {
    pub(super) snapshot: &'s Snapshot,
    pub(super) draining: bool,
    /// When the process began.
    pub(super) began: Instant,
    pub(super) failed_reload: Option<&'s crate::reload::FailedReload>,
    pub(super) seen: &'s Seen,
}

impl Status {
    /// As of now.
    pub(super) fn of(sources: &Sources<'_>, now: Instant) -> Self {
        let Sources { snapshot, draining, began, failed_reload, seen } = *sources;
        let upstreams: Vec<_> =
            snapshot.upstreams.iter().map(|one| UpstreamStatus::of(one, now)).collect();
        let any = |state| upstreams.iter().any(|upstream| upstream.state == state);
        let state = match () {
            () if draining => "draining",
            () if any("down") => "down",
            () if any("degraded") => "degraded",
            () => "ok",
        };
        let age = |then: Instant| now.saturating_duration_since(then).as_secs();
        let failed_reload = failed_reload.map(|failed| FailedReload {
            age_seconds: age(failed.at),
            message: failed.why.clone(),
        });
        Self {
            state,
            version: env!("CARGO_PKG_VERSION"),
            uptime_seconds: age(began),
            generation: snapshot.generation,
            generation_age_seconds: age(snapshot.since),
            failed_reload,
            totals: Totals::of(seen.metrics.overview(now)),
            upstreams,
            models: nodes::models(snapshot, &seen.metrics, now),
            keys: people::keys(snapshot, &seen.store),
            streams: people::streams(&seen.streams, now),
            errors: people::errors(&seen.errors, now),
            stores: people::stores(&seen.store, seen.sessions.as_deref()),
            sessions: seen.sessions.as_deref().map(SessionsStatus::of),
        }
    }
}

impl Totals {
    fn of(overview: Overview) -> Self {
        let Overview { waits, recent, in_flight_line, queued_line } = overview;
        Self {
            in_flight: waits.in_flight,
            queued: waits.queued,
            requests_per_second: short(recent.requests),
            tokens_per_second: short(recent.tokens),
            prompt_tokens_per_second: short(recent.prompt_tokens),
            errors_per_second: short(recent.errors),
            ttft: recent.first_token.into(),
            inter_token_latency: recent.between_tokens.into(),
            seconds_per_point: EVERY.as_secs(),
            in_flight_line: short_line(in_flight_line),
            queued_line: short_line(queued_line),
            requests_line: short_line(recent.requests_line),
            tokens_line: short_line(recent.tokens_line),
            errors_line: short_line(recent.errors_line),
            ttft_line: short_line(recent.first_token_line),
        }
    }
}
