//! How much was taken in a window that moves with time: a ring of short slots.
//!
//! What was taken is counted in the slot of its moment, and let go of when all of that slot is a whole window old. So in no
//! window is ever more taken than may be, and nobody waits longer than one slot beyond what is needed. A token bucket
//! and two windows weighed against each other both let nearly twice as much through some windows.

/// How a window is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Of one slot, in milliseconds.
    pub slot: u64,
    /// Slots of a whole window, beside the one of this moment. 0: the window is the slot, as of a calendar.
    pub slots: u64,
}

impl Span {
    /// Any 60 seconds, to 5 seconds.
    pub const MINUTE: Self = Self { slot: 5_000, slots: 12 };
    /// Any 24 hours, to 15 minutes.
    pub const DAY: Self = Self { slot: 900_000, slots: 96 };
    /// A day of UTC, from midnight to midnight.
    pub const UTC_DAY: Self = Self { slot: 86_400_000, slots: 0 };

    /// The slot of a moment, in milliseconds since 1970.
    pub(super) fn at(self, now: u64) -> u64 {
        now / self.slot
    }
}

/// What was taken in one window.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ring {
    /// The newest slot that was looked at.
    newest: u64,
    sum: u64,
    /// One for each slot of a window and the one of this moment; empty while nothing is taken.
    counts: Box<[u32]>,
}

impl Ring {
    /// What is taken as of `now`. Every other look at a ring begins with this.
    pub fn used(&mut self, span: Span, now: u64) -> u64 {
        let (now, length) = (span.at(now), span.slots + 1);
        // Never backwards: a clock that was set back would count nothing twice.
        let passed = now.saturating_sub(self.newest).min(length);
        if self.sum > 0 {
            for slot in self.newest + 1..=self.newest + passed {
                self.clear(slot);
            }
        }
        self.newest = self.newest.max(now);
        self.sum
    }

    /// Takes `amount` now. The moment for [`Self::give_back`].
    pub fn take(&mut self, span: Span, amount: u32) -> u64 {
        if self.counts.is_empty() {
            self.counts = vec![0; usize::try_from(span.slots + 1).unwrap_or(1)].into_boxed_slice();
        }
        let newest = self.newest;
        if let Some(count) = self.slot(newest) {
            let before = *count;
            *count = before.saturating_add(amount);
            let added = u64::from(*count - before);
            self.sum += added;
        }
        newest
    }

    /// Gives back `amount` of what was taken in `slot`, as far as that is still there; how much it was.
    pub fn give_back(&mut self, span: Span, slot: u64, amount: u32) -> u32 {
        if slot + span.slots < self.newest || slot > self.newest {
            return 0;
        }
        let Some(count) = self.slot(slot) else { return 0 };
        let given = amount.min(*count);
        *count -= given;
        self.sum -= u64::from(given);
        given
    }

    /// Milliseconds from `now` until `amount` is let go of; of less than that, until all is.
    pub fn frees(&self, span: Span, now: u64, amount: u64) -> u64 {
        if self.sum == 0 {
            return 0;
        }
        let mut freed = 0;
        let oldest = self.newest.saturating_sub(span.slots);
        for slot in oldest..=self.newest {
            freed += u64::from(self.count(slot));
            if freed >= amount.min(self.sum) {
                return ((slot + span.slots + 1) * span.slot).saturating_sub(now);
            }
        }
        0
    }

    /// Milliseconds from `now` until nothing is taken any more.
    pub fn resets(&self, span: Span, now: u64) -> u64 {
        self.frees(span, now, self.sum)
    }

    /// Lets go of memory that nothing is counted in.
    pub fn shrink(&mut self) {
        if self.sum == 0 {
            self.counts = Box::default();
        }
    }

    /// It has memory of its own.
    #[cfg(test)]
    pub(super) fn has_memory(&self) -> bool {
        !self.counts.is_empty()
    }

    fn slot(&mut self, slot: u64) -> Option<&mut u32> {
        let length = self.counts.len() as u64;
        let at = slot.checked_rem(length)?;
        self.counts.get_mut(usize::try_from(at).ok()?)
    }

