//! Comments in silent streams: between events only, before the first one too, and they bind nobody.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;

use super::{COMMENT, EVENTS, HEAD, ask, code_at_end, gateway, pause, read, stream, streaming};
use crate::support::gateway::chat;
use crate::support::scripted::Scripted;
use crate::support::{KEY, within};

/// `text` without comments, each of which stands where an event may begin.
fn without_comments(text: &str) -> String {
    let mut rest = text;
    let mut events = String::new();
    while let Some(at) = rest.find(COMMENT) {
        events += &rest[..at];
        assert!(
            events.is_empty() || events.ends_with("\n\n") || events.ends_with("\r\n\r\n"),
            "a comment inside of an event: {text:?}"
        );
        rest = &rest[at + COMMENT.len()..];
    }
    events + rest
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_node_is_covered_before_and_between_events() {
    let first = Arc::new(AtomicBool::new(false));
    let flag = first.clone();
    let node = Scripted::start(move |_, mut peer| {
        let flag = flag.clone();
        async move {
            while peer.request().await.is_some() {
                peer.send(HEAD.as_bytes()).await;
                pause().await;
                flag.store(true, SeqCst);
                peer.chunk(EVENTS[0]).await;
                pause().await;
                peer.chunk(EVENTS[1]).await;
                peer.chunk(EVENTS[2]).await;
                peer.send(b"0\r\n\r\n").await;
            }
        }
    })
    .await;
    let (gateway, clients) = gateway(node.addr, "", "50ms").await;
    for client in &clients {
        first.store(false, SeqCst);
        let reply = within(ask(client, &gateway).send()).await.unwrap();
        assert!(!first.load(SeqCst), "the head comes with the first comment");
        let (text, well) = read(reply).await;
        assert!(well && text.starts_with(COMMENT), "{text:?}");
        assert!(text.contains(&format!("{}{COMMENT}", EVENTS[0])), "{text:?}");
        assert_eq!(without_comments(&text), EVENTS.concat());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_flows_has_none_and_none_comes_before_the_nodes_own_head() {
    let node = streaming().await;
    let (flowing, clients) = gateway(node.addr, "", "15s").await;
    for client in &clients {
        assert_eq!(stream(client, &flowing).await, (200, EVENTS.concat(), true));
    }
    let begun = Arc::new(AtomicBool::new(false));
    let flag = begun.clone();
    let node = Scripted::start(move |_, mut peer| {
        let flag = flag.clone();
        async move {
            while peer.request().await.is_some() {
                pause().await;
                flag.store(true, SeqCst);
                peer.send(HEAD.as_bytes()).await;
                peer.events().await;
            }
        }
    })
    .await;
    let (late, clients) = gateway(node.addr, "", "50ms").await;
    for client in &clients {
        begun.store(false, SeqCst);
        let reply = within(ask(client, &late).send()).await.unwrap();
        assert!(begun.load(SeqCst), "a head that its node had not sent");
        assert_eq!(without_comments(&read(reply).await.0), EVENTS.concat());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn none_comes_into_a_stream_whose_length_is_told() {
    let node = Scripted::start(|_, mut peer| async move {
        while peer.request().await.is_some() {
            let length = EVENTS.concat().len();
            let head = format!("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: {length}\r\n\r\n");
            peer.send(head.as_bytes()).await;
            for event in EVENTS {
                pause().await;
                peer.send(event.as_bytes()).await;
            }
        }
    })
    .await;
    let (gateway, clients) = gateway(node.addr, "", "50ms").await;
    for client in &clients {
        assert_eq!(stream(client, &gateway).await, (200, EVENTS.concat(), true));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_comment_stands_inside_of_an_event() {
    for pieces in [
        &["data: {\"a\"", ":1}\n", "\ndata: {\"finish_reason\":\"stop\"}\n\n"][..],
        &["data: 1\r\n\r", "\ndata: 2\r\n", "\r\n", "data: [DONE]\r\n\r\n"],
    ] {
        let node = Scripted::start(move |_, mut peer| async move {
            while peer.request().await.is_some() {
                peer.send(HEAD.as_bytes()).await;
                for piece in pieces {
                    peer.chunk(piece).await;
                    pause().await;
                }
                peer.send(b"0\r\n\r\n").await;
            }
        })
        .await;
        let (gateway, clients) = gateway(node.addr, "", "50ms").await;
        for client in &clients {
            let (_, text, well) = stream(client, &gateway).await;
            assert!(well && text.contains(COMMENT), "{text:?}");
            assert_eq!(without_comments(&text), pieces.concat());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_after_comments_is_one_clean_stream() {
    let node = Scripted::start(|number, mut peer| async move {
        peer.request().await;
        peer.send(HEAD.as_bytes()).await;
        pause().await;
        if number % 2 == 1 {
            peer.events().await;
        }
    })
    .await;
    let (gateway, clients) = gateway(node.addr, "", "50ms").await;
    for client in &clients {
        let (status, text, well) = stream(client, &gateway).await;
        assert!(status == 200 && well && text.starts_with(COMMENT), "{text:?}");
        assert_eq!(without_comments(&text), EVENTS.concat());
    }
    let lines = gateway.log_lines(2).await;
    assert!(lines.iter().all(|line| line["tries"].as_u64() >= Some(2)), "{lines:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn after_comments_what_fails_is_an_event() {
    for last in ["", "400 Bad Request", "503 Service Unavailable", "500 Internal Server Error"] {
        let node = Scripted::start(move |number, mut peer| async move {
            peer.request().await;
            if number % 2 == 1 && !last.is_empty() {
                return peer.answer(last, r#"{"error":"no"}"#).await;
            }
            peer.send(HEAD.as_bytes()).await;
            pause().await;
        })
        .await;
        let (gateway, clients) = gateway(node.addr, "", "50ms").await;
        for client in &clients {
            let (status, text, well) = stream(client, &gateway).await;
            assert!(status == 200 && well && text.starts_with(COMMENT), "{last}: {text:?}");
            assert_eq!(code_at_end(&text), "upstream_error", "{last}");
        }
        assert_eq!(node.seen().len(), 4);
        let lines = gateway.log_lines(2).await;
        let all =
            |line: &serde_json::Value| line["status"] == 200 && line["error"] == "upstream_error";
        assert!(lines.iter().all(all), "{lines:?}");
    }
}

/// A client that reads nothing until its node is held up: what it then reads is whole, chunk by chunk.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_gets_whole_chunks_with_comments_between() {
    const EVENT_BYTES: usize = 256 * 1024;
    const COUNT: usize = 60;
    let (told, mut held_up) = tokio::sync::mpsc::channel(1);
    let node = Scripted::start(move |_, mut peer| {
        let told = told.clone();
        async move {
            peer.request().await;
            peer.send(HEAD.as_bytes()).await;
            let event = format!("data: {}\n\n", "x".repeat(EVENT_BYTES));
            for number in 0..COUNT {
                let chunk = peer.chunk(&event);
                tokio::pin!(chunk);
                if tokio::time::timeout(Duration::from_millis(500), &mut chunk).await.is_err() {
                    let _again = told.try_send(());
                    chunk.await;
                }
                if number % 20 == 0 || number + 3 > COUNT {
                    pause().await;
                }
            }
            peer.chunk("data: [DONE]\n\n").await;
            peer.send(b"0\r\n\r\n").await;
        }
    })
    .await;
    let (gateway, _) = gateway(node.addr, "", "50ms").await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(8 * 1024).unwrap();
    let mut client = socket.connect(gateway.addr).await.unwrap();
    let mut body = chat("m");
    body["stream"] = true.into();
    let body = body.to_string();
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: h\r\nconnection: close\r\nauthorization: Bearer {KEY}\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    client.write_all(request.as_bytes()).await.unwrap();
    within(held_up.recv()).await.unwrap();
    let mut answer = Vec::new();
    within(client.read_to_end(&mut answer)).await.unwrap();
    let text = dechunked(&answer);
    assert!(text.contains(COMMENT));
    let event = format!("data: {}\n\n", "x".repeat(EVENT_BYTES));
    assert!(without_comments(&text) == event.repeat(COUNT) + "data: [DONE]\n\n");
}

/// The body of an answer; stops at the first byte that is not as it should be.
fn dechunked(answer: &[u8]) -> String {
    let mut rest = &answer[answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4..];
    let mut text = Vec::new();
    loop {
        let end = rest.windows(2).position(|two| two == b"\r\n").unwrap();
        let length = usize::from_str_radix(std::str::from_utf8(&rest[..end]).unwrap(), 16).unwrap();
        text.extend_from_slice(&rest[end + 2..end + 2 + length]);
        assert_eq!(&rest[end + 2 + length..end + 4 + length], b"\r\n");
        rest = &rest[end + 4 + length..];
        if length == 0 {
            assert!(rest.is_empty());
            return String::from_utf8(text).unwrap();
        }
    }
}
