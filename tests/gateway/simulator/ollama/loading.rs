//! Models that come into memory and leave it.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sluice::sim::Settings;

use super::super::support::{FOREVER, Node, soon, with};
use super::{answer, chat, node, settings, told};

const CHAT: &str = "/api/chat";

/// Long enough to be told from finding a model loaded.
const LOAD_TIME: Duration = Duration::from_millis(200);

fn whole(model: &str, fields: Value) -> Value {
    with(with(chat(model, "Hi"), json!({"stream": false})), fields)
}

/// The names of what is in memory.
async fn in_memory(node: &Node) -> Vec<String> {
    let models = ps(node).await;
    models.iter().map(|model| model["name"].as_str().unwrap().to_owned()).collect()
}

async fn ps(node: &Node) -> Vec<Value> {
    let reply: Value = node.get("/api/ps").await.text().await.unwrap().parse().unwrap();
    reply["models"].as_array().unwrap().clone()
}

#[tokio::test]
async fn the_first_request_waits_for_its_model_and_another_shape_loads_it_again() {
    let node = Node::with(Settings { load_time: LOAD_TIME, ..settings() }).await;
    for (fields, loads) in [
        (json!({}), true),
        (json!({"options": {"temperature": 0.5}}), false),
        (json!({"options": {"num_ctx": 2048}}), true),
        (json!({"options": {"num_ctx": 2048, "num_gpu": -1}}), false),
        (json!({"options": {"num_ctx": 2048, "num_thread": 8}}), true),
        (json!({"shift": false}), true),
    ] {
        let begun = Instant::now();
        let reply = answer(&node, CHAT, &whole("sim-llama", fields.clone())).await;
        let (took, load) = (begun.elapsed(), reply["load_duration"].as_u64().unwrap());
        let load = Duration::from_nanos(load);
        assert_eq!(load + LOAD_TIME / 10 >= LOAD_TIME, loads, "{fields}: {load:?}");
        assert!(!loads || took >= LOAD_TIME, "{fields}: {took:?}");
        let total = Duration::from_nanos(reply["total_duration"].as_u64().unwrap());
        assert!(total >= load && total <= took, "{total:?}");
    }
    assert_eq!(ps(&node).await[0]["context_length"], 8192);
}

#[tokio::test]
async fn who_waits_for_a_model_is_counted_and_may_leave() {
    let node = Node::with(Settings { load_time: FOREVER, ..settings() }).await;
    let client = node.send(CHAT, &chat("sim-llama", "Hi"), "").await;
    soon(node.sim.wait_until(|counts| counts.running == 1)).await;
    assert_eq!(in_memory(&node).await, ["sim-llama:latest"]);
    drop(client);
    soon(node.sim.wait_until(|counts| counts.running == 0 && counts.aborted == 1)).await;
}

#[tokio::test]
async fn a_request_without_words_loads_and_unloads() {
    let node = node().await;
    let nothing = |reason: &str| {
        format!(
            r#"{{"model":"sim-llama","created_at":"T","message":{{"role":"assistant","content":""}},"done":true,"done_reason":"{reason}"}}"#
        )
    };
    let json = "application/json; charset=utf-8";
    let load = json!({"model": "sim-llama"});
    let unload = json!({"model": "sim-llama", "messages": [], "keep_alive": 0});
    assert_eq!(told(&node, CHAT, &load).await, (200, json.to_owned(), nothing("load")));
    assert_eq!(in_memory(&node).await, ["sim-llama:latest"]);
    assert_eq!(told(&node, CHAT, &unload).await, (200, json.to_owned(), nothing("unload")));
    assert!(in_memory(&node).await.is_empty());
    let says = told(&node, "/api/generate", &load).await.2;
    assert_eq!(
        says,
        r#"{"model":"sim-llama","created_at":"T","response":"","done":true,"done_reason":"load"}"#
    );
    let unload = json!({"model": "sim-llama", "keep_alive": "0s"});
    assert!(told(&node, "/api/generate", &unload).await.2.contains(r#""done_reason":"unload""#));
    assert!(in_memory(&node).await.is_empty());
}

#[tokio::test]
async fn a_model_stays_as_long_as_it_is_told_to() {
    let node = node().await;
    let minutes = |model: &Value| {
        let expires = chrono::DateTime::parse_from_rfc3339(model["expires_at"].as_str().unwrap());
        (expires.unwrap().to_utc() - chrono::Utc::now()).as_seconds_f64() / 60.0
    };
    for (keep_alive, least, most) in [
        (Value::Null, 4.9, 5.0),
        (json!("1h"), 59.9, 60.0),
        (Value::Null, 59.9, 60.0),
        (json!(90), 1.4, 1.5),
        (json!(-1), 1e8, f64::MAX),
        (json!("-1m"), 1e8, f64::MAX),
    ] {
        let body = whole("sim-llama", json!({"keep_alive": keep_alive}));
        answer(&node, CHAT, &body).await;
        let left = minutes(&ps(&node).await[0]);
        assert!(least <= left && left <= most, "{keep_alive}: {left}");
    }
    answer(&node, CHAT, &whole("qwen3:8b", json!({"keep_alive": "1m"}))).await;
    assert_eq!(
        in_memory(&node).await,
        ["sim-llama:latest", "qwen3:8b"],
        "the longest to stay first"
    );
    answer(&node, CHAT, &whole("sim-llama", json!({"keep_alive": 0}))).await;
    assert_eq!(in_memory(&node).await, ["qwen3:8b"]);
    answer(&node, CHAT, &whole("qwen3:8b", json!({"keep_alive": "10ms"}))).await;
    soon(async { while !in_memory(&node).await.is_empty() {} }).await;
}

#[tokio::test]
async fn a_model_in_use_is_not_let_go() {
    let node = Node::with(Settings { token_delay: FOREVER, ..settings() }).await;
    let body = with(chat("sim-llama", "Hi"), json!({"keep_alive": 0}));
    let client = node.send(CHAT, &body, "").await;
    soon(node.sim.wait_until(|counts| counts.running == 1)).await;
    assert_eq!(in_memory(&node).await, ["sim-llama:latest"]);
    drop(client);
    soon(async { while !in_memory(&node).await.is_empty() {} }).await;
}

#[tokio::test]
async fn vectors_load_a_model_too() {
    let node = Node::with(Settings { load_time: LOAD_TIME, ..settings() }).await;
    let body = json!({"model": "nomic-embed-text", "input": "Hi"});
    let load = answer(&node, "/api/embed", &body).await["load_duration"].as_u64().unwrap();
    assert!(Duration::from_nanos(load) + LOAD_TIME / 10 >= LOAD_TIME, "{load}");
    assert_eq!(in_memory(&node).await, ["nomic-embed-text:latest"]);
}

#[tokio::test]
async fn an_answer_ends_where_the_context_does() {
    let node = node().await;
    let options = json!({"options": {"num_ctx": 64, "num_predict": 1000}});
    let reply = answer(&node, CHAT, &whole("sim-llama", options)).await;
    let tokens = |name: &str| reply[name].as_u64().unwrap();
    assert_eq!(tokens("prompt_eval_count") + tokens("eval_count"), 64);
    assert_eq!(reply["done_reason"], "length");
}
