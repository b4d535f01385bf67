//! What an engine has done since its start, as `/metrics` shows it.

use std::time::Duration;

use super::flight::Finish;
use crate::metrics::{BETWEEN_TOKENS_SECONDS, FIRST_TOKEN_SECONDS};

/// vLLM's buckets for a request and its phases, in seconds.
const REQUEST: [f64; 21] = [
    0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0,
    480.0, 960.0, 1920.0, 7680.0,
];

/// vLLM's buckets for preemptions of one request.
const PREEMPTIONS: [f64; 7] = [1.0, 2.0, 3.0, 4.0, 5.0, 10.0, 20.0];

/// How often a value fell between two bounds.
#[derive(Clone)]
pub(in crate::sim) struct Histogram {
    bounds: Vec<f64>,
    /// One more than bounds.
    counts: Vec<u64>,
    sum: f64,
}

impl Histogram {
    fn new(bounds: Vec<f64>) -> Self {
        let counts = vec![0; bounds.len() + 1];
        Self { bounds, counts, sum: 0.0 }
    }

    fn observe(&mut self, value: f64) {
        self.observe_times(value, 1);
    }

    fn observe_times(&mut self, value: f64, times: usize) {
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        self.counts[bucket] += times as u64;
        self.sum += value * times as f64;
    }

    fn observe_time(&mut self, took: Duration) {
        self.observe(took.as_secs_f64());
    }

    /// Each bound with the number of values up to it; the last bound is infinite.
    pub(in crate::sim) fn cumulative(&self) -> impl Iterator<Item = (f64, u64)> {
        let bounds = self.bounds.iter().copied().chain([f64::INFINITY]);
        let sums = self.counts.iter().scan(0, |sum, count| {
            *sum += count;
            Some(*sum)
        });
        bounds.zip(sums)
    }

    /// Of all values.
    pub(in crate::sim) fn sum(&self) -> f64 {
        self.sum
    }
}

/// Sums and histograms of one engine. Clients that leave are in none of those that count finished requests: vLLM 0.32
/// does not count them either.
#[derive(Clone)]
pub(in crate::sim) struct Totals {
    /// Tokens of prompts that are computed, or were found.
    pub(in crate::sim) prompt_tokens: u64,
    /// Of those, how many were found.
    pub(in crate::sim) prompt_tokens_cached: u64,
    /// Answers that ended by themselves.
    pub(in crate::sim) stopped: u64,
    /// Answers that reached the length asked for.
    pub(in crate::sim) at_length: u64,
    /// Answers that a fault ended.
    pub(in crate::sim) failed: u64,
    /// Tokens of each prompt.
    pub(in crate::sim) request_prompt_tokens: Histogram,
    /// Tokens of each answer, with all its choices.
    pub(in crate::sim) request_generation_tokens: Histogram,
    /// Tokens of each prompt that were not found in the cache.
    pub(in crate::sim) request_computed_tokens: Histogram,
    /// From arrival to the first token.
    pub(in crate::sim) time_to_first_token: Histogram,
    /// From token to token.
    pub(in crate::sim) inter_token_latency: Histogram,
    /// The mean of it, for each request.
    pub(in crate::sim) time_per_output_token: Histogram,
    /// From arrival to the end.
    pub(in crate::sim) latency: Histogram,
    /// From arrival to the batch.
    pub(in crate::sim) queue_time: Histogram,
    /// From the batch to the end.
    pub(in crate::sim) inference_time: Histogram,
    /// From the batch to the first token.
    pub(in crate::sim) prefill_time: Histogram,
    /// From the first token to the end.
    pub(in crate::sim) decode_time: Histogram,
    /// Always none: whoever is in the batch has all its room.
    pub(in crate::sim) preemptions: Histogram,
}

/// One request that came to its end.
pub(super) struct Finished {
    pub(super) finish: Finish,
    pub(super) prompt_tokens: usize,
    pub(super) cached_tokens: usize,
    /// Of all choices.
    pub(super) tokens: usize,
    /// Of one choice.
    pub(super) steps: usize,
    pub(super) queued: Duration,
    pub(super) prefilled: Duration,
    pub(super) decoded: Duration,
}

impl Totals {
    /// Nothing yet. The buckets for tokens reach as far as requests can.
    pub(super) fn new(max_model_len: usize) -> Self {
        let tokens = || Histogram::new(token_buckets(max_model_len));
        let between = || Histogram::new(BETWEEN_TOKENS_SECONDS.to_vec());
        let request = || Histogram::new(REQUEST.to_vec());
        Self {
            prompt_tokens: 0,
            prompt_tokens_cached: 0,
            stopped: 0,
            at_length: 0,
            failed: 0,
            request_prompt_tokens: tokens(),
            request_generation_tokens: tokens(),
            request_computed_tokens: tokens(),
            time_to_first_token: Histogram::new(FIRST_TOKEN_SECONDS.to_vec()),
            inter_token_latency: between(),
            time_per_output_token: between(),
            latency: request(),
            queue_time: request(),
            inference_time: request(),
            prefill_time: request(),
            decode_time: request(),
            preemptions: Histogram::new(PREEMPTIONS.to_vec()),
        }
    }

    /// The first token of a request is there, so long after its arrival.
    pub(super) fn first_token(&mut self, (prompt, cached): (usize, usize), after: Duration) {
        self.prompt_tokens += prompt as u64;
        self.prompt_tokens_cached += cached as u64;
        self.time_to_first_token.observe_time(after);
    }

    /// A request has come to its end.
    pub(super) fn finished(&mut self, request: &Finished) {
        match request.finish {
            Finish::Stop => self.stopped += 1,
            Finish::Length => self.at_length += 1,
            Finish::Error => self.failed += 1,
        }
        let computed = request.prompt_tokens - request.cached_tokens;
        self.request_prompt_tokens.observe(request.prompt_tokens as f64);
        self.request_generation_tokens.observe(request.tokens as f64);
        self.request_computed_tokens.observe(computed as f64);
        if request.steps > 1 {
            let between = request.decoded.as_secs_f64() / (request.steps - 1) as f64;
            self.inter_token_latency.observe_times(between, request.steps - 1);
            self.time_per_output_token.observe(between);
        }
        let inference = request.prefilled + request.decoded;
        self.queue_time.observe_time(request.queued);
        self.prefill_time.observe_time(request.prefilled);
        self.decode_time.observe_time(request.decoded);
        self.inference_time.observe_time(inference);
        self.latency.observe_time(request.queued + inference);
        self.preemptions.observe(0.0);
    }
}

/// 1, 2, 5, 10, 20, 50 and so on up to `max`.
fn token_buckets(max: usize) -> Vec<f64> {
    let powers = std::iter::successors(Some(1_usize), |power| power.checked_mul(10));
    let steps = powers.flat_map(|power| [1, 2, 5].map(|step| power.saturating_mul(step)));
    steps.take_while(|bound| *bound <= max).map(|bound| bound as f64).collect()
}
