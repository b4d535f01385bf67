//! `GET /api/status`: what there is, how it is, and why. The page, `sluice status` and the tests read the same.

mod nodes;
mod past;
mod people;

use std::time::Instant;

use serde::Serialize;

pub(super) use nodes::{ModelStatus, UpstreamStatus};
pub(super) use past::{Line, Percentiles};
pub(super) use people::{ErrorStatus, KeyStatus, SessionsStatus, StoreStatus, StreamStatus};

use crate::gateway::Snapshot;

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
    pub(super) first_token: Percentiles,
    pub(super) between_tokens: Percentiles,
    /// Seconds between two points of the lines below.
    pub(super) seconds_per_point: u64,
    pub(super) in_flight_line: Line,
    pub(super) queued_line: Line,
    pub(super) requests_line: Line,
    pub(super) tokens_line: Line,
    pub(super) errors_line: Line,
    /// Half of the first tokens came within so many milliseconds.
    pub(super) first_token_line: Line,
}

impl Status {
    /// As of now.
    pub(super) fn of(snapshot: &Snapshot, draining: bool, now: Instant) -> Self {
        let upstreams: Vec<_> =
            snapshot.upstreams.iter().map(|one| UpstreamStatus::of(one, now)).collect();
        let any = |state| upstreams.iter().any(|upstream| upstream.state == state);
        let state = match () {
            () if draining => "draining",
            () if any("down") => "down",
            () if any("degraded") => "degraded",
            () => "ok",
        };
        Self {
            state,
            version: env!("CARGO_PKG_VERSION"),
            uptime_seconds: 0,
            generation: snapshot.generation,
            generation_age_seconds: 0,
            failed_reload: None,
            totals: Totals::default(),
            upstreams,
            models: Vec::new(),
            keys: Vec::new(),
            streams: Vec::new(),
            errors: Vec::new(),
            stores: Vec::new(),
            sessions: None,
        }
    }
}
