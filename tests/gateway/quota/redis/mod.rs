//! Limits that several gateways share, in a real Redis: what one has counted holds for all.

mod away;

use std::path::Path;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use reqwest::{Response, StatusCode};
use serde_json::{Value, json};
use sluice::sim::{Settings, Simulator};

use super::{CHAT, ask, chats, key, keys, standing};
use crate::services::process::{Port, Process};
use crate::support::gateway::{Setup, chat, preset};
use crate::support::redis::RedisServer;
use crate::support::tls::Tls;
use crate::support::{TestGateway, eventually, node, node_with, within};

const SECRET: &str = "a secret of at least 32 bytes, shared";

/// A gateway whose key `sk-team` has these limits, kept in Redis.
fn setup(node: &Simulator, redis: &RedisServer, limits: &str) -> Setup {
    Setup::routes(&preset(node.addr()))
        .keys(&keys(&[key("team", limits)]))
        .env("RATE_LIMIT_STORE", "redis")
        .env("REDIS_URL", &redis.url())
}

/// Starts it, and waits until it has found Redis: on a busy machine the first connection takes longer than a request waits.
async fn start(setup: Setup) -> TestGateway {
    let gateway = setup.start().await;
    until(&gateway, 1.0).await;
    gateway
}

/// Waits until a gateway uses Redis (1), or does not (0).
async fn until(gateway: &TestGateway, up: f64) {
    eventually(|| async { gateway.series("sluice_limit_store_up") == up }).await;
}

async fn two(node: &Simulator, redis: &RedisServer, limits: &str) -> [TestGateway; 2] {
    [start(setup(node, redis, limits)).await, start(setup(node, redis, limits)).await]
}

/// A node whose streams never end.
async fn endless() -> Simulator {
    let token_delay = Duration::from_secs(3_600);
    node_with(Settings { models: vec!["m".into()], token_delay, ..Settings::default() }).await
}

async fn stream(client: &reqwest::Client, url: &str) -> Response {
    let mut body = chat("m");
    body["stream"] = json!(true);
    within(client.post(url).bearer_auth("sk-team").json(&body).send()).await.unwrap()
}

async fn open(gateway: &TestGateway) -> Response {
    stream(&gateway.client, &gateway.url(CHAT)).await
}

async fn connection(redis: &RedisServer) -> MultiplexedConnection {
    let client = redis::Client::open(redis.url()).unwrap();
    client.get_multiplexed_async_connection().await.unwrap()
}

/// Ends a gateway as SIGTERM does.
async fn end(gateway: TestGateway) {
    assert!(gateway.server.stop(Duration::ZERO, Duration::from_secs(60)).await);
}

