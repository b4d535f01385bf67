//! Who gets which request.

use serde_json::json;
use sluice::sim::Settings;

use super::{chats, in_flight, upstream};
use crate::support::gateway::chat;
use crate::support::{TestGateway, eventually, node, node_with, within};

#[tokio::test(flavor = "multi_thread")]
async fn round_robin_gives_each_node_its_turn() {
    let nodes = [node(&["m"]).await, node(&["m"]).await, node(&["m"]).await];
    let addrs = nodes.each_ref().map(sluice::sim::Simulator::addr);
    let gateway =
        TestGateway::start(&upstream(&addrs, "models: [m], balance: round_robin, health: off"))
            .await;
    for _ in 0..12 {
        assert_eq!(gateway.chat("m").send().await.unwrap().status(), 200);
    }
    assert_eq!(nodes.each_ref().map(chats), [4, 4, 4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn least_load_goes_where_the_least_is_to_be_done_and_counts_from_the_choice_on() {
    let (one, two) = (node(&["m"]).await, node(&["m"]).await);
    // Nothing is answered: what is under way stays there.
    one.pause();
    two.pause();
    let gateway =
        TestGateway::start(&upstream(&[one.addr(), two.addr()], "models: [m], health: off")).await;
    let mut waiting = tokio::task::JoinSet::new();
    for asked in 1..=8 {
        waiting.spawn(gateway.chat("m").send());
        eventually(|| async { chats(&one) + chats(&two) == asked }).await;
    }
    assert_eq!((chats(&one), chats(&two)), (4, 4));
    waiting.shutdown().await;
    eventually(|| async { in_flight(&gateway).await == 0 }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_prompt_weighs_as_much_as_many_short_ones() {
    let (one, two) = (node(&["m"]).await, node(&["m"]).await);
    one.pause();
    two.pause();
    let gateway =
        TestGateway::start(&upstream(&[one.addr(), two.addr()], "models: [m], health: off")).await;
    let long = "word ".repeat(8_000);
    let body = json!({ "model": "m", "messages": [{ "role": "user", "content": long }] });
    let mut waiting = tokio::task::JoinSet::new();
    waiting.spawn(gateway.post("/v1/chat/completions").json(&body).send());
    eventually(|| async { chats(&one) + chats(&two) == 1 }).await;
    let (busy, free) = if chats(&one) == 1 { (&one, &two) } else { (&two, &one) };
    for asked in 1..=6 {
        waiting.spawn(gateway.chat("m").send());
        eventually(|| async { chats(&one) + chats(&two) == asked + 1 }).await;
    }
    assert_eq!((chats(busy), chats(free)), (1, 6));
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_may_know_is_told_where_a_request_was() {
    let one = node(&["m"]).await;
    let keys = "keys:\n  - { name: app, key: sk-app }\n  - { name: ops, key: sk-ops, scopes: [inference, admin] }\n";
    let routes = upstream(&[one.addr()], "models: [m], health: off");
    let setup = crate::support::gateway::Setup::bare().file("routes.yaml", &routes).keys(keys);
    let gateway = setup.start().await;
    let ask = |key: &'static str| {
        let request = gateway.client.post(gateway.url("/v1/chat/completions")).bearer_auth(key);
        request.json(&chat("m")).send()
    };
    let reply = within(ask("sk-ops")).await.unwrap();
    assert_eq!(reply.headers()["x-sluice-node"], format!("http://{}", one.addr()));
    assert_eq!(reply.headers()["x-sluice-attempts"], "1");
    let reply = within(ask("sk-app")).await.unwrap();
    assert!(!reply.headers().keys().any(|name| name.as_str().starts_with("x-sluice")));
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_of_one_upstream_may_have_paths_of_their_own() {
    let (one, two) = (node_with(Settings::default()).await, node_with(Settings::default()).await);
    let routes = format!(
        "upstreams:\n  llama: {{ kind: openai, nodes: ['http://{}', 'http://{}/openai/v1'], models: [m], balance: round_robin, health: off }}\n\
         routes:\n  - {{ path: /v1/chat/completions, methods: [POST], upstream: llama }}\n",
        one.addr(),
        two.addr()
    );
    let gateway = TestGateway::start(&routes).await;
    for _ in 0..2 {
        gateway.chat("m").send().await.unwrap();
    }
    assert_eq!(one.requests()[0].target, "/v1/chat/completions");
    assert_eq!(two.requests()[0].target, "/openai/v1/chat/completions");
}
