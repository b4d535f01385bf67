//! Clients that leave by the thousand: nothing of them stays in the engine.

use std::time::Duration;

use serde_json::json;
use sluice::sim::Settings;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::metrics::value;
use super::support::{Node, chat, soon, with};
use crate::support::eventually;

/// Enough to meet each phase in each order.
const REQUESTS: u64 = 2_000;

/// Connections at a time: far more than slots.
const AT_ONCE: usize = 64;

/// What a client does with an answer.
async fn part_of(mut client: TcpStream, number: u64) {
    match number % 5 {
        // It leaves at once: in the queue, or before it.
        0 => {}
        // It leaves with the head, which a stream has before its first token.
        1 => drop(client.read(&mut [0; 1]).await),
        // It leaves among the tokens.
        2 => drop(client.read_exact(&mut [0; 1_000]).await),
        // It stays.
        _ => drop(client.read_to_end(&mut Vec::new()).await),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn when_all_have_left_nothing_runs_waits_or_holds_room() {
    let settings = Settings {
        max_num_seqs: 6,
        max_model_len: 128,
        num_gpu_blocks_override: Some(16),
        prefill_rate: 50_000,
        token_delay: Duration::from_micros(200),
        ..Settings::default()
    };
    let node = Node::with(settings).await;
    let mut clients = JoinSet::new();
    for number in 0..REQUESTS {
        while clients.len() >= AT_ONCE {
            soon(clients.join_next()).await.unwrap().unwrap();
        }
        // A dozen prompts of several lengths, so that blocks are shared, evicted and found again.
        let prompt = "word ".repeat(number as usize % 12 * 5 + 1);
        let body =
            with(chat(&prompt), json!({"stream": number % 7 > 0, "max_tokens": 1 + number % 20}));
        let client = node.send("/v1/chat/completions", &body, "").await;
        clients.spawn(part_of(client, number));
    }
    while let Some(client) = soon(clients.join_next()).await {
        client.unwrap();
    }
    soon(node.sim.wait_until(|counts| counts.running == 0 && counts.waiting == 0)).await;
    assert_eq!(value(&node, "kv_cache_usage_perc", "").await, 0.0);
    let counts = node.sim.counts();
    assert!(counts.aborted > 0 && counts.finished >= REQUESTS * 2 / 5, "{counts:?}");
    assert!(counts.finished + counts.aborted <= REQUESTS, "{counts:?}");
    assert!(value(&node, "prefix_cache_hits_total", "").await > 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_leaves_before_an_answer_in_one_piece_has_had_tokens_all_the_same() {
    let settings = Settings { token_delay: Duration::from_millis(1), ..Settings::default() };
    let node = Node::with(settings).await;
    let body = with(chat("Hi"), json!({"max_tokens": 8_000, "ignore_eos": true}));
    let client = node.send("/v1/chat/completions", &body, "").await;
    // The first token is there.
    eventually(|| async { value(&node, "prompt_tokens_total", "").await > 0.0 }).await;
    drop(client);
    soon(node.sim.wait_until(|counts| counts.aborted == 1)).await;
    let made = value(&node, "generation_tokens_total", "").await;
    assert!((1.0..8_000.0).contains(&made), "{made}");
}
