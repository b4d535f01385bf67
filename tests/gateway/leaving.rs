//! Clients that leave: the node is freed at once, in every phase, over both versions of HTTP.

use std::time::Duration;

use reqwest::Client;
use serde_json::Value;
use sluice::sim::{Settings, Simulator};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::gateway::{Setup, chat, preset};
use crate::support::{KEY, TestGateway, eventually, node_with, within};

/// Who waits so long for a token has missed the deadline.
const NEVER: Duration = Duration::from_secs(3_600);

async fn slow(first_token: Duration, token_delay: Duration) -> Simulator {
    let settings = Settings { models: vec!["m".into()], tokens: 50, ..Settings::default() };
    node_with(Settings { first_token, token_delay, ..settings }).await
}

/// A gateway that speaks both versions, and a client for each.
async fn both(node: &Simulator) -> (TestGateway, [Client; 2]) {
    let setup = Setup::routes(&preset(node.addr()));
    let gateway = setup.flags(|flags| flags.h2c = Some("true".into())).start().await;
    let http2 = Client::builder().http2_prior_knowledge().build().unwrap();
    let http1 = gateway.client.clone();
    (gateway, [http1, http2])
}

/// Nothing is under way any more, and the last request's line says that its client left.
async fn all_is_freed(node: &Simulator, gateway: &TestGateway, left: u64) {
    within(node.wait_until(|counts| counts.running == 0 && counts.aborted == left)).await;
    eventually(|| async { gateway.series("sluice_requests_in_flight") == 0.0 }).await;
    eventually(|| async { gateway.series("sluice_held_request_bytes") == 0.0 }).await;
    assert_eq!(gateway.series("sluice_client_aborts_total"), left as f64);
    let lines = gateway.log_lines(left as usize).await;
    assert!(lines.iter().all(|line| line["client_left"] == true), "{lines:?}");
    assert!(lines.iter().all(|line| line["tries"] == 1), "{lines:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn r29_a_client_that_leaves_before_the_first_byte_aborts_the_node() {
    for stream in [false, true] {
        let node = slow(NEVER, Duration::ZERO).await;
        let (gateway, clients) = both(&node).await;
        for (client, left) in clients.iter().zip(1..) {
            let request = client.post(gateway.url("/v1/chat/completions")).bearer_auth(KEY);
            let mut body = chat("m");
            body["stream"] = stream.into();
            tokio::select! {
                _ = request.json(&body).send() => {
                    // The head of a stream comes before its first event.
                    within(node.wait_until(|counts| counts.running == 1)).await;
                }
                () = within(node.wait_until(|counts| counts.running == 1)) => {}
            }
            all_is_freed(&node, &gateway, left).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn r29_a_client_that_leaves_in_a_stream_aborts_the_node() {
    let node = slow(Duration::ZERO, NEVER).await;
    let (gateway, clients) = both(&node).await;
    for (client, left) in clients.iter().zip(1..) {
        let mut body = chat("m");
        body["stream"] = true.into();
        let request = client.post(gateway.url("/v1/chat/completions")).bearer_auth(KEY);
        let mut reply = within(request.json(&body).send()).await.unwrap();
        let first = within(reply.chunk()).await.unwrap().unwrap();
        assert!(first.starts_with(b"data: "));
        assert_eq!(node.running(), 1);
        drop(reply);
        all_is_freed(&node, &gateway, left).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn r29_a_client_that_leaves_while_it_sends_its_body_reaches_no_node() {
    let node = slow(Duration::ZERO, Duration::ZERO).await;
    let (gateway, clients) = both(&node).await;
    let held = || gateway.series("sluice_held_request_bytes") > 0.0;
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: h\r\nauthorization: Bearer {KEY}\r\n\
         content-length: 100000\r\n\r\n{{\"model\":\"m\","
    );
    let mut stream = TcpStream::connect(gateway.addr).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    eventually(|| async { held() }).await;
    drop(stream);
    eventually(|| async { !held() }).await;
    let (sender, receiver) = tokio::sync::mpsc::channel::<Result<&'static str, std::io::Error>>(1);
    sender.send(Ok("{\"model\":\"m\",")).await.unwrap();
    let endless = futures_util::stream::unfold(receiver, |mut receiver| async {
        receiver.recv().await.map(|piece| (piece, receiver))
    });
    let request = clients[1].post(gateway.url("/v1/chat/completions")).bearer_auth(KEY);
    tokio::select! {
        reply = request.body(reqwest::Body::wrap_stream(endless)).send() => drop(reply.unwrap()),
        () = eventually(|| async { held() }) => {}
    }
    eventually(|| async { !held() }).await;
    eventually(|| async { gateway.series("sluice_requests_in_flight") == 0.0 }).await;
    assert_eq!(node.counts().arrived, 0);
    let lines = gateway.log_lines(2).await;
    assert!(
        lines.iter().all(|line| line["client_left"] == true && line["tries"] == 0),
        "{lines:?}"
    );
    drop(sender);
}

/// While a node is waited for, what the client sends too early must not look as if it had left.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_between_two_requests_takes_nothing_with_it() {
    let node = slow(Duration::ZERO, Duration::ZERO).await;
    let (gateway, clients) = both(&node).await;
    for client in &clients {
        let request = client.post(gateway.url("/v1/chat/completions")).bearer_auth(KEY);
        let reply: Value = request.json(&chat("m")).send().await.unwrap().json().await.unwrap();
        assert_eq!(reply["object"], "chat.completion");
    }
    drop(clients);
    let lines = gateway.log_lines(2).await;
    assert!(lines.iter().all(|line| line["client_left"] == false), "{lines:?}");
    assert_eq!(node.aborted(), 0);
    assert_eq!(gateway.series("sluice_client_aborts_total"), 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn r29_many_clients_that_leave_at_once_free_everything() {
    let node = slow(NEVER, Duration::ZERO).await;
    let (gateway, clients) = both(&node).await;
    let requests = (0..100).map(|number| {
        let request = clients[number % 2].post(gateway.url("/v1/chat/completions"));
        request.bearer_auth(KEY).json(&chat("m")).send()
    });
    tokio::select! {
        _ = futures_util::future::join_all(requests) => {}
        () = within(node.wait_until(|counts| counts.running == 100)) => {}
    }
    all_is_freed(&node, &gateway, 100).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_connection_of_http2_is_closed_when_its_time_is_over() {
    let node = slow(Duration::ZERO, Duration::ZERO).await;
    let setup = Setup::routes(&preset(node.addr())).flags(|flags| {
        flags.h2c = Some("true".into());
        flags.keepalive_timeout = Some("1s".into());
    });
    let gateway = setup.start().await;
    let mut stream = TcpStream::connect(gateway.addr).await.unwrap();
    // The preface and empty settings: a connection on which nothing is ever asked.
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let mut rest = Vec::new();
    let _closed_or_reset =
        within(tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut rest)).await;
}