    fn count(&self, slot: u64) -> u32 {
        let at = slot.checked_rem(self.counts.len() as u64);
        let at = at.and_then(|at| usize::try_from(at).ok());
        at.and_then(|at| self.counts.get(at)).copied().unwrap_or(0)
    }

    fn clear(&mut self, slot: u64) {
        if let Some(count) = self.slot(slot) {
            let gone = std::mem::take(count);
            self.sum -= u64::from(gone);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SPAN: Span = Span { slot: 250, slots: 4 };
    const WINDOW: u64 = 1_000;

    #[test]
    fn what_was_taken_is_let_go_of_when_its_slot_is_a_window_old() {
        let mut ring = Ring::default();
        assert_eq!(ring.used(SPAN, 10_100), 0);
        ring.take(SPAN, 3);
        assert_eq!(ring.used(SPAN, 11_249), 3);
        assert_eq!(ring.frees(SPAN, 11_249, 1), 1);
        assert_eq!(ring.used(SPAN, 11_250), 0);
        assert_eq!((ring.frees(SPAN, 11_250, 1), ring.resets(SPAN, 11_250)), (0, 0));
    }

    #[test]
    fn a_day_of_utc_ends_at_midnight() {
        let (day, mut ring) = (Span::UTC_DAY, Ring::default());
        let noon = 20_000 * day.slot + day.slot / 2;
        ring.used(day, noon);
        ring.take(day, 7);
        assert_eq!(
            (ring.used(day, noon + day.slot / 2 - 1), ring.frees(day, noon, 1)),
            (7, day.slot / 2)
        );
        assert_eq!(ring.used(day, noon + day.slot / 2), 0);
    }

    #[test]
    fn what_is_given_back_late_takes_nothing_from_others() {
        let mut ring = Ring::default();
        ring.used(SPAN, 10_000);
        let slot = ring.take(SPAN, 3);
        assert_eq!(ring.used(SPAN, 10_000 + WINDOW + SPAN.slot), 0);
        ring.take(SPAN, 2);
        ring.give_back(SPAN, slot, 3);
        assert_eq!(ring.used(SPAN, 10_000 + WINDOW + SPAN.slot), 2);
        assert!(ring.has_memory());
        ring.used(SPAN, 99_000);
        ring.shrink();
        assert!(!ring.has_memory());
    }

    proptest! {
        #[test]
        fn in_no_window_is_more_taken_than_may_be(
            steps in prop::collection::vec((0..400_u64, 1..4_u32, any::<bool>()), 1..200), limit in 1..12_u64)
        {
            let (mut ring, mut now, mut taken) = (Ring::default(), 5_000_000, Vec::new());
            for (passes, amount, back) in steps {
                now += passes;
                let used = ring.used(SPAN, now);
                let recent = |taken: &[(u64, u64, u32)]| -> u64 {
                    taken.iter().filter(|(at, ..)| at + WINDOW > now).map(|(.., amount)| u64::from(*amount)).sum()
                };
                prop_assert!(recent(&taken) <= used, "less is counted than was taken");
                if used + u64::from(amount) <= limit {
                    let slot = ring.take(SPAN, amount);
                    taken.push((now, slot, amount));
                    prop_assert!(recent(&taken) <= limit);
                } else if u64::from(amount) <= limit {
                    // Whoever waits as long as they are told finds room.
                    let needed = used + u64::from(amount) - limit;
                    let wait = ring.frees(SPAN, now, needed);
                    prop_assert!(wait > 0 && wait <= WINDOW + SPAN.slot);
                    let mut later = ring.clone();
                    prop_assert!(later.used(SPAN, now + wait) + u64::from(amount) <= limit);
                    let mut sooner = ring.clone();
                    prop_assert!(sooner.used(SPAN, now + wait - 1) + u64::from(amount) > limit);
                }
                if back && let Some((_, slot, amount)) = taken.pop() {
                    ring.give_back(SPAN, slot, amount);
                }
            }
        }
    }
}
