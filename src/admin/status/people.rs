//! Who asks, what they have left, and what went wrong for them. Keys by their names alone.

use std::time::{Instant, SystemTime};

use serde::Serialize;

use super::past::short;
use crate::access::keys::Key;
use crate::access::store::Store;
use crate::chat::sessions::Sessions;
use crate::gateway::{RecentErrors, Snapshot, Streams};
use crate::metrics::RedisMetrics;

/// Streams that are shown.
const STREAMS_MAX: usize = 20;

#[derive(Debug, Serialize)]
pub(in crate::admin) struct KeyStatus {
    pub(in crate::admin) key: String,
    pub(in crate::admin) expired: bool,
    /// Since the gateway began.
    pub(in crate::admin) requests: u64,
    /// Besides them, those that a limit refused.
    pub(in crate::admin) limited: u64,
    pub(in crate::admin) prompt_tokens: u64,
    pub(in crate::admin) completion_tokens: u64,
    pub(in crate::admin) limits: Vec<LimitStatus>,
}

#[derive(Debug, Serialize)]
pub(in crate::admin) struct LimitStatus {
    /// `rpm`, `rpd`, `tpm`, `tpd`, `concurrent`.
    pub(in crate::admin) limit: &'static str,
    pub(in crate::admin) allowed: u64,
    /// By what this gateway knows: none where limits are kept in Redis.
    pub(in crate::admin) used: Option<u64>,
}

#[derive(Debug, Serialize)]
pub(in crate::admin) struct StreamStatus {
    /// The request's.
    pub(in crate::admin) id: String,
    pub(in crate::admin) model: Option<String>,
    pub(in crate::admin) node: String,
    pub(in crate::admin) key: Option<String>,
    pub(in crate::admin) age_seconds: f64,
    /// Since the last token, or since it began.
    pub(in crate::admin) last_token_age_seconds: f64,
    /// Events with text, as far as they came.
    pub(in crate::admin) tokens: u64,
}

#[derive(Debug, Serialize)]
pub(in crate::admin) struct ErrorStatus {
    pub(in crate::admin) age_seconds: f64,
    /// RFC 3339, UTC.
    pub(in crate::admin) time: String,
    /// The request's.
    pub(in crate::admin) id: String,
    /// What the client got; none where this is a try, which another may have followed.
    pub(in crate::admin) status: Option<u16>,
    /// Of the refusal, or how a try failed: `connect`, `timeout`, `broken`, `died`, `auth`, `status`.
    pub(in crate::admin) code: &'static str,
    /// In words.
    pub(in crate::admin) message: String,
    pub(in crate::admin) model: Option<String>,
    pub(in crate::admin) node: Option<String>,
    pub(in crate::admin) key: Option<String>,
    pub(in crate::admin) tries: usize,
}

#[derive(Debug, Serialize)]
pub(in crate::admin) struct StoreStatus {
    /// `limits`, `sessions`.
    pub(in crate::admin) of: &'static str,
    /// `memory`, `redis`.
    pub(in crate::admin) kind: &'static str,
    pub(in crate::admin) up: bool,
    /// Calls that failed or took too long.
    pub(in crate::admin) errors: u64,
}

#[derive(Debug, Serialize)]
pub(in crate::admin) struct SessionsStatus {
    /// In memory.
    pub(in crate::admin) open: u64,
    pub(in crate::admin) bytes: u64,
    pub(in crate::admin) begun: u64,
}

/// All of them, by name.
pub(super) fn keys(snapshot: &Snapshot, store: &Store) -> Vec<KeyStatus> {
    let now = SystemTime::now();
    let status = |key: &Key| {
        let (requests, limited, tokens) = key.traffic.told();
        let limit = |(limit, allowed, used): (crate::refusal::Limit, u32, Option<u64>)| {
            LimitStatus { limit: limit.word(), allowed: allowed.into(), used }
        };
        KeyStatus {
            key: key.name.to_string(),
            expired: !key.holds(now),
            requests,
            limited,
            prompt_tokens: tokens.prompt,
            completion_tokens: tokens.completion,
            limits: store.used(key).into_iter().map(limit).collect(),
        }
    };
    let mut keys: Vec<_> = snapshot.keys.all().map(|key| status(key)).collect();
    keys.sort_unstable_by(|one, other| one.key.cmp(&other.key));
    keys
}

pub(super) fn streams(streams: &Streams, now: Instant) -> Vec<StreamStatus> {
    let slowest = streams.slowest(STREAMS_MAX, now);
    let status = |stream: &crate::gateway::Stream| StreamStatus {
        id: stream.id.as_str().to_owned(),
        model: stream.model.as_ref().map(ToString::to_string),
        node: stream.node.id.to_string(),
        key: stream.key.as_ref().map(|key| key.name.to_string()),
        age_seconds: short(now.saturating_duration_since(stream.began).as_secs_f64()),
        last_token_age_seconds: short(stream.silence(now).as_secs_f64()),
        tokens: stream.tokens(),
    };
    slowest.iter().map(|stream| status(stream)).collect()
}

pub(super) fn errors(errors: &RecentErrors, now: Instant) -> Vec<ErrorStatus> {
    let status = |error: &crate::gateway::RecentError| ErrorStatus {
        age_seconds: short(now.saturating_duration_since(error.at).as_secs_f64()),
        time: humantime::format_rfc3339_millis(error.time).to_string(),
        id: error.id.as_str().to_owned(),
        status: error.status,
        code: error.code,
        message: error.message.to_string(),
        model: error.model.as_ref().map(ToString::to_string),
        node: error.node.as_ref().map(ToString::to_string),
        key: error.key.as_ref().map(ToString::to_string),
        tries: error.tries,
    };
    errors.all().iter().map(|error| status(error)).collect()
}

pub(super) fn stores(limits: &Store, sessions: Option<&Sessions>) -> Vec<StoreStatus> {
    let of_sessions = sessions.map(|sessions| StoreStatus::of("sessions", sessions.store.redis()));
    std::iter::once(StoreStatus::of("limits", limits.redis())).chain(of_sessions).collect()
}

impl StoreStatus {
    fn of(of: &'static str, redis: Option<&RedisMetrics>) -> Self {
        Self {
            of,
            kind: if redis.is_some() { "redis" } else { "memory" },
            up: redis.is_none_or(|redis| redis.up.get() != 0),
            errors: redis.map_or(0, |redis| redis.errors.get()),
        }
    }
}

impl SessionsStatus {
    pub(super) fn of(sessions: &Sessions) -> Self {
        let gauge = |gauge: &prometheus::IntGauge| u64::try_from(gauge.get()).unwrap_or(0);
        Self {
            open: gauge(&sessions.metrics.open),
            bytes: gauge(&sessions.metrics.bytes),
            begun: sessions.metrics.begun.get(),
        }
    }
}
