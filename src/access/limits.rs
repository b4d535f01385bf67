//! How often a key may ask: all of its windows are looked at, then all are taken, in one step. Who is refused takes
//! nothing.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::passes::Pass;
use super::ring::{Ring, Span};
use crate::config::{Day, KeyLimits};
use crate::refusal::{Exceeded, Limit};

/// When another request may have ended, if as many are under way as may be: nobody knows; soon enough to be of use, and not
/// so soon that asking is all that is done.
pub(super) const CONCURRENT_WAIT: Duration = Duration::from_secs(1);

/// Windows of a key: requests, then tokens.
pub(super) const WINDOWS: usize = 4;

/// Where those of tokens begin.
pub(super) const TOKENS: usize = 2;

/// What one key has taken. It lives through reloads.
#[derive(Debug, Default)]
pub struct Account(Mutex<Taken>);

#[derive(Debug, Default)]
struct Taken {
    rings: [Ring; WINDOWS],
    /// Requests under way.
    running: u32,
}

/// What a key is held to.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    pub(super) windows: [Window; WINDOWS],
    pub(super) concurrent: Option<u32>,
}

/// One window of a key.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    pub(super) limit: Limit,
    pub(super) allowed: Option<u32>,
    pub(super) span: Span,
}

/// By window: the slot, and how much was taken in it; none where nothing is counted.
pub(super) type TakenParts = [Option<(Span, u64, u32)>; WINDOWS];

/// What is to be taken for a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// All that it needs, with so many tokens.
    All(u32),
    /// What can be known of it before it comes: a request of the windows.
    Ahead,
    /// All, with so many tokens, in the place of what was taken ahead when this pass was given out.
    Counted(Pass, u32),
}

/// What was taken for one request. Dropping it ends the request; the windows keep what was taken, unless it is given back.
#[derive(Debug)]
pub struct Admitted {
    account: Arc<Account>,
    has_place: bool,
    taken: TakenParts,
}

/// How a key stands after a decision, by the window that is nearest to its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// What the window may have.
    pub limit: u32,
    /// What is left of it.
    pub remaining: u32,
    /// Until all is there again.
    pub reset: Duration,
}

/// By requests, and by tokens, where they are limited in time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Standings {
    /// In requests.
    pub requests: Option<Standing>,
    /// In tokens.
    pub tokens: Option<Standing>,
}

/// What comes of a decision, and how the key stands after it.
pub type Decision = (Result<Admitted, Exceeded>, Standings);

impl Part {
    /// How much of each window is to be taken.
    pub(super) fn amounts(self) -> [Option<u32>; WINDOWS] {
        match self {
            Self::Ahead => [Some(1), Some(1), None, None],
            Self::All(tokens) | Self::Counted(_, tokens) => {
                [Some(1), Some(1), Some(tokens), Some(tokens)]
            }
        }
    }

    /// It is a request that goes to a node: it has a place until it ends.
    pub(super) fn takes_place(self) -> bool {
        self != Self::Ahead
    }
}

impl Account {
    /// Takes a `part` of a request at `now`, in the milliseconds of a [`Clock`](super::clock::Clock), or says what is in the way: of several limits
    /// the one that takes longest.
    pub fn take(self: &Arc<Self>, limits: &KeyLimits, part: Part, now: u64) -> Decision {
        self.take_by(&Rules::of(limits), part, now)
    }

