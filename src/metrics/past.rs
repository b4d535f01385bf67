//! The last five minutes, as numbers that only grow, read every few seconds: what lies between two of them is a rate.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::durations::{Counts, Durations, about};

/// Between two samples.
pub const EVERY: Duration = Duration::from_secs(5);

/// Points of a line: five minutes.
pub const POINTS: usize = 60;

/// Samples that a rate of this moment looks back: 10 seconds, and what has gone by since.
const RATE_SAMPLES: usize = 3;

/// What was counted up to a moment.
#[derive(Clone)]
pub(super) struct Sample {
    pub(super) at: Instant,
    pub(super) requests: u64,
    pub(super) errors: u64,
    pub(super) prompt_tokens: u64,
    /// Of answers.
    pub(super) tokens: u64,
    pub(super) first_token: Arc<[u64]>,
    pub(super) between_tokens: Arc<[u64]>,
}

impl Sample {
    pub(super) fn nothing(at: Instant) -> Self {
        let none: Arc<[u64]> = Arc::default();
        Self {
            at,
            requests: 0,
            errors: 0,
            prompt_tokens: 0,
            tokens: 0,
            first_token: none.clone(),
            between_tokens: none,
        }
    }
}

/// Samples, the oldest first.
#[derive(Default)]
pub(super) struct Past(VecDeque<Sample>);

/// Points in time, the oldest first, [`EVERY`] apart; none where there was nothing to measure.
pub type Line = Vec<Option<f64>>;

/// Half of all, and all but one in a hundred, were within so many milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Percentiles {
    /// Half of them.
    pub p50_ms: Option<f64>,
    /// All but one in a hundred.
    pub p99_ms: Option<f64>,
}

/// What the last minutes were like. Rates are per second.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Recent {
    /// Answers, in the last ten seconds.
    pub requests: f64,
    /// Failures, in the last ten seconds.
    pub errors: f64,
    /// Tokens of prompts, in the last ten seconds.
    pub prompt_tokens: f64,
    /// Tokens of answers, in the last ten seconds.
    pub tokens: f64,
    /// To the first token, in five minutes.
    pub first_token: Percentiles,
    /// Between tokens, in five minutes.
    pub between_tokens: Percentiles,
    /// The same over time.
    pub requests_line: Line,
    /// The same over time.
    pub errors_line: Line,
    /// The same over time.
    pub tokens_line: Line,
    /// Half of the first tokens, in milliseconds.
    pub first_token_line: Line,
}

impl Past {
    pub(super) fn push(&mut self, mut sample: Sample) {
        // Where nothing has happened, there is one memory for all.
        if let Some(last) = self.0.back() {
            share(&last.first_token, &mut sample.first_token);
            share(&last.between_tokens, &mut sample.between_tokens);
        }
        if self.0.len() > POINTS {
            self.0.pop_front();
        }
        self.0.push_back(sample);
    }

    /// `now` is what is counted at this moment; `shape` tells percentiles of its kind.
    pub(super) fn recent(&self, now: &Sample, of: (&Durations, &Durations)) -> Recent {
        let back = self.0.len().saturating_sub(RATE_SAMPLES);
        let before = self.0.get(back);
        let rate = |count: fn(&Sample) -> u64| {
            before.and_then(|before| rate(before, now, count)).unwrap_or(0.0)
        };
        let oldest = self.0.front();
        let percentiles = |durations: &Durations, counts: fn(&Sample) -> &Arc<[u64]>| {
            let since = since(oldest.map(counts), counts(now));
            let told = |part| durations.percentile(&since, part);
            Percentiles { p50_ms: told(0.5), p99_ms: told(0.99) }
        };
        let first_token = |from: &Sample, to: &Sample| {
            let since = since(Some(&from.first_token), &to.first_token);
            of.0.percentile(&since, 0.5)
        };
        Recent {
            requests: rate(|sample| sample.requests),
            errors: rate(|sample| sample.errors),
            prompt_tokens: rate(|sample| sample.prompt_tokens),
            tokens: rate(|sample| sample.tokens),
            first_token: percentiles(of.0, |sample| &sample.first_token),
            between_tokens: percentiles(of.1, |sample| &sample.between_tokens),
            requests_line: self.line(|from, to| self::rate(from, to, |sample| sample.requests)),
            errors_line: self.line(|from, to| self::rate(from, to, |sample| sample.errors)),
            tokens_line: self.line(|from, to| self::rate(from, to, |sample| sample.tokens)),
            first_token_line: self.line(first_token),
        }
    }

