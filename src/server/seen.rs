//! What metrics read when somebody asks, and what they note meanwhile.

use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;

use crate::gateway::Snapshot;
use crate::metrics::{EVERY, Metrics, Reading, Readings};
use crate::upstream::node::Registry;

/// Nodes, keys and queues as they are.
pub(super) fn readings(registry: Arc<Registry>, live: Arc<ArcSwap<Snapshot>>) -> Readings {
    Box::new(move || {
        let (snapshot, now) = (live.load(), Instant::now());
        Reading {
            nodes: registry.nodes().iter().map(|node| node.reading(now)).collect(),
            keys: snapshot.keys.readings(),
            queued: snapshot.upstreams.iter().map(|upstream| upstream.queue.waiting()).sum(),
            prefix_bytes: registry.prefixes().bytes(),
        }
    })
}

/// Notes what is counted, again and again.
pub(super) async fn follow(metrics: Arc<Metrics>) {
    let mut turn = tokio::time::interval(EVERY);
    turn.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        turn.tick().await;
        metrics.note(Instant::now());
    }
}
