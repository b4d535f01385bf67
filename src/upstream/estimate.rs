//! A number that is learnt from what happens: many write it and none waits, so of two that write at the same time one is lost,
//! and the next tells the same.

use std::sync::atomic::{AtomicU64, Ordering};

/// The bits of an `f64`; 0 where nothing is known.
#[derive(Debug, Default)]
pub(super) struct Estimate(AtomicU64);

impl Estimate {
    /// What is taken for true before anything happened.
    pub(super) fn of(number: f64) -> Self {
        Self(AtomicU64::new(number.to_bits()))
    }

    pub(super) fn get(&self) -> f64 {
        f64::from_bits(self.0.load(Ordering::Relaxed))
    }

    pub(super) fn set(&self, number: f64) {
        self.0.store(number.to_bits(), Ordering::Relaxed);
    }

    /// A mean in which the newest counts `weight`, and those before it the rest.
    pub(super) fn learn(&self, newest: f64, weight: f64) {
        let known = self.get();
        self.set(if known > 0.0 { known + (newest - known) * weight } else { newest });
    }
}

/// A count, as far as an estimate needs it.
#[expect(clippy::cast_precision_loss, reason = "an estimate")]
pub(super) fn about(count: u64) -> f64 {
    count as f64
}

/// The whole part, 0 at least.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "an estimate, saturated by the cast"
)]
pub(super) fn whole(number: f64) -> u64 {
    number as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_believed_and_later_ones_move_it() {
        let estimate = Estimate::default();
        estimate.learn(8.0, 0.5);
        assert!((estimate.get() - 8.0).abs() < 1e-9);
        estimate.learn(4.0, 0.5);
        assert!((estimate.get() - 6.0).abs() < 1e-9);
        assert_eq!((whole(-1.0), whole(f64::INFINITY), whole(f64::NAN)), (0, u64::MAX, 0));
    }
}
