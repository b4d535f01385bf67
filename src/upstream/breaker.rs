//! Passive ejection: a node whose requests fail one after another is left alone for a while, and comes back by one
//! request that goes well.

use std::time::{Duration, Instant};

/// Failures of the connection in a row that open the breaker: one is a restart, two may be chance.
const BROKEN_IN_A_ROW: u32 = 3;

/// Answers of 5xx, or errors told in streams, in a row that do: some are the fault of a prompt, and its client tries it three times.
const ERRORS_IN_A_ROW: u32 = 5;

/// How long the first ejection lasts: a server restarts in less.
const EJECTION: Duration = Duration::from_secs(1);

/// How long any lasts: the trial that ends it costs one request a retry at most.
const EJECTION_MAX: Duration = Duration::from_secs(30);

/// How a try at a node failed, where that counts against the node. 4xx never does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// No connection.
    Connect,
    /// The connection closed or was reset before the answer's end, or what came was no HTTP.
    Broken,
    /// Nothing came for as long as the configuration lets it.
    Timeout,
    /// 5xx other than 501 and 505.
    Status,
    /// It told an error of its own in the middle of an answer: its death, or what a prompt did to it.
    Died,
    /// Its engine is gone, as it said.
    Gone,
    /// It is shutting down: what runs is finished, nothing new begins.
    ShuttingDown,
}

impl Fault {
    /// For people.
    pub(super) fn describe(self) -> &'static str {
        match self {
            Self::Connect => "takes no connection",
            Self::Broken => "breaks off",
            Self::Timeout => "is too slow",
            Self::Status => "answers 5xx",
            Self::Died => "told of its death in streams",
            Self::Gone => "has lost its engine",
            Self::ShuttingDown => "is shutting down",
        }
    }

    fn limit(self) -> u32 {
        match self {
            Self::Status | Self::Died => ERRORS_IN_A_ROW,
            Self::Connect | Self::Broken | Self::Timeout => BROKEN_IN_A_ROW,
            Self::Gone | Self::ShuttingDown => 1,
        }
    }
}

/// The breaker of one node. Closed at first.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    in_a_row: u32,
    /// Ejections since the last success.
    ejections: u32,
    open: Option<Open>,
}

#[derive(Debug, Clone, Copy)]
struct Open {
    until: Instant,
    why: Fault,
    /// A request is on its way to find out.
    trial: bool,
}

/// What the breaker says about new work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flow {
    /// It may come.
    Closed,
    /// Not before then.
    Open { until: Instant, why: Fault },
    /// One request may come, as a trial.
    Half { why: Fault },
    /// It is under way.
    Tried { why: Fault },
}

impl Breaker {
    /// What holds at `now`.
    pub(super) fn flow(&self, now: Instant) -> Flow {
        match self.open {
            None => Flow::Closed,
            Some(Open { why, trial: true, .. }) => Flow::Tried { why },
            Some(Open { until, why, .. }) if now < until => Flow::Open { until, why },
            Some(Open { why, .. }) => Flow::Half { why },
        }
    }

    /// True where nothing is amiss: a success would change nothing.
    pub(super) fn is_calm(&self) -> bool {
        self.in_a_row == 0 && self.open.is_none()
    }

    /// Takes the one place of a half-open breaker. False where another has it, or there is none.
    pub(super) fn begin_trial(&mut self, now: Instant) -> bool {
        let half = matches!(self.flow(now), Flow::Half { .. });
        if let Some(open) = self.open.as_mut().filter(|_| half) {
            open.trial = true;
        }
        half
    }

    /// True where it is open because there was no connection.
    pub(super) fn is_for_connections(&self) -> bool {
        self.open.is_some_and(|open| open.why == Fault::Connect)
    }

    /// The trial ended without telling anything: its client left. Another may be begun.
    pub(super) fn trial_untold(&mut self) {
        if let Some(open) = &mut self.open {
            open.trial = false;
        }
    }

