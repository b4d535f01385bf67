//! How often a key may ask: all of its windows are looked at, then all are taken, in one step. Who is refused takes
//! nothing.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;

use super::ring::{Ring, Span};
use crate::config::{Day, KeyLimits};
use crate::refusal::{Exceeded, Limit};

/// When another request may have ended, if as many are under way as may be: nobody knows; soon enough to be of use, and not
/// so soon that asking is all that is done.
const CONCURRENT_WAIT: Duration = Duration::from_secs(1);

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

/// What one key has taken. It lives through reloads.
#[derive(Debug, Default)]
pub struct Account(Mutex<Taken>);

#[derive(Debug, Default)]
struct Taken {
    minute: Ring,
    day: Ring,
    /// Requests under way.
    running: u32,
}

/// What is to be taken for a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// A request of the windows, and a place among those that are under way.
    All,
    /// A request of the windows: another brings it here.
    Windows,
    /// A place: the windows had theirs at this moment, in the milliseconds of a [`Clock`].
    Place(u64),
}

/// What was taken for one request. Dropping it ends the request; the windows keep what was taken, unless it is given back.
#[derive(Debug)]
pub struct Admitted {
    account: Arc<Account>,
    has_place: bool,
    day: Span,
    /// The slots of both windows.
    minute_slot: u64,
    day_slot: u64,
}

/// How a key stands after a decision, by the window that is nearest to its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Requests that the window may have.
    pub limit: u32,
    /// Requests that are left of them.
    pub remaining: u32,
    /// Until all are there again.
    pub reset: Duration,
}

/// What comes of a decision: the answer, and how the key stands, where it has a limit by time.
pub type Decision = (Result<Admitted, Exceeded>, Option<Standing>);

impl Account {
    /// Takes a `part` of a request at `now`, in the milliseconds of a [`Clock`], or says what is in the way: of several limits
    /// the one that takes longest.
    pub fn take(self: &Arc<Self>, limits: &KeyLimits, part: Part, now: u64) -> Decision {
        let day = day_of(limits);
        let mut taken = self.0.lock();
        let Taken { minute, day: of_day, running } = &mut *taken;
        let used = (minute.used(Span::MINUTE, now), of_day.used(day, now));
        let full = |limit, allowed: Option<u32>, used: u64, wait: &dyn Fn(u64) -> Duration| {
            let allowed = allowed.filter(|allowed| used >= u64::from(*allowed))?;
            let wait = wait(used + 1 - u64::from(allowed));
            Some(Exceeded { limit, allowed, used, wait })
        };
        let frees =
            |ring: &Ring, span, amount| Duration::from_millis(ring.frees(span, now, amount));
        // Where a limit is none, nothing is counted; where its part was taken before, nothing is in the way.
        let was_counted = matches!(part, Part::Place(_));
        let rpm = limits.rpm.filter(|_| !was_counted);
        let rpd = limits.rpd.filter(|_| !was_counted);
        let in_the_way = [
            full(Limit::Concurrent, limits.concurrent, u64::from(*running), &|_| CONCURRENT_WAIT),
            full(Limit::RequestsPerMinute, rpm, used.0, &|over| frees(minute, Span::MINUTE, over)),
            full(Limit::RequestsPerDay, rpd, used.1, &|over| frees(of_day, day, over)),
        ];
        let exceeded = in_the_way.into_iter().flatten().max_by_key(|exceeded| exceeded.wait);
        let admitted = match exceeded {
            Some(exceeded) => Err(exceeded),
            None => {
                let has_place = part != Part::Windows;
                *running += u32::from(has_place);
                let before = |span: Span| match part {
                    Part::Place(moment) => span.at(moment),
                    _ => 0,
                };
                let minute_slot =
                    rpm.map_or(before(Span::MINUTE), |_| minute.take(Span::MINUTE, 1));
                let day_slot = rpd.map_or(before(day), |_| of_day.take(day, 1));
                Ok(Admitted { account: self.clone(), has_place, day, minute_slot, day_slot })
            }
        };
        let standing = [
            standing(limits.rpm, minute, Span::MINUTE, now),
            standing(limits.rpd, of_day, day, now),
        ];
        let tightest = standing.into_iter().flatten().min_by_key(|one| one.remaining);
        (admitted, tightest)
    }

    /// Lets go of memory that nothing is counted in.
    pub fn shrink(&self, limits: &KeyLimits, now: u64) {
        let day = day_of(limits);
        let mut taken = self.0.lock();
        taken.minute.used(Span::MINUTE, now);
        taken.day.used(day, now);
        taken.minute.shrink();
        taken.day.shrink();
    }
}

