//! Series of a store of limits that is another process.

use prometheus::{IntCounter, IntGauge};

use super::{Metrics, Series};

/// Handles to all of them. They are there only where limits are kept in Redis.
#[derive(Clone)]
pub struct LimitStoreMetrics {
    /// Of the Redis.
    pub redis: RedisMetrics,
    /// `sluice_limit_store_fallbacks_total`: requests that were decided on without Redis.
    pub fallbacks: IntCounter,
}

/// What is told of a Redis, by what it is used for.
#[derive(Clone)]
pub struct RedisMetrics {
    /// `sluice_…_store_up`: 0 while it cannot be used.
    pub up: IntGauge,
    /// `sluice_…_store_errors_total`: calls and looks that failed or took too long.
    pub errors: IntCounter,
    /// `sluice_…_store_dropped_total`: ends of requests that are not written.
    pub dropped: IntCounter,
}

impl Metrics {
    /// Registers the series of a store of limits.
    ///
    /// # Errors
    /// They are registered already.
    pub fn of_limit_store(&self) -> prometheus::Result<LimitStoreMetrics> {
        let new = Series(self.registry.clone());
        let redis = RedisMetrics {
            up: new.gauge("sluice_limit_store_up", "0 while Redis cannot be used for limits.")?,
            errors: new.counter(
                "sluice_limit_store_errors_total",
                "Calls of Redis that failed or took too long, and looks at one that is away.",
            )?,
            dropped: new.counter(
                "sluice_limit_store_dropped_total",
                "Ends of requests that could not be written to Redis.",
            )?,
        };
        let fallbacks = new.counter(
            "sluice_limit_store_fallbacks_total",
            "Requests that were decided on without Redis, as on_store_error says.",
        )?;
        Ok(LimitStoreMetrics { redis, fallbacks })
    }
}
