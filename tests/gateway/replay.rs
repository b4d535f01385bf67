//! A body goes to the node whole, whatever its size and framing, and again to another try; and a client that leaves is
//! noticed meanwhile. The gate for every new version of Pingora.

use std::os::fd::AsRawFd;

use bytes::Bytes;
use futures_util::stream;
use pingora_core::protocols::SocketDigest;
use reqwest::Body;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::gateway::Setup;
use crate::support::http::{read_until, status};
use crate::support::scripted::Scripted;
use crate::support::{KEY, TestGateway, eventually, nowhere, within};

/// A chat body of about `size` bytes with the model first or last, and what of it goes on after a rename.
fn body(size: usize, model: &str, model_last: bool) -> Vec<u8> {
    let text: String = "The quick brown fox. ".chars().cycle().take(size).collect();
    let messages = format!(r#""messages":[{{"role":"user","content":"{text}"}}]"#);
    if model_last {
        format!(r#"{{{messages},"model":"{model}"}}"#).into_bytes()
    } else {
        format!(r#"{{"model":"{model}",{messages}}}"#).into_bytes()
    }
}

/// Sends `body` with a length or in chunks, over HTTP/1.1 or HTTP/2.
fn framed(body: &[u8], chunked: bool) -> Body {
    if !chunked {
        return Body::from(body.to_vec());
    }
    let pieces: Vec<_> = body
        .chunks(10_000)
        .map(|piece| Ok::<_, std::io::Error>(Bytes::copy_from_slice(piece)))
        .collect();
    Body::wrap_stream(stream::iter(pieces))
}

fn aliased(node: std::net::SocketAddr, attempts: usize) -> String {
    format!(
        "upstreams:\n  llama:\n    kind: vllm\n    nodes: [\"http://{node}\"]\n    health: off\n    retry: {{ attempts: {attempts} }}\n\
         routes:\n  - {{ preset: vllm, upstream: llama }}\naliases: {{ short: the-longer-name-of-the-model }}\n"
    )
}

async fn http2(gateway: &TestGateway) -> reqwest::Client {
    let _ = gateway;
    reqwest::Client::builder().http2_prior_knowledge().build().unwrap()
}

/// Every size, framing and version: each body meets a node that answers 503 after it, one that closes without a word,
/// and a good one, and arrives byte for byte each time.
async fn every_body_arrives(version2: bool, size: usize) {
    for chunked in [false, true] {
        for model_last in [false, true] {
            let node = Scripted::start(|number, mut peer| async move {
                if peer.request().await.is_some() {
                    match number {
                        0 => peer.answer("503 Service Unavailable", "{}").await,
                        1 => {}
                        _ => peer.answer("200 OK", r#"{"id":"done"}"#).await,
                    }
                }
            })
            .await;
            let gateway = Setup::routes(&aliased(node.addr, 3))
                .flags(|flags| flags.h2c = Some("true".into()))
                .start()
                .await;
            let client = if version2 { http2(&gateway).await } else { gateway.client.clone() };
            let sent = body(size, "short", model_last);
            let request = client
                .post(gateway.url("/v1/chat/completions"))
                .bearer_auth(KEY)
                .body(framed(&sent, chunked));
            let reply = within(request.send()).await.unwrap();
            assert_eq!(reply.status(), 200, "{size} chunked={chunked} last={model_last}");
            assert_eq!(reply.text().await.unwrap(), r#"{"id":"done"}"#);
            let expected = body(size, "the-longer-name-of-the-model", model_last);
            let seen = node.seen();
            assert_eq!(seen.len(), 3);
            for came in seen {
                assert_eq!(came.header("content-length"), Some(&*expected.len().to_string()));
                assert_eq!(came.header("transfer-encoding"), None);
                assert!(came.body == expected, "{size} chunked={chunked} last={model_last}");
            }
        }
    }
}

macro_rules! sizes {
    ($($name:ident: $size:expr;)+) => {$(
        #[tokio::test(flavor = "multi_thread")]
        async fn $name() {
            every_body_arrives(false, $size).await;
            every_body_arrives(true, $size).await;
        }
    )+};
}

sizes! {
    a_body_of_1_kb_arrives_at_each_try: 1 << 10;
    a_body_just_under_pingoras_retry_buffer_arrives_at_each_try: 63 << 10;
    a_body_just_over_pingoras_retry_buffer_arrives_at_each_try: 65 << 10;
    a_body_of_1_mb_arrives_at_each_try: 1 << 20;
    a_body_of_20_mb_arrives_at_each_try: 20 << 20;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_without_a_new_name_arrives_as_it_was_sent() {
    let node = Scripted::replying("{}").await;
    let gateway = TestGateway::before(node.addr).await;
    let sent =
        b" {\"model\" : \"m\",\n\t\"x\":[1,2 ],\"\\u0061\":\"\\ud83d\\ude00\"}\r\n ".to_vec();
    let reply = gateway.post("/v1/chat/completions").body(sent.clone()).send().await.unwrap();
    assert_eq!(reply.status(), 200);
    assert_eq!(node.seen()[0].body, sent);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_and_its_body_reach_the_node_in_one_packet() {
    let node = Scripted::start(|_, mut peer| async move {
        while peer.request().await.is_some() {
            // The kernel counts the packets of this connection that held something.
            let socket = SocketDigest::from_raw_fd(peer.stream.as_raw_fd());
            let packets = socket.tcp_info().unwrap().tcpi_data_segs_in;
            peer.answer("200 OK", &packets.to_string()).await;
        }
    })
    .await;
    let gateway = Setup::routes(&aliased(node.addr, 1)).start().await;
    // With a new name the body has three pieces; the second request goes on the first one's connection.
    for packets in ["1", "2"] {
        let request = gateway.post("/v1/chat/completions").body(body(2_000, "short", false));
        let reply = within(request.send()).await.unwrap();
        assert_eq!(reply.text().await.unwrap(), packets);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_of_one_byte_chunks_arrives_whole() {
    let node = Scripted::replying("{}").await;
    let gateway = TestGateway::before(node.addr).await;
    let sent = body(3_000, "m", true);
    let pieces: Vec<_> =
        sent.iter().map(|byte| Ok::<_, std::io::Error>(Bytes::copy_from_slice(&[*byte]))).collect();
    let request =
        gateway.post("/v1/chat/completions").body(Body::wrap_stream(stream::iter(pieces)));
    assert_eq!(within(request.send()).await.unwrap().status(), 200);
    assert_eq!(node.seen()[0].body, sent);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_post_without_a_body_arrives_without_one() {
    let node = Scripted::replying("[]").await;
    let gateway = TestGateway::before(node.addr).await;
    for framing in ["content-length: 0\r\n\r\n", "transfer-encoding: chunked\r\n\r\n0\r\n\r\n"] {
        let mut stream = TcpStream::connect(gateway.addr).await.unwrap();
        let head =
            format!("POST /ping HTTP/1.1\r\nhost: h\r\nauthorization: Bearer {KEY}\r\n{framing}");
        stream.write_all(head.as_bytes()).await.unwrap();
        assert_eq!(status(&read_until(&mut stream, "[]").await), 200, "{framing}");
    }
    for came in node.seen() {
        assert_eq!(
            (came.header("content-length"), came.header("transfer-encoding")),
            (Some("0"), None)
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_waits_for_100_continue_is_invited_and_its_connection_lives_on() {
    let node = Scripted::replying(r#"{"id":"done"}"#).await;
    let gateway = TestGateway::before(node.addr).await;
    let sent = body(200_000, "m", false);
    let mut stream = TcpStream::connect(gateway.addr).await.unwrap();
    for _ in 0..2 {
        let head = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: h\r\nauthorization: Bearer {KEY}\r\n\
             content-length: {}\r\nexpect: 100-continue\r\n\r\n",
            sent.len()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let invited = read_until(&mut stream, "\r\n\r\n").await;
        assert_eq!(status(&invited), 100);
        stream.write_all(&sent).await.unwrap();
        let answer = read_until(&mut stream, "done").await;
        assert_eq!(status(&answer), 200);
    }
    assert!(node.seen().iter().all(|came| came.body == sent && came.header("expect").is_none()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_is_refused_is_not_invited_to_send_its_body() {
    let gateway = TestGateway::before(nowhere()).await;
    let mut stream = TcpStream::connect(gateway.addr).await.unwrap();
    let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: h\r\nauthorization: Bearer wrong\r\n\
                content-length: 1000\r\nexpect: 100-continue\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let answer = read_until(&mut stream, "invalid_api_key").await;
    assert_eq!(status(&answer), 401);
    assert!(answer.to_lowercase().contains("connection: close"), "{answer}");
}

/// A client that leaves before the first byte, with a body that fills the proxy's channel to the node: the node is
/// told, since the body is handed over in three pieces at most.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_before_the_first_byte_frees_the_node() {
    for size in [1_000, 16 << 20] {
        let (told, mut freed) = tokio::sync::mpsc::channel(1);
        let (came, mut arrived) = tokio::sync::mpsc::channel(1);
        let node = Scripted::start(move |_, mut peer| {
            let (told, came) = (told.clone(), came.clone());
            async move {
                peer.request().await;
                came.send(()).await.unwrap();
                peer.closed().await;
                told.send(()).await.unwrap();
            }
        })
        .await;
        let gateway = TestGateway::start(&aliased(node.addr, 1)).await;
        let sent = body(size, "short", true);
        let mut stream = TcpStream::connect(gateway.addr).await.unwrap();
        let head = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: h\r\nauthorization: Bearer {KEY}\r\ncontent-length: {}\r\n\r\n",
            sent.len()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&sent).await.unwrap();
        within(arrived.recv()).await.unwrap();
        drop(stream);
        within(freed.recv()).await.unwrap();
        let line = gateway.log_lines(1).await.remove(0);
        assert_eq!(line["client_left"], true, "{line}");
        assert_eq!(gateway.series("sluice_client_aborts_total"), 1.0);
        eventually(|| async { gateway.series("sluice_held_request_bytes") == 0.0 }).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_answers_before_it_has_read_the_body_is_heard() {
    let node = Scripted::start(|_, mut peer| async move {
        peer.send(
            b"HTTP/1.1 400 Bad Request\r\ncontent-length: 5\r\nconnection: close\r\n\r\nearly",
        )
        .await;
        peer.closed().await;
    })
    .await;
    let gateway = TestGateway::before(node.addr).await;
    let sent = body(8 << 20, "m", true);
    let reply = within(gateway.post("/v1/chat/completions").body(sent).send()).await.unwrap();
    assert_eq!(reply.status(), 400);
    assert_eq!(reply.text().await.unwrap(), "early");
}
