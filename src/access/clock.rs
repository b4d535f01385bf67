//! The clock that limits and passes go by.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970 that never go back: what the system's clock said at the start, and what has passed since.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    began: Instant,
    millis: u64,
}

impl Clock {
    /// From now on.
    pub fn start() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { began: Instant::now(), millis: whole_millis(since) }
    }

    /// What it showed at `moment`.
    pub fn at(&self, moment: Instant) -> u64 {
        self.millis + whole_millis(moment.saturating_duration_since(self.began))
    }
}

fn whole_millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
