//! Clients that leave a stream, in each of its phases: the node is told at once, nobody else is asked.

use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::{EVENTS, HEAD, ask, gateway, pause};
use crate::support::gateway::chat;
use crate::support::scripted::Scripted;
use crate::support::{KEY, TestGateway, eventually, within};

/// How soon a node must know.
const SOON: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    NoHead,
    HeadHeld,
    AfterComment,
    BetweenEvents,
    InEvent,
    Flow,
}

/// A node that goes on to `phase`, says so, and tells when its client has left.
async fn node(phase: Phase, there: mpsc::Sender<()>, left: mpsc::Sender<Instant>) -> Scripted {
    Scripted::start(move |_, mut peer| {
        let (there, left) = (there.clone(), left.clone());
        async move {
            peer.request().await;
            if phase != Phase::NoHead {
                peer.send(HEAD.as_bytes()).await;
            }
            match phase {
                Phase::HeadHeld | Phase::AfterComment => pause().await,
                Phase::BetweenEvents => peer.chunk(EVENTS[0]).await,
                Phase::InEvent => peer.chunk("data: {\"half").await,
                Phase::NoHead | Phase::Flow => {}
            }
            there.send(()).await.unwrap();
            if phase == Phase::Flow {
                let chunk = format!("{:x}\r\n{}\r\n", EVENTS[0].len(), EVENTS[0]);
                let write = |peer: &mut crate::support::scripted::Peer| {
                    peer.stream.try_write(chunk.as_bytes()).is_ok()
                };
                while write(&mut peer) {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            } else {
                peer.closed().await;
            }
            left.send(Instant::now()).await.unwrap();
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn r29_a_client_that_leaves_frees_its_node_in_every_phase() {
    for phase in [
        Phase::NoHead,
        Phase::HeadHeld,
        Phase::AfterComment,
        Phase::BetweenEvents,
        Phase::InEvent,
        Phase::Flow,
    ] {
        let (there, mut is_there) = mpsc::channel(1);
        let (left, mut has_left) = mpsc::channel(1);
        let node = node(phase, there, left).await;
        let keepalive = if phase == Phase::AfterComment { "50ms" } else { "15s" };
        let (gateway, clients) = gateway(node.addr, "", keepalive).await;
        for client in &clients {
            let asked = ask(client, &gateway).send();
            let reply = match phase {
                Phase::NoHead | Phase::HeadHeld => tokio::select! {
                    reply = asked => panic!("{phase:?}: {reply:?}"),
                    _ = within(is_there.recv()) => None,
                },
                _ => {
                    let reply = within(asked).await.unwrap();
                    within(is_there.recv()).await.unwrap();
                    Some(reply)
                }
            };
            let leaves = Instant::now();
            drop(reply);
            let told = within(has_left.recv()).await.unwrap() - leaves;
            assert!(told < SOON, "{phase:?}: {told:?}");
        }
        assert_eq!(node.seen().len(), 2, "{phase:?}: nobody else is asked");
        eventually(|| async { gateway.series("sluice_requests_in_flight") == 0.0 }).await;
        eventually(|| async { gateway.series("sluice_held_request_bytes") == 0.0 }).await;
        let lines = gateway.log_lines(2).await;
        let status = if matches!(phase, Phase::NoHead | Phase::HeadHeld) { 499 } else { 200 };
        for line in &lines {
            assert_eq!((&line["client_left"], &line["status"]), (&true.into(), &status.into()));
            assert_eq!(line["tries"], 1, "{phase:?}: {line}");
        }
        assert_eq!(gateway.series("sluice_upstream_failures_total"), 0.0, "{phase:?}");
        let waits = matches!(phase, Phase::NoHead | Phase::HeadHeld | Phase::AfterComment);
        let label = if waits { "waiting" } else { "streaming" };
        told_in_time(&gateway, label);
    }
}

/// Both clients that left were seen to, in this phase alone, and their nodes let go soon.
fn told_in_time(gateway: &TestGateway, phase: &str) {
    let name = "sluice_abort_propagation_seconds";
    let text = String::from_utf8(gateway.server.metrics.render().unwrap()).unwrap();
    let count = format!("{name}_count{{phase=\"{phase}\"}} 2\n");
    assert!(text.contains(&count), "{phase}: {text}");
    assert_eq!(gateway.series(&format!("{name}_count")), 2.0, "{phase}");
    assert!(gateway.series(&format!("{name}_sum")) < SOON.as_secs_f64(), "{phase}");
}

#[tokio::test(flavor = "multi_thread")]
async fn r29_a_client_that_asked_for_no_stream_is_seen_to_leave_too() {
    let (there, mut is_there) = mpsc::channel(1);
    let (left, mut has_left) = mpsc::channel(1);
    let node = node(Phase::NoHead, there, left).await;
    let (gateway, clients) = gateway(node.addr, "", "15s").await;
    for client in &clients {
        let request = client.post(gateway.url("/v1/chat/completions")).bearer_auth(KEY);
        tokio::select! {
            reply = request.json(&chat("m")).send() => panic!("{reply:?}"),
            _ = within(is_there.recv()) => {}
        }
        within(has_left.recv()).await.unwrap();
    }
    gateway.log_lines(2).await;
    told_in_time(&gateway, "non_streaming");
}
