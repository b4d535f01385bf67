//! Clients that come by drops or in crowds (R24, R25): a head has a time in all, a body a least speed, and connections a
//! number.

use std::time::{Duration, Instant};

use serde_json::Value;
use sluice::config::SETTINGS;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::gateway::{Setup, chat, preset};
use crate::support::http::{read_until, status};
use crate::support::scripted::Scripted;
use crate::support::{KEY, TestGateway, eventually, within};

/// For a bound of a second: with what a busy machine takes for the rest.
const SOON: Duration = Duration::from_secs(8);

/// `client_timeout` here: from so much on the speed of a body counts.
const GRACE: Duration = Duration::from_secs(3);

/// The default of a setting.
fn default(name: &str) -> &'static str {
    SETTINGS.iter().find(|setting| setting.name == name).unwrap().default
}

#[test]
fn r24_what_a_client_may_take_of_time_is_bounded_by_default() {
    assert_eq!(default("header_timeout"), "10s");
    assert_eq!(default("keepalive_timeout"), "60s");
    assert_eq!(default("client_timeout"), "30s");
    assert_eq!(default("min_body_rate"), "500");
}

/// A gateway whose clients have a second for a head.
async fn hurried(node: &Scripted) -> TestGateway {
    let setup = Setup::routes(&preset(node.addr));
    setup.flags(|flags| flags.header_timeout = Some("1s".into())).start().await
}

/// Writes `piece` each tenth of a second until the other side answers or closes: all it says, and when.
async fn drip(mut stream: TcpStream, piece: &str) -> (String, Duration) {
    let (began, mut answer, mut writes) = (Instant::now(), Vec::new(), true);
    let mut turn = tokio::time::interval(Duration::from_millis(100));
    let talks = async {
        loop {
            let mut some = [0; 4096];
            tokio::select! {
                read = stream.read(&mut some) => match read {
                    Ok(0) | Err(_) => break,
                    Ok(bytes) => answer.extend_from_slice(&some[..bytes]),
                },
                // Whoever is closed upon may still have an answer to read.
                _ = turn.tick(), if writes => {
                    writes = stream.write_all(piece.as_bytes()).await.is_ok();
                }
            }
        }
    };
    within(talks).await;
    (String::from_utf8_lossy(&answer).into_owned(), began.elapsed())
}

/// An answer that refuses, and says in JSON why.
fn refused(answer: &str, with: u16) -> Value {
    assert_eq!(status(answer), with, "{answer:?}");
    assert!(answer.to_lowercase().contains("connection: close"), "{answer:?}");
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    let told: Value = serde_json::from_str(body).unwrap();
    assert!(told["error"]["message"].is_string(), "{told}");
    told
}

