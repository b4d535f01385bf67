//! How long a client waits for a node, and how long it hears nothing: pure, the time is told to it.

use std::time::{Duration, Instant};

use pingora::{Error, ErrorType};

/// Limits of ours, as errors tell them.
const FIRST_BYTE: &str = "no first byte in time";
const IDLE: &str = "silent for too long";
const TOTAL: &str = "not over in time";

/// How long a limit that is over is looked at again: a process that got no CPU for a while must not blame the node,
/// whose bytes may be waiting to be read.
const GRACE: Duration = Duration::from_millis(5);

/// How much longer than our own limits the proxy's timeout of one read is: the net below them.
const NET: Duration = Duration::from_secs(1);

/// What a request may wait for.
#[derive(Debug, Clone, Copy)]
pub(in crate::gateway) struct Limits {
    /// When the first byte of the answer's body must be there.
    pub(in crate::gateway) first_byte_until: Instant,
    /// The longest silence between later bytes.
    pub(in crate::gateway) idle: Duration,
    /// When the answer must be over.
    pub(in crate::gateway) total_until: Option<Instant>,
    /// A comment goes to the client of an event stream after so long a silence.
    pub(in crate::gateway) keepalive: Option<Duration>,
}

impl Limits {
    /// True where nothing is left to be done after the first bytes that the proxy's own timeout does not do.
    pub(super) fn end_with_first_byte(&self, now: Instant) -> bool {
        let first_byte = self.first_byte_until.saturating_duration_since(now);
        self.keepalive.is_none() && self.total_until.is_none() && first_byte <= self.idle
    }

    /// The proxy's own timeout of a read from the node.
    pub(in crate::gateway) fn read_timeout(&self, now: Instant) -> Duration {
        if self.end_with_first_byte(now) {
            return self.idle;
        }
        let first_byte = self.first_byte_until.saturating_duration_since(now);
        let longest = first_byte.max(self.idle);
        let left = self.total_until.map(|until| until.saturating_duration_since(now));
        left.map_or(longest, |left| longest.min(left)) + NET
    }
}

/// What is to be done when the alarm rings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ring {
    /// Nothing, until [`Clock::next`].
    Wait,
    /// Tell the client that its stream lives.
    Comment,
    /// The node is too slow: which limit says so.
    Over(&'static str),
}

/// The clock of one try. Its alarm is not moved with each piece: when it rings, what has come meanwhile is looked at.
#[derive(Debug)]
pub(super) struct Clock {
    limits: Limits,
    /// When the last byte of the answer was written, to the end: a client that reads slowly is no silent node.
    last: Option<Instant>,
    /// Since when the client of an event stream has heard nothing. None before the stream's head.
    quiet: Option<Instant>,
    /// A limit that is over is looked at again now.
    grace: Option<Instant>,
}

impl Clock {
    /// The clock of a try that begins. `begun`: its client has got the head of a stream already, with comments.
    pub(super) fn new(limits: Limits, now: Instant, begun: bool) -> Self {
        Self { limits, last: None, quiet: begun.then_some(now), grace: None }
    }

    /// When the alarm is to ring.
    pub(super) fn next(&self) -> Instant {
        let limit = self.grace.unwrap_or_else(|| self.limit().0);
        self.comment_at().map_or(limit, |comment| comment.min(limit))
    }

    /// The alarm rang. `between_events`: a comment would be none inside of an event.
    pub(super) fn ring(&mut self, now: Instant, between_events: bool) -> Ring {
        let (limit, name) = self.limit();
        if now >= limit {
            if self.grace.is_some_and(|grace| now >= grace) {
                return Ring::Over(name);
            }
            self.grace.get_or_insert(now + GRACE);
        }
        if self.comment_at().is_none_or(|comment| now < comment) {
            return Ring::Wait;
        }
        self.quiet = Some(now);
        if between_events { Ring::Comment } else { Ring::Wait }
    }

    /// The head of an event stream has come.
    pub(super) fn stream_begins(&mut self, now: Instant) {
        self.quiet.get_or_insert(now);
    }

    /// Bytes of the answer have been written, up to now.
    pub(super) fn wrote(&mut self, now: Instant) {
        (self.last, self.grace) = (Some(now), None);
        self.quiet = self.quiet.map(|_| now);
    }

    /// A comment has been written, from `began` to now: that long nobody looked at the node.
    pub(super) fn commented(&mut self, began: Instant, now: Instant) {
        self.quiet = Some(now);
        self.last = self.last.map(|last| last + now.saturating_duration_since(began));
    }

    /// The limit that is over first.
    fn limit(&self) -> (Instant, &'static str) {
        let of_phase = match self.last {
            None => (self.limits.first_byte_until, FIRST_BYTE),
            Some(last) => (last + self.limits.idle, IDLE),
        };
        match self.limits.total_until {
            Some(until) if until < of_phase.0 => (until, TOTAL),
            _ => of_phase,
        }
    }

    fn comment_at(&self) -> Option<Instant> {
        Some(self.quiet? + self.limits.keepalive?)
    }
}

/// The error that tells of a limit of ours. The proxy takes it for the client's.
pub(super) fn over(limit: &'static str) -> Box<Error> {
    Error::new(ErrorType::Custom(limit))
}

