//! Nodes that fail before the first byte of their answer: what is tried again, how often, and what the client is told.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use reqwest::Response;
use serde_json::Value;
use sluice::sim::Fault;
use tokio::net::{TcpSocket, TcpStream};

use crate::support::gateway::{Setup, preset};
use crate::support::scripted::{Peer, Scripted};
use crate::support::{TestGateway, eventually, node, nowhere, within};

/// Status and code of an answer of the gateway's own.
async fn refusal(reply: Response) -> (u16, String) {
    let status = reply.status().as_u16();
    let body: Value = reply.json().await.unwrap();
    (status, body["error"]["code"].as_str().unwrap_or_default().to_owned())
}

/// A node that says `bytes` to each request, and closes.
async fn saying(bytes: &'static [u8]) -> Scripted {
    Scripted::start(move |_, mut peer| async move {
        if peer.request().await.is_some() {
            peer.send(bytes).await;
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_not_there_is_a_502_that_says_so() {
    let gateway = TestGateway::before(nowhere()).await;
    let reply = gateway.chat("m").send().await.unwrap();
    assert_eq!(refusal(reply).await, (502, "upstream_unreachable".into()));
    let line = gateway.log_lines(1).await.remove(0);
    assert_eq!(line["tries"], 2, "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn r28_a_node_that_takes_no_connection_is_given_up_when_the_time_to_connect_is_over() {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    // The kernel holds two connections that nobody accepts, and does not answer a third.
    let _held = [connected(address).await, connected(address).await];
    let routes = format!(
        "upstreams:\n  full:\n    kind: vllm\n    nodes: [\"http://{address}\"]\n    models: [m]\n    \
         timeouts: {{ connect: 300ms }}\n    retry: {{ attempts: 1 }}\nroutes: [{{ preset: vllm, upstream: full }}]\n"
    );
    let gateway = Setup::routes(&routes).start().await;
    let reply = within(gateway.chat("m").send()).await.unwrap();
    assert_eq!(refusal(reply).await, (502, "upstream_unreachable".into()));
}

async fn connected(address: SocketAddr) -> TcpStream {
    TcpStream::connect(address).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn r31_a_node_that_closes_without_a_word_is_asked_once_more() {
    let node = saying(b"").await;
    let gateway = TestGateway::before(node.addr).await;
    let reply = gateway.chat("m").send().await.unwrap();
    assert_eq!(refusal(reply).await, (502, "upstream_error".into()));
    assert_eq!(node.seen().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn r31_a_node_that_resets_is_asked_once_more() {
    let sim = node(&["m"]).await;
    sim.set_fault(Some(Fault::Reset));
    let gateway = TestGateway::before(sim.addr()).await;
    assert_eq!(gateway.chat("m").send().await.unwrap().status(), 502);
    assert_eq!(sim.requests().len(), 2);
}

/// As many pooled connections as there are, all closed by the node while they were idle or taken: none of that shows.
#[tokio::test(flavor = "multi_thread")]
async fn r30_pooled_connections_that_the_node_closed_are_no_error() {
    const POOLED: usize = 3;
    let together = Arc::new(tokio::sync::Barrier::new(POOLED));
    let node = Scripted::start(move |number, mut peer: Peer| {
        let together = together.clone();
        async move {
            peer.request().await;
            if number < POOLED {
                together.wait().await;
            }
            peer.answer("200 OK", "{}").await;
            // The next request on this connection is read, and the connection closed.
            peer.request().await;
        }
    })
    .await;
    let gateway = TestGateway::before(node.addr).await;
    let warm = (0..POOLED).map(|_| gateway.chat("m").send());
    for reply in futures_util::future::join_all(warm).await {
        assert_eq!(reply.unwrap().text().await.unwrap(), "{}");
    }
    let reply = within(gateway.chat("m").send()).await.unwrap();
    assert_eq!(reply.status(), 200, "{}", reply.text().await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn r31_a_503_that_passes_is_not_seen_and_one_that_stays_is_passed_on_as_it_is() {
    let body = r#"{"node":"busy"}"#;
    let node = Scripted::start(move |number, mut peer| async move {
        while peer.request().await.is_some() {
            let status = if number == 1 { "200 OK" } else { "503 Service Unavailable" };
            peer.answer(status, body).await;
        }
    })
    .await;
    let gateway = TestGateway::before(node.addr).await;
    assert_eq!(gateway.chat("m").send().await.unwrap().status(), 200);
    assert_eq!(node.seen().len(), 2);
    let always = Scripted::start(move |_, mut peer| async move {
        while peer.request().await.is_some() {
            peer.answer("503 Service Unavailable", body).await;
        }
    })
    .await;
    let gateway = TestGateway::before(always.addr).await;
    let reply = gateway.chat("m").send().await.unwrap();
    assert_eq!(reply.status(), 503);
    assert_eq!(reply.text().await.unwrap(), body);
    assert_eq!(always.seen().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn r31_what_a_node_says_of_the_request_is_passed_on_at_once() {
    for code in [
        "400 Bad Request",
        "404 Not Found",
        "422 Unprocessable",
        "429 Too Many",
        "500 No",
        "504 No",
    ] {
        let node = Scripted::start(move |_, mut peer| async move {
            while peer.request().await.is_some() {
                peer.answer(code, r#"{"detail":"of the node"}"#).await;
            }
        })
        .await;
        let gateway = TestGateway::before(node.addr).await;
        let reply = gateway.chat("m").send().await.unwrap();
        assert_eq!(reply.status().as_str(), &code[..3]);
        assert_eq!(reply.text().await.unwrap(), r#"{"detail":"of the node"}"#);
        assert_eq!(node.seen().len(), 1, "{code}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn r14_a_node_that_refuses_our_key_is_our_misconfiguration() {
    for code in ["401 Unauthorized", "403 Forbidden"] {
        let node = Scripted::start(move |_, mut peer| async move {
            while peer.request().await.is_some() {
                peer.answer(code, r#"{"error":"bad key sk-of-the-node"}"#).await;
            }
        })
        .await;
        let gateway = TestGateway::before(node.addr).await;
        let reply = gateway.chat("m").send().await.unwrap();
        assert!(!reply.headers().contains_key("www-authenticate"));
        assert_eq!(refusal(reply).await, (502, "upstream_auth_failed".into()));
        assert_eq!(node.seen().len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn r09_answers_that_cannot_be_passed_on_are_a_502_and_are_not_tried_again() {
    for answer in [
        &b"HTTP/1.1 307 Temporary Redirect\r\nlocation: http://evil/\r\ncontent-length: 0\r\n\r\n"
            [..],
        b"HTTP/1.1 301 Moved\r\nlocation: /v1/\r\ncontent-length: 0\r\n\r\n",
        b"this is not HTTP\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\ncontent-length: two\r\n\r\n{}",
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
    ] {
        let node = saying(answer).await;
        let gateway = TestGateway::before(node.addr).await;
        let reply = within(gateway.chat("m").send()).await.unwrap();
        assert!(!reply.headers().contains_key("location"));
        assert_eq!(reply.status(), 502, "{}", String::from_utf8_lossy(answer));
        let told = refusal(reply).await;
        assert_eq!(told, (502, "upstream_error".into()), "{}", String::from_utf8_lossy(answer));
        assert_eq!(node.seen().len(), 1, "{}", String::from_utf8_lossy(answer));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn r28_a_silent_node_is_a_504_and_is_not_asked_again() {
    let node = Scripted::start(|_, mut peer| async move {
        peer.request().await;
        peer.closed().await;
    })
    .await;
    let gateway = TestGateway::before(node.addr).await;
    let by_header = gateway.chat("m").header("x-timeout-seconds", "0.2").send();
    assert_eq!(refusal(by_header.await.unwrap()).await, (504, "upstream_timeout".into()));
    let by_query = gateway.post("/v1/messages?timeout=0.2").body(r#"{"model":"m"}"#).send();
    let reply = by_query.await.unwrap();
    assert_eq!(reply.status(), 504);
    assert!(
        reply
            .text()
            .await
            .unwrap()
            .starts_with(r#"{"type":"error","error":{"type":"timeout_error""#)
    );
    assert_eq!(node.seen().len(), 2);
}

/// A machine that is off takes no connection and refuses none.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_waits_for_a_connection_as_long_as_it_wishes_is_told_504() {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let addr = listener.local_addr().unwrap();
    // The kernel's queue of connections that nobody accepts is full when one more has to wait.
    let mut waiting = Vec::new();
    let patience = std::time::Duration::from_millis(100);
    while let Ok(taken) = tokio::time::timeout(patience, tokio::net::TcpStream::connect(addr)).await
    {
        waiting.push(taken.unwrap());
    }
    let gateway = TestGateway::before(addr).await;
    let reply = gateway.chat("m").header("x-timeout-seconds", "0.2").send().await.unwrap();
    assert_eq!(refusal(reply).await, (504, "upstream_timeout".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn r31_a_request_that_operates_a_node_is_sent_once() {
    for node in [saying(b"").await, saying(b"HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n").await] {
        let gateway = TestGateway::before(node.addr).await;
        let posted = gateway.post("/pause").send().await.unwrap();
        assert!(posted.status().is_server_error());
        let got = gateway.get("/load").send().await.unwrap();
        assert!(got.status().is_server_error());
        assert_eq!(node.seen().len(), 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn r31_a_node_that_always_fails_is_not_asked_much_more_often_than_its_clients_ask() {
    const REQUESTS: usize = 300;
    let tries = Arc::new(AtomicUsize::new(0));
    let counted = tries.clone();
    let node = Scripted::start(move |_, mut peer| {
        let counted = counted.clone();
        async move {
            if peer.request().await.is_some() {
                counted.fetch_add(1, Ordering::Relaxed);
            }
        }
    })
    .await;
    let setup = preset(node.addr).replace("kind: vllm", "kind: vllm, retry: { attempts: 4 }");
    let gateway = Setup::routes(&setup).start().await;
    for _ in 0..REQUESTS / 10 {
        let some = (0..10).map(|_| gateway.chat("m").send());
        for reply in futures_util::future::join_all(some).await {
            assert_eq!(reply.unwrap().status(), 502);
        }
    }
    let tries = tries.load(Ordering::Relaxed);
    assert!((REQUESTS..=REQUESTS * 12 / 10 + 10).contains(&tries), "{tries}");
    eventually(|| async { gateway.series("sluice_requests_in_flight") == 0.0 }).await;
    eventually(|| async { gateway.series("sluice_held_request_bytes") == 0.0 }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn r14_an_error_that_repeats_the_nodes_key_does_not_tell_it() {
    const SECRET: &str = "sk-of-the-node-12345";
    let node = Scripted::start(|_, mut peer| async move {
        while let Some(came) = peer.request().await {
            let key = came.header("authorization").unwrap().replace("Bearer ", "");
            let body = format!(r#"{{"error":"the key {key} may not"}}"#);
            let (one, two) = body.split_at(body.find(&key).unwrap() + 4);
            let head = "HTTP/1.1 400 Bad Request\r\ntransfer-encoding: chunked";
            peer.send(format!("{head}\r\nx-key: {key}\r\n\r\n").as_bytes()).await;
            for piece in [one, two] {
                peer.send(format!("{:x}\r\n{piece}\r\n", piece.len()).as_bytes()).await;
            }
            peer.send(b"0\r\n\r\n").await;
        }
    })
    .await;
    let keyed = preset(node.addr).replace("kind: vllm", &format!("kind: vllm, key: {SECRET}"));
    let gateway = TestGateway::start(&keyed).await;
    let reply = gateway.chat("m").send().await.unwrap();
    assert_eq!(reply.status(), 400);
    let headers = format!("{:?}", reply.headers());
    assert!(!headers.contains(SECRET), "{headers}");
    let body = reply.text().await.unwrap();
    assert!(!body.contains(SECRET) && body.contains("may not"), "{body}");
    assert!(!format!("{:?}", gateway.log_lines(1).await).contains(SECRET));
}