#[tokio::test(flavor = "multi_thread")]
async fn r24_a_head_that_comes_by_drops_is_refused_when_its_time_is_over() {
    let node = Scripted::replying("{}").await;
    let gateway = hurried(&node).await;
    for (begin, piece) in [
        ("POST /v1/chat/completions HTTP/1.1\r\nhost: h\r\n", "x-drop: y\r\n"),
        ("POST /v1/chat", "x"),
        ("", "G"),
    ] {
        let mut stream = TcpStream::connect(gateway.addr).await.unwrap();
        stream.write_all(begin.as_bytes()).await.unwrap();
        let (answer, took) = drip(stream, piece).await;
        assert!(took < SOON, "{begin:?}: {took:?}");
        refused(&answer, 408);
    }
    assert_eq!(node.seen().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn r24_who_says_nothing_is_told_nothing_and_closed() {
    let node = Scripted::replying("{}").await;
    let gateway = hurried(&node).await;
    let mut stream = TcpStream::connect(gateway.addr).await.unwrap();
    let (began, mut answer) = (Instant::now(), Vec::new());
    within(stream.read_to_end(&mut answer)).await.unwrap();
    assert_eq!(answer, b"");
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
}

/// The next head of a connection that is kept has its time from its first byte on.
#[tokio::test(flavor = "multi_thread")]
async fn r24_the_second_head_of_a_connection_has_a_time_of_its_own() {
    let node = Scripted::replying("{}").await;
    let gateway = hurried(&node).await;
    let mut stream = TcpStream::connect(gateway.addr).await.unwrap();
    for _ in 0..2 {
        stream.write_all(b"GET /livez HTTP/1.1\r\nhost: h\r\n\r\n").await.unwrap();
        read_until(&mut stream, "ok").await;
        // Longer than a head may take: the connection is idle, which is another limit's.
        tokio::time::sleep(Duration::from_millis(1_500)).await;
    }
    stream.write_all(b"GET /livez HTTP/1.1\r\n").await.unwrap();
    let (answer, took) = drip(stream, "x-drop: y\r\n").await;
    assert!(took < SOON, "{took:?}");
    refused(&answer, 408);
}

/// Sends the head of a chat and, as a body of `length` bytes, `piece` each tenth of a second.
async fn upload(gateway: &TestGateway, length: usize, piece: &str) -> (String, Duration) {
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: h\r\nauthorization: Bearer {KEY}\r\ncontent-length: {length}\r\n\
         connection: close\r\n\r\n"
    );
    let mut stream = TcpStream::connect(gateway.addr).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    drip(stream, piece).await
}

/// No wait between two bytes is too long, and yet it would never end. A slow line that is no worse than that passes.
#[tokio::test(flavor = "multi_thread")]
async fn r25_a_body_slower_than_it_may_be_is_refused_and_a_slow_one_is_not() {
    let node = Scripted::replying("{}").await;
    let setup = Setup::routes(&preset(node.addr));
    let gateway = setup.flags(|flags| {
        flags.min_body_rate = Some("500".into());
        flags.client_timeout = Some("3s".into());
    });
    let gateway = gateway.start().await;
    // 100 bytes a second, and 2,000 for 5 seconds.
    let mut body = chat("m");
    body["filler"] = "f".repeat(10_000).into();
    let body = body.to_string();
    let by_drops = upload(&gateway, 1_000_000, "          ");
    let slow = async {
        let head = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: h\r\nauthorization: Bearer {KEY}\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        let mut stream = TcpStream::connect(gateway.addr).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut turn = tokio::time::interval(Duration::from_millis(100));
        for piece in body.as_bytes().chunks(200) {
            turn.tick().await;
            stream.write_all(piece).await.unwrap();
        }
        read_until(&mut stream, "\r\n\r\n{}").await
    };
    let ((answer, took), passed) = tokio::join!(by_drops, slow);
    assert!(took >= GRACE && took < GRACE + SOON, "{took:?}");
    refused(&answer, 408);
    assert_eq!(status(&passed), 200, "{passed:?}");
    let chats = node.seen().into_iter().filter(|came| came.head.starts_with("POST "));
    assert_eq!(chats.map(|came| came.body).collect::<Vec<_>>(), [body.into_bytes()]);
    eventually(|| async { gateway.series("sluice_held_request_bytes") == 0.0 }).await;
}

/// SPEC 7's `overloaded`: one more than may be is told so and closed, and nobody who is there notices.
#[tokio::test(flavor = "multi_thread")]
async fn r24_connections_have_a_number_and_the_next_is_told_to_come_again() {
    const MOST: usize = 3;
    let node = Scripted::replying("{}").await;
    let setup = Setup::routes(&preset(node.addr));
    let setup = setup.flags(|flags| flags.max_connections = Some(MOST.to_string()));
    let gateway = setup.start().await;
    let ask = b"GET /livez HTTP/1.1\r\nhost: h\r\n\r\n";
    let mut there = Vec::new();
    for _ in 0..MOST {
        let mut stream = TcpStream::connect(gateway.addr).await.unwrap();
        stream.write_all(ask).await.unwrap();
        read_until(&mut stream, "ok").await;
        there.push(stream);
    }
    let mut more = TcpStream::connect(gateway.addr).await.unwrap();
    let mut answer = String::new();
    within(more.read_to_string(&mut answer)).await.unwrap();
    assert_eq!(refused(&answer, 503)["error"]["code"], "overloaded");
    assert!(answer.to_lowercase().contains("\r\nretry-after: "), "{answer:?}");
    for stream in &mut there {
        stream.write_all(ask).await.unwrap();
        read_until(stream, "ok").await;
    }
    drop(there.pop());
    eventually(|| async {
        let mut stream = TcpStream::connect(gateway.addr).await.unwrap();
        let mut piece = [0; 12];
        let _refused = stream.write_all(ask).await;
        stream.read_exact(&mut piece).await.is_ok() && piece.ends_with(b"200")
    })
    .await;
    assert_eq!(node.seen().len(), 0);
}