    /// A try failed; true where that opens the breaker.
    ///
    /// Of the requests that were under way when it opened, those that fail afterwards change nothing.
    pub(super) fn failed(&mut self, why: Fault, is_trial: bool, now: Instant) -> bool {
        self.in_a_row = self.in_a_row.saturating_add(1);
        let opens = if self.open.is_some() { is_trial } else { self.in_a_row >= why.limit() };
        if opens {
            let wait = EJECTION.saturating_mul(1 << self.ejections.min(8)).min(EJECTION_MAX);
            self.ejections += 1;
            self.open = Some(Open { until: now + wait, why, trial: false });
        }
        opens
    }

    /// A try went well; true where that closes the breaker.
    pub(super) fn succeeded(&mut self, is_trial: bool) -> bool {
        self.in_a_row = 0;
        let closes = self.open.is_some() && is_trial;
        if closes {
            self.open = None;
            self.ejections = 0;
        }
        closes
    }

    /// The node can be reached again, as a probe found: what was ejected for its connections may be tried at once.
    pub(super) fn reachable(&mut self, now: Instant) {
        if let Some(open) = &mut self.open
            && matches!(open.why, Fault::Connect | Fault::Broken)
        {
            open.until = open.until.min(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(now: Instant) -> Breaker {
        let mut breaker = Breaker::default();
        assert!(!breaker.failed(Fault::Connect, false, now));
        assert!(!breaker.failed(Fault::Broken, false, now));
        assert!(breaker.failed(Fault::Connect, false, now));
        breaker
    }

    #[test]
    fn failures_in_a_row_open_it_and_one_request_tries_it() {
        let now = Instant::now();
        let mut breaker = opened(now);
        assert!(matches!(breaker.flow(now), Flow::Open { why: Fault::Connect, .. }));
        assert!(!breaker.begin_trial(now));
        let later = now + EJECTION;
        assert!(breaker.begin_trial(later) && !breaker.begin_trial(later));
        assert_eq!(breaker.flow(later), Flow::Tried { why: Fault::Connect });
        assert!(breaker.succeeded(true));
        assert_eq!(breaker.flow(later), Flow::Closed);
        assert!(breaker.is_calm());
    }

    #[test]
    fn a_success_in_between_keeps_it_closed() {
        let now = Instant::now();
        let mut breaker = Breaker::default();
        for _ in 0..10 {
            assert!(!breaker.failed(Fault::Broken, false, now));
            assert!(!breaker.failed(Fault::Timeout, false, now));
            breaker.succeeded(false);
        }
    }

    #[test]
    fn each_failed_trial_makes_it_wait_longer_up_to_a_bound() {
        let mut now = Instant::now();
        let mut breaker = opened(now);
        let mut waits = Vec::new();
        for _ in 0..8 {
            let Flow::Open { until, .. } = breaker.flow(now) else { panic!("open") };
            waits.push((until - now).as_secs());
            now = until;
            assert!(breaker.begin_trial(now) && breaker.failed(Fault::Connect, true, now));
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30, 30]);
    }

    #[test]
    fn a_trial_that_told_nothing_makes_room_for_the_next() {
        let now = Instant::now();
        let mut breaker = opened(now);
        let later = now + EJECTION;
        assert!(breaker.begin_trial(later));
        breaker.trial_untold();
        assert!(breaker.begin_trial(later));
    }

    #[test]
    fn old_requests_neither_prolong_an_ejection_nor_end_it() {
        let now = Instant::now();
        let mut breaker = opened(now);
        assert!(!breaker.failed(Fault::Broken, false, now + EJECTION / 2));
        assert!(!breaker.succeeded(false));
        assert!(matches!(breaker.flow(now), Flow::Open { .. }));
        assert!(breaker.begin_trial(now + EJECTION));
    }

    #[test]
    fn a_probe_ends_the_wait_for_a_connection_and_not_for_answers() {
        let now = Instant::now();
        let mut breaker = opened(now);
        breaker.reachable(now);
        assert!(breaker.begin_trial(now));
        let mut breaker = Breaker::default();
        let opened = (0..ERRORS_IN_A_ROW).map(|_| breaker.failed(Fault::Status, false, now));
        assert_eq!(opened.filter(|opened| *opened).count(), 1);
        breaker.reachable(now);
        assert!(matches!(breaker.flow(now), Flow::Open { why: Fault::Status, .. }));
    }
}
