//! A fleet under way: nodes are lost and come back, clients leave at any moment, and the books are right at the end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use sluice::sim::Simulator;
use tokio::task::JoinSet;

use super::{in_flight, upstream};
use crate::support::gateway::chat;
use crate::support::scripted::Scripted;
use crate::support::{KEY, TestGateway, eventually, node, within};

const FLEET: usize = 5;

async fn fleet(fields: &str) -> (Vec<Simulator>, TestGateway) {
    let mut nodes = Vec::new();
    for _ in 0..FLEET {
        let one = node(&["m"]).await;
        one.set_delays(Duration::from_millis(5), Duration::from_millis(1));
        nodes.push(one);
    }
    let addrs: Vec<_> = nodes.iter().map(Simulator::addr).collect();
    let gateway = TestGateway::start(&upstream(&addrs, fields)).await;
    (nodes, gateway)
}

/// Sends one request after the other until `stop`; streams where `stream`. Gives what clients saw go wrong.
fn lane(
    gateway: &TestGateway,
    stream: bool,
    (stop, done): (&Arc<AtomicBool>, &Arc<AtomicUsize>),
) -> impl Future<Output = Vec<String>> + use<> {
    let (url, client) = (gateway.url("/v1/chat/completions"), gateway.client.clone());
    let (stop, done) = (stop.clone(), done.clone());
    async move {
        let mut wrong = Vec::new();
        let mut body = chat("m");
        body["stream"] = stream.into();
        while !stop.load(Ordering::Relaxed) {
            let reply = client.post(&url).bearer_auth(KEY).json(&body).send().await.unwrap();
            let status = reply.status();
            let text = reply.text().await.unwrap_or_else(|error| error.to_string());
            let well = match stream {
                // Past its first byte a stream may be lost, and then says so.
                true => text.ends_with("data: [DONE]\n\n") || text.contains("data: {\"error\":"),
                false => text.contains("\"finish_reason\""),
            };
            if status != 200 || !well {
                wrong.push(format!("{status} {text}"));
            }
            done.fetch_add(1, Ordering::Relaxed);
        }
        wrong
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_that_loses_one_node_after_the_other_fails_nobody() {
    let (nodes, gateway) = fleet("models: [m], retry: { attempts: 3 }, health: off").await;
    let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut lanes = JoinSet::new();
    for number in 0..10 {
        lanes.spawn(lane(&gateway, number % 2 == 0, (&stop, &done)));
    }
    for round in 0..2 * FLEET {
        let node = &nodes[round % FLEET];
        let enough = |more| {
            let wanted = done.load(Ordering::Relaxed) + more;
            let done = done.clone();
            move || {
                let done = done.clone();
                async move { done.load(Ordering::Relaxed) >= wanted }
            }
        };
        eventually(enough(60)).await;
        node.refuse().await;
        eventually(enough(60)).await;
        node.accept().await;
    }
    stop.store(true, Ordering::Relaxed);
    while let Some(wrong) = within(lanes.join_next()).await {
        assert!(wrong.as_ref().unwrap().is_empty(), "{wrong:?}");
    }
    assert!(gateway.series("sluice_retries_total") > 0.0, "a node was lost, and nobody was there");
    eventually(|| async { in_flight(&gateway).await == 0 }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_leave_at_any_moment_leave_nothing_behind() {
    let (nodes, gateway) = fleet("models: [m], health: off").await;
    let mut lanes = JoinSet::new();
    for number in 0..300_u64 {
        let (url, client) = (gateway.url("/v1/chat/completions"), gateway.client.clone());
        lanes.spawn(async move {
            let mut body = chat("m");
            body["stream"] = (number % 2 == 0).into();
            body["max_tokens"] = 60.into();
            let asked = client.post(&url).bearer_auth(KEY).json(&body).send();
            // A third leaves: after some pieces of a stream, or after 0 to 40 ms, on its way or waiting.
            let leaves = number % 3 == 0;
            let pieces = if leaves && number % 2 == 0 { 1 + number % 5 } else { u64::MAX };
            let patience = if leaves && number % 2 == 1 { number % 41 } else { 60_000 };
            let read = async {
                let mut stream = asked.await.unwrap().bytes_stream();
                let mut read = 0;
                while read < pieces && stream.next().await.is_some_and(|piece| piece.is_ok()) {
                    read += 1;
                }
            };
            let _left = tokio::time::timeout(Duration::from_millis(patience), read).await;
        });
    }
    while within(lanes.join_next()).await.is_some() {}
    eventually(|| async { in_flight(&gateway).await == 0 }).await;
    for node in &nodes {
        within(node.wait_until(|counts| counts.running + counts.waiting == 0)).await;
    }
    eventually(|| async { gateway.series("sluice_requests_in_flight") == 0.0 }).await;
    assert!(gateway.series("sluice_client_aborts_total") > 0.0);
    assert!(gateway.series("sluice_node_in_flight") == 0.0);
}

/// uvicorn does so after 5 s; this one after 200 ms.
#[tokio::test(flavor = "multi_thread")]
async fn how_long_a_node_keeps_idle_connections_is_learnt_and_no_request_pays_for_it() {
    let (told, mut closed) = tokio::sync::mpsc::channel(8);
    let node = Scripted::start(move |_, mut peer| {
        let told = told.clone();
        async move {
            let idle = Duration::from_millis(200);
            while let Ok(Some(_)) = tokio::time::timeout(idle, peer.request()).await {
                peer.answer("200 OK", "{}").await;
            }
            drop(peer);
            told.send(()).await.ok();
        }
    })
    .await;
    let gateway = TestGateway::before(node.addr).await;
    let limit = || {
        let live = gateway.server.live.load();
        let members = live.upstreams[0].members();
        members[0].node.idle.limit(Duration::from_secs(4))
    };
    for _ in 0..3 {
        assert_eq!(limit(), Duration::from_secs(4));
        assert_eq!(gateway.chat("m").send().await.unwrap().status(), 200);
        within(closed.recv()).await.unwrap();
    }
    // The node's own timer is somewhat above 200 ms; what is used is somewhat below.
    eventually(|| async { limit() < Duration::from_secs(1) }).await;
    assert_eq!(gateway.chat("m").send().await.unwrap().status(), 200);
    assert_eq!((node.seen().len(), gateway.series("sluice_retries_total")), (4, 0.0));
}
