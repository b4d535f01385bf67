//! What came of a run, but for its beginning.

use std::time::Duration;

use super::fleet::Done;
use super::play::Told;

/// When a first token is in time.
const IN_TIME: Duration = Duration::from_secs(2);

pub(crate) struct Outcome {
    /// To the first token, sorted: from the request's arrival at the node, and from when the client asked.
    at_node: Vec<Duration>,
    at_client: Vec<Duration>,
    /// Of the tokens of all prompts.
    found: f64,
    /// Requests of the node with the most, by the mean.
    busiest: f64,
    failed: usize,
    /// In the middle of the answer.
    cut: usize,
}

impl Outcome {
    pub(crate) const HEAD: &str = "found | at the node: p50, ms | p99 | at the client: p50 | p99 | in time | \
                                   busiest ÷ mean | failed | cut |\n|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|";

    pub(crate) fn new(before: &[Done], after: &[Done], told: impl Iterator<Item = Told>) -> Self {
        let (mut at_client, mut failed, mut cut) = (Vec::new(), 0, 0);
        for told in told {
            match told {
                Told::Whole(first) => at_client.push(first),
                Told::Cut(first) => {
                    at_client.push(first);
                    cut += 1;
                }
                Told::Failed => failed += 1,
            }
        }
        at_client.sort_unstable();
        let sum = |field: fn(&Done) -> f64| -> f64 {
            after.iter().map(field).sum::<f64>() - before.iter().map(field).sum::<f64>()
        };
        let both = || before.iter().zip(after);
        let new = both().flat_map(|(before, after)| {
            after.first_tokens.iter().skip(before.first_tokens.len()).copied()
        });
        let mut at_node: Vec<Duration> = new.collect();
        at_node.sort_unstable();
        let requests = both().map(|(before, after)| after.requests - before.requests);
        let mean = sum(|done| done.requests) / after.len() as f64;
        Self {
            at_node,
            at_client,
            found: sum(|done| done.found) / sum(|done| done.asked),
            busiest: requests.fold(0.0, f64::max) / mean,
            failed,
            cut,
        }
    }

    /// The rest of a row of a table with [`Self::HEAD`].
    pub(crate) fn row(&self) -> String {
        let [node, client] = [&self.at_node, &self.at_client]
            .map(|times| [0.5, 0.99].map(|share| 1_000.0 * quantile(times, share).as_secs_f64()));
        let in_time = self.at_client.partition_point(|time| *time <= IN_TIME);
        let asked = self.at_client.len() + self.failed;
        format!(
            "{:.1} % | {:.1} | {:.0} | {:.1} | {:.0} | {:.2} % | {:.2} | {} | {} |",
            100.0 * self.found,
            node[0],
            node[1],
            client[0],
            client[1],
            100.0 * in_time as f64 / asked as f64,
            self.busiest,
            self.failed,
            self.cut,
        )
    }
}

fn quantile(sorted: &[Duration], share: f64) -> Duration {
    let at = (share * sorted.len() as f64) as usize;
    sorted.get(at.min(sorted.len().saturating_sub(1))).copied().unwrap_or_default()
}