/// The same of the limit of the whole answer.
pub(in crate::gateway) fn total_is_over() -> Box<Error> {
    over(TOTAL)
}

/// True for a limit of ours.
pub(in crate::gateway) fn is_over(error: &Error) -> bool {
    matches!(error.etype(), ErrorType::Custom(FIRST_BYTE | IDLE | TOTAL))
}

/// True for that of the whole answer, which tells nothing of its node.
pub(in crate::gateway) fn is_total(error: &Error) -> bool {
    *error.etype() == ErrorType::Custom(TOTAL)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// First byte after 10 s, idle after 3 s, a comment after 2 s.
    fn limits(now: Instant) -> Limits {
        Limits {
            first_byte_until: now + 10 * SECOND,
            idle: 3 * SECOND,
            total_until: None,
            keepalive: Some(2 * SECOND),
        }
    }

    /// Rings at `at`, and once more after the grace where nothing was to be done.
    fn twice(clock: &mut Clock, at: Instant) -> Ring {
        match clock.ring(at, true) {
            Ring::Wait => clock.ring(at + GRACE, true),
            ring => ring,
        }
    }

    #[test]
    fn each_limit_holds_for_its_phase() {
        let now = Instant::now();
        let mut clock = Clock::new(Limits { keepalive: None, ..limits(now) }, now, false);
        assert_eq!(clock.next(), now + 10 * SECOND);
        assert_eq!(twice(&mut clock, now + 9 * SECOND), Ring::Wait);
        clock.wrote(now + 9 * SECOND);
        // The alarm is where it was; nothing is over.
        assert_eq!(clock.ring(now + 10 * SECOND, true), Ring::Wait);
        assert_eq!(clock.next(), now + 12 * SECOND);
        assert_eq!(twice(&mut clock, now + 12 * SECOND), Ring::Over(IDLE));
        let mut clock = Clock::new(limits(now), now, false);
        assert_eq!(twice(&mut clock, now + 10 * SECOND), Ring::Over(FIRST_BYTE));
    }

    #[test]
    fn the_total_holds_in_every_phase() {
        let now = Instant::now();
        let total = Limits { total_until: Some(now + 5 * SECOND), ..limits(now) };
        let mut clock = Clock::new(total, now, false);
        assert_eq!(clock.next(), now + 5 * SECOND);
        clock.wrote(now + 4 * SECOND);
        assert_eq!(twice(&mut clock, now + 5 * SECOND), Ring::Over(TOTAL));
    }

    #[test]
    fn a_limit_that_is_over_is_looked_at_twice() {
        let now = Instant::now();
        let mut clock = Clock::new(limits(now), now, false);
        let late = now + 10 * SECOND;
        assert_eq!(clock.ring(late, true), Ring::Wait);
        assert_eq!(clock.next(), late + GRACE);
        // The bytes were there, only nobody had looked.
        clock.wrote(late);
        assert_eq!(clock.ring(late + GRACE, true), Ring::Wait);
        assert_eq!(clock.next(), late + 3 * SECOND);
    }

    #[test]
    fn comments_begin_with_the_stream_and_keep_out_of_events() {
        let now = Instant::now();
        let mut clock = Clock::new(limits(now), now, false);
        assert_eq!(clock.ring(now + 2 * SECOND, true), Ring::Wait);
        clock.stream_begins(now + 3 * SECOND);
        assert_eq!(clock.next(), now + 5 * SECOND);
        assert_eq!(clock.ring(now + 5 * SECOND, true), Ring::Comment);
        clock.commented(now + 5 * SECOND, now + 5 * SECOND);
        assert_eq!(clock.next(), now + 7 * SECOND);
        clock.wrote(now + 6 * SECOND);
        assert_eq!(clock.ring(now + 8 * SECOND, false), Ring::Wait);
        let begun = Clock::new(limits(now), now, true);
        assert_eq!(begun.next(), now + 2 * SECOND);
    }

    #[test]
    fn a_slow_write_is_no_silence_of_the_nodes() {
        let now = Instant::now();
        let mut clock = Clock::new(limits(now), now, false);
        clock.stream_begins(now);
        clock.wrote(now);
        assert_eq!(clock.ring(now + 2 * SECOND, true), Ring::Comment);
        clock.commented(now + 2 * SECOND, now + 7 * SECOND);
        assert_eq!(twice(&mut clock, now + 7 * SECOND), Ring::Wait);
        assert_eq!(twice(&mut clock, now + 8 * SECOND), Ring::Over(IDLE));
    }

    #[test]
    fn the_net_is_below_the_limits_and_nothing_is_below_a_hand_over() {
        let now = Instant::now();
        assert_eq!(limits(now).read_timeout(now), 11 * SECOND);
        let total = Limits { total_until: Some(now + 4 * SECOND), ..limits(now) };
        assert_eq!(total.read_timeout(now), 5 * SECOND);
        let same = Limits { keepalive: None, idle: 10 * SECOND, ..limits(now) };
        assert!(same.end_with_first_byte(now));
        assert_eq!(same.read_timeout(now), 10 * SECOND);
    }
}
