//! How long a node lets an idle connection live: learnt from the connections that it closes, so that the gateway gives
//! them up before.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// Closes at about the same age before they are taken for a habit: one may be a crash.
const CLOSES: u32 = 3;

/// How much two ages may differ and count as the same, in parts of the smaller one: servers' timers are coarse.
const SAME: f64 = 0.15;

/// What of the age is used: a request must have left and arrived before the node's timer runs out.
const USED: f64 = 0.8;

/// What closes within this time closes for one reason, as when a node ends: it counts once.
const ONE_MOMENT: Duration = Duration::from_millis(20);

/// Younger connections that close tell nothing about a timer.
const AGE_MIN: Duration = Duration::from_millis(100);

/// How long a habit is believed in without being seen again: a node may be set up anew.
const BELIEVED: Duration = Duration::from_secs(600);

/// What is known of one node's habit.
#[derive(Debug, Default)]
pub struct IdleTime {
    /// Milliseconds; 0 for nothing.
    learnt_ms: AtomicU64,
    seen: Mutex<Option<Seen>>,
}

#[derive(Debug)]
struct Seen {
    youngest: Duration,
    times: u32,
    last: Instant,
}

impl IdleTime {
    /// How long an idle connection may be kept, where `configured` is the longest.
    pub fn limit(&self, configured: Duration) -> Duration {
        match self.learnt_ms.load(Ordering::Relaxed) {
            0 => configured,
            learnt => configured.min(Duration::from_millis(learnt)),
        }
    }

    /// The node closed a connection that was idle for `age`.
    pub fn closed(&self, age: Duration, now: Instant) {
        if age < AGE_MIN {
            return;
        }
        let mut seen = self.seen.lock();
        if seen.as_ref().is_some_and(|seen| now.duration_since(seen.last) < ONE_MOMENT) {
            return;
        }
        let known = seen.take().filter(|known| now.duration_since(known.last) < BELIEVED);
        let same = |known: &Seen| {
            let (low, high) = (known.youngest.min(age), known.youngest.max(age));
            high.as_secs_f64() <= low.as_secs_f64() * (1.0 + SAME)
        };
        let now_seen = match known {
            Some(known) if same(&known) => Seen {
                youngest: known.youngest.min(age),
                times: known.times.saturating_add(1),
                last: now,
            },
            _ => Seen { youngest: age, times: 1, last: now },
        };
        if now_seen.times >= CLOSES {
            let used = now_seen.youngest.mul_f64(USED).as_millis();
            self.learnt_ms.store(u64::try_from(used).unwrap_or(0), Ordering::Relaxed);
        }
        *seen = Some(now_seen);
    }

    /// Forgets a habit that was not seen for long.
    pub fn forget_old(&self, now: Instant) {
        let mut seen = self.seen.lock();
        if seen.as_ref().is_some_and(|seen| now.duration_since(seen.last) >= BELIEVED) {
            *seen = None;
            self.learnt_ms.store(0, Ordering::Relaxed);
        }
    }
}

/// Which node a connection is to: told once, by whoever takes it first.
pub type Owner = std::sync::OnceLock<Arc<IdleTime>>;

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIGURED: Duration = Duration::from_secs(4);

    fn closed(ages_ms: &[u64]) -> Duration {
        let (idle, mut now) = (IdleTime::default(), Instant::now());
        for age in ages_ms {
            idle.closed(Duration::from_millis(*age), now);
            now += ONE_MOMENT;
        }
        idle.limit(CONFIGURED)
    }

    #[test]
    fn a_timer_is_learnt_and_a_crash_is_not() {
        assert_eq!(closed(&[500, 510]), CONFIGURED);
        assert_eq!(closed(&[510, 500, 530]), Duration::from_millis(400));
        assert_eq!(closed(&[300, 900, 1_800, 2_900, 150]), CONFIGURED);
        assert_eq!(closed(&[5, 6, 5, 6]), CONFIGURED);
        // Never longer than configured.
        assert_eq!(closed(&[60_000, 60_000, 60_000]), CONFIGURED);
    }

    #[test]
    fn a_node_that_ends_closes_all_at_once_and_tells_nothing() {
        let (idle, now) = (IdleTime::default(), Instant::now());
        (0..50).for_each(|_| idle.closed(Duration::from_millis(500), now));
        assert_eq!(idle.limit(CONFIGURED), CONFIGURED);
    }

    #[test]
    fn what_is_not_seen_again_is_forgotten() {
        let (idle, now) = (IdleTime::default(), Instant::now());
        for number in 0..3 {
            idle.closed(Duration::from_millis(500), now + number * ONE_MOMENT);
        }
        idle.forget_old(now + BELIEVED / 2);
        assert_eq!(idle.limit(CONFIGURED), Duration::from_millis(400));
        idle.forget_old(now + 2 * ONE_MOMENT + BELIEVED);
        assert_eq!(idle.limit(CONFIGURED), CONFIGURED);
    }
}
