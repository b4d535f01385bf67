//! Memory and descriptors of the gateway, over the time.

use std::fmt;
use std::time::{Duration, Instant};

use super::gateway::Gateway;
use super::seen::Seen;

/// Between two samples.
const EVERY: Duration = Duration::from_secs(10);

/// The first part of the time, in which pools and caches fill: nothing is concluded from it.
const WARM_UP_PERCENT: u32 = 20;

/// Below this a slope is noise.
const JUDGED_FROM: Duration = Duration::from_secs(5 * 60);

/// Memory may grow by less than this, in MB a minute.
const SLOPE_MAX: f64 = 2.0;

/// Descriptors that may be left beyond those of the start: connections to nodes that are still kept, a file that is read.
const DESCRIPTORS_MORE_MAX: usize = 15;

/// The gateway at one moment.
#[derive(Clone, Copy)]
pub(crate) struct Sample {
    at: Duration,
    resident_mb: f64,
    descriptors: usize,
    in_flight: f64,
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { resident_mb, descriptors, in_flight, .. } = self;
        write!(f, "{resident_mb:.1} MB, {descriptors} descriptors, {in_flight} in flight")
    }
}

/// All samples.
pub(crate) struct Samples {
    begun: Instant,
    descriptors_at_start: usize,
    all: Vec<Sample>,
}

impl Samples {
    /// Of a gateway that nobody has asked for anything yet.
    pub(crate) fn begin(gateway: &Gateway) -> Result<Self, String> {
        let descriptors_at_start = gateway.descriptors()?;
        Ok(Self { begun: Instant::now(), descriptors_at_start, all: Vec::new() })
    }

    async fn take(&self, gateway: &Gateway) -> Result<Sample, String> {
        Ok(Sample {
            at: self.begun.elapsed(),
            resident_mb: gateway.resident_mb()?,
            in_flight: gateway.series("sluice_requests_in_flight", "").await?,
            descriptors: gateway.descriptors()?,
        })
    }

    /// Samples until then, each told.
    pub(crate) async fn watch(
        &mut self,
        gateway: &Gateway,
        seen: &Seen,
        until: Instant,
    ) -> Result<(), String> {
        while Instant::now() < until {
            tokio::time::sleep(EVERY.min(until.saturating_duration_since(Instant::now()))).await;
            let sample = self.take(gateway).await?;
            println!("{:>5} s  {sample}  {}", sample.at.as_secs(), seen.figures());
            self.all.push(sample);
        }
        Ok(())
    }

    /// Waits until nothing is left of the requests, at most so long; tells what is.
    pub(crate) async fn rest(&self, gateway: &Gateway, most: Duration) -> Result<Sample, String> {
        let begun = Instant::now();
        loop {
            let sample = self.take(gateway).await?;
            if self.missed_at_rest(&sample).is_empty() || begun.elapsed() > most {
                return Ok(sample);
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    fn missed_at_rest(&self, rest: &Sample) -> Vec<String> {
        let mut missed = Vec::new();
        let start = self.descriptors_at_start;
        if rest.descriptors > start + DESCRIPTORS_MORE_MAX {
            missed.push(format!("{} descriptors at rest, {start} at the start", rest.descriptors));
        }
        if rest.in_flight > 0.0 {
            missed.push(format!("{} requests in flight when all have ended", rest.in_flight));
        }
        missed
    }

    /// By how many MB memory grew in a minute after the warm-up (least squares), and whether that says anything.
    pub(crate) fn slope(&self) -> (f64, bool) {
        let end = self.all.last().map_or(Duration::ZERO, |last| last.at);
        let warm = end * WARM_UP_PERCENT / 100;
        let minutes_mb: Vec<(f64, f64)> = self
            .all
            .iter()
            .filter(|sample| sample.at >= warm)
            .map(|sample| (sample.at.as_secs_f64() / 60.0, sample.resident_mb))
            .collect();
        (slope_of(&minutes_mb), end - warm >= JUDGED_FROM)
    }

    /// The bars that are missed.
    pub(crate) fn missed(&self, rest: &Sample) -> Vec<String> {
        let mut missed = self.missed_at_rest(rest);
        let (slope, judged) = self.slope();
        if judged && slope >= SLOPE_MAX {
            missed.push(format!("memory grows by {slope:.2} MB a minute"));
        }
        missed
    }
}

/// Of the line through these points that is nearest to them.
fn slope_of(points: &[(f64, f64)]) -> f64 {
    let count = points.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (x, y) = (mean(|point| point.0), mean(|point| point.1));
    let spread: f64 = points.iter().map(|point| (point.0 - x).powi(2)).sum();
    let shared: f64 = points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum();
    if spread > 0.0 { shared / spread } else { 0.0 }
}
