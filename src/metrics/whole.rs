//! The gateway as a whole over the last five minutes: its models taken together, and what waited.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;

use super::durations::{Durations, about};
use super::past::{Line, POINTS, Past, Recent, Sample, padded};
use super::traffic::Traffic;

/// Of all requests that went to a node, or should have.
pub(super) struct Whole {
    past: Mutex<Past>,
    waits: Mutex<VecDeque<Waits>>,
    /// By which percentiles of sums are told: nothing is counted there.
    kinds: (Durations, Durations),
}

/// At one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Waits {
    /// Requests under way.
    pub in_flight: u64,
    /// Of them, those that wait for a place at a node.
    pub queued: u64,
}

/// All that is told of the gateway as a whole.
#[derive(Debug, Clone, Default)]
pub struct Overview {
    /// Of this moment.
    pub waits: Waits,
    /// Of the last minutes.
    pub recent: Recent,
    /// Requests under way over time.
    pub in_flight_line: Line,
    /// Requests in line over time.
    pub queued_line: Line,
}

impl Default for Whole {
    fn default() -> Self {
        let kinds = (Durations::first_token(), Durations::between_tokens());
        Self { past: Mutex::default(), waits: Mutex::default(), kinds }
    }
}

impl Whole {
    /// Notes the numbers of this moment.
    pub(super) fn note(&self, all: &[(String, Arc<Traffic>)], waits: Waits, now: Instant) {
        self.past.lock().push(self.sum(all, now));
        let mut noted = self.waits.lock();
        if noted.len() >= POINTS {
            noted.pop_front();
        }
        noted.push_back(waits);
    }

    /// As of now.
    pub(super) fn overview(
        &self,
        all: &[(String, Arc<Traffic>)],
        waits: Waits,
        now: Instant,
    ) -> Overview {
        let sum = self.sum(all, now);
        let line = |count: fn(&Waits) -> u64| {
            padded(self.waits.lock().iter().map(|waits| Some(about(count(waits)))).collect())
        };
        Overview {
            waits,
            recent: self.past.lock().recent(&sum, (&self.kinds.0, &self.kinds.1)),
            in_flight_line: line(|waits| waits.in_flight),
            queued_line: line(|waits| waits.queued),
        }
    }

    fn sum(&self, all: &[(String, Arc<Traffic>)], now: Instant) -> Sample {
        let mut first_token = self.kinds.0.counts();
        let mut between_tokens = self.kinds.1.counts();
        let mut sum = Sample::nothing(now);
        for sample in all.iter().map(|(_, traffic)| traffic.sample(now)) {
            sum.requests += sample.requests;
            sum.errors += sample.errors;
            sum.prompt_tokens += sample.prompt_tokens;
            sum.tokens += sample.tokens;
            add(&mut first_token, &sample.first_token);
            add(&mut between_tokens, &sample.between_tokens);
        }
        Sample { first_token: first_token.into(), between_tokens: between_tokens.into(), ..sum }
    }
}

fn add(sum: &mut [u64], more: &[u64]) {
    sum.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
}
