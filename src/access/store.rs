//! Where it is counted what keys take: in this process, or in Redis, for all gateways.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Instant;

use super::clock::Clock;
use super::keys::Key;
use super::limits::{self, Part, Standings};
use super::passes::Used;
use super::redis::{Redis, Taken};
use crate::config::{KeyLimits, OnStoreError};
use crate::metrics::{LimitStoreMetrics, RedisMetrics};
use crate::refusal::{Exceeded, Limit};

/// One of the two.
pub enum Store {
    /// Each gateway counts for itself.
    Memory(Memory),
    /// All count together, while Redis is there.
    Shared(Shared),
}

/// What this process needs to count for itself; how much was taken stays with the keys.
pub struct Memory {
    clock: Clock,
    used: Used,
}

/// Redis, and what holds without it.
pub struct Shared {
    redis: Arc<Redis>,
    on_error: OnStoreError,
    /// Gateways that share it: of each limit this one has its part while it is alone.
    replicas: NonZeroU32,
    memory: Memory,
    metrics: LimitStoreMetrics,
}

/// What comes of a request.
pub struct Decision {
    /// What was taken for it, or what is in the way.
    pub admitted: Result<Admitted, Exceeded>,
    /// How its key stands after it.
    pub standings: Standings,
    /// When it was, by the clock of the store, in milliseconds since 1970.
    pub moment: u64,
}

/// What was taken for one request, to be settled where it was taken. Dropping it ends the request.
pub enum Admitted {
    /// In this process.
    Memory(limits::Admitted),
    /// In Redis.
    Redis(Box<Taken>),
    /// Nothing.
    Uncounted,
}

impl Memory {
    /// By this clock.
    pub fn new(clock: Clock) -> Self {
        Self { clock, used: Used::default() }
    }

    fn now(&self) -> u64 {
        self.clock.at(Instant::now())
    }

    fn take(&self, key: &Key, limits: &KeyLimits, part: Part) -> Decision {
        let moment = self.now();
        let part = match part {
            Part::Counted(pass, tokens) if !self.used.note(&pass, moment) => Part::All(tokens),
            part => part,
        };
        let (admitted, standings) = key.account.take(limits, part, moment);
        Decision { admitted: admitted.map(Admitted::Memory), standings, moment }
    }
}

impl Shared {
    /// With what holds while Redis is away.
    pub fn new(
        redis: Arc<Redis>,
        (on_error, replicas): (OnStoreError, NonZeroU32),
        memory: Memory,
        metrics: LimitStoreMetrics,
    ) -> Self {
        Self { redis, on_error, replicas, memory, metrics }
    }

    async fn take(&self, key: &Key, part: Part) -> Option<Decision> {
        if let Some((taken, standings, moment)) =
            self.redis.take(&key.name, &key.limits, part).await
        {
            if let Part::Counted(pass, _) = part {
                // Should Redis be away when it comes again.
                self.memory.used.note(&pass, self.memory.now());
            }
            return Some(Decision {
                admitted: taken.map(|taken| Admitted::Redis(Box::new(taken))),
                standings,
                moment,
            });
        }
        self.metrics.fallbacks.inc();
        match self.on_error {
            OnStoreError::Local => {
                let limits = key.limits.divided(self.replicas);
                Some(self.memory.take(key, &limits, part))
            }
            OnStoreError::Allow => {
                let (admitted, standings) = (Ok(Admitted::Uncounted), Standings::default());
                Some(Decision { admitted, standings, moment: self.memory.now() })
            }
            OnStoreError::Deny => None,
        }
    }
}

impl Store {
    /// Takes a `part` of a request of `key`, or says what is in the way. None where nobody can know.
    pub async fn take(&self, key: &Key, part: Part) -> Option<Decision> {
        match self {
            Self::Memory(memory) => Some(memory.take(key, &key.limits, part)),
            // In a box: the way through Redis is no burden to the other.
            Self::Shared(shared) => Box::pin(shared.take(key, part)).await,
        }
    }

    /// The time of this process, in milliseconds since 1970.
    pub fn now(&self) -> u64 {
        match self {
            Self::Memory(memory) => memory.now(),
            Self::Shared(shared) => shared.memory.now(),
        }
    }

    /// Of each limit of `key`: how much may be taken, and how much is; none where only Redis knows.
    pub fn used(&self, key: &Key) -> Vec<(Limit, u32, Option<u64>)> {
        let used = key.account.used(&key.limits, self.now());
        let known = matches!(self, Self::Memory(_));
        used.into_iter()
            .map(|(limit, allowed, used)| (limit, allowed, known.then_some(used)))
            .collect()
    }

    /// What is told of Redis, where it is there.
    pub fn redis(&self) -> Option<&RedisMetrics> {
        match self {
            Self::Memory(_) => None,
            Self::Shared(shared) => Some(&shared.metrics.redis),
        }
    }

    /// Waits until what became of requests is written, as far as that can be.
    pub async fn flush(&self) {
        match self {
            Self::Memory(_) => {}
            Self::Shared(shared) => shared.redis.flush().await,
        }
    }
}

impl Admitted {
    /// Nothing came of the request: it is as if it had not been there.
    pub fn give_back(self) {
        match self {
            Self::Memory(admitted) => admitted.give_back(),
            Self::Redis(taken) => taken.give_back(),
            Self::Uncounted => {}
        }
    }

    /// The request had so many tokens; `now` is the time of this process.
    pub fn settle(self, tokens: u64, now: u64) {
        match self {
            Self::Memory(admitted) => admitted.settle(tokens, now),
            Self::Redis(taken) => taken.settle(tokens),
            Self::Uncounted => {}
        }
    }

    /// Its tokens are counted.
    pub fn has_tokens(&self) -> bool {
        match self {
            Self::Memory(admitted) => admitted.has_tokens(),
            Self::Redis(taken) => taken.has_tokens(),
            Self::Uncounted => false,
        }
    }
}
