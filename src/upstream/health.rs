//! Whether a node may get work, and why not: what probes found, what requests met, and what operators said, in one place.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::breaker::{Breaker, Fault, Flow};

/// How long a node that came back gets less than its share: its caches are cold, its graphs may be compiled anew.
const SLOW_START: Duration = Duration::from_secs(10);

/// Its share in the first moment. Not 0: it must get something to become warm.
const SHARE_MIN: f64 = 0.1;

/// Longest rest that a node is given: who asks for more is asked again after that.
const REST_MAX: Duration = Duration::from_secs(60);

/// The health of one node. Nothing is known at first, which is as good as up.
#[derive(Debug, Default)]
pub struct Health {
    /// Nothing is amiss: no look inside is needed.
    calm: AtomicBool,
    inside: Mutex<Inside>,
}

#[derive(Debug, Default)]
struct Inside {
    breaker: Breaker,
    /// Of active probes.
    failures: u32,
    successes: u32,
    /// Why probes took it out, in words.
    down: Option<String>,
    /// It answers, and does not work.
    halted: Option<Halt>,
    drained: bool,
    /// It asked to be left alone, by `Retry-After`.
    resting_until: Option<Instant>,
    /// It came back then.
    back: Option<Instant>,
    /// The state that was told last, and since when.
    told: Option<(&'static str, Instant)>,
}

/// Why a node that answers does not work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Halt {
    /// `POST /pause`: requests wait until it is resumed.
    Paused,
    /// `POST /sleep`: its memory is given back.
    Asleep,
}

/// What a node may get.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Standing {
    /// Work: this share of what others get, 1 but in slow start.
    Up(f64),
    /// One request, which is its trial.
    Trial,
    /// Nothing, unless no other node can be had: requests failed there.
    Ejected,
    /// Nothing.
    Out {
        /// Until then, where that is known.
        until: Option<Instant>,
    },
}

/// How many probes in a row it takes.
#[derive(Debug, Clone, Copy)]
pub struct Thresholds {
    /// To take a node out.
    pub unhealthy_after: u32,
    /// To take it back.
    pub healthy_after: u32,
}

/// How a node is, for operators.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// In one word.
    pub state: &'static str,
    /// Why.
    pub reason: Option<String>,
    /// For how long, as far as anybody looked: the metrics do, every few seconds.
    pub lasted: Duration,
}

/// What changed, for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Nothing.
    None,
    /// It gets work again.
    Up,
    /// It gets none, for this reason.
    Down(String),
}

impl Health {
    /// What holds at `now`.
    pub fn standing(&self, now: Instant) -> Standing {
        if self.is_calm() {
            return Standing::Up(1.0);
        }
        let mut inside = self.inside.lock();
        let standing = inside.standing(now);
        if standing == Standing::Up(1.0) {
            inside.back = None;
            inside.resting_until = None;
            self.calm.store(inside.is_calm(), Ordering::Relaxed);
        }
        standing
    }

    /// Takes the place of the one request that tries an ejected node. False where there is none.
    pub(super) fn begin_trial(&self, now: Instant) -> bool {
        self.inside.lock().breaker.begin_trial(now)
    }

    /// It was ejected because it took no connection.
    pub(super) fn was_unreachable(&self) -> bool {
        self.inside.lock().breaker.is_for_connections()
    }

    /// A trial ended, and told nothing.
    pub(super) fn trial_untold(&self) {
        self.inside.lock().breaker.trial_untold();
    }

    /// A request met a fault of the node's.
    pub fn failed(&self, fault: Fault, is_trial: bool, now: Instant) -> Change {
        let opened = self.change(|inside| inside.breaker.failed(fault, is_trial, now));
        if opened { Change::Down(format!("it {}", fault.describe())) } else { Change::None }
    }

    /// Nothing is amiss: a success would change nothing.
    pub(super) fn is_calm(&self) -> bool {
        self.calm.load(Ordering::Relaxed)
    }

    /// A request went well.
    pub fn succeeded(&self, is_trial: bool, now: Instant) -> Change {
        self.change(|inside| {
            let closed = inside.breaker.succeeded(is_trial);
            if closed {
                inside.back = Some(now);
            }
            if closed { Change::Up } else { Change::None }
        })
    }

    /// The node asked for no request for `wait`.
    pub fn rest(&self, wait: Duration, now: Instant) {
        let until = now + wait.min(REST_MAX);
        self.change(|inside| inside.resting_until = inside.resting_until.max(Some(until)));
    }

