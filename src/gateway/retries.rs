//! How many requests may be tried again: at most a fifth of the last ten seconds', so that a node in trouble is not
//! asked twice for everything that it fails.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Seconds that are looked back on.
const WINDOW_SECONDS: u64 = 10;

/// One retry for so many requests.
const REQUESTS_PER_RETRY: u64 = 5;

/// Retries that the window always allows: with two requests a minute, a fifth of them is none.
const RETRIES_ALWAYS: u64 = 10;

/// Counts of the last ten seconds, without a lock.
pub struct RetryBudget {
    began: Instant,
    slots: [AtomicU64; WINDOW_SECONDS as usize],
}

/// One second's counts, packed into a word: 28 bits of time (8 years), 24 of requests, 12 of retries.
#[derive(Clone, Copy)]
struct Slot {
    second: u64,
    requests: u64,
    retries: u64,
}

const REQUESTS_MAX: u64 = (1 << 24) - 1;
const RETRIES_MAX: u64 = (1 << 12) - 1;

impl Slot {
    fn unpack(word: u64) -> Self {
        Self {
            second: word >> 36,
            requests: (word >> 12) & REQUESTS_MAX,
            retries: word & RETRIES_MAX,
        }
    }

    fn pack(self) -> u64 {
        (self.second << 36)
            | (self.requests.min(REQUESTS_MAX) << 12)
            | self.retries.min(RETRIES_MAX)
    }
}

impl RetryBudget {
    /// A budget whose clock began at `began`.
    pub fn new(began: Instant) -> Self {
        Self { began, slots: Default::default() }
    }

    /// A request came.
    pub(super) fn request(&self, now: Instant) {
        self.count(now, |slot| slot.requests += 1);
    }

    /// True, and counted, where one more retry is allowed.
    pub(super) fn retry(&self, now: Instant) -> bool {
        let oldest = self.second(now).saturating_sub(WINDOW_SECONDS - 1);
        let slots = self.slots.iter().map(|slot| Slot::unpack(slot.load(Ordering::Relaxed)));
        let (requests, retries) = slots
            .filter(|slot| slot.second >= oldest)
            .fold((0, 0), |sum, slot| (sum.0 + slot.requests, sum.1 + slot.retries));
        let allowed = retries < RETRIES_ALWAYS.max(requests / REQUESTS_PER_RETRY);
        if allowed {
            self.count(now, |slot| slot.retries += 1);
        }
        allowed
    }

    fn count(&self, now: Instant, change: impl Fn(&mut Slot)) {
        let second = self.second(now);
        let Some(place) = self.slots.get((second % WINDOW_SECONDS) as usize) else { return };
        let changed = |word| {
            let mut slot = Slot::unpack(word);
            if slot.second != second {
                slot = Slot { second, requests: 0, retries: 0 };
            }
            change(&mut slot);
            Some(slot.pack())
        };
        let _always_ok = place.fetch_update(Ordering::Relaxed, Ordering::Relaxed, changed);
    }

    fn second(&self, now: Instant) -> u64 {
        now.duration_since(self.began).as_secs()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn at_most_a_fifth_is_tried_again() {
        let now = Instant::now();
        let budget = RetryBudget::new(now);
        for _ in 0..100 {
            budget.request(now);
        }
        assert_eq!((0..100).filter(|_| budget.retry(now)).count(), 20);
        assert!(budget.retry(now + Duration::from_secs(WINDOW_SECONDS)));
    }

    #[test]
    fn a_quiet_gateway_tries_again() {
        let now = Instant::now();
        let budget = RetryBudget::new(now);
        budget.request(now);
        assert!(budget.retry(now));
    }
}
