//! Nodes that fail while requests go to them, and clients that do not notice.

use sluice::sim::{Fault, Simulator};

use super::{chats, in_flight, state_of, until, upstream};
use crate::support::gateway::chat;
use crate::support::scripted::Scripted;
use crate::support::{TestGateway, eventually, node, nowhere, within};

async fn pair(fields: &str) -> (Simulator, Simulator, TestGateway) {
    let (one, two) = (node(&["m"]).await, node(&["m"]).await);
    let gateway = TestGateway::start(&upstream(&[one.addr(), two.addr()], fields)).await;
    (one, two, gateway)
}

/// Sends chats until `done`; each must be answered well.
async fn chat_until(gateway: &TestGateway, done: impl Fn() -> bool) {
    within(async {
        while !done() {
            let reply = gateway.chat("m").send().await.unwrap();
            assert_eq!(reply.status(), 200, "{}", reply.text().await.unwrap());
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_not_there_is_not_noticed_and_soon_not_asked() {
    let one = node(&["m"]).await;
    let dead = nowhere();
    let gateway =
        TestGateway::start(&upstream(&[dead, one.addr()], "models: [m], health: off")).await;
    chat_until(&gateway, || gateway.series("sluice_retries_total") >= 3.0).await;
    assert_eq!(state_of(&gateway, dead).await, "ejected");
    let retries = gateway.series("sluice_retries_total");
    for _ in 0..5 {
        assert_eq!(gateway.chat("m").send().await.unwrap().status(), 200);
    }
    // At most one of them was its trial.
    assert!(gateway.series("sluice_retries_total") <= retries + 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_way_to_fail_before_the_first_byte_moves_the_request_to_another_node() {
    for fault in [
        Fault::Close,
        Fault::Reset,
        Fault::Status { status: http::StatusCode::SERVICE_UNAVAILABLE, retry_after: None },
        Fault::Status { status: http::StatusCode::BAD_GATEWAY, retry_after: None },
    ] {
        let (one, two, gateway) = pair("models: [m], balance: round_robin, health: off").await;
        one.set_fault(Some(fault.clone()));
        for _ in 0..4 {
            let reply = gateway.chat("m").send().await.unwrap();
            assert_eq!(reply.status(), 200, "{fault:?}");
            assert_eq!(reply.headers()["x-sluice-node"], format!("http://{}", two.addr()));
        }
        assert!(chats(&one) >= 1 && chats(&two) == 4, "{fault:?}");
        eventually(|| async { in_flight(&gateway).await == 0 }).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_node_says_of_the_request_never_counts_against_it() {
    let (one, two, gateway) = pair("models: [m], balance: round_robin, health: off").await;
    for status in [400, 404, 408, 422, 429, 501, 505] {
        let status = http::StatusCode::from_u16(status).unwrap();
        let fault = Fault::Status { status, retry_after: Some(30) };
        one.set_fault(Some(fault.clone()));
        two.set_fault(Some(fault));
        for _ in 0..12 {
            assert_eq!(gateway.chat("m").send().await.unwrap().status(), status);
        }
    }
    for node in [&one, &two] {
        assert_eq!(state_of(&gateway, node.addr()).await, "up");
        assert_eq!(chats(node), 42);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_answers_500_again_and_again_is_left_alone_and_comes_back_by_one_request() {
    let (one, two, gateway) = pair("models: [m], balance: round_robin, health: off").await;
    let status = http::StatusCode::INTERNAL_SERVER_ERROR;
    one.set_fault(Some(Fault::Status { status, retry_after: None }));
    // 500 is the client's to see, and is not tried again.
    within(async {
        while state_of(&gateway, one.addr()).await != "ejected" {
            gateway.chat("m").send().await.unwrap();
        }
    })
    .await;
    one.set_fault(None);
    let before = chats(&one);
    chat_until(&gateway, || chats(&one) > before).await;
    until(&gateway, one.addr(), "starting").await;
    assert!(chats(&two) > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_every_node_ejected_they_are_all_tried() {
    let (one, two, gateway) = pair("models: [m], health: off").await;
    let status = http::StatusCode::INTERNAL_SERVER_ERROR;
    for node in [&one, &two] {
        node.set_fault(Some(Fault::Status { status, retry_after: None }));
    }
    for _ in 0..20 {
        // The node's own answer, never one of ours.
        let reply = gateway.chat("m").send().await.unwrap();
        assert_eq!(reply.status(), 500);
    }
    one.set_fault(None);
    two.set_fault(None);
    assert_eq!(gateway.chat("m").send().await.unwrap().status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_asks_for_rest_gets_it() {
    let (one, two, gateway) = pair("models: [m], balance: round_robin, health: off").await;
    let status = http::StatusCode::SERVICE_UNAVAILABLE;
    one.set_fault(Some(Fault::Status { status, retry_after: Some(60) }));
    chat_until(&gateway, || chats(&one) == 1).await;
    for _ in 0..6 {
        assert_eq!(gateway.chat("m").send().await.unwrap().status(), 200);
    }
    assert_eq!((chats(&one), state_of(&gateway, one.addr()).await), (1, "resting".to_owned()));
    // The other one, too: nobody is left, and the client is told when to come back.
    two.set_fault(Some(Fault::Status { status, retry_after: Some(30) }));
    assert_eq!(gateway.chat("m").send().await.unwrap().status(), 503);
    let reply = gateway.chat("m").send().await.unwrap();
    assert_eq!((reply.status().as_u16(), chats(&two)), (503, chats(&two)));
    let wait: u32 = reply.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((25..=30).contains(&wait), "{wait}");
    assert!(reply.text().await.unwrap().contains(r#""code":"no_healthy_node""#));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_node_takes_no_request_with_it_that_has_no_byte() {
    let (one, two, gateway) = pair("models: [m], balance: round_robin, health: off").await;
    one.pause();
    two.pause();
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..6 {
        waiting.spawn(gateway.chat("m").send());
    }
    eventually(|| async { chats(&one) + chats(&two) == 6 }).await;
    one.kill().await;
    eventually(|| async { chats(&two) == 6 }).await;
    two.resume();
    while let Some(reply) = within(waiting.join_next()).await {
        assert_eq!(reply.unwrap().unwrap().status(), 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn r31_what_was_sent_to_a_slow_node_is_never_sent_to_another() {
    let (one, two, gateway) = pair("models: [m], health: off, retry: { attempts: 3 }").await;
    for node in [&one, &two] {
        node.set_fault(Some(Fault::Stall));
    }
    let request = gateway.chat("m").header("x-timeout-seconds", "0.3");
    assert_eq!(request.send().await.unwrap().status(), 504);
    assert_eq!(chats(&one) + chats(&two), 1);
    // The client's own impatience is no fault of the node's.
    for node in [&one, &two] {
        assert_eq!(state_of(&gateway, node.addr()).await, "up");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn r32_each_node_gets_the_key_of_its_own_upstream_also_after_a_fallback() {
    let (one, two) = (Scripted::replying("{}").await, Scripted::replying("{}").await);
    let dead = nowhere();
    let routes = format!(
        "upstreams:\n  first: {{ kind: openai, nodes: ['http://{dead}', 'http://{}'], key: sk-first, models: [a], health: off }}\n  \
           second: {{ kind: openai, nodes: ['http://{}'], key: sk-second, models: [b], health: off }}\n\
         routes:\n  - {{ path: /v1/chat/completions, methods: [POST], upstream: first }}\n  \
           - {{ path: /v1/chat/completions, methods: [POST], upstream: second }}\n",
        one.addr, two.addr
    );
    let gateway = TestGateway::start(&routes).await;
    for model in ["a", "a", "b"] {
        let reply = gateway.post("/v1/chat/completions").json(&chat(model)).send().await.unwrap();
        assert_eq!(reply.status(), 200);
    }
    assert!(one.seen().iter().all(|came| came.header("authorization") == Some("Bearer sk-first")));
    assert_eq!(two.seen()[0].header("authorization"), Some("Bearer sk-second"));
    assert_eq!((one.seen().len(), two.seen().len()), (2, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn r31_retries_are_at_most_a_fifth_of_what_comes() {
    let (one, two, gateway) = pair("models: [m], balance: round_robin, health: off").await;
    for node in [&one, &two] {
        node.set_fault(Some(Fault::Close));
    }
    for _ in 0..100 {
        assert_eq!(gateway.chat("m").send().await.unwrap().status(), 502);
    }
    let asked = chats(&one) + chats(&two);
    assert!((110..=121).contains(&asked), "{asked}");
}

/// A trial whose client did not wait has told nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_wait_takes_no_node_back() {
    let (one, two, gateway) = pair("models: [m], balance: round_robin, health: off").await;
    one.set_fault(Some(Fault::Close));
    within(async {
        while state_of(&gateway, one.addr()).await != "ejected" {
            gateway.chat("m").send().await.unwrap();
        }
    })
    .await;
    one.set_fault(Some(Fault::Stall));
    let before = chats(&one);
    within(async {
        while chats(&one) == before {
            let request = gateway.chat("m").header("x-timeout-seconds", "0.3");
            request.send().await.unwrap();
        }
    })
    .await;
    assert_eq!(state_of(&gateway, one.addr()).await, "ejected");
    assert!(chats(&two) > 0);
}

/// Nor does one that has no time to connect.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_without_time_to_connect_ejects_nobody() {
    let (one, two, gateway) = pair("models: [m], balance: round_robin, health: off").await;
    for _ in 0..12 {
        let request = gateway.chat("m").header("x-timeout-seconds", "0.000001");
        assert_eq!(request.send().await.unwrap().status(), 504);
    }
    for node in [&one, &two] {
        assert_eq!(state_of(&gateway, node.addr()).await, "up");
    }
}

/// The last try's answer is the node's own, also where it asked for rest with it.
#[tokio::test(flavor = "multi_thread")]
async fn a_503_that_no_other_node_can_mend_is_passed_on() {
    let one = node(&["m"]).await;
    let gateway = TestGateway::start(&upstream(
        &[one.addr()],
        "models: [m], health: off, retry: { attempts: 3 }",
    ))
    .await;
    let status = http::StatusCode::SERVICE_UNAVAILABLE;
    one.set_fault(Some(Fault::Status { status, retry_after: Some(30) }));
    let reply = gateway.chat("m").send().await.unwrap();
    assert_eq!(
        (reply.status(), &reply.headers()["x-sluice-attempts"]),
        (status, &"1".parse().unwrap())
    );
    assert!(!reply.text().await.unwrap().contains("no_healthy_node"));
    assert_eq!(chats(&one), 1);
}
