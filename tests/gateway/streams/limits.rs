//! The three limits, each for itself.

use std::time::Duration;

use super::{COMMENT, EVENTS, HEAD, ask, code_at_end, gateway, pause, read, stream};
use crate::support::scripted::Scripted;
use crate::support::within;

/// A node that streams one event after a pause, and then is silent or not.
async fn one_event_after_a_pause(then: &'static str) -> Scripted {
    Scripted::start(move |_, mut peer| async move {
        while peer.request().await.is_some() {
            peer.send(HEAD.as_bytes()).await;
            pause().await;
            peer.chunk(EVENTS[0]).await;
            if then.is_empty() {
                return peer.closed().await;
            }
            peer.chunk(then).await;
            peer.send(b"0\r\n\r\n").await;
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_byte_may_take_longer_than_later_ones_and_the_other_way_round() {
    let node = one_event_after_a_pause("data: [DONE]\n\n").await;
    let upstream = ", timeouts: { first_byte: 60s, idle: 250ms }";
    for keepalive in ["15s", "20ms", "0"] {
        let (gateway, clients) = gateway(node.addr, upstream, keepalive).await;
        for client in &clients {
            let (status, text, well) = stream(client, &gateway).await;
            assert!(status == 200 && well && text.ends_with("[DONE]\n\n"), "{text:?}");
        }
    }
    let node = Scripted::start(|_, mut peer| async move {
        while peer.request().await.is_some() {
            peer.send(HEAD.as_bytes()).await;
            peer.chunk(EVENTS[0]).await;
            // Longer than the first byte may take.
            for _ in 0..3 {
                pause().await;
            }
            peer.chunk("data: [DONE]\n\n").await;
            peer.send(b"0\r\n\r\n").await;
        }
    })
    .await;
    let upstream = ", timeouts: { first_byte: 1s, idle: 60s }";
    for keepalive in ["15s", "0"] {
        let (gateway, clients) = gateway(node.addr, upstream, keepalive).await;
        for client in &clients {
            let (status, text, well) = stream(client, &gateway).await;
            assert!(status == 200 && well && text.ends_with("[DONE]\n\n"), "{text:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_falls_silent_is_an_error_event() {
    let node = one_event_after_a_pause("").await;
    let upstream = ", timeouts: { first_byte: 60s, idle: 200ms }";
    for keepalive in ["15s", "50ms", "0"] {
        let (gateway, clients) = gateway(node.addr, upstream, keepalive).await;
        for client in &clients {
            let (status, text, well) = stream(client, &gateway).await;
            assert!(status == 200 && well, "{text:?}");
            assert_eq!(code_at_end(&text), "upstream_timeout");
        }
        let lines = gateway.log_lines(2).await;
        assert!(lines.iter().all(|line| line["error"] == "upstream_timeout"), "{lines:?}");
        assert!(lines.iter().all(|line| line["client_left"] == false), "{lines:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_event_that_is_late_after_comments_is_an_error_event() {
    let node = Scripted::start(|_, mut peer| async move {
        peer.request().await;
        peer.send(HEAD.as_bytes()).await;
        peer.closed().await;
    })
    .await;
    let (gateway, clients) = gateway(node.addr, ", timeouts: { first_byte: 400ms }", "50ms").await;
    for client in &clients {
        let (status, text, well) = stream(client, &gateway).await;
        assert!(status == 200 && well && text.starts_with(COMMENT), "{text:?}");
        assert_eq!(code_at_end(&text), "upstream_timeout");
    }
    assert_eq!(node.seen().len(), 2, "nobody is asked again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_inside_of_an_event_is_cut_when_its_time_is_over() {
    let node = Scripted::start(|_, mut peer| async move {
        peer.request().await;
        peer.send(HEAD.as_bytes()).await;
        peer.chunk("data: {\"half").await;
        peer.closed().await;
    })
    .await;
    let (gateway, clients) = gateway(node.addr, ", timeouts: { idle: 200ms }", "50ms").await;
    for client in &clients {
        assert_eq!(stream(client, &gateway).await, (200, "data: {\"half".to_owned(), false));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_total_ends_a_stream_that_lives_and_one_that_never_began() {
    let node = Scripted::start(|_, mut peer| async move {
        while peer.request().await.is_some() {
            peer.send(HEAD.as_bytes()).await;
            for _ in 0..100 {
                peer.chunk(EVENTS[0]).await;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            peer.closed().await;
        }
    })
    .await;
    for keepalive in ["15s", "0"] {
        let (gateway, clients) = gateway(node.addr, ", timeouts: { total: 2s }", keepalive).await;
        for client in &clients {
            let (status, text, well) = stream(client, &gateway).await;
            assert!(status == 200 && well && text.starts_with(EVENTS[0]), "{text:?}");
            assert_eq!(code_at_end(&text), "upstream_timeout");
            assert!(text.len() < EVENTS[0].len() * 100, "the stream went to its end");
        }
    }
    let silent = Scripted::start(|_, mut peer| async move {
        peer.request().await;
        peer.closed().await;
    })
    .await;
    let (gateway, clients) = gateway(silent.addr, ", timeouts: { total: 300ms }", "15s").await;
    for client in &clients {
        let reply = within(ask(client, &gateway).send()).await.unwrap();
        assert_eq!(reply.status(), 504);
        assert!(read(reply).await.0.contains("upstream_timeout"));
    }
}

/// A client that takes no bytes for longer than a node may be silent is not taken for a silent node.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_client_is_no_silent_node() {
    const EVENT_BYTES: usize = 256 * 1024;
    const COUNT: usize = 120;
    let (told, mut held_up) = tokio::sync::mpsc::channel(1);
    let node = Scripted::start(move |_, mut peer| {
        let told = told.clone();
        async move {
            while peer.request().await.is_some() {
                peer.send(HEAD.as_bytes()).await;
                let event = format!("data: {}\n\n", "x".repeat(EVENT_BYTES));
                for _ in 0..COUNT {
                    let chunk = peer.chunk(&event);
                    tokio::pin!(chunk);
                    // Far longer than the node may be silent.
                    if tokio::time::timeout(Duration::from_secs(2), &mut chunk).await.is_err() {
                        let _again = told.try_send(());
                        chunk.await;
                    }
                }
                peer.chunk("data: [DONE]\n\n").await;
                peer.send(b"0\r\n\r\n").await;
            }
        }
    })
    .await;
    let (gateway, clients) = gateway(node.addr, ", timeouts: { idle: 1s }", "50ms").await;
    for client in &clients {
        let reply = within(ask(client, &gateway).send()).await.unwrap();
        within(held_up.recv()).await.unwrap();
        let (text, well) = read(reply).await;
        assert!(well && text.ends_with("data: [DONE]\n\n"), "{}", text.len());
    }
}
