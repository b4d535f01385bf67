//! The script by which all gateways count in Redis: what it is asked, and what it answers.

use std::time::Duration;

use redis::aio::ConnectionLike;
use redis::{ErrorKind, RedisResult, ScriptInvocation};
use smallvec::SmallVec;

use crate::access::limits::{
    CONCURRENT_WAIT, Part, Rules, Standings, TOKENS, TakenParts, WINDOWS, Window,
};
use crate::access::passes::LONGEST;
use crate::access::ring::Span;
use crate::names::KeyName;
use crate::refusal::{Exceeded, Limit};

/// How long a place is held for a gateway that is not heard of: from then on those of one that was killed are free. Three
/// times what lies between two renewals, and a little.
const LEASE: Duration = Duration::from_secs(10);

/// Numbers that the script tells of each window.
const TOLD: usize = 3;

const NO_DECISION: &str = "the script has not told what it should";

/// Loaded where a server does not know it yet, then called by its hash.
pub(super) struct Script(redis::Script);

/// What comes of a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Decided {
    /// What it took, or what is in its way.
    pub(super) taken: Result<TakenParts, Exceeded>,
    /// How the key stands after it.
    pub(super) standings: Standings,
    /// When it was, in milliseconds of the server's.
    pub(super) at: u64,
}

/// What becomes of what was taken for a request, once that has ended.
#[derive(Debug, Default)]
pub(super) struct Change {
    /// It is free.
    pub(super) place: Option<String>,
    /// At most one of each window.
    pub(super) moves: SmallVec<[Move; WINDOWS]>,
}

/// Of one window: how much of what was taken is given back, and how much is taken now.
#[derive(Debug, Clone, Copy)]
pub(super) struct Move {
    window: usize,
    span: Span,
    slot: u64,
    back: u32,
    more: u32,
}

impl Change {
    /// The request was as if it had not been there.
    pub(super) fn give_back(&mut self, taken: &TakenParts) {
        self.moves = moves(taken, 0, |amount| (amount, 0));
    }

    /// The request had so many tokens.
    pub(super) fn settle(&mut self, taken: &TakenParts, tokens: u32) {
        let settled = |amount: u32| (amount.saturating_sub(tokens), tokens.saturating_sub(amount));
        self.moves = moves(taken, TOKENS, settled);
    }

    /// There is nothing to be written.
    pub(super) fn is_none(&self) -> bool {
        self.place.is_none() && self.moves.is_empty()
    }
}

/// Of the windows from `first` on: what is to be given back and taken of each that something was taken of.
fn moves(
    taken: &TakenParts,
    first: usize,
    change: impl Fn(u32) -> (u32, u32),
) -> SmallVec<[Move; WINDOWS]> {
    let of_window = |(window, part): (usize, &Option<(Span, u64, u32)>)| {
        let (span, slot, amount) = (*part)?;
        let (back, more) = change(amount);
        (back > 0 || more > 0).then_some(Move { window, span, slot, back, more })
    };
    taken.iter().enumerate().skip(first).filter_map(of_window).collect()
}

impl Script {
    pub(super) fn new() -> Self {
        Self(redis::Script::new(include_str!("limits.lua")))
    }

    /// Takes a part for a request of `key`, with a place if it is given one; `now` is the server's own time but in tests.
    pub(super) async fn decide(
        &self,
        connection: &mut impl ConnectionLike,
        (key, rules): (&KeyName, &Rules),
        (part, place): (Part, Option<&str>),
        now: Option<u64>,
    ) -> RedisResult<Decided> {
        let mut call = self.of(key, now, "decide");
        call.arg(or_none(rules.concurrent)).arg(place.unwrap_or_default());
        call.arg(millis(LEASE)).arg(millis(CONCURRENT_WAIT));
        match part {
            Part::Counted(pass, _) => {
                call.key(format!("{}:pass:{}", of_key(key), pass.nonce()));
                call.arg(pass.moment()).arg(pass.expiry())
            }
            Part::All(_) | Part::Ahead => call.arg("").arg(""),
        };
        call.arg(LONGEST);
        for (Window { allowed, span, .. }, amount) in rules.windows.iter().zip(part.amounts()) {
            call.arg(or_none(*allowed)).arg(or_none(amount)).arg(span.slot).arg(span.slots);
        }
        let told: Vec<i64> = call.invoke_async(connection).await?;
        decided(rules, part, &told)
            .ok_or_else(|| (ErrorKind::UnexpectedReturnType, NO_DECISION).into())
    }

    /// Writes what became of a request of `key`.
    pub(super) async fn change(
        &self,
        connection: &mut impl ConnectionLike,
        (key, change): (&KeyName, &Change),
        now: Option<u64>,
    ) -> RedisResult<()> {
        let mut call = self.of(key, now, "change");
        call.arg(change.place.as_deref().unwrap_or_default());
        for Move { window, span, slot, back, more } in &change.moves {
            call.arg(window + 1).arg(span.slot).arg(span.slots).arg(*slot).arg(*back).arg(*more);
        }
        call.invoke_async(connection).await
    }

    /// Holds places of `key` for another lease.
    pub(super) async fn renew(
        &self,
        connection: &mut impl ConnectionLike,
        key: &KeyName,
        places: &[String],
    ) -> RedisResult<()> {
        let mut call = self.of(key, None, "renew");
        call.arg(millis(LEASE)).arg(places);
        call.invoke_async(connection).await
    }

    fn of(&self, key: &KeyName, now: Option<u64>, what: &str) -> ScriptInvocation<'_> {
        let mut call = self.0.prepare_invoke();
        call.key(of_key(key)).key(format!("{}:running", of_key(key)));
        call.arg(or_none(now)).arg(what);
        call
    }
}

/// What the script's numbers mean. None where there are others than it gives.
fn decided(rules: &Rules, part: Part, told: &[i64]) -> Option<Decided> {
    let number = |number: &i64| u64::try_from(*number).ok();
    let (head, told) = told.split_first_chunk::<5>()?;
    let [way, used, requested, wait, at] = head;
    if told.len() != TOLD * WINDOWS {
        return None;
    }
    let mut taken = TakenParts::default();
    let mut standings = [None; WINDOWS];
    let all = rules.windows.iter().zip(part.amounts()).zip(told.chunks_exact(TOLD));
    for (index, ((window, amount), told)) in all.enumerate() {
        let [slot, used, resets] = told else { return None };
        taken[index] = number(slot).zip(amount).map(|(slot, amount)| (window.span, slot, amount));
        standings[index] = window.standing(number(used)?, number(resets)?);
    }
    let exceeded = |(limit, allowed): (Limit, Option<u32>)| {
        let (used, requested) = (number(used)?, u32::try_from(*requested).ok()?);
        let wait = Duration::from_millis(number(wait)?);
        Some(Exceeded { limit, allowed: allowed?, used, requested, wait })
    };
    let taken = match usize::try_from(*way).ok()?.checked_sub(1) {
        None => Ok(taken),
        Some(way) => {
            let window = rules.windows.get(way).map(|window| (window.limit, window.allowed));
            Err(exceeded(window.unwrap_or((Limit::Concurrent, rules.concurrent)))?)
        }
    };
    Some(Decided { taken, standings: Standings::of(standings.into_iter()), at: number(at)? })
}

/// What all that belongs to a key begins with. The braces have a cluster keep it on one node, as a script needs it.
fn of_key(key: &KeyName) -> String {
    format!("sluice:{{{key}}}")
}

fn or_none(number: Option<impl ToString>) -> String {
    number.map(|number| number.to_string()).unwrap_or_default()
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
