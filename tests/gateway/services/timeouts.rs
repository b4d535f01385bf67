//! How long a request waits: as long as it says itself (row A5).

use std::time::Duration;

use sluice::config::defaults;
use sluice::sim::{Fault, Settings};

use super::{chat_route, code, target};
use crate::support::gateway::{Setup, preset};
use crate::support::scripted::Scripted;
use crate::support::{TestGateway, node_with};

/// Longer than any test waits.
const NEVER: &str = "3600";

/// A node that reads a request and says nothing.
async fn silent() -> Scripted {
    Scripted::start(|_, mut peer| async move {
        peer.request().await;
        peer.closed().await;
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a5_the_timeout_of_the_query_or_the_header_is_a_504_after_it() {
    let upstream = silent().await;
    let routes = format!("routes:\n{}", chat_route(upstream.addr, "k"));
    let gateway = TestGateway::start(&routes).await;
    let path = "/v1/chat/completions";
    for (query, header) in [
        ("?timeout=0.05", None),
        ("?a=1&timeout=0.05&b=%20", None),
        ("?timeout=5e-2", None),
        ("", Some("0.05")),
        ("?timeout=3600", Some("0.05")),
    ] {
        let request = gateway.post(&format!("{path}{query}")).body(r#"{"model":"m"}"#);
        let request = header.into_iter().fold(request, |r, h| r.header("X-Timeout-Seconds", h));
        let reply = request.send().await.unwrap();
        assert_eq!(reply.status(), 504, "{query} {header:?}");
        assert_eq!(code(reply).await, "upstream_timeout", "{query} {header:?}");
    }
    let seen = upstream.seen();
    let targets: Vec<&str> = seen.iter().map(target).collect();
    let with_rest = "/v1/chat/completions?a=1&b=%20";
    assert_eq!(targets, [path, with_rest, path, path, path], "one try each, without the timeout");
    assert!(seen.iter().all(|came| came.header("x-timeout-seconds").is_none()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a5_the_header_wins_also_where_it_waits_longer() {
    let slow = Duration::from_millis(150);
    let upstream = node_with(Settings { first_token: slow, ..Settings::default() }).await;
    let gateway = TestGateway::before(upstream.addr()).await;
    let request = gateway.post("/v1/chat/completions?timeout=0.01");
    let request = request.json(&crate::support::gateway::chat("sim-llama"));
    let reply = request.header("X-Timeout-Seconds", "60").send().await.unwrap();
    assert_eq!(reply.status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a5_a_timeout_that_is_no_positive_number_is_400() {
    let upstream = Scripted::replying("{}").await;
    let routes = format!("routes:\n{}", chat_route(upstream.addr, "k"));
    let gateway = TestGateway::start(&routes).await;
    let bad = ["0", "-1", "0.0", "abc", "inf", "nan", "1e999", "5s", "1,5", ""];
    for text in bad {
        let by_query = gateway.post(&format!("/v1/chat/completions?timeout={text}"));
        let by_header = gateway.post("/v1/chat/completions").header("X-Timeout-Seconds", text);
        // A mistake must not pass for a wish, also where the other one wins.
        let both = gateway.post(&format!("/v1/chat/completions?timeout={text}"));
        let both = both.header("X-Timeout-Seconds", "60");
        for request in [by_query, by_header, both] {
            let reply = request.body("{}").send().await.unwrap();
            assert_eq!(reply.status(), 400, "{text:?}");
            assert_eq!(code(reply).await, "invalid_timeout", "{text:?}");
        }
    }
    let twice = gateway.post("/v1/chat/completions?timeout=1&timeout=1").body("{}");
    assert_eq!(twice.send().await.unwrap().status(), 400);
    assert!(upstream.seen().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a5_no_request_waits_longer_than_max_timeout() {
    let upstream = silent().await;
    let routes = format!("routes:\n{}", chat_route(upstream.addr, "k"));
    let capped = Setup::routes(&routes).flags(|flags| flags.max_timeout = Some("50ms".into()));
    let gateway = capped.start().await;
    for request in [
        gateway.post(&format!("/v1/chat/completions?timeout={NEVER}")),
        gateway.post("/v1/chat/completions").header("X-Timeout-Seconds", NEVER),
    ] {
        let reply = request.body(r#"{"model":"m"}"#).send().await.unwrap();
        assert_eq!(reply.status(), 504);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a5_without_a_timeout_the_upstreams_own_holds() {
    assert_eq!(defaults::FIRST_BYTE, Duration::from_secs(600));
    let upstream = silent().await;
    let routes =
        preset(upstream.addr).replace("kind: vllm,", "kind: vllm, timeouts: { first_byte: 50ms },");
    let gateway = TestGateway::start(&routes).await;
    assert_eq!(gateway.chat("m").send().await.unwrap().status(), 504);
}

#[tokio::test(flavor = "multi_thread")]
async fn a5_a_stream_that_falls_silent_for_so_long_ends_with_an_error_event() {
    let upstream = node_with(Settings::default()).await;
    upstream.set_fault(Some(Fault::StallAfter(2)));
    let gateway = TestGateway::before(upstream.addr()).await;
    let mut body = crate::support::gateway::chat("sim-llama");
    body["stream"] = true.into();
    let request = gateway.post("/v1/chat/completions?timeout=0.1").json(&body);
    let reply = request.send().await.unwrap();
    assert_eq!(reply.status(), 200);
    let text = reply.text().await.unwrap();
    let last = text.trim_end().rsplit("\n\n").next().unwrap();
    assert!(last.starts_with("data: ") && last.contains("upstream_timeout"), "{text}");
    assert!(!text.contains("[DONE]"), "{text}");
}