    /// It answers and does not work, or does again.
    pub fn halt(&self, halt: Option<Halt>, now: Instant) -> Change {
        self.change(|inside| {
            let before = std::mem::replace(&mut inside.halted, halt);
            match (before, halt) {
                (before, halt) if before == halt => Change::None,
                (_, Some(halt)) => Change::Down(halt.describe().to_owned()),
                (_, None) => {
                    inside.back = Some(now);
                    Change::Up
                }
            }
        })
    }

    /// What a probe found: nothing amiss, or what is, in words.
    pub fn probed(&self, found: Result<(), String>, need: Thresholds, now: Instant) -> Change {
        self.change(|inside| match found {
            Ok(()) => {
                inside.failures = 0;
                inside.successes = inside.successes.saturating_add(1);
                if inside.successes >= need.healthy_after {
                    inside.breaker.reachable(now);
                    if inside.down.take().is_some() {
                        inside.back = Some(now);
                        return Change::Up;
                    }
                }
                Change::None
            }
            Err(why) => {
                inside.successes = 0;
                inside.failures = inside.failures.saturating_add(1);
                let news = inside.down.is_none() && inside.failures >= need.unhealthy_after;
                if inside.failures >= need.unhealthy_after {
                    // What comes back is another process, which nobody has paused.
                    inside.halted = None;
                    inside.down = Some(why.clone());
                }
                if news { Change::Down(format!("its probes fail: {why}")) } else { Change::None }
            }
        })
    }

    /// Nobody looks at it any more, or nobody who could tell a pause: what was seen then must not hold for ever.
    pub fn forget(&self, probes: bool) {
        self.change(|inside| {
            inside.halted = None;
            if probes {
                (inside.down, inside.failures, inside.successes) = (None, 0, 0);
            }
        });
    }

    /// An operator takes it out of work, or back; true where that is news.
    pub fn drain(&self, yes: bool, now: Instant) -> bool {
        self.change(|inside| {
            let news = inside.drained != yes;
            inside.drained = yes;
            if news && !yes {
                inside.back = Some(now);
            }
            news
        })
    }

    /// How it is, for operators.
    pub fn told(&self, now: Instant) -> Told {
        let mut inside = self.inside.lock();
        let (state, reason) = inside.describe(now);
        let (_, since) = inside.told.filter(|(before, _)| *before == state).unwrap_or((state, now));
        inside.told = Some((state, since));
        Told { state, reason, lasted: now.saturating_duration_since(since) }
    }

    /// Changes what is known.
    fn change<T>(&self, change: impl FnOnce(&mut Inside) -> T) -> T {
        let mut inside = self.inside.lock();
        let changed = change(&mut inside);
        self.calm.store(inside.is_calm(), Ordering::Relaxed);
        changed
    }
}

impl Standing {
    /// It may get work like any other.
    pub fn takes_work(self) -> bool {
        matches!(self, Self::Up(_))
    }
}

impl Inside {
    /// The state in one word, and why.
    fn describe(&self, now: Instant) -> (&'static str, Option<String>) {
        let secs = |until: Instant| until.saturating_duration_since(now).as_secs_f64();
        if self.drained {
            return ("drained", Some("an operator took it out".to_owned()));
        }
        if let Some(halt) = self.halted {
            return (halt.word(), Some(halt.describe().to_owned()));
        }
        if let Some(why) = &self.down {
            return ("down", Some(format!("its probes fail: {why}")));
        }
        if let Some(until) = self.resting_until.filter(|until| now < *until) {
            return ("resting", Some(format!("it asked for {:.1} s without work", secs(until))));
        }
        match self.breaker.flow(now) {
            Flow::Open { until, why } => {
                let why = why.describe();
                ("ejected", Some(format!("it {why}; tried again in {:.1} s", secs(until))))
            }
            Flow::Half { why } => ("ejected", Some(format!("it {}; tried next", why.describe()))),
            Flow::Tried { why } => ("ejected", Some(format!("it {}; on trial", why.describe()))),
            Flow::Closed => match self.share(now) {
                share if share < 1.0 => (
                    "starting",
                    Some(format!("back in work, with {:.0} % of its share", share * 100.0)),
                ),
                _ if self.failures > 0 => ("up", Some("its last probe failed".to_owned())),
                _ => ("up", None),
            },
        }
    }