    /// The same, by rules at hand.
    pub fn take_by(self: &Arc<Self>, rules: &Rules, part: Part, now: u64) -> Decision {
        let Rules { windows, concurrent } = rules;
        let mut taken = self.0.lock();
        let Taken { rings, running } = &mut *taken;
        let mut amounts = part.amounts();
        if let Part::Counted(pass, _) = part {
            // It is taken now, when it is here: what is counted ahead cannot be saved up for another window. Of what another
            // gateway has counted nothing is here.
            let of_requests = rings.iter_mut().zip(windows).zip(&mut amounts).take(TOKENS);
            for ((ring, Window { span, .. }), amount) in of_requests {
                let here = ring.give_back(*span, span.at(pass.moment()), 1);
                *amount = amount.filter(|_| here > 0);
            }
        }
        let mut exceeded = concurrent.filter(|allowed| *running >= *allowed).map(|allowed| {
            let (limit, used) = (Limit::Concurrent, u64::from(*running));
            Exceeded { limit, allowed, used, requested: 1, wait: CONCURRENT_WAIT }
        });
        for ((ring, window), amount) in rings.iter_mut().zip(windows).zip(amounts) {
            let full = amount.and_then(|amount| window.exceeded(ring, amount, now));
            exceeded = exceeded.into_iter().chain(full).max_by_key(|one| one.wait);
        }
        let admitted = match exceeded {
            Some(exceeded) => Err(exceeded),
            None => {
                let has_place = part.takes_place();
                *running += u32::from(has_place);
                let mut of_request = [None; WINDOWS];
                let all = rings.iter_mut().zip(windows).zip(amounts);
                for (slot, ((ring, window), amount)) in of_request.iter_mut().zip(all) {
                    *slot = amount.and_then(|amount| window.take(ring, amount));
                }
                Ok(Admitted { account: self.clone(), has_place, taken: of_request })
            }
        };
        let standings =
            rings.iter_mut().zip(windows).map(|(ring, window)| window.look_at(ring, now));
        (admitted, Standings::of(standings))
    }

    /// Of each limit that there is: how much may be taken, and how much is.
    pub fn used(&self, limits: &KeyLimits, now: u64) -> Vec<(Limit, u32, u64)> {
        let mut account = self.0.lock();
        let running = u64::from(account.running);
        let Rules { windows, concurrent } = Rules::of(limits);
        let of_window = |(ring, window): (&mut Ring, &Window)| {
            Some((window.limit, window.allowed?, ring.used(window.span, now)))
        };
        let used = account.rings.iter_mut().zip(&windows).filter_map(of_window);
        used.chain(concurrent.map(|allowed| (Limit::Concurrent, allowed, running))).collect()
    }

    /// Lets go of memory that nothing is counted in.
    pub fn shrink(&self, limits: &KeyLimits, now: u64) {
        for (ring, window) in self.0.lock().rings.iter_mut().zip(Rules::of(limits).windows) {
            ring.used(window.span, now);
            ring.shrink();
        }
    }
}

impl Rules {
    /// Of a key: minutes and days.
    pub fn of(limits: &KeyLimits) -> Self {
        let day = match limits.day {
            Day::Rolling => Span::DAY,
            Day::Utc => Span::UTC_DAY,
        };
        Self::with_spans(limits, Span::MINUTE, day)
    }

    /// With windows of other lengths.
    pub fn with_spans(limits: &KeyLimits, minute: Span, day: Span) -> Self {
        let window = |limit, allowed, span| Window { limit, allowed, span };
        let windows = [
            window(Limit::RequestsPerMinute, limits.rpm, minute),
            window(Limit::RequestsPerDay, limits.rpd, day),
            window(Limit::TokensPerMinute, limits.tpm, minute),
            window(Limit::TokensPerDay, limits.tpd, day),
        ];
        Self { windows, concurrent: limits.concurrent }
    }
}

impl Standings {
    /// Of all windows, in their order.
    pub(super) fn of(mut each: impl Iterator<Item = Option<Standing>>) -> Self {
        let mut tightest = || {
            let two = [each.next().flatten(), each.next().flatten()];
            two.into_iter().flatten().min_by_key(|one| one.remaining)
        };
        Self { requests: tightest(), tokens: tightest() }
    }
}

impl Window {
    /// What is in the way of `amount`.
    fn exceeded(&self, ring: &mut Ring, amount: u32, now: u64) -> Option<Exceeded> {
        let allowed = self.allowed?;
        let used = ring.used(self.span, now);
        let wanted = used + u64::from(amount);
        let over = wanted.checked_sub(u64::from(allowed)).filter(|over| *over > 0)?;
        let wait = Duration::from_millis(ring.frees(self.span, now, over));
        Some(Exceeded { limit: self.limit, allowed, used, requested: amount, wait })
    }

