//! What a small request costs before and after thousands of streams at once: some allocators never recover.

use std::time::Duration;

use super::load;
use super::peers::Peers;

const STREAMS: usize = 2_000;
const CHUNKS: usize = 8;
const PACE: Duration = Duration::from_millis(500);

/// Rounds of small requests before and after.
const ROUNDS: usize = 9;

/// # Errors
/// A request was not answered well.
pub(crate) async fn run(peers: &Peers) -> Result<(), String> {
    println!("\n## {STREAMS} streams at once, and a small request before and after\n");
    let before = small(peers).await?;
    let mut peaks = Vec::new();
    for peer in peers.all().filter(|peer| peer.paced) {
        let look = || peer.processes.resident_kb();
        peaks.push(load::streams_at(peer.address, (STREAMS, CHUNKS, PACE), look).await?.0);
    }
    let after = small(peers).await?;
    println!(
        "The machine changes too: the last column is what it is to nginx, after and before.\n"
    );
    println!("| | before, µs | after, µs | after ÷ before | peak, MB | ÷ nginx: after ÷ before |");
    println!("|---|---:|---:|---:|---:|---:|");
    for (place, peer) in peers.all().filter(|peer| peer.paced).enumerate() {
        let to_first = |rounds: &[Vec<f64>]| median(rounds, |round| round[place] / round[0]);
        let cost = |rounds: &[Vec<f64>]| median(rounds, |round| round[place]);
        println!(
            "| {} | {:.1} | {:.1} | {:.2} | {} | {:.2} |",
            peer.name,
            cost(&before),
            cost(&after),
            cost(&after) / cost(&before),
            peaks[place] / 1024,
            to_first(&after) / to_first(&before)
        );
    }
    Ok(())
}

/// The cost of a small request at each peer, round by round; the first peer is nginx.
async fn small(peers: &Peers) -> Result<Vec<Vec<f64>>, String> {
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let mut round = Vec::new();
        for peer in peers.all().filter(|peer| peer.paced) {
            round.push(load::small(peer).await?);
        }
        rounds.push(round);
    }
    Ok(rounds)
}

fn median(rounds: &[Vec<f64>], of: impl Fn(&[f64]) -> f64) -> f64 {
    let mut figures: Vec<_> = rounds.iter().map(|round| of(round)).collect();
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}
