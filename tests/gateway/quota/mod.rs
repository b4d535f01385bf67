//! How often a key may ask: what is over its limits is refused, tells when to come back, and reaches no node.

mod ledger;
mod redis;
mod tokens;
mod usage;

use std::time::Duration;

use reqwest::Response;
use serde_json::{Value, json};
use sluice::sim::{Settings, Simulator};

use crate::support::gateway::{Setup, chat, preset};
use crate::support::{TestGateway, eventually, node, node_with, within};

const CHAT: &str = "/v1/chat/completions";

/// A key of that name, itself called `sk-NAME`, with these limits.
fn key(name: &str, limits: &str) -> String {
    format!("  - {{ name: {name}, key: sk-{name}, limits: {{ {limits} }} }}\n")
}

fn keys(all: &[String]) -> String {
    format!("keys:\n{}", all.concat())
}

async fn limited(node: &Simulator, limits: &str) -> TestGateway {
    Setup::routes(&preset(node.addr())).keys(&keys(&[key("team", limits)])).start().await
}

async fn ask(gateway: &TestGateway, key: &str, path: &str) -> Response {
    let request = gateway.client.post(gateway.url(path)).bearer_auth(key);
    within(request.json(&with_tokens(chat("m"))).send()).await.unwrap()
}

/// As Anthropic's API needs them.
fn with_tokens(mut body: Value) -> Value {
    body["max_tokens"] = json!(4);
    body
}

/// What an answer says of how the key stands.
fn standing(reply: &Response) -> [Option<String>; 3] {
    ["limit", "remaining", "reset"].map(|what| {
        let value = reply.headers().get(format!("x-ratelimit-{what}-requests"))?;
        Some(value.to_str().unwrap().to_owned())
    })
}

fn header<'r>(reply: &'r Response, name: &str) -> &'r str {
    reply.headers()[name].to_str().unwrap()
}

