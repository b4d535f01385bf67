//! Pooled connections that their node has closed: asking once more on a fresh one is no retry, and what must not be sent
//! twice never takes one.

use serde_json::Value;

use crate::support::gateway::{Setup, chat, preset};
use crate::support::scripted::{Peer, Scripted};
use crate::support::{TestGateway, nowhere, within};

/// A node that answers once on its first connection and closes that with the next request; what comes on others, by
/// number from 1, is answered so.
async fn closing(
    answer: impl Fn(usize) -> Option<&'static str> + Send + Copy + 'static,
) -> Scripted {
    Scripted::start(move |number, mut peer: Peer| async move {
        if peer.request().await.is_none() {
            return;
        }
        match (number, answer(number)) {
            (0, _) => {
                peer.answer("200 OK", "{}").await;
                peer.request().await;
            }
            (_, Some(status)) => peer.answer(status, "{}").await,
            (_, None) => {}
        }
    })
    .await
}

/// A gateway that makes so many tries, and has a pooled connection to `node`.
async fn with_pooled_connection(node: &Scripted, attempts: usize) -> TestGateway {
    let retry = format!("kind: vllm, retry: {{ attempts: {attempts} }}");
    let routes = preset(node.addr).replace("kind: vllm", &retry);
    let gateway = Setup::routes(&routes).start().await;
    let reply = within(gateway.chat("m").send()).await.unwrap();
    assert_eq!(reply.text().await.unwrap(), "{}");
    // The line is written when the connection is back in the pool.
    gateway.log_lines(1).await;
    gateway
}

#[tokio::test(flavor = "multi_thread")]
async fn r30_a_closed_pooled_connection_is_no_try() {
    let node = closing(|_| Some("200 OK")).await;
    let gateway = with_pooled_connection(&node, 1).await;
    let mut body = chat("m");
    body["padding"] = Value::String("x".repeat(300_000));
    let sent = gateway.post("/v1/chat/completions").json(&body).send();
    assert_eq!(within(sent).await.unwrap().status(), 200);
    let seen = node.seen();
    assert_eq!(seen.len(), 3);
    assert_eq!(seen[2].body, body.to_string().as_bytes());
    assert_eq!(gateway.series("sluice_upstream_failures_total"), 0.0, "the node did nothing wrong");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fresh_connection_that_breaks_after_it_counts() {
    let node = closing(|_| None).await;
    let gateway = with_pooled_connection(&node, 1).await;
    assert_eq!(within(gateway.chat("m").send()).await.unwrap().status(), 502);
    assert_eq!(node.seen().len(), 3);
    let node = closing(|number| (number > 1).then_some("200 OK")).await;
    let gateway = with_pooled_connection(&node, 2).await;
    assert_eq!(within(gateway.chat("m").send()).await.unwrap().status(), 200);
    assert_eq!(node.seen().len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_try_on_a_fresh_connection_is_one_try() {
    let node = Scripted::start(|_, mut peer| async move { drop(peer.request().await) }).await;
    let routes = preset(node.addr).replace("kind: vllm", "kind: vllm, retry: { attempts: 1 }");
    let gateway = Setup::routes(&routes).start().await;
    assert_eq!(within(gateway.chat("m").send()).await.unwrap().status(), 502);
    assert_eq!(node.seen().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_operates_a_node_takes_no_pooled_connection() {
    let node = closing(|_| Some("200 OK")).await;
    let gateway = with_pooled_connection(&node, 2).await;
    assert_eq!(within(gateway.post("/pause").send()).await.unwrap().status(), 200);
    let paused = node.seen().iter().filter(|came| came.head.starts_with("POST /pause ")).count();
    assert_eq!((paused, node.seen().len()), (1, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_operates_a_node_is_tried_again_while_it_was_not_sent() {
    let gateway = TestGateway::before(nowhere()).await;
    assert_eq!(within(gateway.post("/pause").send()).await.unwrap().status(), 502);
    assert_eq!(gateway.log_lines(1).await[0]["tries"], 2);
}