    /// What lies between two samples and the next, for all.
    fn line(&self, point: impl Fn(&Sample, &Sample) -> Option<f64>) -> Line {
        let pairs = self.0.iter().zip(self.0.iter().skip(1));
        let points: Line = pairs.map(|(from, to)| point(from, to)).collect();
        padded(points)
    }
}

/// With nothing before it, for what there was no time yet.
pub(super) fn padded(points: Line) -> Line {
    let missing = POINTS.saturating_sub(points.len());
    std::iter::repeat_n(None, missing).chain(points).collect()
}

fn share(last: &Arc<[u64]>, new: &mut Arc<[u64]>) {
    if *last == *new {
        *new = last.clone();
    }
}

fn rate(from: &Sample, to: &Sample, count: fn(&Sample) -> u64) -> Option<f64> {
    let seconds = to.at.saturating_duration_since(from.at).as_secs_f64();
    (seconds > 0.0).then(|| about(count(to).saturating_sub(count(from))) / seconds)
}

fn since(before: Option<&Arc<[u64]>>, now: &[u64]) -> Counts {
    let before = before.map_or(&[][..], |before| before);
    let zeros = std::iter::repeat(&0);
    now.iter()
        .zip(before.iter().chain(zeros))
        .map(|(now, then)| now.saturating_sub(*then))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::traffic::{Tokens, Traffic};
    use super::*;

    #[test]
    fn rates_and_lines_are_of_what_lies_between_samples() {
        let (traffic, began) = (Traffic::default(), Instant::now());
        let at = |seconds| began + Duration::from_secs(seconds);
        assert_eq!(traffic.recent(at(0)).requests, 0.0);
        for turn in 0..100 {
            traffic.note(at(5 * turn));
            let tokens = Tokens { prompt: 10, cached: 0, completion: 20 };
            (0..5).for_each(|_| traffic.answered(200, tokens));
            traffic.made(100);
            traffic.first_token(Duration::from_millis(90));
        }
        let recent = traffic.recent(at(500));
        assert_eq!((recent.requests, recent.prompt_tokens, recent.tokens), (1.0, 10.0, 20.0));
        assert_eq!(recent.requests_line, vec![Some(1.0); POINTS]);
        assert_eq!(recent.errors, 0.0);
        let p50 = recent.first_token.p50_ms.unwrap();
        assert!((p50 - 90.0).abs() < 10.0, "{p50}");
        assert_eq!(recent.between_tokens, Percentiles::default());
    }

    #[test]
    fn what_is_longer_ago_than_five_minutes_is_forgotten_and_the_young_have_gaps() {
        let (traffic, began) = (Traffic::default(), Instant::now());
        let at = |seconds| began + Duration::from_secs(seconds);
        traffic.first_token(Duration::from_secs(30));
        traffic.note(at(0));
        traffic.first_token(Duration::from_millis(50));
        traffic.note(at(5));
        let recent = traffic.recent(at(6));
        assert!(recent.first_token.p99_ms.unwrap() < 70.0);
        assert_eq!(recent.first_token_line.len(), POINTS);
        assert_eq!(recent.first_token_line.iter().flatten().count(), 1);
        (2..100).for_each(|turn| traffic.note(at(5 * turn)));
        assert_eq!(traffic.recent(at(500)).first_token, Percentiles::default());
    }
}
