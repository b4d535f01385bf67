//! Clients of HTTP/1.0, and those that are slow or idle. What two programs might read differently is in `hardened/`.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::gateway::{Setup, chat, preset};
use crate::support::http::{raw, read_until, status};
use crate::support::scripted::Scripted;
use crate::support::{KEY, TestGateway, eventually, within};

const BODY: &str = r#"{"model":"m"}"#;

/// A node, and a gateway before it.
async fn pair() -> (Scripted, TestGateway) {
    let node = Scripted::replying("{}").await;
    let gateway = TestGateway::before(node.addr).await;
    (node, gateway)
}

/// A chat with these lines in its head, and what follows the head.
fn post(lines: &str, rest: &str) -> String {
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: h\r\nauthorization: Bearer {KEY}\r\n{lines}\r\n\r\n{rest}"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_http_1_0_is_answered_and_its_connection_closed() {
    let (node, gateway) = pair().await;
    let short = raw(gateway.addr, b"GET / HTTP/1.0\r\nhost: h\r\n\r\n").await;
    assert!(short.starts_with("HTTP/1.") && short.contains(" 200 "), "{short:?}");
    let request = format!(
        "POST /v1/chat/completions HTTP/1.0\r\nhost: h\r\nauthorization: Bearer {KEY}\r\ncontent-length: 13\r\n\r\n{BODY}"
    );
    let answer = raw(gateway.addr, request.as_bytes()).await;
    assert!(answer.contains(" 200 ") && answer.ends_with("{}"), "{answer:?}");
    assert!(!answer.to_lowercase().contains("transfer-encoding"), "{answer:?}");
    assert_eq!(node.seen()[0].body, BODY.as_bytes());
    let chunked = post("transfer-encoding: chunked", "0\r\n\r\n").replace("HTTP/1.1", "HTTP/1.0");
    assert!(raw(gateway.addr, chunked.as_bytes()).await.contains(" 400 "));
    assert_eq!(node.seen().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn r24_an_idle_connection_is_closed_when_its_time_is_over() {
    let node = Scripted::replying("{}").await;
    let setup = Setup::routes(&preset(node.addr));
    let gateway = setup.flags(|flags| flags.keepalive_timeout = Some("1s".into())).start().await;
    let mut stream = TcpStream::connect(gateway.addr).await.unwrap();
    stream.write_all(b"GET /livez HTTP/1.1\r\nhost: h\r\n\r\n").await.unwrap();
    read_until(&mut stream, "ok").await;
    let mut rest = Vec::new();
    within(stream.read_to_end(&mut rest)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn r25_a_client_that_sends_its_body_too_slowly_is_told_so() {
    let (node, held) = (Scripted::replying("{}").await, chat("m").to_string());
    let setup = Setup::routes(&preset(node.addr));
    let gateway = setup.flags(|flags| flags.client_timeout = Some("200ms".into())).start().await;
    let answer = raw(gateway.addr, post("content-length: 1000", &held).as_bytes()).await;
    assert_eq!(status(&answer), 408, "{answer:?}");
    assert_eq!(node.seen().len(), 0);
    eventually(|| async { gateway.series("sluice_held_request_bytes") == 0.0 }).await;
}
