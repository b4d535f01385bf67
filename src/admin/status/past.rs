//! Numbers of the last five minutes.

use serde::Serialize;

/// Points in time, the oldest first; none where there was nothing to measure.
pub(in crate::admin) type Line = Vec<Option<f64>>;

/// Half of all, and all but one in a hundred, were within so many milliseconds; none where there were none.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(in crate::admin) struct Percentiles {
    pub(in crate::admin) p50_ms: Option<f64>,
    pub(in crate::admin) p99_ms: Option<f64>,
}
