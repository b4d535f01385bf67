//! Sessions in a real Redis: any gateway goes on with them, and they survive all of them.

use std::time::Duration;

use futures_util::future::join_all;
use redis::AsyncCommands;
use redis::aio::MultiplexedConnection;
use serde_json::json;
use sluice::sim::{Settings, Simulator};

use super::{
    NODE_KEY, answered, ask, begin, chats, error, guarded, guarded_with, init, post, replaced, said,
};
use crate::support::redis::RedisServer;
use crate::support::{TestGateway, eventually, within};

/// A gateway that has found its Redis.
async fn start(node: &Simulator, redis: &RedisServer) -> TestGateway {
    let setup = replaced(node).env("REDIS_URL", &redis.url());
    let setup = setup.flags(|flags| flags.session_store = Some("redis".into()));
    let gateway = setup.start().await;
    until(&gateway, 1.0).await;
    gateway
}

async fn until(gateway: &TestGateway, up: f64) {
    eventually(|| async { gateway.series("sluice_session_store_up") == up }).await;
}

async fn connection(redis: &RedisServer) -> MultiplexedConnection {
    let client = redis::Client::open(redis.url()).unwrap();
    client.get_multiplexed_async_connection().await.unwrap()
}

/// All keys of sessions, and of those who have them.
async fn keys(redis: &RedisServer) -> Vec<String> {
    let mut keys: Vec<String> = connection(redis).await.keys("sluice:session:*").await.unwrap();
    keys.sort_unstable();
    keys
}

#[tokio::test(flavor = "multi_thread")]
async fn e11_sessions_in_redis_survive_a_restart_and_go_on_at_any_gateway() {
    let (node, redis) = (guarded().await, RedisServer::start());
    let first = start(&node, &redis).await;
    let id = begin(&first, NODE_KEY).await;
    answered(&first, &id, "to the first").await;
    let second = start(&node, &redis).await;
    answered(&second, &id, "to the second").await;
    assert!(first.server.stop(Duration::ZERO, Duration::from_secs(60)).await);
    let third = start(&node, &redis).await;
    answered(&third, &id, "to the third").await;
    let asked: Vec<_> = said(&node).into_iter().filter(|(role, _)| role == "user").collect();
    let texts: Vec<_> = asked.iter().map(|(_, text)| text.as_str()).collect();
    assert_eq!(texts, ["to the first", "to the second", "to the third"]);
    assert_eq!(post(&second, "/stop_session", json!({ "session_id": id })).await.status(), 200);
    assert_eq!(error(ask(&third, &id, "gone", json!({})).await).await.0, 404);
    // Neither its id nor a key is in Redis, and nothing of it stays.
    assert_eq!(keys(&redis).await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_expires_and_tells_no_secret() {
    let (node, redis) = (guarded().await, RedisServer::start());
    let gateway = start(&node, &redis).await;
    let id = begin(&gateway, NODE_KEY).await;
    answered(&gateway, &id, "Hello").await;
    eventually(|| async { keys(&redis).await.len() == 1 }).await;
    let key = keys(&redis).await.remove(0);
    let mut connection = connection(&redis).await;
    let left: i64 = connection.pttl(&key).await.unwrap();
    assert!((1..=600_000).contains(&left), "{left}");
    let kept: String = connection.hget(&key, "s").await.unwrap();
    assert!(kept.contains("Hello") && !kept.contains(NODE_KEY) && !kept.contains(&id), "{kept}");
    assert!(!key.contains(&id));
    let _: () = connection.pexpire(&key, 1).await.unwrap();
    eventually(|| async { keys(&redis).await.is_empty() }).await;
    assert_eq!(error(ask(&gateway, &id, "gone", json!({})).await).await.0, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_of_one_session_run_one_after_the_other_at_two_gateways() {
    let settings = Settings { first_token: Duration::from_millis(2), ..Settings::default() };
    let (node, redis) = (guarded_with(settings).await, RedisServer::start());
    let both = [start(&node, &redis).await, start(&node, &redis).await];
    let id = begin(&both[0], NODE_KEY).await;
    let questions = (0..16).map(|number| {
        let (gateway, id) = (&both[number % 2], &id);
        async move { answered(gateway, id, &format!("question {number}")).await }
    });
    within(join_all(questions)).await;
    let mut lengths: Vec<_> =
        chats(&node).iter().map(|chat| chat["messages"].as_array().unwrap().len()).collect();
    lengths.sort_unstable();
    assert_eq!(lengths, (0..16).map(|pairs| 2 + 2 * pairs).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_is_gone_holds_a_session_up_for_its_lease_alone() {
    let (node, redis) = (guarded().await, RedisServer::start());
    let gateway = start(&node, &redis).await;
    let id = begin(&gateway, NODE_KEY).await;
    let key = keys(&redis).await.remove(0);
    // Somebody has it who will not be heard of again.
    let mut connection = connection(&redis).await;
    let turn = format!("{key}:turn");
    let _: () = connection.pset_ex(&turn, "another's", 300).await.unwrap();
    answered(&gateway, &id, "Hello").await;
    // Of two who wrote the same session the later has lost.
    eventually(|| async { keys(&redis).await == [key.clone()] }).await;
    let version: u64 = connection.hget(&key, "v").await.unwrap();
    assert_eq!(version, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_redis_is_away_sessions_are_refused_at_once_and_nothing_else_is() {
    let (node, mut redis) = (guarded().await, RedisServer::start());
    let gateway = start(&node, &redis).await;
    let id = begin(&gateway, NODE_KEY).await;
    redis.kill();
    until(&gateway, 0.0).await;
    for _ in 0..2 {
        let refused = ask(&gateway, &id, "Hello", json!({})).await;
        assert_eq!(refused.headers()["retry-after"], "1");
        assert_eq!(error(refused).await, (503, "sessions_unavailable".into()));
    }
    assert_eq!(error(init(&gateway, NODE_KEY).await).await, (503, "sessions_unavailable".into()));
    let chat = gateway.client.post(gateway.url("/v1/chat/completions"));
    let chat = chat.json(&crate::support::gateway::chat("m")).send().await.unwrap();
    assert_eq!(chat.status(), 200);
    redis.bring_back();
    until(&gateway, 1.0).await;
    // All that was in it is gone: so is the session, and a new one is begun.
    assert_eq!(error(ask(&gateway, &id, "Hello", json!({})).await).await.0, 404);
    let id = begin(&gateway, NODE_KEY).await;
    answered(&gateway, &id, "Hello").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_in_redis_need_its_address() {
    let settings =
        sluice::config::SettingsArgs { session_store: Some("redis".into()), ..Default::default() };
    let nothing = sluice::config::Environment::from_iter([("X", "")]);
    let refused = sluice::config::Settings::resolve(&settings, &nothing, "/none".as_ref());
    assert!(refused.unwrap_err().to_string().contains("redis_url"));
}
