//! The engine under load: slots, a queue, a KV cache, and the time to the first token that follows from them.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sluice::sim::{Settings, Simulator};

use super::metrics::value;
use super::support::{FOREVER, Node, chat, chunks, soon, with};

const CHAT: &str = "/v1/chat/completions";

/// A stream that goes on for ever after its first event.
fn endless() -> Value {
    with(chat("Hi"), json!({"stream": true, "max_tokens": 50}))
}

/// A chat of so many words, which are all different from those of another `who`.
fn long(who: &str, words: usize) -> Value {
    let words: Vec<_> = (0..words).map(|word| format!("{who}{word}")).collect();
    with(chat(&words.join(" ")), json!({"max_tokens": 1}))
}

/// `prompt_tokens` and `prompt_tokens_details` of the answer.
async fn usage(node: &Node, body: Value) -> (u64, Value) {
    let reply: Value = node.told(CHAT, body).await.parse().unwrap();
    let usage = &reply["usage"];
    (usage["prompt_tokens"].as_u64().unwrap(), usage["prompt_tokens_details"].clone())
}

/// A node that tells what it found in its cache.
async fn telling(settings: Settings) -> Node {
    Node::with(Settings { enable_prompt_tokens_details: true, ..settings }).await
}

#[tokio::test]
async fn whoever_finds_no_slot_waits_in_line() {
    let settings = Settings { max_num_seqs: 2, token_delay: FOREVER, ..Settings::default() };
    let node = Node::with(settings).await;
    let mut clients = Vec::new();
    for (running, waiting) in [(1, 0), (2, 0), (2, 1), (2, 2)] {
        clients.push(node.send(CHAT, &endless(), "").await);
        let so_many =
            |counts: &sluice::sim::Counts| (counts.running, counts.waiting) == (running, waiting);
        soon(node.sim.wait_until(so_many)).await;
    }
    assert_eq!(value(&node, "num_requests_running", "").await, 2.0);
    assert_eq!(value(&node, "num_requests_waiting", "").await, 2.0);
    assert_eq!(value(&node, "num_requests_waiting_by_reason", "capacity").await, 2.0);
    assert_eq!(node.get("/load").await.text().await.unwrap(), r#"{"server_load":4}"#);

    // The last in line leaves the queue; then the first of the batch makes room for the one before.
    drop(clients.pop());
    soon(node.sim.wait_until(|counts| counts.waiting == 1 && counts.aborted == 1)).await;
    assert_eq!(node.sim.running(), 2);
    drop(clients.remove(0));
    soon(node.sim.wait_until(|counts| counts.waiting == 0 && counts.aborted == 2)).await;
    assert_eq!(node.sim.running(), 2);
}

#[tokio::test]
async fn whoever_finds_no_room_in_the_cache_waits_too() {
    let settings = Settings {
        max_model_len: 64,
        num_gpu_blocks_override: Some(4),
        token_delay: FOREVER,
        ..Settings::default()
    };
    let node = Node::with(settings).await;
    let first = node.send(CHAT, &endless(), "").await;
    soon(node.sim.wait_until(|counts| counts.running == 1)).await;
    assert_eq!(value(&node, "kv_cache_usage_perc", "").await, 1.0);
    let _second = node.send(CHAT, &endless(), "").await;
    soon(node.sim.wait_until(|counts| counts.waiting == 1)).await;
    drop(first);
    soon(node.sim.wait_until(|counts| counts.running == 1 && counts.waiting == 0)).await;
}

#[tokio::test]
async fn a_cache_without_room_for_the_longest_request_is_refused() {
    let settings = Settings { num_gpu_blocks_override: Some(511), ..Settings::default() };
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let error = Simulator::start(listener, settings).await.err().unwrap();
    assert_eq!(
        error.to_string(),
        "a request of --max-model-len 8192 needs 512 blocks of 16 tokens, and the KV cache has 511: \
         raise --num-gpu-blocks-override or lower --max-model-len"
    );
}

#[tokio::test]
async fn what_was_asked_before_is_found_again() {
    let node = telling(Settings::default()).await;
    let (tokens, found) = usage(&node, long("a", 40)).await;
    assert_eq!(
        (tokens, found),
        (48, Value::Null),
        "48 tokens are three blocks, and nothing is known"
    );
    assert_eq!(usage(&node, long("a", 40)).await.1, json!({"cached_tokens": 32}));
    assert_eq!(usage(&node, long("b", 40)).await.1, Value::Null);
    assert_eq!(usage(&node, long("a", 60)).await.1, json!({"cached_tokens": 32}));

    let salted = with(long("a", 40), json!({"cache_salt": "of a tenant"}));
    assert_eq!(usage(&node, salted.clone()).await.1, Value::Null);
    assert_eq!(usage(&node, salted).await.1, json!({"cached_tokens": 32}));

    let stream = json!({"stream": true, "stream_options": {"include_usage": true}});
    let chunks = chunks(&node.bytes(CHAT, &with(long("a", 40), stream), "").await);
    let usage = r#""usage":{"prompt_tokens":48,"total_tokens":49,"completion_tokens":1,"prompt_tokens_details":{"cached_tokens":32}}"#;
    assert!(chunks[2].contains(usage), "{}", chunks[2]);
}

#[tokio::test]
async fn each_model_has_its_own_prefixes() {
    let models = vec!["one".into(), "two".into()];
    let node = telling(Settings { models, ..Settings::default() }).await;
    for model in ["one", "two"] {
        let body = with(long("a", 40), json!({"model": model}));
        assert_eq!(usage(&node, body.clone()).await.1, Value::Null);
        assert_eq!(usage(&node, body).await.1, json!({"cached_tokens": 32}));
    }
}

#[tokio::test]
async fn an_answer_is_found_when_the_chat_goes_on() {
    let node = telling(Settings { block_size: 4, ..Settings::default() }).await;
    let question = json!({"role": "user", "content": "one two three four five six seven eight"});
    let first: Value = node.told(CHAT, json!({"messages": [question]})).await.parse().unwrap();
    let (asked, made) = (&first["usage"]["prompt_tokens"], &first["usage"]["completion_tokens"]);
    let known = asked.as_u64().unwrap() + made.as_u64().unwrap() - 1;
    let messages =
        json!([question, first["choices"][0]["message"], {"role": "user", "content": "Go on"}]);
    let (_, found) = usage(&node, json!({"messages": messages})).await;
    assert_eq!(found, json!({"cached_tokens": known - known % 4}));
}

#[tokio::test]
async fn nothing_is_found_where_prefixes_are_not_cached() {
    let node = telling(Settings { prefix_caching: false, ..Settings::default() }).await;
    for _ in 0..2 {
        assert_eq!(usage(&node, long("a", 40)).await.1, Value::Null);
    }
    assert_eq!(value(&node, "prefix_cache_queries_total", "").await, 0.0);

    let silent = Node::start().await;
    for _ in 0..2 {
        assert_eq!(usage(&silent, long("a", 40)).await.1, Value::Null, "nobody asked for details");
    }
    assert_eq!(value(&silent, "prefix_cache_hits_total", "").await, 32.0);
}

#[tokio::test]
async fn the_first_token_comes_after_the_prompts_before_it_and_sooner_when_it_is_cached() {
    // 408 tokens for each prompt, a quarter of a second.
    let node =
        Node::with(Settings { prefill_rate: 1_632, record: true, ..Settings::default() }).await;
    // Less a tick of the timer.
    let prefill = Duration::from_millis(250 - 1);
    let timed = async |who: &str| {
        let begun = Instant::now();
        node.told(CHAT, long(who, 400)).await;
        begun.elapsed()
    };
    let (one, other) = tokio::join!(timed("a"), timed("b"));
    assert!(one.min(other) >= prefill && one.max(other) >= 2 * prefill, "{one:?} {other:?}");
    let third = timed("a").await;
    assert!(third < one.max(other), "all but the last block was found");
    let told = node.sim.first_tokens();
    assert!(told.len() == 3 && told[0] >= prefill && told[1] >= 2 * prefill, "{told:?}");
    assert!(told[2] <= third, "{told:?} {third:?}");
}

#[tokio::test]
async fn a_paused_node_is_healthy_and_silent() {
    let node = Node::start().await;
    node.sim.pause();
    assert!(node.sim.is_paused());
    let asked = node.told(CHAT, chat("Hi"));
    let watched = async {
        soon(node.sim.wait_until(|counts| counts.waiting == 1)).await;
        assert_eq!(node.get("/health").await.status(), 200);
        // vLLM keeps such requests before its engine, where its gauges do not see them.
        assert_eq!(value(&node, "num_requests_waiting", "").await, 0.0);
        assert_eq!(value(&node, "num_requests_running", "").await, 0.0);
        node.sim.resume();
    };
    let (answer, ()) = tokio::join!(asked, watched);
    assert!(answer.contains("You said: Hi"), "{answer}");
}