    /// Where there is no limit, nothing is counted.
    fn take(&self, ring: &mut Ring, amount: u32) -> Option<(Span, u64, u32)> {
        self.allowed.map(|_| (self.span, ring.take(self.span, amount), amount))
    }

    fn look_at(&self, ring: &mut Ring, now: u64) -> Option<Standing> {
        // Where there is no limit, nobody looks.
        self.allowed?;
        let used = ring.used(self.span, now);
        self.standing(used, ring.resets(self.span, now))
    }

    /// With so much taken, which is let go of in so many milliseconds.
    pub(super) fn standing(&self, used: u64, resets: u64) -> Option<Standing> {
        let limit = self.allowed?;
        let used = u32::try_from(used).unwrap_or(u32::MAX);
        let reset = Duration::from_millis(resets);
        Some(Standing { limit, remaining: limit.saturating_sub(used), reset })
    }
}

impl Admitted {
    /// Nothing came of the request: it is as if it had not been there.
    pub fn give_back(&self) {
        let mut account = self.account.0.lock();
        for (ring, taken) in account.rings.iter_mut().zip(self.taken) {
            if let Some((span, slot, amount)) = taken {
                ring.give_back(span, slot, amount);
            }
        }
    }

    /// The request had so many tokens: what was taken beyond them is given back, what they are beyond it is taken at `now`.
    pub fn settle(&self, tokens: u64, now: u64) {
        let tokens = u32::try_from(tokens).unwrap_or(u32::MAX);
        let mut account = self.account.0.lock();
        let of_tokens = account.rings.iter_mut().zip(self.taken).skip(TOKENS);
        for (ring, taken) in of_tokens {
            let Some((span, slot, amount)) = taken else { continue };
            ring.give_back(span, slot, amount.saturating_sub(tokens));
            if tokens > amount {
                ring.used(span, now);
                ring.take(span, tokens - amount);
            }
        }
    }

    /// What was taken.
    #[cfg(test)]
    pub(super) fn taken(&self) -> &TakenParts {
        &self.taken
    }

