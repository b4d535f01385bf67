//! How full a node's caches are, and how much it finds there, as it says itself when it is looked at.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// What is found in the cache is told of the last five minutes.
const WINDOW: Duration = Duration::from_secs(300);

/// Between two looks that are remembered: sixty of them.
const EVERY: Duration = Duration::from_secs(5);

/// What was seen of one node's caches.
#[derive(Debug, Default)]
pub struct CacheUse(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    kv_cache: Option<f64>,
    /// When, and tokens that were looked up and found until then, the oldest first.
    looks: VecDeque<(Instant, (f64, f64))>,
    now: (f64, f64),
}

impl CacheUse {
    /// A look: the part of the KV cache in use, and tokens that were looked up in the prefix cache, and found there, since the
    /// node began.
    pub fn seen(&self, kv_cache: Option<f64>, prefix: Option<(f64, f64)>, at: Instant) {
        let mut seen = self.0.lock();
        seen.kv_cache = kv_cache;
        let Some(prefix) = prefix else { return };
        if prefix.0 < seen.now.0 || prefix.1 < seen.now.1 {
            // It began anew.
            seen.looks.clear();
        }
        seen.now = prefix;
        let since = |then: &(Instant, (f64, f64))| at.saturating_duration_since(then.0);
        if seen.looks.back().is_none_or(|last| since(last) >= EVERY) {
            seen.looks.push_back((at, prefix));
        }
        while seen.looks.get(1).is_some_and(|second| since(second) >= WINDOW) {
            seen.looks.pop_front();
        }
    }

    /// It cannot be looked at.
    pub fn forget(&self) {
        *self.0.lock() = Seen::default();
    }

    /// The part of its KV cache that is in use, 0 to 1.
    pub fn kv_cache(&self) -> Option<f64> {
        self.0.lock().kv_cache
    }

    /// The part of the prompts' tokens that it found in its cache of late, 0 to 1; none where it was asked for none.
    pub fn prefix_hits(&self) -> Option<f64> {
        let seen = self.0.lock();
        let (_, then) = seen.looks.front()?;
        let (asked, found) = (seen.now.0 - then.0, seen.now.1 - then.1);
        (asked > 0.0).then(|| (found / asked).clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_found_is_told_of_the_last_minutes_and_of_one_process() {
        let (cache, began) = (CacheUse::default(), Instant::now());
        let look = |seconds, asked, found| {
            cache.seen(Some(0.5), Some((asked, found)), began + Duration::from_secs(seconds));
        };
        assert_eq!((cache.kv_cache(), cache.prefix_hits()), (None, None));
        look(0, 1_000.0, 900.0);
        assert_eq!((cache.kv_cache(), cache.prefix_hits()), (Some(0.5), None));
        look(10, 1_100.0, 950.0);
        assert_eq!(cache.prefix_hits(), Some(0.5));
        look(400, 1_200.0, 950.0);
        assert_eq!(cache.prefix_hits(), Some(0.0));
        look(410, 10.0, 5.0);
        look(420, 20.0, 15.0);
        assert_eq!(cache.prefix_hits(), Some(1.0));
        cache.forget();
        assert_eq!((cache.kv_cache(), cache.prefix_hits()), (None, None));
    }
}