/// What is left of requests, as an answer tells.
fn left(reply: &Response) -> (u16, Option<u32>) {
    let left = standing(reply)[1].as_ref().map(|left| left.parse().unwrap());
    (reply.status().as_u16(), left)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_gateway_has_counted_holds_for_the_other_and_after_a_restart() {
    let (node, redis) = (node(&["m"]).await, RedisServer::start());
    let [one, two] = two(&node, &redis, "rpm: 4, rpd: 100").await;
    for (gateway, expected) in [(&one, 3), (&two, 2), (&one, 1), (&two, 0)] {
        assert_eq!(left(&ask(gateway, "sk-team", CHAT).await), (200, Some(expected)));
    }
    for gateway in [&one, &two] {
        let reply = ask(gateway, "sk-team", CHAT).await;
        assert_eq!(left(&reply), (429, Some(0)));
        assert!(standing(&reply)[2].as_ref().is_some_and(|reset| reset != "0ms"));
        let told = within(reply.text()).await.unwrap();
        assert!(told.contains("requests per min (RPM): Limit 4, Used 4, Requested 1."), "{told}");
    }
    end(one).await;
    let again = start(setup(&node, &redis, "rpm: 4, rpd: 100")).await;
    assert_eq!(ask(&again, "sk-team", CHAT).await.status(), 429);
    assert_eq!(chats(&node), 4);
    let series = ["errors_total", "fallbacks_total", "dropped_total", "up"];
    let series = series.map(|name| again.series(&format!("sluice_limit_store_{name}")));
    assert_eq!(series, [0.0, 0.0, 0.0, 1.0]);
    let mut redis = connection(&redis).await;
    let idle: i64 = redis::cmd("PTTL").arg("sluice:{team}").query_async(&mut redis).await.unwrap();
    assert!((86_400_000..3 * 86_400_000).contains(&idle), "of idle keys nothing is kept: {idle}");
}

#[tokio::test(flavor = "multi_thread")]
async fn r42_of_many_who_ask_at_once_at_two_gateways_exactly_as_many_pass_as_may() {
    let (node, redis) = (node(&["m"]).await, RedisServer::start());
    let both = two(&node, &redis, "rpm: 50").await;
    let asked = (0..100).map(|number| ask(&both[number % 2], "sk-team", CHAT));
    let replies = futures_util::future::join_all(asked).await;
    let of = |status: u16| replies.iter().filter(|reply| reply.status() == status).count();
    assert_eq!((of(200), of(429), chats(&node)), (50, 50, 50));
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_settled_for_all_before_a_gateway_ends() {
    let (node, redis) = (node(&["m"]).await, RedisServer::start());
    let [one, two] = two(&node, &redis, "tpm: 1000").await;
    let mut body = chat("m");
    body["max_tokens"] = json!(900);
    body["stop"] = json!(["\n"]);
    let reply = one.client.post(one.url(CHAT)).bearer_auth("sk-team").json(&body).send();
    let reply = within(reply).await.unwrap();
    let taken: u64 = super::header(&reply, "x-ratelimit-remaining-tokens").parse().unwrap();
    assert!(taken < 100, "all that it may have is taken ahead: {taken}");
    let told: Value = within(reply.json()).await.unwrap();
    let spent = told["usage"]["total_tokens"].as_u64().unwrap();
    end(one).await;
    // The probe itself: a prompt of `[]` and nothing beyond, which no node answers.
    let probe = json!({ "model": "m", "messages": [] });
    let reply = two.client.post(two.url(CHAT)).bearer_auth("sk-team").json(&probe).send();
    let left: u64 = super::header(&within(reply).await.unwrap(), "x-ratelimit-remaining-tokens")
        .parse()
        .unwrap();
    let probe = sluice::wire::usage::estimated(b"[]");
    assert_eq!(1_000 - left - probe, spent, "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_failed_at_one_gateway_is_given_back_to_all() {
    let (node, redis) = (node(&["m"]).await, RedisServer::start());
    let [one, two] = two(&node, &redis, "rpm: 1").await;
    node.set_fault(Some("reset".parse().unwrap()));
    for _ in 0..3 {
        assert_eq!(ask(&one, "sk-team", CHAT).await.status(), 502);
    }
    node.set_fault(None);
    eventually(|| async { ask(&two, "sk-team", CHAT).await.status() == 200 }).await;
    assert_eq!(ask(&one, "sk-team", CHAT).await.status(), 429);
}

#[tokio::test(flavor = "multi_thread")]
async fn places_are_counted_over_all_gateways_and_free_when_a_client_leaves() {
    let (node, redis) = (endless().await, RedisServer::start());
    let [one, two] = two(&node, &redis, "concurrent: 1").await;
    let first = open(&one).await;
    assert_eq!(first.status(), 200);
    let refused = open(&two).await;
    assert_eq!(refused.status(), 429);
    let told = within(refused.text()).await.unwrap();
    assert!(told.contains("on concurrent requests: Limit 1, Used 1, Requested 1."), "{told}");
    // The lease of a place is renewed as long as its gateway lives.
    let connection = connection(&redis).await;
    let lease = async || {
        let mut range = redis::cmd("ZRANGE");
        range.arg("sluice:{team}:running").arg(0).arg(-1).arg("WITHSCORES");
        let places: Vec<(String, f64)> = range.query_async(&mut connection.clone()).await.unwrap();
        assert_eq!(places.len(), 1);
        places[0].1
    };
    let begun = lease().await;
    eventually(|| async { lease().await > begun }).await;
    drop(first);
    eventually(|| async { open(&two).await.status() == 200 }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_one_by_one_never_meets_a_limit_of_one_at_a_time() {
    let (node, redis) = (node(&["m"]).await, RedisServer::start());
    let gateway = start(setup(&node, &redis, "concurrent: 1")).await;
    for turn in 0..60 {
        let mut body = chat("m");
        body["stream"] = json!(turn % 2 == 1);
        let request = gateway.client.post(gateway.url(CHAT)).bearer_auth("sk-team").json(&body);
        let reply = within(request.send()).await.unwrap();
        assert_eq!(reply.status(), 200, "{turn}");
        within(reply.bytes()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn places_of_a_gateway_that_was_killed_come_free() {
    let (node, redis) = (endless().await, RedisServer::start());
    let (dir, port) = (tempfile::tempdir().unwrap(), Port::of([127, 0, 0, 1]));
    let gateway = serve(dir.path(), &node, &redis.url(), &port).await;
    let looked = connection(&redis).await;
    let looked = async || {
        let mut exists = redis::cmd("EXISTS");
        exists.arg("sluice:{a look}:running").query_async(&mut looked.clone()).await.unwrap()
    };
    eventually(|| async { looked().await }).await;
    let client = reqwest::Client::new();
    let first = stream(&client, &format!("http://{}{CHAT}", port.addr)).await;
    assert_eq!(first.status(), 200);
    let other = start(setup(&node, &redis, "concurrent: 1")).await;
    assert_eq!(open(&other).await.status(), 429);
    gateway.signal("KILL");
    drop((first, gateway));
    assert_eq!(open(&other).await.status(), 429, "nobody has heard of its end");
    eventually(|| async { open(&other).await.status() == 200 }).await;
}

/// A gateway that is a process of its own, whose key `sk-team` may have one request at a time.
async fn serve(dir: &Path, node: &Simulator, redis: &str, port: &Port) -> Process {
    std::fs::write(dir.join("routes.yaml"), preset(node.addr())).unwrap();
    std::fs::write(dir.join("keys.yaml"), keys(&[key("team", "concurrent: 1")])).unwrap();
    let number = port.number();
    let variables = [("PORT", &*number), ("RATE_LIMIT_STORE", "redis"), ("REDIS_URL", redis)];
    Process::serve(dir, &["--config", "."], &variables, port.addr).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pass_of_one_gateway_is_good_once_at_any() {
    let (node, redis) = (node(&["m"]).await, RedisServer::start());
    let started = async || {
        let setup = setup(&node, &redis, "rpm: 4").file("secret", SECRET);
        start(setup.file("server.yaml", "authz_secret_file: secret\n")).await
    };
    let (one, two) = (started().await, started().await);
    let asked = one.client.get(one.url("/internal/authz")).bearer_auth("sk-team");
    let asked = asked.header("x-original-uri", CHAT).header("x-original-method", "POST");
    let reply = within(asked.send()).await.unwrap();
    assert_eq!(left(&reply), (204, Some(3)));
    let pass = super::header(&reply, "x-ratelimit-checked").to_owned();
    let bring = async |gateway: &TestGateway| {
        let request = gateway.client.post(gateway.url(CHAT)).bearer_auth("sk-team");
        let request = request.header("x-ratelimit-checked", &pass).json(&chat("m"));
        left(&within(request.send()).await.unwrap())
    };
    assert_eq!(bring(&two).await, (200, Some(3)), "it is counted already");
    assert_eq!(bring(&one).await, (200, Some(2)), "it was used");
    assert_eq!(bring(&two).await, (200, Some(1)));
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_may_be_behind_tls_and_want_a_password() {
    let (node, redis) = (node(&["m"]).await, RedisServer::with_password("of-redis"));
    let tls = Tls::before(([127, 0, 0, 1], redis.port()).into()).await;
    let setup = setup(&node, &redis, "rpm: 2")
        .env("SLUICE_REDIS_URL", &format!("rediss://:of-redis@localhost:{}/1", tls.port))
        .flags(|flags| flags.ca_file = Some(tls.ca_file().display().to_string()));
    let gateway = start(setup).await;
    assert_eq!(left(&ask(&gateway, "sk-team", CHAT).await), (200, Some(1)));
    let mut connection = connection(&redis).await;
    let mut exists = redis::pipe();
    exists.cmd("SELECT").arg(1).ignore().cmd("EXISTS").arg("sluice:{team}");
    let (there,): (bool,) = exists.query_async(&mut connection).await.unwrap();
    assert!(there, "what was counted is there");
    assert_eq!(ask(&gateway, "sk-wrong", CHAT).await.status(), StatusCode::UNAUTHORIZED);
}
