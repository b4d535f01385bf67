//! The head of a stream waits for its first event: until then another try can take the node's place.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use super::{EVENTS, HEAD, ask, gateway, pause, read, stream};
use crate::support::scripted::Scripted;
use crate::support::{eventually, within};

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_dies_after_its_head_is_asked_again() {
    for keepalive in ["15s", "0"] {
        let node = Scripted::start(|number, mut peer| async move {
            peer.request().await;
            peer.send(HEAD.as_bytes()).await;
            if number % 2 == 1 {
                peer.events().await;
            }
        })
        .await;
        let (gateway, clients) = gateway(node.addr, "", keepalive).await;
        for client in &clients {
            let told = stream(client, &gateway).await;
            assert_eq!(told, (200, EVENTS.concat(), true));
        }
        assert_eq!(node.seen().len(), 4);
        let lines = gateway.log_lines(2).await;
        assert!(lines.iter().all(|line| line["status"] == 200), "{lines:?}");
        // A connection of the pool that its node closed comes on top.
        assert!(lines.iter().all(|line| line["tries"].as_u64() >= Some(2)), "{lines:?}");
        assert_eq!(gateway.series("sluice_upstream_failures_total"), 2.0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_always_dies_after_its_head_is_a_502() {
    let node = Scripted::start(|_, mut peer| async move {
        peer.request().await;
        peer.send(HEAD.as_bytes()).await;
    })
    .await;
    let (gateway, clients) = gateway(node.addr, "", "15s").await;
    for client in &clients {
        let (status, text, well) = stream(client, &gateway).await;
        assert_eq!((status, well), (502, true), "{text}");
        assert!(text.starts_with("{\"error\":") && text.contains("upstream_error"), "{text}");
    }
    assert_eq!(node.seen().len(), 4);
    let lines = gateway.log_lines(2).await;
    assert!(lines.iter().all(|line| line["status"] == 502), "{lines:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_silent_after_its_head_is_a_504() {
    let node = Scripted::start(|_, mut peer| async move {
        peer.request().await;
        peer.send(HEAD.as_bytes()).await;
        peer.closed().await;
    })
    .await;
    for keepalive in ["15s", "0"] {
        let before = node.seen().len();
        let (gateway, clients) = gateway(node.addr, "", keepalive).await;
        for client in &clients {
            let request = ask(client, &gateway).header("x-timeout-seconds", "0.3");
            let reply = within(request.send()).await.unwrap();
            assert_eq!(reply.status(), 504);
            assert_eq!(reply.headers()["content-type"], "application/json");
            assert!(read(reply).await.0.contains("upstream_timeout"));
        }
        assert_eq!(node.seen().len() - before, 2, "nobody is asked again");
        let failures = gateway.series("sluice_upstream_failures_total");
        assert_eq!(failures, 2.0);
        eventually(|| async { gateway.series("sluice_requests_in_flight") == 0.0 }).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_comes_with_the_first_event() {
    let released = Arc::new(AtomicBool::new(false));
    let flag = released.clone();
    let node = Scripted::start(move |_, mut peer| {
        let flag = flag.clone();
        async move {
            while peer.request().await.is_some() {
                peer.send(HEAD.as_bytes()).await;
                pause().await;
                flag.store(true, SeqCst);
                peer.events().await;
            }
        }
    })
    .await;
    let (gateway, clients) = gateway(node.addr, "", "15s").await;
    for client in &clients {
        released.store(false, SeqCst);
        let reply = within(ask(client, &gateway).send()).await.unwrap();
        assert!(released.load(SeqCst), "the head did not wait");
        assert_eq!(reply.status(), 200);
        assert!(reply.headers().contains_key("x-request-id"));
        assert_eq!(read(reply).await, (EVENTS.concat(), true));
    }
}
