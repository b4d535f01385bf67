//! Numbers of the last five minutes.

use serde::Serialize;

use crate::metrics;

/// Points in time, the oldest first; none where there was nothing to measure.
pub(in crate::admin) type Line = Vec<Option<f64>>;

/// Half of all, and all but one in a hundred, were within so many milliseconds; none where there were none.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(in crate::admin) struct Percentiles {
    pub(in crate::admin) p50_ms: Option<f64>,
    pub(in crate::admin) p99_ms: Option<f64>,
}

impl From<metrics::Percentiles> for Percentiles {
    fn from(told: metrics::Percentiles) -> Self {
        Self { p50_ms: told.p50_ms.map(short), p99_ms: told.p99_ms.map(short) }
    }
}

/// With as many digits as anybody reads: a line has sixty numbers, and there are many lines.
pub(super) fn short(number: f64) -> f64 {
    (number * 100.0).round() / 100.0
}

/// The same, of each point.
pub(super) fn short_line(line: metrics::Line) -> Line {
    line.into_iter().map(|point| point.map(short)).collect()
}