    /// Its tokens are counted.
    pub fn has_tokens(&self) -> bool {
        self.taken.iter().skip(TOKENS).any(Option::is_some)
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

    fn counted(moment: u64) -> Part {
        Part::Counted(Pass::of(moment, Default::default()), 0)
    }

    #[test]
    fn who_is_refused_takes_nothing_and_the_longest_wait_is_told() {
        let (account, limits) = (Arc::<Account>::default(), limits(2, 3, 0));
        for remaining in [1, 0] {
            let (admitted, standing) = account.take(&limits, Part::All(0), NOW);
            assert!(admitted.is_ok());
            assert_eq!(standing.requests.unwrap().remaining, remaining);
        }
        for _ in 0..3 {
            let refused = account.take(&limits, Part::All(0), NOW).0.unwrap_err();
            assert_eq!((refused.limit, refused.used), (Limit::RequestsPerMinute, 2));
            assert!(refused.wait <= Duration::from_secs(65), "{refused:?}");
        }
        let later = NOW + 65_000;
        assert!(account.take(&limits, Part::All(0), later).0.is_ok());
        let (refused, standing) = account.take(&limits, Part::All(0), later);
        let refused = refused.unwrap_err();
        assert_eq!((refused.limit, refused.used), (Limit::RequestsPerDay, 3));
        assert!(refused.wait > Duration::from_secs(23 * 3_600), "{refused:?}");
        assert_eq!(standing.requests.unwrap().limit, 3);
    }

    #[test]
    fn what_is_given_back_can_be_taken_again_and_places_are_free_at_the_end() {
        let (account, limits) = (Arc::<Account>::default(), limits(2, 2, 1));
        for _ in 0..5 {
            let admitted = account.take(&limits, Part::All(0), NOW).0.unwrap();
            let refused = account.take(&limits, Part::All(0), NOW).0.unwrap_err();
            assert_eq!((refused.limit, refused.wait), (Limit::Concurrent, CONCURRENT_WAIT));
            admitted.give_back();
        }
        assert!(account.take(&limits, Part::All(0), NOW).0.is_ok());
        assert!(account.take(&limits, Part::All(0), NOW).0.is_ok());
        assert!(account.take(&limits, Part::All(0), NOW).0.is_err());
    }

    #[test]
    fn without_a_limit_nothing_is_counted() {
        let account = Arc::<Account>::default();
        for _ in 0..10 {
            let (admitted, standing) = account.take(&KeyLimits::default(), Part::All(0), NOW);
            assert!(admitted.is_ok() && standing == Standings::default());
        }
        assert!(account.0.lock().rings.iter().all(|ring| !ring.has_memory()));
    }

    #[test]
    fn what_was_counted_ahead_takes_a_place_alone_and_is_given_back_where_it_is_refused() {
        let (account, limits) = (Arc::<Account>::default(), limits(2, 0, 1));
        let take = |part| account.take(&limits, part, NOW).0;
        drop(take(Part::Ahead).unwrap());
        drop(take(Part::Ahead).unwrap());
        assert_eq!(take(Part::Ahead).unwrap_err().limit, Limit::RequestsPerMinute);
        let admitted = take(counted(NOW)).unwrap();
        assert_eq!(take(counted(NOW)).unwrap_err().limit, Limit::Concurrent);
        drop(admitted);
        let again = take(Part::All(0)).unwrap();
        assert_eq!(take(Part::Ahead).unwrap_err().limit, Limit::RequestsPerMinute);
        again.give_back();
        drop(again);
        assert!(take(Part::All(0)).is_ok());
    }

    #[test]
    fn what_is_counted_ahead_cannot_be_saved_up_for_another_window() {
        let (account, limits) = (Arc::<Account>::default(), limits(3, 0, 0));
        (0..3).for_each(|_| drop(account.take(&limits, Part::Ahead, NOW).0.unwrap()));
        let late = NOW + 59_000;
        (0..3).for_each(|_| drop(account.take(&limits, counted(NOW), late).0.unwrap()));
        let refused = account.take(&limits, Part::All(0), NOW + 66_000).0.unwrap_err();
        assert_eq!(refused.used, 3);
        assert!(account.take(&limits, Part::All(0), late + 66_000).0.is_ok());
    }

    #[test]
    fn tokens_are_taken_ahead_and_settled_with_what_they_were() {
        let limits = KeyLimits { tpm: Some(100), ..KeyLimits::default() };
        let account = Arc::<Account>::default();
        let left = |account: &Arc<Account>| {
            account.take(&limits, Part::All(0), NOW).1.tokens.unwrap().remaining
        };
        let (admitted, standing) = account.take(&limits, Part::All(60), NOW);
        assert_eq!(standing.tokens.unwrap().remaining, 40);
        let refused = account.take(&limits, Part::All(50), NOW).0.unwrap_err();
        assert_eq!(
            (refused.limit, refused.used, refused.requested),
            (Limit::TokensPerMinute, 60, 50)
        );
        admitted.unwrap().settle(10, NOW);
        assert_eq!(left(&account), 90);
        let admitted = account.take(&limits, Part::All(20), NOW).0.unwrap();
        admitted.settle(50, NOW);
        assert_eq!(left(&account), 40);
        let admitted = account.take(&limits, Part::All(40), NOW).0.unwrap();
        admitted.give_back();
        assert_eq!(left(&account), 40);
    }

    #[test]
    fn an_idle_key_needs_little_memory() {
        let (account, limits) = (Arc::<Account>::default(), limits(9, 9, 9));
        drop(account.take(&limits, Part::All(0), NOW));
        account.shrink(&limits, NOW + 2 * 86_400_000);
        assert!(account.0.lock().rings.iter().all(|ring| !ring.has_memory()));
        // With the counts of its references, and what the key says of it.
        assert!(size_of::<Account>() + 2 * size_of::<usize>() + size_of::<KeyLimits>() < 300);
    }
}
