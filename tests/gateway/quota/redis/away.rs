//! A Redis that hangs, that is killed, and that comes back: what holds meanwhile is what `on_store_error` says, and nobody waits.

use std::time::{Duration, Instant};

use reqwest::Response;
use serde_json::Value;

use super::{connection, left, serve, setup, start, until};
use crate::quota::{CHAT, ask, chats, header, key, keys, standing};
use crate::services::process::Port;
use crate::support::redis::RedisServer;
use crate::support::{TestGateway, node, nowhere, within};

/// Longer than anybody is kept by a Redis that is away, with what a busy machine takes for the rest.
const LONGEST: Duration = Duration::from_secs(5);

/// Shorter than whoever waits for Redis is kept. Of several who do not wait, one is so fast on any machine.
const NO_WAIT: Duration = Duration::from_millis(150);

/// Asks, and is not kept for long.
async fn at_once(gateway: &TestGateway) -> Response {
    let asked = Instant::now();
    let reply = ask(gateway, "sk-team", CHAT).await;
    assert!(asked.elapsed() < LONGEST, "{:?}", asked.elapsed());
    reply
}

/// Nobody waits for a Redis that is known to be away.
async fn nobody_waits(gateway: &TestGateway) {
    let mut fastest = LONGEST;
    for _ in 0..9 {
        let asked = Instant::now();
        at_once(gateway).await;
        fastest = fastest.min(asked.elapsed());
    }
    assert!(fastest < NO_WAIT, "{fastest:?}");
}

/// How Redis goes away, and comes back.
#[derive(Clone, Copy, PartialEq)]
enum Away {
    Hangs,
    Dies,
}

impl Away {
    fn begin(self, redis: &mut RedisServer) {
        match self {
            Self::Hangs => redis.stop(),
            Self::Dies => redis.kill(),
        }
    }

    fn end(self, redis: &mut RedisServer) {
        match self {
            Self::Hangs => redis.go_on(),
            Self::Dies => redis.bring_back(),
        }
    }
}

/// Asks twice before Redis goes away, has `meanwhile` look at what holds without it, and sees that it is used again.
async fn story(away: Away, on_store_error: &str, meanwhile: impl AsyncFn(&TestGateway)) {
    let (node, mut redis) = (node(&["m"]).await, RedisServer::start());
    let setup = setup(&node, &redis, "rpm: 4")
        .env("SLUICE_ON_STORE_ERROR", on_store_error)
        .env("SLUICE_REPLICAS", "2");
    let gateway = start(setup).await;
    assert_eq!(left(&ask(&gateway, "sk-team", CHAT).await), (200, Some(3)));
    assert_eq!(left(&ask(&gateway, "sk-team", CHAT).await), (200, Some(2)));
    away.begin(&mut redis);
    meanwhile(&gateway).await;
    until(&gateway, 0.0).await;
    nobody_waits(&gateway).await;
    meanwhile(&gateway).await;
    assert!(gateway.series("sluice_limit_store_errors_total") >= 1.0);
    assert!(gateway.series("sluice_limit_store_fallbacks_total") >= 2.0);
    away.end(&mut redis);
    until(&gateway, 1.0).await;
    let reply = ask(&gateway, "sk-team", CHAT).await;
    match away {
        Away::Dies => assert_eq!(left(&reply), (200, Some(3)), "it has forgotten all"),
        // What it was asked while it hung, it has done when it came back: that is counted, too.
        Away::Hangs => {
            assert_eq!(standing(&reply)[0].as_deref(), Some("4"));
            assert!(matches!(left(&reply), (200, Some(0 | 1))), "{:?}", left(&reply));
        }
    }
}

async fn local(away: Away) {
    let first = std::sync::atomic::AtomicBool::new(true);
    story(away, "local", async |gateway| {
        if first.swap(false, std::sync::atomic::Ordering::Relaxed) {
            for remaining in [1, 0] {
                let reply = at_once(gateway).await;
                assert_eq!(standing(&reply)[0].as_deref(), Some("2"), "half of the limit");
                assert_eq!(left(&reply), (200, Some(remaining)));
            }
        }
        assert_eq!(left(&at_once(gateway).await), (429, Some(0)));
    })
    .await;
}

async fn allow(away: Away) {
    story(away, "allow", async |gateway| {
        for _ in 0..6 {
            assert_eq!(left(&at_once(gateway).await), (200, None));
        }
    })
    .await;
}

