//! How long things took: counted by the bounds that vLLM has, for whoever scrapes, and by four parts of each, for
//! percentiles of our own.

use std::array;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus::proto::{Bucket, Histogram};

/// Parts of a bucket: with them a percentile is off by a tenth at most, where durations lie evenly.
const PARTS: usize = 4;

/// `vllm:time_to_first_token_seconds` of vLLM 0.32 (`vllm/v1/metrics/buckets.py`), in seconds.
pub const FIRST_TOKEN_SECONDS: [f64; 22] = [
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
    20.0, 40.0, 80.0, 160.0, 640.0, 2560.0,
];

/// `vllm:inter_token_latency_seconds` of the same, in seconds.
pub const BETWEEN_TOKENS_SECONDS: [f64; 19] = [
    0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0,
    40.0, 80.0,
];

/// From what a small request costs to what nobody would accept.
const OVERHEAD_SECONDS: [f64; 13] = [
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0,
];

static FIRST_TOKEN: LazyLock<Scale> = LazyLock::new(|| Scale::new(&FIRST_TOKEN_SECONDS));
static BETWEEN_TOKENS: LazyLock<Scale> = LazyLock::new(|| Scale::new(&BETWEEN_TOKENS_SECONDS));
static OVERHEAD: LazyLock<Scale> = LazyLock::new(|| Scale::new(&OVERHEAD_SECONDS));

/// Upper bounds of buckets.
struct Scale {
    /// As they are told, in seconds.
    told: &'static [f64],
    /// With those of their parts, in nanoseconds.
    fine: Vec<u64>,
}

impl Scale {
    fn new(told: &'static [f64]) -> Self {
        let nanos = |seconds: &f64| {
            u64::try_from(Duration::from_secs_f64(*seconds).as_nanos()).unwrap_or(u64::MAX)
        };
        let mut lower = 0;
        let fine = told.iter().map(nanos).flat_map(|upper| {
            let from = std::mem::replace(&mut lower, upper);
            let part = move |part| from + (upper - from) * (part as u64 + 1) / PARTS as u64;
            array::from_fn::<u64, PARTS, _>(part)
        });
        Self { told, fine: fine.collect() }
    }

    fn find(&self, took: Duration) -> Found {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        Found { part: self.fine.partition_point(|bound| *bound < nanos), nanos }
    }
}

/// Where a duration lies: looked up once for all that count it.
#[derive(Debug, Clone, Copy)]
pub struct Found {
    part: usize,
    nanos: u64,
}

/// Where a time between tokens lies.
pub fn between_tokens(each: Duration) -> Found {
    BETWEEN_TOKENS.find(each)
}

/// Durations of one kind, of one subject.
pub(super) struct Durations {
    scale: &'static Scale,
    /// One for each part, and one for what is beyond them.
    counts: Box<[AtomicU64]>,
    nanos: AtomicU64,
}

/// What was counted up to a moment, by parts.
pub(super) type Counts = Vec<u64>;

impl Durations {
    fn on(scale: &'static Scale) -> Self {
        let counts = (0..=scale.fine.len()).map(|_| AtomicU64::new(0)).collect();
        Self { scale, counts, nanos: AtomicU64::new(0) }
    }

    /// Times to a first token.
    pub(super) fn first_token() -> Self {
        Self::on(&FIRST_TOKEN)
    }

    /// Times between tokens.
    pub(super) fn between_tokens() -> Self {
        Self::on(&BETWEEN_TOKENS)
    }

    /// Times in the gateway itself.
    pub(super) fn overhead() -> Self {
        Self::on(&OVERHEAD)
    }

    /// It took so long.
    pub(super) fn observe(&self, took: Duration) {
        self.add(self.scale.find(took), 1);
    }

    /// The same, so many times, where it is known where that lies.
    pub(super) fn add(&self, found: Found, times: u64) {
        if let Some(count) = self.counts.get(found.part) {
            count.fetch_add(times, Ordering::Relaxed);
        }
        self.nanos.fetch_add(found.nanos.saturating_mul(times), Ordering::Relaxed);
    }

    pub(super) fn counts(&self) -> Counts {
        self.counts.iter().map(|count| count.load(Ordering::Relaxed)).collect()
    }

    /// As Prometheus is told.
    pub(super) fn histogram(&self) -> Histogram {
        let counts = self.counts();
        let mut below = 0;
        let buckets = self.scale.told.iter().zip(counts.chunks(PARTS)).map(|(bound, parts)| {
            below += parts.iter().sum::<u64>();
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(*bound);
            bucket.set_cumulative_count(below);
            bucket
        });
        let mut histogram = Histogram::default();
        histogram.set_bucket(buckets.collect());
        histogram.set_sample_count(counts.iter().sum());
        histogram.set_sample_sum(about(self.nanos.load(Ordering::Relaxed)) / 1e9);
        histogram
    }

    /// Within which time `part` of them were, in milliseconds; none where there were none.
    pub(super) fn percentile(&self, counts: &[u64], part: f64) -> Option<f64> {
        let all: u64 = counts.iter().sum();
        let rank = about(all) * part;
        let mut below = 0.0;
        let (mut lower, mut told) = (0.0, None);
        for (count, bound) in counts.iter().zip(&self.scale.fine) {
            let (count, upper) = (about(*count), about(*bound));
            if count > 0.0 {
                // What lies beyond the last bound is told as that.
                told = Some(upper);
                if below + count >= rank {
                    return Some((lower + (upper - lower) * (rank - below) / count) / 1e6);
                }
            }
            (below, lower) = (below + count, upper);
        }
        let last = self.scale.fine.last().map(|bound| about(*bound));
        if about(all) > below { last } else { told }.map(|nanos| nanos / 1e6)
    }
}

#[expect(clippy::cast_precision_loss, reason = "shown to people, with three digits")]
pub(super) fn about(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn what_is_told_is_what_was_counted() {
        let durations = Durations::first_token();
        for (took, times) in [(1, 1), (90, 1), (100, 2), (101, 1), (3_000_000, 1)] {
            durations.add(FIRST_TOKEN.find(millis(took)), times);
        }
        let histogram = durations.histogram();
        let told: Vec<_> = histogram
            .get_bucket()
            .iter()
            .map(|bucket| (bucket.upper_bound(), bucket.cumulative_count()))
            .collect();
        assert_eq!(told.len(), FIRST_TOKEN_SECONDS.len());
        assert_eq!(
            (told[0], told[6], told[7], told[8]),
            ((0.001, 1), (0.08, 1), (0.1, 4), (0.25, 5))
        );
        assert_eq!((told[21], histogram.get_sample_count()), ((2560.0, 5), 6));
        assert!((histogram.get_sample_sum() - 3_000.392).abs() < 1e-6);
    }

    #[test]
    fn percentiles_lie_where_durations_do() {
        let durations = Durations::first_token();
        assert_eq!(durations.percentile(&durations.counts(), 0.5), None);
        (1..=1_000).for_each(|took| durations.observe(millis(took)));
        for (part, truth) in [(0.01, 10.0), (0.5, 500.0), (0.99, 990.0), (1.0, 1_000.0)] {
            let told = durations.percentile(&durations.counts(), part).unwrap();
            assert!((told - truth).abs() < truth / 10.0, "{part}: {told}");
        }
        durations.add(FIRST_TOKEN.find(Duration::from_secs(10_000)), 100_000);
        assert_eq!(durations.percentile(&durations.counts(), 0.5), Some(2_560_000.0));
    }
}
