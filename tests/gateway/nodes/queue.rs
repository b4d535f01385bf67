//! No node gets more than it may; whoever has to wait is served in turn, in time, or told at once.

use std::time::Duration;

use serde_json::{Value, json};
use sluice::sim::{Settings, Simulator};
use tokio::task::JoinSet;

use super::{chats, in_flight, status, upstream};
use crate::support::{TestGateway, eventually, node, node_with, within};

fn said(text: &str) -> Value {
    json!({ "model": "m", "messages": [{ "role": "user", "content": text }] })
}

/// Requests that wait in the gateway.
async fn queued(gateway: &TestGateway) -> u64 {
    status(gateway).await["upstreams"][0]["queued"].as_u64().unwrap()
}

fn ask(gateway: &TestGateway, text: &str) -> reqwest::RequestBuilder {
    gateway.post("/v1/chat/completions").json(&said(text))
}

/// A node that answers nothing yet, a gateway that lets it have one request, and that one under way.
async fn busy(fields: &str) -> (Simulator, TestGateway, Asking) {
    let one = node(&["m"]).await;
    one.pause();
    let fields = format!("models: [m], health: off, max_in_flight: 1{fields}");
    let gateway = TestGateway::start(&upstream(&[one.addr()], &fields)).await;
    let mut asking = JoinSet::new();
    asking.spawn(ask(&gateway, "first").send());
    eventually(|| async { chats(&one) == 1 }).await;
    (one, gateway, asking)
}

type Asking = JoinSet<reqwest::Result<reqwest::Response>>;