fn chats(node: &Simulator) -> usize {
    node.requests().iter().filter(|one| one.target == CHAT).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_over_the_limit_of_a_minute_is_refused_and_reaches_no_node() {
    let node = node(&["m"]).await;
    let all = keys(&[key("team", "rpm: 2"), key("other", "rpm: 2")]);
    let gateway = Setup::routes(&preset(node.addr())).keys(&all).start().await;
    for left in ["1", "0"] {
        let reply = ask(&gateway, "sk-team", CHAT).await;
        assert_eq!(reply.status(), 200);
        let [limit, remaining, reset] = standing(&reply);
        assert_eq!((limit.as_deref(), remaining.as_deref()), (Some("2"), Some(left)));
        assert!(reset.is_some_and(|reset| reset.ends_with('s')));
    }
    for _ in 0..2 {
        let reply = ask(&gateway, "sk-team", CHAT).await;
        assert_eq!(reply.status(), 429);
        assert_eq!(standing(&reply)[1].as_deref(), Some("0"));
        let seconds: u64 = header(&reply, "retry-after").parse().unwrap();
        let millis: u64 = header(&reply, "retry-after-ms").parse().unwrap();
        assert!(seconds <= 65 && millis.div_ceil(1_000).max(1) == seconds, "{seconds} {millis}");
        assert!(!reply.headers().contains_key("x-should-retry"));
        let body: Value = reply.json().await.unwrap();
        assert_eq!(body["error"]["code"], "rate_limit_exceeded");
        assert_eq!(body["error"]["type"], "requests");
        let told = body["error"]["message"].as_str().unwrap();
        assert!(
            told.contains("on requests per min (RPM): Limit 2, Used 2, Requested 1."),
            "{told}"
        );
    }
    assert_eq!(chats(&node), 2);
    assert_eq!(ask(&gateway, "sk-other", CHAT).await.status(), 200);
    assert_eq!(gateway.series_with("sluice_refusals_total", "rate_limit_exceeded"), 2.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_day_that_is_used_up_is_a_quota_and_programs_are_told_not_to_wait() {
    let node = node(&["m"]).await;
    for day in ["rolling", "utc"] {
        let gateway = limited(&node, &format!("rpm: 9, rpd: 1, day: {day}")).await;
        let reply = ask(&gateway, "sk-team", CHAT).await;
        // The day is nearer to its limit than the minute is.
        assert_eq!(standing(&reply)[..2], [Some("1".to_owned()), Some("0".to_owned())]);
        let reply = ask(&gateway, "sk-team", "/v1/messages").await;
        assert_eq!(reply.status(), 429);
        assert_eq!(header(&reply, "x-should-retry"), "false");
        let seconds: u64 = header(&reply, "retry-after").parse().unwrap();
        assert!(seconds <= 86_400 + 900, "{seconds}");
        let body: Value = reply.json().await.unwrap();
        assert_eq!(body["error"]["type"], "rate_limit_error", "Anthropic's word");
        let body: Value = ask(&gateway, "sk-team", CHAT).await.json().await.unwrap();
        assert_eq!(body["error"]["code"], "insufficient_quota");
        assert_eq!(body["error"]["type"], "insufficient_quota");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn so_many_at_a_time_until_one_ends_or_its_client_leaves() {
    let slow = Settings {
        models: vec!["m".into()],
        token_delay: Duration::from_secs(3_600),
        ..Settings::default()
    };
    let node = node_with(slow).await;
    let gateway = limited(&node, "concurrent: 1").await;
    let open = async || {
        let mut body = chat("m");
        body["stream"] = json!(true);
        let request = gateway.client.post(gateway.url(CHAT)).bearer_auth("sk-team").json(&body);
        within(request.send()).await.unwrap()
    };
    let stream = open().await;
    assert_eq!(stream.status(), 200);
    assert_eq!(standing(&stream), [None, None, None], "there is no limit by time");
    let refused = open().await;
    assert_eq!(refused.status(), 429);
    let told = refused.text().await.unwrap();
    assert!(told.contains("on concurrent requests: Limit 1, Used 1, Requested 1."), "{told}");
    drop(stream);
    eventually(|| async { open().await.status() == 200 }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_one_by_one_never_meets_a_limit_of_one_at_a_time() {
    let node = node(&["m"]).await;
    let gateway = limited(&node, "concurrent: 1").await;
    for turn in 0..60 {
        let mut body = chat("m");
        body["stream"] = json!(turn % 2 == 1);
        let request = gateway.client.post(gateway.url(CHAT)).bearer_auth("sk-team").json(&body);
        let mut reply = within(request.send()).await.unwrap();
        assert_eq!(reply.status(), 200, "{turn}");
        // As SDKs do: nobody waits for what comes behind the last event.
        let mut seen = Vec::new();
        while let Some(piece) = within(reply.chunk()).await.unwrap() {
            seen.extend_from_slice(&piece);
            if seen.ends_with(b"data: [DONE]\n\n") {
                break;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_failed_before_its_first_byte_is_given_back() {
    let node = node(&["m"]).await;
    let gateway = limited(&node, "rpm: 1").await;
    node.set_fault(Some("reset".parse().unwrap()));
    for _ in 0..3 {
        assert_eq!(ask(&gateway, "sk-team", CHAT).await.status(), 502);
    }
    // What a node refuses it has answered.
    node.set_fault(Some("status=400".parse().unwrap()));
    assert_eq!(ask(&gateway, "sk-team", CHAT).await.status(), 400);
    assert_eq!(ask(&gateway, "sk-team", CHAT).await.status(), 429);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_taken_lives_through_a_reload_that_changes_the_limit() {
    let node = node(&["m"]).await;
    let gateway = limited(&node, "rpm: 2").await;
    for _ in 0..2 {
        assert_eq!(ask(&gateway, "sk-team", CHAT).await.status(), 200);
    }
    let rewrite = async |limits: &str| {
        let text = keys(&[key("team", limits)]);
        gateway.after_reload(|| std::fs::write(gateway.file("keys.yaml"), text).unwrap()).await;
    };
    rewrite("rpm: 3").await;
    assert_eq!(standing(&ask(&gateway, "sk-team", CHAT).await)[1].as_deref(), Some("0"));
    rewrite("rpm: 1").await;
    let reply = ask(&gateway, "sk-team", CHAT).await;
    assert_eq!((reply.status().as_u16(), standing(&reply)[1].as_deref()), (429, Some("0")));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_gateway_answers_itself_and_what_operates_nodes_is_not_counted() {
    let node = node(&["m"]).await;
    let all =
        "keys: [{ name: team, key: sk-team, scopes: [inference, admin], limits: { rpm: 1 } }]";
    let gateway = Setup::routes(&preset(node.addr())).keys(all).start().await;
    for path in ["/v1/models", "/health", "/metrics", "/is_paused"] {
        let reply = gateway.client.get(gateway.url(path)).bearer_auth("sk-team").send();
        let reply = within(reply).await.unwrap();
        assert_eq!(
            (reply.status().as_u16(), standing(&reply)),
            (200, [None, None, None]),
            "{path}"
        );
    }
    assert_eq!(ask(&gateway, "sk-team", "/v1/nothing").await.status(), 404);
    assert_eq!(ask(&gateway, "sk-team", CHAT).await.status(), 200);
    assert_eq!(ask(&gateway, "sk-team", CHAT).await.status(), 429);
}

#[tokio::test(flavor = "multi_thread")]
async fn r42_of_many_who_ask_at_once_exactly_as_many_pass_as_may() {
    let node = node(&["m"]).await;
    let gateway = limited(&node, "rpm: 50").await;
    let asked = (0..100).map(|_| ask(&gateway, "sk-team", CHAT));
    let replies = futures_util::future::join_all(asked).await;
    let of = |status: u16| replies.iter().filter(|reply| reply.status() == status).count();
    assert_eq!((of(200), of(429), chats(&node)), (50, 50, 50));
}
