//! The memory that request bodies may take, all together: a budget whose shares return when they are dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use prometheus::IntGauge;

/// The budget.
pub struct Budget {
    limit: usize,
    used: AtomicUsize,
    gauge: IntGauge,
}

/// A part of the budget, in use. Dropping it gives it back.
pub struct Share {
    budget: Arc<Budget>,
    bytes: usize,
}

/// A whole body and its share. Dropping it frees both.
pub struct HeldBody {
    /// The body.
    pub bytes: Bytes,
    _share: Share,
}

impl Budget {
    /// A budget of `limit` bytes, shown by `gauge`.
    pub fn new(limit: usize, gauge: IntGauge) -> Arc<Self> {
        Arc::new(Self { limit, used: AtomicUsize::new(0), gauge })
    }

    /// An empty share, to be grown.
    pub fn share(self: &Arc<Self>) -> Share {
        Share { budget: self.clone(), bytes: 0 }
    }

    fn take(&self, bytes: usize) -> bool {
        let fits = |used: usize| used.checked_add(bytes).filter(|sum| *sum <= self.limit);
        let taken = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok();
        if taken {
            self.gauge.add(as_gauge(bytes));
        }
        taken
    }
}

impl Share {
    /// Takes `bytes` more. False, and nothing taken, where the budget has none left.
    pub fn grow(&mut self, bytes: usize) -> bool {
        let taken = self.budget.take(bytes);
        if taken {
            self.bytes += bytes;
        }
        taken
    }

    /// The share with what it is taken for.
    pub fn hold(self, bytes: Bytes) -> HeldBody {
        HeldBody { bytes, _share: self }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Ordering::Relaxed);
        self.budget.gauge.sub(as_gauge(self.bytes));
    }
}

fn as_gauge(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_return_when_they_are_dropped() {
        let gauge = IntGauge::new("held", "held").unwrap();
        let budget = Budget::new(10, gauge.clone());
        let mut one = budget.share();
        assert!(one.grow(6) && one.grow(4) && !one.grow(1));
        assert_eq!(gauge.get(), 10);
        drop(one.hold(Bytes::new()));
        assert_eq!(gauge.get(), 0);
        assert!(budget.share().grow(10));
    }
}
