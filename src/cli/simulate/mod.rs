//! `sluice simulate`: what each policy would make of the same requests, on simulated nodes and a simulated clock.

mod fleet;
mod gateways;
mod trace;

use std::fs::File;
use std::io::BufReader;
use std::path::PathBuf;

use self::fleet::{Fleet, Outcome, Policy, Shape};
use super::{Failed, say};
use crate::config::Balance;

/// What is played.
#[derive(clap::Args)]
pub(super) struct Simulate {
    /// An access log that tells prompts (the setting `log_prompts`), or requests by hand: one JSON object a line, such as
    /// {"at": 0.5, "prompt": [["system", 4096], ["chat 1", 512]], "answer": 200}: seconds, parts with their bytes, tokens
    #[arg(value_name = "FILE")]
    trace: PathBuf,
    #[command(flatten)]
    shape: Shape,
}

pub(super) fn run(simulate: &Simulate) -> Result<(), Failed> {
    let path = simulate.trace.display();
    let file = File::open(&simulate.trace);
    let file = file.map_err(|error| Failed::Runtime(format!("{path}: {error}")))?;
    let requests = trace::read(BufReader::new(file));
    let requests = requests.map_err(|why| Failed::Runtime(format!("{path}: {why}")))?;
    say("policy            found in cache   first token p50      p99    busiest node ÷ mean");
    let policies = [
        Policy::Oracle,
        Policy::Gateway(Balance::PrefixAware),
        Policy::Gateway(Balance::ConsistentHash),
        Policy::Gateway(Balance::LeastLoad),
        Policy::Gateway(Balance::RoundRobin),
    ];
    for policy in policies {
        let outcome = Fleet::new(simulate.shape, policy).map_err(Failed::Runtime)?.play(&requests);
        say(&row(policy, &outcome));
    }
    Ok(())
}

fn row(policy: Policy, outcome: &Outcome) -> String {
    let name = match policy {
        Policy::Oracle => "(an oracle)",
        Policy::Gateway(balance) => balance.word(),
    };
    let found = 100.0 * outcome.found_bytes as f64 / outcome.prompt_bytes.max(1) as f64;
    let sum: u32 = outcome.requests.iter().sum();
    let mean = f64::from(sum) / outcome.requests.len() as f64;
    let most = outcome.requests.iter().max().copied().unwrap_or_default();
    let [half, most_of] = [0.5, 0.99].map(|share| quantile(&outcome.first_tokens, share));
    format!(
        "{name:<16} {found:>13.1} % {half:>15.3} s {most_of:>7.3} s {:>15.2}",
        f64::from(most) / mean
    )
}

fn quantile(sorted: &[f64], share: f64) -> f64 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index")]
    let at = (share * sorted.len() as f64) as usize;
    sorted.get(at.min(sorted.len().saturating_sub(1))).copied().unwrap_or_default()
}
