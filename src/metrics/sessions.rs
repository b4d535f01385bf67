//! Series of chat sessions. They are there only where sessions are.

use prometheus::{IntCounter, IntGauge};

use super::{Metrics, RedisMetrics, Series};

/// Handles to all of them.
#[derive(Clone)]
pub struct SessionMetrics {
    /// `sluice_sessions`: sessions in memory.
    pub open: IntGauge,
    /// `sluice_session_bytes`: what they take, in bytes.
    pub bytes: IntGauge,
    /// `sluice_sessions_begun_total`: sessions that were begun here, wherever they are kept.
    pub begun: IntCounter,
    /// `sluice_session_refused_keys_total`: keys for which no session was begun.
    pub refused: IntCounter,
    /// `sluice_session_forgotten_pairs_total`: questions with their answers that were left out for a prompt to fit.
    pub forgotten: IntCounter,
    /// `sluice_session_miscounts_total`: prompts that their node has counted otherwise.
    pub miscounts: IntCounter,
}

impl Metrics {
    /// Registers the series of sessions.
    ///
    /// # Errors
    /// They are registered already.
    pub fn of_sessions(&self) -> prometheus::Result<SessionMetrics> {
        let new = Series(self.registry.clone());
        Ok(SessionMetrics {
            open: new.gauge("sluice_sessions", "Chat sessions in memory.")?,
            bytes: new.gauge("sluice_session_bytes", "Bytes of chat sessions in memory.")?,
            begun: new.counter("sluice_sessions_begun_total", "Chat sessions that were begun.")?,
            refused: new.counter(
                "sluice_session_refused_keys_total",
                "Keys for which no chat session was begun.",
            )?,
            forgotten: new.counter(
                "sluice_session_forgotten_pairs_total",
                "Questions with their answers that were left out for a prompt to fit its limit.",
            )?,
            miscounts: new.counter(
                "sluice_session_miscounts_total",
                "Prompts of which their node has told another number of tokens than was counted.",
            )?,
        })
    }

    /// Registers the series of a store of sessions.
    ///
    /// # Errors
    /// They are registered already.
    pub fn of_session_store(&self) -> prometheus::Result<RedisMetrics> {
        let new = Series(self.registry.clone());
        Ok(RedisMetrics {
            up: new
                .gauge("sluice_session_store_up", "0 while Redis cannot be used for sessions.")?,
            errors: new.counter(
                "sluice_session_store_errors_total",
                "Calls of Redis that failed or took too long, and looks at one that is away.",
            )?,
            dropped: new.counter(
                "sluice_session_store_dropped_total",
                "Answers that could not be written to Redis: their sessions go on without them.",
            )?,
        })
    }
}