async fn deny(away: Away) {
    story(away, "deny", async |gateway| {
        let reply = at_once(gateway).await;
        assert_eq!((left(&reply), header(&reply, "retry-after")), ((503, None), "1"));
        let body: Value = within(reply.json()).await.unwrap();
        assert_eq!(body["error"]["code"], "limits_unavailable");
        let authz = gateway.client.get(gateway.url("/internal/authz")).bearer_auth("sk-team");
        let reply = within(authz.header("x-original-uri", CHAT).send()).await.unwrap();
        assert_eq!((reply.status().as_u16(), header(&reply, "x-sluice-status")), (403, "503"));
        assert_eq!(ask(gateway, "sk-wrong", CHAT).await.status(), 401);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn r42_local_counts_a_part_of_each_limit_while_redis_hangs() {
    local(Away::Hangs).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn r42_local_counts_a_part_of_each_limit_while_redis_is_dead() {
    local(Away::Dies).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn r42_allow_lets_all_in_while_redis_hangs() {
    allow(Away::Hangs).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn r42_allow_lets_all_in_while_redis_is_dead() {
    allow(Away::Dies).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn r42_deny_refuses_all_while_redis_hangs() {
    deny(Away::Hangs).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn r42_deny_refuses_all_while_redis_is_dead() {
    deny(Away::Dies).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn r42_a_gateway_starts_without_redis_and_uses_it_when_it_is_there() {
    let (node, mut redis) = (node(&["m"]).await, RedisServer::start());
    redis.kill();
    let gateway = setup(&node, &redis, "rpm: 4").start().await;
    assert_eq!(left(&at_once(&gateway).await), (200, Some(3)));
    nobody_waits(&gateway).await;
    redis.bring_back();
    until(&gateway, 1.0).await;
    assert_eq!(left(&ask(&gateway, "sk-team", CHAT).await), (200, Some(3)));
    assert_eq!(chats(&node), 1 + 3 + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_redis_closes_is_replaced_before_anybody_notices() {
    let (node, redis) = (node(&["m"]).await, RedisServer::start());
    let gateway = start(setup(&node, &redis, "rpm: 9")).await;
    let mut connection = connection(&redis).await;
    for expected in [8, 7, 6] {
        assert_eq!(left(&ask(&gateway, "sk-team", CHAT).await), (200, Some(expected)));
        let mut kill = redis::cmd("CLIENT");
        kill.arg("KILL").arg("TYPE").arg("normal").arg("SKIPME").arg("yes");
        let killed: usize = kill.query_async(&mut connection).await.unwrap();
        assert!(killed >= 1);
    }
    assert_eq!(left(&ask(&gateway, "sk-team", CHAT).await), (200, Some(5)));
    assert_eq!(gateway.series("sluice_limit_store_fallbacks_total"), 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_tells_once_that_redis_is_away_and_once_that_it_is_back_and_no_password() {
    let (node, mut redis) = (node(&["m"]).await, RedisServer::with_password("of-redis"));
    let (dir, port) = (tempfile::tempdir().unwrap(), Port::of([127, 0, 0, 1]));
    let gateway = serve(dir.path(), &node, &redis.url(), &port).await;
    let client = reqwest::Client::new();
    let asks = async || {
        let request = client.post(format!("http://{}{CHAT}", port.addr)).bearer_auth("sk-team");
        within(request.json(&crate::support::gateway::chat("m")).send()).await.unwrap().status()
    };
    assert_eq!(asks().await, 200);
    redis.kill();
    for _ in 0..20 {
        assert_eq!(asks().await, 200);
    }
    gateway.complained("Redis cannot be used").await;
    redis.bring_back();
    gateway.complained("Redis is back").await;
    let ended = gateway.stop().await;
    for line in ["limits: Redis cannot be used, `on_store_error: local` holds", "Redis is back"] {
        assert_eq!(ended.err.matches(line).count(), 1, "{}", ended.err);
    }
    assert!(!format!("{}{}", ended.out, ended.err).contains("of-redis"), "{}", ended.err);

    let url = format!("redis://:wrong-word@127.0.0.1:{}", redis.port());
    let gateway = serve(dir.path(), &node, &url, &port).await;
    let told = gateway.complained("Redis cannot be used").await;
    assert!(!told.contains("wrong-word"), "{told}");
    assert_eq!(gateway.stop().await.code, Some(0));
    let nowhere = format!("redis://:wrong-word@{}", nowhere());
    let gateway = serve(dir.path(), &node, &nowhere, &port).await;
    let told = gateway.complained("Redis cannot be used").await;
    assert!(!told.contains("wrong-word"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_else_wrote_under_a_key_is_that_keys_trouble_alone() {
    let (node, redis) = (node(&["m"]).await, RedisServer::start());
    let two = keys(&[key("team", "rpm: 4, concurrent: 1"), key("other", "rpm: 4, concurrent: 1")]);
    let setup = setup(&node, &redis, "").keys(&two).env("SLUICE_ON_STORE_ERROR", "deny");
    let gateway = start(setup).await;
    let junk = redis::cmd("SET").arg("sluice:{team}:running").arg("junk").to_owned();
    junk.exec_async(&mut connection(&redis).await).await.unwrap();
    for _ in 0..2 {
        assert_eq!(ask(&gateway, "sk-team", CHAT).await.status(), 503);
        assert_eq!(ask(&gateway, "sk-other", CHAT).await.status(), 200);
    }
    assert_eq!(gateway.series("sluice_limit_store_up"), 1.0);
    assert!(gateway.series("sluice_limit_store_errors_total") >= 2.0);
}
