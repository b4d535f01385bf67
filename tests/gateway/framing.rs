//! What two programs on a request's way might read differently is refused, and never reaches a node.

use http::{Request, Version};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::gateway::{Setup, chat, preset};
use crate::support::http::{http2, raw, read_until, status};
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

/// Each of `requests` is answered with 400, the connection is closed, and no node hears of it.
async fn all_are_refused(requests: impl IntoIterator<Item = String>) {
    let (node, gateway) = pair().await;
    for request in requests {
        let answer = raw(gateway.addr, request.as_bytes()).await;
        assert_eq!(status(&answer), 400, "{request:?} got {answer:?}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{request:?} got {answer:?}");
    }
    let came: Vec<_> = node.seen().into_iter().map(|came| came.head).collect();
    assert!(came.is_empty(), "{came:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_length_that_is_told_twice_or_beside_chunks_is_refused() {
    let chunked = format!("d\r\n{BODY}\r\n0\r\n\r\n");
    all_are_refused([
        post("content-length: 13\r\ncontent-length: 12", BODY),
        post("content-length: 13\r\ncontent-length: 13", BODY),
        post("content-length: 13, 13", BODY),
        post("content-length: 13, 12", BODY),
        post("content-length: 13\r\ntransfer-encoding: chunked", &chunked),
        post("transfer-encoding: chunked\r\ncontent-length: 13", &chunked),
        post("transfer-encoding: chunked\r\nContent-Length: 0", &chunked),
        post("transfer-encoding: chunked\r\ntransfer-encoding: chunked", &chunked),
        post("transfer-encoding: chunked\r\ntransfer-encoding: identity", &chunked),
        post("transfer-encoding: chunked, chunked", &chunked),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_framing_that_is_none_is_refused() {
    let chunked = format!("d\r\n{BODY}\r\n0\r\n\r\n");
    all_are_refused([
        post("transfer-encoding: xchunked", &chunked),
        post("transfer-encoding: identity", BODY),
        post("transfer-encoding: gzip, chunked", &chunked),
        post("transfer-encoding: chunked, identity", &chunked),
        post("transfer-encoding : chunked", &chunked),
        post("transfer-encoding:\r\n chunked", &chunked),
        post("content-length: +13", BODY),
        post("content-length: -1", BODY),
        post("content-length: 0x0d", BODY),
        post("content-length: 13\r\nx-folded: a\r\n b", BODY),
        post("content-length: 13\r\nx-nul: a\0b", BODY),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_without_a_host_or_with_two_is_refused() {
    let head = |host: &str, version: &str| {
        format!(
            "GET /livez HTTP/{version}\r\n{host}authorization: Bearer {KEY}\r\nconnection: close\r\n\r\n"
        )
    };
    all_are_refused([
        head("", "1.1"),
        head("", "1.0"),
        head("host: a\r\nhost: a\r\n", "1.1"),
        head("host: a\r\nhost: b\r\n", "1.1"),
    ])
    .await;
}

/// Paths that a node might read as others; the last stand below the one path where `%` is at home.
const PATHS: [&str; 22] = [
    "//v1/chat/completions",
    "/v1//chat/completions",
    "/v1/../metrics",
    "/v1/chat/completions/..",
    "/./metrics",
    "/v1/./chat/completions",
    "/v1/chat/completions/.",
    "/metrics;x",
    "/v1/chat;/completions",
    "/v1\\chat\\completions",
    "/\\metrics",
    "/v1/chat%2fcompletions",
    "/v1/chat%2Fcompletions",
    "/%2e%2e/metrics",
    "/%6detrics",
    "/metrics%00",
    "/metrics%3f",
    "/metr\u{ef}cs",
    "/metrics\0",
    "/v1/models/../chat/completions",
    "/v1/models//x",
    "/v1/models/a;b",
];

#[tokio::test(flavor = "multi_thread")]
async fn a_path_with_two_readings_is_refused() {
    let request = |method: &str, path: &str| {
        format!(
            "{method} {path} HTTP/1.1\r\nhost: h\r\nauthorization: Bearer {KEY}\r\nconnection: close\r\n\
             content-length: 0\r\n\r\n"
        )
    };
    all_are_refused(PATHS.iter().flat_map(|path| [request("GET", path), request("POST", path)]))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_with_two_readings_is_refused_over_http2_too() {
    let node = Scripted::replying("{}").await;
    let gateway =
        Setup::routes(&preset(node.addr)).flags(|flags| flags.h2c = Some("true".into())).start();
    let gateway = gateway.await;
    // What a client library lets through: a URI of ASCII.
    let sendable = |path: &&&str| path.is_ascii() && !path.contains(['\\', '\0']);
    for path in PATHS.iter().filter(sendable) {
        let request = Request::get(format!("http://h{path}"))
            .version(Version::HTTP_2)
            .header("authorization", format!("Bearer {KEY}"));
        let (head, body) = http2(gateway.addr, request.body("".into()).unwrap()).await;
        assert_eq!(head.status, 400, "{path} got {body}");
    }
    assert_eq!(node.seen().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn percent_is_at_home_in_a_models_id_only_where_the_gateway_answers_itself() {
    let node = Scripted::replying("{}").await;
    let routes = format!(
        "upstreams:\n  any: {{ nodes: [\"http://{}\"] }}\n\
         routes:\n  - {{ path: \"/v1/models/{{id}}\", methods: [DELETE], upstream: any }}\n",
        node.addr
    );
    let gateway = TestGateway::start(&routes).await;
    for id in ["%2e%2e", "..%2fmetrics", "a%00"] {
        let head = format!(
            "DELETE /v1/models/{id} HTTP/1.1\r\nhost: h\r\nauthorization: Bearer {KEY}\r\nconnection: close\r\n\r\n"
        );
        assert_eq!(status(&raw(gateway.addr, head.as_bytes()).await), 400, "{id}");
    }
    assert_eq!(node.seen().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_no_body_is_refused_and_ends_its_connection() {
    let second = "GET /metrics HTTP/1.1\r\nhost: h\r\n\r\n";
    let chunks = |chunks: &str| post("transfer-encoding: chunked", &format!("{chunks}{second}"));
    all_are_refused([
        chunks("xyz\r\n{}\r\n0\r\n\r\n"),
        chunks("-1\r\n{}\r\n0\r\n\r\n"),
        chunks("fffffffffffffffff\r\n{}\r\n0\r\n\r\n"),
        chunks("2\r\n{}xx0\r\n\r\n"),
        chunks("\r\n{}\r\n0\r\n\r\n"),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_shorter_than_announced_reaches_nobody() {
    let (node, gateway) = pair().await;
    for request in [
        post("content-length: 20", BODY),
        post("transfer-encoding: chunked", &format!("d\r\n{BODY}\r\n")),
        post("transfer-encoding: chunked", "d\r\n{\"mod"),
    ] {
        let mut stream = TcpStream::connect(gateway.addr).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        within(stream.read_to_end(&mut answer)).await.unwrap();
        assert!(!answer.starts_with(b"HTTP/1.1 200"), "{request:?}");
    }
    gateway.log_lines(3).await;
    assert_eq!(node.seen().len(), 0);
    eventually(|| async { gateway.series("sluice_held_request_bytes") == 0.0 }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_follows_a_body_on_its_connection_is_no_part_of_it() {
    let (node, gateway) = pair().await;
    let second = "GET /metrics HTTP/1.1\r\nhost: h\r\n\r\n";
    let both = post("content-length: 13", &format!("{BODY}{second}"));
    raw(gateway.addr, both.as_bytes()).await;
    let bodies: Vec<_> = node.seen().into_iter().map(|came| came.body).collect();
    assert!(bodies.iter().all(|body| body == BODY.as_bytes()), "{bodies:?}");
    assert!(node.seen().iter().all(|came| !came.head.contains("metrics")));
}

#[tokio::test(flavor = "multi_thread")]
async fn connect_trace_and_upgrades_are_refused() {
    let (node, gateway) = pair().await;
    let head = |line: &str, more: &str| {
        format!("{line} HTTP/1.1\r\nhost: h\r\nauthorization: Bearer {KEY}\r\n{more}\r\n")
    };
    for request in [
        head("CONNECT h:443", "connection: close\r\n"),
        head("CONNECT /v1/chat/completions", "connection: close\r\n"),
        head("TRACE /metrics", "connection: close\r\n"),
        head("GET /metrics", "upgrade: websocket\r\nconnection: close, upgrade\r\n"),
        head("GET /metrics", "upgrade: h2c\r\nconnection: close\r\n"),
    ] {
        let answer = raw(gateway.addr, request.as_bytes()).await;
        assert!([400, 405].contains(&status(&answer)), "{request:?} got {answer:?}");
    }
    assert_eq!(node.seen().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_request_with_a_small_body_leaves_an_honest_connection() {
    let (node, gateway) = pair().await;
    let mut stream = TcpStream::connect(gateway.addr).await.unwrap();
    let wrong = "POST /v1/chat/completions HTTP/1.1\r\nhost: h\r\nauthorization: Bearer wrong\r\n\
                 content-length: 13\r\n\r\n";
    stream.write_all(format!("{wrong}{BODY}").as_bytes()).await.unwrap();
    let answer = read_until(&mut stream, "invalid_api_key").await;
    assert_eq!(status(&answer), 401);
    let says_close = answer.to_lowercase().contains("connection: close");
    let _closed = stream.write_all(post("content-length: 13", BODY).as_bytes()).await;
    let mut rest = [0; 4096];
    let read = within(stream.read(&mut rest)).await.unwrap_or(0);
    let next = String::from_utf8_lossy(&rest[..read]);
    // The end of the first answer may come alone.
    assert!(says_close || next.contains("HTTP/1.1 200"), "{answer:?} then {next:?}");
    assert!(!next.contains("HTTP/1.1 4"), "{next:?}");
    assert!(node.seen().iter().all(|came| came.body == BODY.as_bytes()));
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
