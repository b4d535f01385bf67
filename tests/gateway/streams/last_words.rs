//! The 500s with which a node of vLLM's refuses what comes between SIGTERM and its end, or tells that its engine is gone; any
//! other is the client's to see.

use super::{EVENTS, HEAD, ask, gateway, read, stream};
use crate::support::TestGateway;
use crate::support::gateway::preset;
use crate::support::scripted::{Peer, Scripted};
use crate::support::within;

const LEAVING: &str = r#"{"error":{"message":"cannot schedule new futures after shutdown","type":"InternalServerError","param":null,"code":500}}"#;
const DEAD: &str = r#"{"error":{"message":"EngineCore encountered an issue. See stack trace (above) for the root cause.","type":"InternalServerError","param":null,"code":500}}"#;
const OTHER: &str = r#"{"error":{"message":"CUDA out of memory","type":"InternalServerError","param":null,"code":500}}"#;

/// A node that answers every second request with a stream, the others with this 500.
async fn node(body: &'static str, pieces: usize) -> Scripted {
    let number = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    Scripted::start(move |_, mut peer: Peer| {
        let number = number.clone();
        async move {
            while peer.request().await.is_some() {
                if number.fetch_add(1, std::sync::atomic::Ordering::SeqCst) % 2 == 1 {
                    peer.send(HEAD.as_bytes()).await;
                    peer.events().await;
                    continue;
                }
                peer.send(
                    b"HTTP/1.1 500 Internal Server Error\r\ncontent-type: application/json\r\n\
                    transfer-encoding: chunked\r\n\r\n",
                )
                .await;
                for piece in body.as_bytes().chunks(body.len().div_ceil(pieces)) {
                    peer.chunk(std::str::from_utf8(piece).unwrap()).await;
                }
                peer.send(b"0\r\n\r\n").await;
            }
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_shutting_down_is_not_the_last_word() {
    for (words, pieces) in [(LEAVING, 1), (LEAVING, 7), (DEAD, 1), (DEAD, 7)] {
        let node = node(words, pieces).await;
        let (gateway, clients) = gateway(node.addr, "", "15s").await;
        for client in &clients {
            assert_eq!(stream(client, &gateway).await, (200, EVENTS.concat(), true));
        }
        assert_eq!(node.seen().len(), 4);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn any_other_500_is_the_clients_to_see() {
    let long: &'static str = Box::leak(format!("{OTHER}{}", "x".repeat(100_000)).into_boxed_str());
    for (body, pieces) in [(OTHER, 1), (OTHER, 5), (long, 1), (long, 9)] {
        let node = node(body, pieces).await;
        let (gateway, clients) = gateway(node.addr, "", "15s").await;
        let reply = within(ask(&clients[0], &gateway).send()).await.unwrap();
        assert_eq!(reply.status(), 500);
        assert_eq!(reply.headers()["content-type"], "application/json");
        assert_eq!(read(reply).await, (body.to_owned(), true));
        assert_eq!(node.seen().len(), 1);
        let line = gateway.log_lines(1).await.remove(0);
        assert_eq!((&line["status"], line.get("error")), (&500.into(), None), "{line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_try_and_another_kind_of_node_pass_it_on() {
    for (kind, tries) in [("kind: vllm, retry: { attempts: 1 }", 1), ("kind: generic", 1)] {
        let node = node(LEAVING, 2).await;
        let gateway = TestGateway::start(&preset(node.addr).replace("kind: vllm", kind)).await;
        let reply = within(ask(&gateway.client, &gateway).send()).await.unwrap();
        assert_eq!(reply.status(), 500, "{kind}");
        assert_eq!(read(reply).await, (LEAVING.to_owned(), true), "{kind}");
        assert_eq!(node.seen().len(), tries, "{kind}");
    }
}
