//! Nodes that speak HTTP/2: heads wait, limits hold, comments are written and leaving is told as over HTTP/1.1.

use std::time::Duration;

use futures_util::StreamExt;
use reqwest::Client;
use sluice::sim::{Fault, Simulator};

use super::{COMMENT, ask, code_at_end, read, stream};
use crate::support::gateway::Setup;
use crate::support::tls::Tls;
use crate::support::{TestGateway, eventually, node, within};

/// Between the tokens of a node whose stream is to break after the second: long enough for the first to be sent.
const PACE: Duration = Duration::from_millis(100);

/// What is there for a test.
struct Stage {
    nodes: [Simulator; 2],
    gateway: TestGateway,
    /// Of HTTP/1.1 and of HTTP/2.
    clients: [Client; 2],
    _tls: [Tls; 2],
}

/// Two nodes over HTTP/2, in turns, and a time between comments.
async fn stage(fields: &str, keepalive: &str) -> Stage {
    let nodes = [node(&["m"]).await, node(&["m"]).await];
    let tls =
        [Tls::speaking(b"h2", nodes[0].addr()).await, Tls::speaking(b"h2", nodes[1].addr()).await];
    // One authority for both: the file of both certificates.
    let authorities: String =
        tls.iter().map(|tls| std::fs::read_to_string(tls.ca_file()).unwrap()).collect();
    let routes = format!(
        "upstreams:\n  llama: {{ kind: vllm, http2: true, nodes: ['https://localhost:{}', 'https://localhost:{}'], models: [m], \
         balance: round_robin, health: off {fields} }}\nroutes:\n  - {{ preset: vllm, upstream: llama }}\n",
        tls[0].port, tls[1].port
    );
    let dir = tempfile::tempdir().unwrap();
    let ca_file = dir.path().join("ca.pem");
    std::fs::write(&ca_file, authorities).unwrap();
    let setup = Setup::routes(&routes).flags(|flags| {
        flags.h2c = Some("true".into());
        flags.sse_keepalive = Some(keepalive.to_owned());
        flags.ca_file = Some(ca_file.to_str().unwrap().to_owned());
    });
    let gateway = setup.start().await;
    let http2 = Client::builder().http2_prior_knowledge().build().unwrap();
    let clients = [gateway.client.clone(), http2];
    Stage { nodes, gateway, clients, _tls: tls }
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_pass_and_a_node_that_is_gone_after_its_head_is_replaced() {
    for fault in [
        None,
        Some(Fault::CutAfter(0)),
        Some(Fault::ResetAfter(0)),
        Some(Fault::Close),
        Some(Fault::DieAfter(0)),
    ] {
        let stage = stage("", "15s").await;
        stage.nodes[0].set_fault(fault.clone());
        for client in &stage.clients {
            for _ in 0..2 {
                let (status, text, well) = stream(client, &stage.gateway).await;
                assert!(
                    status == 200 && well && text.ends_with("data: [DONE]\n\n"),
                    "{fault:?}: {status} {text}"
                );
                assert!(!text.contains("error"), "{fault:?}: {text}");
            }
        }
        assert!(!stage.nodes[0].requests().is_empty(), "{fault:?}");
        assert_eq!(
            fault.is_some(),
            stage.gateway.series("sluice_retries_total") > 0.0,
            "{fault:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_breaks_later_is_told_in_the_stream() {
    for fault in [Fault::CutAfter(2), Fault::ResetAfter(2), Fault::DieAfter(2)] {
        let stage = stage("", "15s").await;
        for node in &stage.nodes {
            node.set_fault(Some(fault.clone()));
            // A reset of a stream takes with it what its sender has not sent yet: the first event must be on its way.
            node.set_delays(Duration::ZERO, PACE);
        }
        for client in &stage.clients {
            let (status, text, well) = stream(client, &stage.gateway).await;
            assert!(status == 200 && well && !text.contains("[DONE]"), "{fault:?}: {text}");
            assert_eq!(code_at_end(&text), "upstream_error", "{fault:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_hold_before_the_first_event_and_after_it() {
    let stage = stage(", timeouts: { first_byte: 700ms, idle: 400ms }", "0").await;
    for client in &stage.clients {
        stage.nodes.iter().for_each(|node| node.set_fault(Some(Fault::StallAfter(0))));
        let (status, text, _) = stream(client, &stage.gateway).await;
        assert_eq!(status, 504, "{text}");
        stage.nodes.iter().for_each(|node| node.set_fault(Some(Fault::StallAfter(2))));
        let (status, text, well) = stream(client, &stage.gateway).await;
        assert!(status == 200 && well, "{text}");
        assert_eq!(code_at_end(&text), "upstream_timeout");
    }
    for node in &stage.nodes {
        within(node.wait_until(|counts| counts.running == 0)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn comments_cover_silence_and_a_client_that_leaves_is_told() {
    let stage = stage("", "50ms").await;
    stage.nodes.iter().for_each(|node| node.set_fault(Some(Fault::StallAfter(1))));
    for client in &stage.clients {
        let reply = within(ask(client, &stage.gateway).send()).await.unwrap();
        let mut pieces = reply.bytes_stream();
        let mut seen = String::new();
        while seen.matches(COMMENT).count() < 2 {
            seen += std::str::from_utf8(&within(pieces.next()).await.unwrap().unwrap()).unwrap();
        }
        assert!(seen.starts_with("data: ") && seen.contains(&format!("\n\n{COMMENT}")), "{seen:?}");
        drop(pieces);
        for node in &stage.nodes {
            within(node.wait_until(|counts| counts.running == 0)).await;
        }
    }
    eventually(|| async { stage.gateway.series("sluice_node_in_flight") == 0.0 }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_used_again_after_every_kind_of_answer() {
    let stage = stage("", "15s").await;
    for client in &stage.clients {
        for _ in 0..4 {
            let (status, _, well) = stream(client, &stage.gateway).await;
            assert!(status == 200 && well);
            let reply = within(stage.gateway.chat("m").send()).await.unwrap();
            let (status, (_, well)) = (reply.status(), read(reply).await);
            assert!(status == 200 && well);
            let unknown = within(stage.gateway.chat("other").send()).await.unwrap();
            assert_eq!(unknown.status(), 404);
        }
    }
}