    /// Nothing to look at: up, with its whole share, and no failure to be forgotten.
    fn is_calm(&self) -> bool {
        self.breaker.is_calm()
            && self.down.is_none()
            && self.halted.is_none()
            && !self.drained
            && self.resting_until.is_none()
            && self.back.is_none()
    }

    fn standing(&self, now: Instant) -> Standing {
        if self.drained || self.halted.is_some() || self.down.is_some() {
            return Standing::Out { until: None };
        }
        if let Some(until) = self.resting_until.filter(|until| now < *until) {
            return Standing::Out { until: Some(until) };
        }
        match self.breaker.flow(now) {
            Flow::Closed => Standing::Up(self.share(now)),
            Flow::Half { .. } => Standing::Trial,
            Flow::Open { .. } | Flow::Tried { .. } => Standing::Ejected,
        }
    }

    fn share(&self, now: Instant) -> f64 {
        let Some(back) = self.back else { return 1.0 };
        let part = now.saturating_duration_since(back).as_secs_f64() / SLOW_START.as_secs_f64();
        part.clamp(SHARE_MIN, 1.0)
    }
}

impl Halt {
    fn word(self) -> &'static str {
        match self {
            Self::Paused => "paused",
            Self::Asleep => "asleep",
        }
    }

    /// For people.
    fn describe(self) -> &'static str {
        match self {
            Self::Paused => "it is paused: requests to it would wait",
            Self::Asleep => "it sleeps: requests to it would wait",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEED: Thresholds = Thresholds { unhealthy_after: 3, healthy_after: 2 };

    fn failing() -> Result<(), String> {
        Err("cannot connect".to_owned())
    }

    #[test]
    fn probes_take_a_node_out_and_back_and_it_starts_slowly() {
        let (health, now) = (Health::default(), Instant::now());
        let found: Vec<_> = (0..4).map(|_| health.probed(failing(), NEED, now)).collect();
        assert!(matches!(&found[..], [Change::None, Change::None, Change::Down(_), Change::None]));
        assert_eq!(health.standing(now), Standing::Out { until: None });
        assert_eq!(health.probed(Ok(()), NEED, now), Change::None);
        assert_eq!(health.probed(Ok(()), NEED, now), Change::Up);
        assert_eq!(health.standing(now), Standing::Up(SHARE_MIN));
        assert_eq!(health.standing(now + SLOW_START / 2), Standing::Up(0.5));
        assert_eq!(health.standing(now + SLOW_START), Standing::Up(1.0));
        assert!(health.calm.load(Ordering::Relaxed));
    }

    #[test]
    fn a_node_that_asked_for_rest_gets_it_and_no_more() {
        let (health, now) = (Health::default(), Instant::now());
        health.rest(Duration::from_secs(7), now);
        health.rest(Duration::from_secs(2), now);
        let until = now + Duration::from_secs(7);
        assert_eq!(health.standing(now), Standing::Out { until: Some(until) });
        assert_eq!(health.standing(until), Standing::Up(1.0));
        health.rest(Duration::from_secs(1_000_000), now);
        assert_eq!(health.standing(now + REST_MAX), Standing::Up(1.0));
    }

    #[test]
    fn what_operators_say_holds_whatever_probes_find() {
        let (health, now) = (Health::default(), Instant::now());
        assert!(health.drain(true, now) && !health.drain(true, now));
        for _ in 0..5 {
            health.probed(Ok(()), NEED, now);
            health.succeeded(false, now);
        }
        assert_eq!(health.told(now).state, "drained");
        assert_eq!(health.standing(now), Standing::Out { until: None });
        assert!(health.drain(false, now));
        assert!(matches!(health.standing(now), Standing::Up(_)));
    }

    #[test]
    fn a_halted_node_is_out_until_it_goes_on_or_is_gone() {
        let (health, now) = (Health::default(), Instant::now());
        assert!(matches!(health.halt(Some(Halt::Paused), now), Change::Down(_)));
        assert_eq!(health.halt(Some(Halt::Paused), now), Change::None);
        assert_eq!(
            (health.told(now).state, health.standing(now)),
            ("paused", Standing::Out { until: None })
        );
        assert_eq!(health.halt(None, now), Change::Up);
        health.halt(Some(Halt::Asleep), now);
        (0..3).for_each(|_| drop(health.probed(failing(), NEED, now)));
        assert_eq!(health.told(now).state, "down");
        (0..2).for_each(|_| drop(health.probed(Ok(()), NEED, now)));
        assert!(matches!(health.standing(now), Standing::Up(_)));
    }
}
