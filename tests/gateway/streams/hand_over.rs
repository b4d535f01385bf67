//! Without comments the stand-in goes after the first bytes, and nothing is different to see.

use super::{EVENTS, HEAD, ask, code_at_end, gateway, stream, streaming};
use crate::support::scripted::Scripted;
use crate::support::{eventually, within};

/// As long to the first byte as between later ones: nothing but the head is to be held.
const SAME: &str = ", timeouts: { first_byte: 60s, idle: 60s }";

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_goes_by_untouched() {
    let node = streaming().await;
    let (gateway, clients) = gateway(node.addr, SAME, "0").await;
    for client in clients.iter().cycle().take(6) {
        assert_eq!(stream(client, &gateway).await, (200, EVENTS.concat(), true));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_breaks_or_falls_silent_is_an_error_event() {
    for (silent, code) in [(false, "upstream_error"), (true, "upstream_timeout")] {
        let node = Scripted::start(move |_, mut peer| async move {
            peer.request().await;
            peer.send(HEAD.as_bytes()).await;
            for _ in 0..3 {
                peer.chunk(EVENTS[0]).await;
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
            if silent {
                peer.closed().await;
            }
        })
        .await;
        let upstream = ", timeouts: { first_byte: 1s, idle: 1s }";
        let (gateway, clients) = gateway(node.addr, upstream, "0").await;
        for client in &clients {
            let (status, text, well) = stream(client, &gateway).await;
            assert!(status == 200 && well && text.starts_with(EVENTS[0]), "{text:?}");
            assert_eq!(code_at_end(&text), code);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_later_frees_its_node() {
    let (left, mut has_left) = tokio::sync::mpsc::channel(1);
    let node = Scripted::start(move |_, mut peer| {
        let left = left.clone();
        async move {
            peer.request().await;
            peer.send(HEAD.as_bytes()).await;
            for _ in 0..3 {
                peer.chunk(EVENTS[0]).await;
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
            peer.closed().await;
            left.send(()).await.unwrap();
        }
    })
    .await;
    let (gateway, clients) = gateway(node.addr, SAME, "0").await;
    for client in &clients {
        let mut reply = within(ask(client, &gateway).send()).await.unwrap();
        let mut read = 0;
        while read < 3 * EVENTS[0].len() {
            read += within(reply.chunk()).await.unwrap().unwrap().len();
        }
        drop(reply);
        within(has_left.recv()).await.unwrap();
    }
    eventually(|| async { gateway.series("sluice_requests_in_flight") == 0.0 }).await;
    assert_eq!(gateway.series("sluice_client_aborts_total"), 2.0);
}
