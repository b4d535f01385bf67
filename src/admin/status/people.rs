//! Who asks, what they have left, and what went wrong for them. Keys by their names alone.

use serde::Serialize;

#[derive(Debug, Serialize)]
pub(in crate::admin) struct KeyStatus {
    pub(in crate::admin) key: String,
    pub(in crate::admin) expired: bool,
    /// Since the gateway began.
    pub(in crate::admin) requests: u64,
    /// Of them, those that a limit refused.
    pub(in crate::admin) limited: u64,
    pub(in crate::admin) prompt_tokens: u64,
    pub(in crate::admin) completion_tokens: u64,
    pub(in crate::admin) in_flight: u32,
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
    /// What the client got; none where another try took the place of this one.
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
