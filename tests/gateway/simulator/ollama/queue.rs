//! One slot, a queue with an end, and heads that wait for the first line.

use serde_json::{Value, json};
use sluice::sim::Settings;
use tokio::io::AsyncReadExt;

use super::super::support::{FOREVER, Node, soon, with};
use super::{chat, settings, told};

/// Each path that makes an answer, and what it is asked.
fn asked() -> [(&'static str, Value); 4] {
    let v1 = json!({"stream": true});
    [
        ("/api/chat", chat("sim-llama", "Hi")),
        ("/api/generate", json!({"model": "sim-llama", "prompt": "Hi"})),
        ("/v1/chat/completions", with(chat("sim-llama", "Hi"), v1.clone())),
        ("/v1/completions", with(json!({"model": "sim-llama", "prompt": "Hi"}), v1)),
    ]
}

#[tokio::test]
async fn one_is_answered_and_the_others_wait_without_a_head() {
    let node = Node::with(Settings { token_delay: FOREVER, ..settings() }).await;
    let mut first = node.send("/api/chat", &chat("sim-llama", "Hi"), "").await;
    let mut answer = Vec::new();
    while !answer.ends_with(b"\"done\":false}\n\r\n") {
        assert_ne!(soon(first.read_buf(&mut answer)).await.unwrap(), 0);
    }
    let mut waiting = Vec::new();
    for (path, body) in asked() {
        waiting.push(node.send(path, &body, "").await);
        let many = waiting.len();
        soon(node.sim.wait_until(move |counts| counts.waiting == many)).await;
    }
    assert_eq!(node.sim.running(), 1);
    for client in &waiting {
        let none = client.try_read(&mut [0; 1]).unwrap_err();
        assert_eq!(none.kind(), std::io::ErrorKind::WouldBlock, "no head before the first line");
    }
    drop(first);
    let mut next = waiting.remove(0);
    assert_ne!(soon(next.read(&mut [0; 1])).await.unwrap(), 0);
    soon(node.sim.wait_until(|counts| counts.waiting == 3 && counts.aborted == 1)).await;
}

#[tokio::test]
async fn a_slot_more_is_a_setting() {
    let node = Node::with(Settings { token_delay: FOREVER, num_parallel: 2, ..settings() }).await;
    let _first = node.send("/api/chat", &chat("sim-llama", "Hi"), "").await;
    let _second = node.send("/api/chat", &chat("qwen3:8b", "Hi"), "").await;
    soon(node.sim.wait_until(|counts| counts.running == 2 && counts.waiting == 0)).await;
}

#[tokio::test]
async fn past_the_end_of_the_queue_requests_are_refused() {
    let node = Node::with(Settings { token_delay: FOREVER, max_queue: 1, ..settings() }).await;
    let _first = node.send("/api/chat", &chat("sim-llama", "Hi"), "").await;
    soon(node.sim.wait_until(|counts| counts.running == 1)).await;
    let second = node.send("/api/chat", &chat("sim-llama", "Hi"), "").await;
    soon(node.sim.wait_until(|counts| counts.waiting == 1)).await;
    let says = "server busy, please try again.  maximum pending requests exceeded";
    let embed = ("/api/embed", json!({"model": "sim-llama", "input": "Hi"}));
    for (path, body) in asked().into_iter().chain([embed]) {
        let (status, content_type, error) = told(&node, path, &body).await;
        let (wanted, of_type) = match path.starts_with("/v1") {
            false => (json!({"error": says}), "application/json; charset=utf-8"),
            true => (
                json!({"error": {"message": says, "type": "api_error", "param": null, "code": null}}),
                "application/json",
            ),
        };
        assert_eq!((status, content_type.as_str()), (503, of_type), "{path}");
        assert_eq!(error.parse::<Value>().unwrap(), wanted);
    }
    drop(second);
    soon(node.sim.wait_until(|counts| counts.waiting == 0)).await;
    let _third = node.send("/api/chat", &chat("sim-llama", "Hi"), "").await;
    soon(node.sim.wait_until(|counts| counts.waiting == 1)).await;
}