fn day_of(limits: &KeyLimits) -> Span {
    match limits.day {
        Day::Rolling => Span::DAY,
        Day::Utc => Span::UTC_DAY,
    }
}

fn standing(limit: Option<u32>, ring: &mut Ring, span: Span, now: u64) -> Option<Standing> {
    let limit = limit?;
    let used = u32::try_from(ring.used(span, now)).unwrap_or(u32::MAX);
    let reset = Duration::from_millis(ring.resets(span, now));
    Some(Standing { limit, remaining: limit.saturating_sub(used), reset })
}

impl Admitted {
    /// Nothing came of the request: it is as if it had not been there.
    pub fn give_back(&self) {
        let mut taken = self.account.0.lock();
        taken.minute.give_back(Span::MINUTE, self.minute_slot, 1);
        taken.day.give_back(self.day, self.day_slot, 1);
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        if self.has_place {
            self.account.0.lock().running -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000_000;

    fn limits(rpm: u32, rpd: u32, concurrent: u32) -> KeyLimits {
        let some = |limit| (limit > 0).then_some(limit);
        KeyLimits {
            rpm: some(rpm),
            rpd: some(rpd),
            concurrent: some(concurrent),
            ..KeyLimits::default()
        }
    }

    #[test]
    fn who_is_refused_takes_nothing_and_the_longest_wait_is_told() {
        let (account, limits) = (Arc::<Account>::default(), limits(2, 3, 0));
        for remaining in [1, 0] {
            let (admitted, standing) = account.take(&limits, Part::All, NOW);
            assert!(admitted.is_ok());
            assert_eq!(standing.unwrap().remaining, remaining);
        }
        for _ in 0..3 {
            let refused = account.take(&limits, Part::All, NOW).0.unwrap_err();
            assert_eq!((refused.limit, refused.used), (Limit::RequestsPerMinute, 2));
            assert!(refused.wait <= Duration::from_secs(65), "{refused:?}");
        }
        let later = NOW + 65_000;
        assert!(account.take(&limits, Part::All, later).0.is_ok());
        let (refused, standing) = account.take(&limits, Part::All, later);
        let refused = refused.unwrap_err();
        assert_eq!((refused.limit, refused.used), (Limit::RequestsPerDay, 3));
        assert!(refused.wait > Duration::from_secs(23 * 3_600), "{refused:?}");
        assert_eq!(standing.unwrap().limit, 3);
    }

    #[test]
    fn what_is_given_back_can_be_taken_again_and_places_are_free_at_the_end() {
        let (account, limits) = (Arc::<Account>::default(), limits(2, 2, 1));
        for _ in 0..5 {
            let admitted = account.take(&limits, Part::All, NOW).0.unwrap();
            let refused = account.take(&limits, Part::All, NOW).0.unwrap_err();
            assert_eq!((refused.limit, refused.wait), (Limit::Concurrent, CONCURRENT_WAIT));
            admitted.give_back();
        }
        assert!(account.take(&limits, Part::All, NOW).0.is_ok());
        assert!(account.take(&limits, Part::All, NOW).0.is_ok());
        assert!(account.take(&limits, Part::All, NOW).0.is_err());
    }

    #[test]
    fn without_a_limit_nothing_is_counted() {
        let account = Arc::<Account>::default();
        for _ in 0..10 {
            let (admitted, standing) = account.take(&KeyLimits::default(), Part::All, NOW);
            assert!(admitted.is_ok() && standing.is_none());
        }
        assert!(!account.0.lock().minute.has_memory());
    }

    #[test]
    fn what_was_counted_before_takes_a_place_alone_and_can_be_given_back() {
        let (account, limits) = (Arc::<Account>::default(), limits(1, 0, 1));
        let take = |part| account.take(&limits, part, NOW).0;
        drop(take(Part::Windows).unwrap());
        assert_eq!(take(Part::Windows).unwrap_err().limit, Limit::RequestsPerMinute);
        let admitted = take(Part::Place(NOW)).unwrap();
        assert_eq!(take(Part::Place(NOW)).unwrap_err().limit, Limit::Concurrent);
        admitted.give_back();
        drop(admitted);
        assert!(take(Part::All).is_ok());
    }

    #[test]
    fn an_idle_key_needs_little_memory() {
        let (account, limits) = (Arc::<Account>::default(), limits(9, 9, 9));
        drop(account.take(&limits, Part::All, NOW));
        account.shrink(&limits, NOW + 2 * 86_400_000);
        let taken = account.0.lock();
        assert!(!taken.minute.has_memory() && !taken.day.has_memory());
        assert!(size_of::<Account>() < 100);
    }
}
