//! The series of the ledger.

use prometheus::IntCounter;

use super::Series;

/// What becomes of its rows.
#[derive(Clone)]
pub struct LedgerSeries {
    /// `sluice_ledger_rows_total`: rows that are in the file.
    pub rows: IntCounter,
    /// `sluice_ledger_dropped_total`: rows that never will be.
    pub dropped: IntCounter,
    /// `sluice_ledger_write_failures_total`: writes that the system refused; their rows wait.
    pub failures: IntCounter,
}

impl LedgerSeries {
    pub(super) fn new(new: &Series) -> prometheus::Result<Self> {
        Ok(Self {
            rows: new.counter("sluice_ledger_rows_total", "Rows written to the ledger.")?,
            dropped: new.counter(
                "sluice_ledger_dropped_total",
                "Rows that did not fit the queue to the ledger's writer, or could not be written.",
            )?,
            failures: new.counter(
                "sluice_ledger_write_failures_total",
                "Writes to the ledger that failed; their rows are tried again.",
            )?,
        })
    }
}
