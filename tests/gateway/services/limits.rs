//! How much a body may hold (row D7), how often each token may ask (row D3), and where that is counted (row D4).

use reqwest::Body;

use super::code;
use crate::support::gateway::Setup;
use crate::support::http::{raw, status};
use crate::support::redis::RedisServer;
use crate::support::scripted::{Came, Scripted};
use crate::support::{KEY, TestGateway, eventually};

/// A JSON body of so many bytes.
fn body(bytes: usize) -> String {
    let frame = r#"{"model":"m","x":""}"#;
    frame.replace("\"\"", &format!("\"{}\"", "a".repeat(bytes - frame.len())))
}

async fn of_limit(bytes: &str) -> (TestGateway, Scripted) {
    let upstream = Scripted::replying("{}").await;
    let gateway = Setup::bare()
        .env("PROXY_SECRET_KEY", KEY)
        .env("VLLM_BASE_URL", &format!("http://{}", upstream.addr))
        .env("MAX_BODY_BYTES", bytes)
        .start()
        .await;
    (gateway, upstream)
}

/// The chats that reached the node, which is looked at, too.
fn chats(upstream: &Scripted) -> Vec<Came> {
    let seen = upstream.seen().into_iter();
    seen.filter(|came| came.head.starts_with("POST /v1/chat/completions ")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn d7_a_body_at_max_body_bytes_passes_and_one_above_is_413() {
    let (gateway, upstream) = of_limit("100000").await;
    for chunked in [false, true] {
        let post = |bytes: usize| {
            let body = body(bytes);
            let body = match chunked {
                true => Body::wrap_stream(futures_util::stream::iter(
                    body.as_bytes()
                        .chunks(7_000)
                        .map(|c| Ok::<_, std::io::Error>(c.to_vec()))
                        .collect::<Vec<_>>(),
                )),
                false => Body::from(body),
            };
            gateway.post("/v1/chat/completions").body(body).send()
        };
        let at = post(100_000).await.unwrap();
        assert_eq!(at.status(), 200, "chunked={chunked}");
        let above = post(100_001).await.unwrap();
        assert_eq!(above.status(), 413, "chunked={chunked}");
        let text = above.text().await.unwrap();
        assert!(text.contains("request_too_large") && text.contains("MAX_BODY_BYTES"), "{text}");
    }
    let seen = chats(&upstream);
    assert_eq!(seen.len(), 2);
    assert!(seen.iter().all(|came| came.body == body(100_000).as_bytes()));
    assert_eq!(gateway.series("sluice_held_request_bytes"), 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn d7_a_length_that_is_too_large_is_refused_before_the_body_is_sent() {
    let (gateway, upstream) = of_limit("1000").await;
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: h\r\nauthorization: Bearer {KEY}\r\n\
         content-length: 99999999999\r\nconnection: close\r\nexpect: 100-continue\r\n\r\n"
    );
    assert_eq!(status(&raw(gateway.addr, request.as_bytes()).await), 413);
    assert!(chats(&upstream).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn d7_who_has_no_key_sends_no_body() {
    let (gateway, _upstream) = of_limit("1000").await;
    let reply = gateway.client.post(gateway.url("/v1/chat/completions")).body(body(5_000));
    let reply = reply.send().await.unwrap();
    assert_eq!(reply.status(), 401);
    assert_eq!(code(reply).await, "invalid_api_key");
}

#[tokio::test(flavor = "multi_thread")]
async fn d3_each_token_of_tokens_json_may_ask_so_often() {
    let upstream = Scripted::replying("{}").await;
    let tokens = r#"[{"token": "sk-one", "label": "team-one", "rpm": 1, "rpd": 9},
        {"token": "sk-two", "label": "team-two", "rpm": 9, "rpd": 1}, {"token": "sk-free"}]"#;
    let gateway = Setup::bare()
        .env("TOKENS_JSON", tokens)
        .env("VLLM_BASE_URL", &format!("http://{}", upstream.addr))
        .start()
        .await;
    let ask = async |token: &str| {
        let request = gateway.client.post(gateway.url("/v1/chat/completions"));
        let request = request.bearer_auth(token).json(&serde_json::json!({ "model": "m" }));
        let reply = request.send().await.unwrap();
        (reply.status().as_u16(), reply)
    };
    for (token, why) in [("sk-one", "rate_limit_exceeded"), ("sk-two", "insufficient_quota")] {
        let (status, reply) = ask(token).await;
        assert_eq!(status, 200, "{token}");
        assert_eq!(reply.headers()["x-ratelimit-remaining-requests"], "0");
        let (status, reply) = ask(token).await;
        assert_eq!((status, code(reply).await.as_str()), (429, why), "{token}");
    }
    for _ in 0..3 {
        assert_eq!(ask("sk-free").await.0, 200);
    }
    assert_eq!(ask("sk-unknown").await.0, 401);
    let names: Vec<_> = gateway.log_lines(8).await;
    assert!(names.iter().any(|line| line["key"] == "team-one"), "{names:?}");
    assert!(names.iter().any(|line| line["key"] == "token-3"), "{names:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn d4_limits_are_kept_in_memory_or_in_redis_and_answers_tell_of_them() {
    let (upstream, redis) = (Scripted::replying("{}").await, RedisServer::start());
    for (store, uses_redis) in [("memory", 0.0), ("redis", 1.0)] {
        let start = async || {
            let setup = Setup::bare()
                .env("TOKENS_JSON", r#"[{"token": "sk-one", "rpm": 2, "rpd": 9}]"#)
                .env("VLLM_BASE_URL", &format!("http://{}", upstream.addr))
                .env("RATE_LIMIT_STORE", store)
                .env("REDIS_URL", &redis.url());
            let gateway = setup.start().await;
            eventually(|| async { gateway.series("sluice_limit_store_up") >= uses_redis }).await;
            gateway
        };
        let (one, two) = (start().await, start().await);
        let ask = async |gateway: &TestGateway| {
            let request = gateway.client.post(gateway.url("/v1/chat/completions"));
            let request = request.bearer_auth("sk-one").json(&serde_json::json!({ "model": "m" }));
            let reply = request.send().await.unwrap();
            let told = |what: &str| {
                let value = reply.headers()[&format!("x-ratelimit-{what}-requests")].to_str();
                value.unwrap().to_owned()
            };
            assert!(told("reset").ends_with('s'));
            (reply.status().as_u16(), told("limit"), told("remaining"))
        };
        let answer = |status: u16, remaining: &str| (status, "2".to_owned(), remaining.to_owned());
        assert_eq!(ask(&one).await, answer(200, "1"), "{store}");
        assert_eq!(ask(&one).await, answer(200, "0"), "{store}");
        assert_eq!(ask(&one).await, answer(429, "0"), "{store}");
        match store {
            "memory" => assert_eq!(ask(&two).await, answer(200, "1"), "each for itself"),
            _ => assert_eq!(ask(&two).await, answer(429, "0"), "both together"),
        }
    }
}