/// What the node was asked, in order.
fn heard(node: &Simulator) -> Vec<String> {
    let chats = node.requests().into_iter().filter(|one| one.target == "/v1/chat/completions");
    let text = |body: &[u8]| {
        let body: Value = serde_json::from_slice(body).unwrap();
        body["messages"][0]["content"].as_str().unwrap().to_owned()
    };
    chats.map(|one| text(&one.body)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_node_has_more_than_it_may_and_who_waits_is_served_in_turn() {
    let (one, gateway, mut asking) = busy("").await;
    for number in 1..5_u64 {
        asking.spawn(ask(&gateway, &number.to_string()).send());
        eventually(|| async { queued(&gateway).await == number }).await;
    }
    assert_eq!(gateway.series("sluice_queue_requests"), 4.0);
    one.resume();
    for reply in within(asking.join_all()).await {
        assert_eq!(reply.unwrap().status(), 200);
    }
    assert_eq!(heard(&one), ["first", "1", "2", "3", "4"]);
    // A place is free a moment after its client has all of its answer.
    eventually(|| async { (queued(&gateway).await, in_flight(&gateway).await) == (0, 0) }).await;
    assert_eq!(gateway.series("sluice_queue_seconds_count"), 4.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn all_nodes_are_filled_before_anybody_waits() {
    let nodes = [node(&["m"]).await, node(&["m"]).await];
    nodes.iter().for_each(Simulator::pause);
    let addrs = nodes.each_ref().map(Simulator::addr);
    for policy in ["least_load", "round_robin", "consistent_hash", "prefix_aware"] {
        let before = nodes.each_ref().map(chats);
        let fields = format!("models: [m], health: off, max_in_flight: 3, balance: {policy}");
        let gateway = TestGateway::start(&upstream(&addrs, &fields)).await;
        let mut asking = JoinSet::new();
        for _ in 0..8 {
            asking.spawn(ask(&gateway, "the same").send());
        }
        let got = || [0, 1].map(|at| chats(&nodes[at]) - before[at]);
        eventually(|| async { queued(&gateway).await == 2 && got() == [3, 3] }).await;
        asking.shutdown().await;
        eventually(|| async { queued(&gateway).await + in_flight(&gateway).await == 0 }).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn r29_a_client_that_leaves_the_queue_is_never_heard_of_by_a_node() {
    let (one, gateway, mut asking) = busy("").await;
    let leaving = asking.spawn(ask(&gateway, "leaves").send());
    eventually(|| async { queued(&gateway).await == 1 }).await;
    asking.spawn(ask(&gateway, "stays").send());
    eventually(|| async { queued(&gateway).await == 2 }).await;
    leaving.abort();
    eventually(|| async { queued(&gateway).await == 1 }).await;
    one.resume();
    while let Some(reply) = within(asking.join_next()).await {
        assert!(reply.is_err() || reply.unwrap().unwrap().status() == 200);
    }
    assert_eq!(heard(&one), ["first", "stays"]);
    assert_eq!(gateway.series("sluice_client_aborts_total"), 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_and_a_deadline_that_passes_are_told_as_overload() {
    let (one, gateway, _asking) = busy(", max_queue: 1").await;
    let mut waiting = JoinSet::new();
    waiting.spawn(ask(&gateway, "waits").header("x-timeout-seconds", "0.5").send());
    eventually(|| async { queued(&gateway).await == 1 }).await;
    let told = async |reply: reqwest::Response| {
        assert_eq!(reply.status(), 503);
        assert!(reply.headers()["retry-after"].to_str().unwrap().parse::<u32>().unwrap() > 0);
        let body: Value = reply.json().await.unwrap();
        assert_eq!(body["error"]["code"], "overloaded");
        assert_eq!(body["error"]["type"], "server_error");
    };
    told(within(ask(&gateway, "one too many").send()).await.unwrap()).await;
    told(within(waiting.join_next()).await.unwrap().unwrap().unwrap()).await;
    assert_eq!(heard(&one), ["first"]);
    // Nobody counts it against the node.
    assert_eq!(status(&gateway).await["upstreams"][0]["nodes"][0]["state"], "up");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_answered_in_time_is_told_at_once() {
    let first_token = Duration::from_millis(400);
    let one = node_with(Settings { models: vec!["m".into()], first_token, ..Settings::default() });
    let one = one.await;
    let routes = upstream(&[one.addr()], "models: [m], health: off, max_in_flight: 1");
    let gateway = TestGateway::start(&routes).await;
    // What an answer takes is learnt from those that there were.
    assert_eq!(within(ask(&gateway, "teaches").send()).await.unwrap().status(), 200);
    one.pause();
    let mut asking = JoinSet::new();
    asking.spawn(ask(&gateway, "first").send());
    eventually(|| async { chats(&one) == 2 }).await;
    asking.spawn(ask(&gateway, "second").send());
    eventually(|| async { queued(&gateway).await == 1 }).await;
    let hurried = ask(&gateway, "hurried").header("x-timeout-seconds", "0.5");
    let reply = within(hurried.send()).await.unwrap();
    assert_eq!(reply.status(), 503);
    assert_eq!(queued(&gateway).await, 1);
    one.resume();
    for reply in within(asking.join_all()).await {
        assert_eq!(reply.unwrap().status(), 200);
    }
    assert_eq!(heard(&one), ["teaches", "first", "second"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_wants_a_model_of_another_node_does_not_wait_behind() {
    let (one, two) = (node(&["m"]).await, node(&["other"]).await);
    one.pause();
    let fields = "health: off, max_in_flight: 1";
    let gateway = TestGateway::start(&upstream(&[one.addr(), two.addr()], fields)).await;
    let mut asking = JoinSet::new();
    asking.spawn(ask(&gateway, "first").send());
    eventually(|| async { chats(&one) == 1 }).await;
    asking.spawn(ask(&gateway, "waits").send());
    eventually(|| async { queued(&gateway).await == 1 }).await;
    let mut body = said("passes");
    body["model"] = "other".into();
    let reply = within(gateway.post("/v1/chat/completions").json(&body).send()).await.unwrap();
    assert_eq!(reply.status(), 200);
    assert_eq!((chats(&two), queued(&gateway).await), (1, 1));
    one.resume();
    within(asking.join_all()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_loses_a_node_comes_before_those_who_wait_and_is_not_sent_away() {
    let (one, two) = (node(&["m"]).await, node(&["m"]).await);
    one.pause();
    two.pause();
    let fields = "models: [m], health: off, max_in_flight: 1, max_queue: 1";
    let gateway = TestGateway::start(&upstream(&[one.addr(), two.addr()], fields)).await;
    let mut asking = JoinSet::new();
    for (number, text) in ["first", "second"].into_iter().enumerate() {
        asking.spawn(ask(&gateway, text).send());
        eventually(|| async { chats(&one) + chats(&two) == number + 1 }).await;
    }
    asking.spawn(ask(&gateway, "third").send());
    eventually(|| async { queued(&gateway).await == 1 }).await;
    let (stays, lost) = (heard(&one), heard(&two));
    two.kill().await;
    eventually(|| async { queued(&gateway).await == 2 }).await;
    one.resume();
    for reply in within(asking.join_all()).await {
        assert_eq!(reply.unwrap().status(), 200);
    }
    assert_eq!(heard(&one), [stays, lost, vec!["third".to_owned()]].concat());
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_never_wait_and_a_reload_makes_room() {
    let one = node(&["m"]).await;
    one.pause();
    let routes = |most: usize| {
        upstream(&[one.addr()], &format!("models: [m], health: off, max_in_flight: {most}"))
    };
    let gateway = TestGateway::start(&routes(1)).await;
    let mut asking = JoinSet::new();
    asking.spawn(ask(&gateway, "first").send());
    eventually(|| async { chats(&one) == 1 }).await;
    asking.spawn(ask(&gateway, "second").send());
    eventually(|| async { queued(&gateway).await == 1 }).await;
    assert_eq!(within(gateway.get("/is_paused").send()).await.unwrap().status(), 200);
    // What is configured now holds for who waits already, too.
    gateway.rewrite_routes(&routes(4)).await;
    eventually(|| async { chats(&one) == 2 && queued(&gateway).await == 0 }).await;
    asking.spawn(ask(&gateway, "third").send());
    eventually(|| async { chats(&one) == 3 }).await;
    one.resume();
    for reply in within(asking.join_all()).await {
        assert_eq!(reply.unwrap().status(), 200);
    }
    assert_eq!(chats(&one), 3);
}
