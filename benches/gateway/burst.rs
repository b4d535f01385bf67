//! What a small request costs before and after thousands of streams at once: some allocators never recover.

use std::time::Duration;

use super::load;
use super::peers::Peers;

const STREAMS: usize = 2_000;
const CHUNKS: usize = 8;
const PACE: Duration = Duration::from_millis(500);

/// Small slices before and after, of which the median counts.
const SLICES: usize = 5;

/// # Errors
/// A request was not answered well.
pub(crate) async fn run(peers: &mut Peers) -> Result<(), String> {
    println!("\n## {STREAMS} streams at once, and a small request before and after\n");
    println!("| | before, µs | after, µs | after ÷ before | peak, MB |");
    println!("|---|---:|---:|---:|---:|");
    for peer in peers.all() {
        let before = median(peer).await?;
        let look = || peer.processes.resident_kb();
        let (peak, _) = load::streams_at(peer.address, (STREAMS, CHUNKS, PACE), look).await?;
        let after = median(peer).await?;
        println!(
            "| {} | {before:.1} | {after:.1} | {:.2} | {} |",
            peer.name,
            after / before,
            peak / 1024
        );
    }
    Ok(())
}

async fn median(peer: &super::peers::Peer) -> Result<f64, String> {
    let mut figures = Vec::new();
    for _ in 0..SLICES {
        figures.push(load::small(peer).await?);
    }
    figures.sort_by(f64::total_cmp);
    Ok(figures[SLICES / 2])
}
