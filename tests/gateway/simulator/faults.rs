//! Nodes that fail, and clients that leave.

use std::io::ErrorKind;
use std::time::Duration;

use serde_json::{Value, json};
use sluice::sim::{Fault, Settings};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use super::support::{FOREVER, Node, chat, chunks, soon, with};

const CHAT: &str = "/v1/chat/completions";

fn streaming() -> Value {
    with(chat("Hi"), json!({"stream": true, "max_tokens": 50}))
}

/// What is read of the answer to a request with this fault, and how it ends.
async fn read(node: &Node, body: &Value, fault: &str) -> (String, Result<(), ErrorKind>) {
    let mut socket = node.send(CHAT, body, &format!("x-sim-fault: {fault}\r\n")).await;
    let mut answer = Vec::new();
    let end = soon(socket.read_to_end(&mut answer)).await.map(drop);
    (String::from_utf8_lossy(&answer).into_owned(), end.map_err(|error| error.kind()))
}

#[tokio::test]
async fn a_status_has_a_body_and_may_say_when_to_retry() {
    let node = Node::start().await;
    let failing = |fault| node.post(CHAT, &chat("Hi")).header("x-sim-fault", fault).send();
    let reply = failing("status=503").await.unwrap();
    assert_eq!((reply.status().as_u16(), reply.headers().get("retry-after")), (503, None));
    assert_eq!(reply.json::<Value>().await.unwrap()["error"]["code"], 503);
    let reply = failing("status=429,retry-after=7").await.unwrap();
    assert_eq!((reply.status().as_u16(), &reply.headers()["retry-after"]), (429, &7.into()));
    let reply = failing("redirect=http://elsewhere/").await.unwrap();
    assert_eq!(
        (reply.status().as_u16(), &reply.headers()["location"]),
        (307, &"http://elsewhere/".parse().unwrap())
    );
    let reply = failing("nonsense").await.unwrap();
    assert_eq!(reply.status(), 400);
    assert!(reply.text().await.unwrap().contains("`nonsense` is no fault"));
}

#[tokio::test]
async fn a_connection_ends_before_any_byte() {
    let node = Node::start().await;
    assert_eq!(read(&node, &chat("Hi"), "close").await, (String::new(), Ok(())));
    assert_eq!(
        read(&node, &chat("Hi"), "reset").await,
        (String::new(), Err(ErrorKind::ConnectionReset))
    );
    let (bytes, end) = read(&node, &chat("Hi"), "garbage").await;
    assert!(bytes.contains("not HTTP") && !bytes.contains("HTTP/1.1"), "{bytes}");
    assert_eq!(end, Ok(()));
}

#[tokio::test]
async fn a_stream_breaks_after_so_many_events() {
    let node = Node::start().await;
    let (cut, end) = read(&node, &streaming(), "cut-after=3").await;
    assert_eq!((chunks(&cut).len(), cut.ends_with("\n\n\r\n"), end), (3, true, Ok(())));
    let (reset, end) = read(&node, &streaming(), "reset-after=2").await;
    assert_eq!((chunks(&reset).len(), end), (2, Err(ErrorKind::ConnectionReset)));
    assert_eq!((node.sim.running(), node.sim.aborted()), (0, 0));
}

#[tokio::test]
async fn a_dead_engine_ends_its_stream_cleanly() {
    let node = Node::start().await;
    let (answer, end) = read(&node, &streaming(), "die-after=2").await;
    assert_eq!(end, Ok(()));
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n0\r\n\r\n"));
    assert_eq!(
        chunks(&answer)[2..],
        [
            "data: {\"error\": {\"message\": \"EngineCore encountered an issue. See stack trace (above) for the root cause.\", \"type\": \"InternalServerError\", \"param\": null, \"code\": 500}}\n\n",
            "data: [DONE]\n\n",
        ]
    );
    let (answer, _) = read(&node, &chat("Hi"), "die-after=2").await;
    assert!(answer.starts_with("HTTP/1.1 500 "), "{answer}");
}

#[tokio::test]
async fn an_answer_in_one_piece_breaks_in_its_middle() {
    let node = Node::start().await;
    let (answer, end) = read(&node, &chat("Hi"), "cut-after=1").await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    assert_eq!((body.len(), end), (length.parse::<usize>().unwrap() / 2, Ok(())));
}

#[tokio::test]
async fn a_stalled_request_runs_until_its_client_leaves() {
    let node = Node::start().await;
    node.sim.set_fault(Some(Fault::Stall));
    let client = node.send(CHAT, &chat("Hi"), "").await;
    soon(node.sim.wait_until(|counts| counts.running == 1)).await;
    assert_eq!(node.get("/health").await.status(), 200);
    drop(client);
    soon(node.sim.wait_until(|counts| counts.running == 0)).await;
    assert_eq!(node.sim.aborted(), 1);

    node.sim.set_fault(None);
    node.sim.set_probe_fault("status=500".parse().ok());
    assert_eq!(node.get("/health").await.status(), 500);
    assert_eq!(node.post(CHAT, &chat("Hi")).send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_stream_stalls_after_so_many_events() {
    let node = Node::start().await;
    let mut client = node.send(CHAT, &streaming(), "x-sim-fault: stall-after=1\r\n").await;
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\n\n\r\n") {
        assert_ne!(soon(client.read_buf(&mut bytes)).await.unwrap(), 0);
    }
    assert_eq!(node.sim.running(), 1);
    drop(client);
    soon(node.sim.wait_until(|counts| counts.running == 0 && counts.aborted == 1)).await;
}

#[tokio::test]
async fn a_client_that_leaves_is_noticed_while_the_node_is_slow() {
    let node = Node::with(Settings { first_token: FOREVER, ..Settings::default() }).await;
    for (aborted, body) in [(1, chat("Hi")), (2, streaming())] {
        let client = node.send(CHAT, &body, "").await;
        soon(node.sim.wait_until(|counts| counts.running == 1)).await;
        let metrics = node.get("/metrics").await.text().await.unwrap();
        assert!(metrics.contains("running{engine=\"0\",model_name=\"sim-llama\"} 1.0\n"));
        drop(client);
        soon(node.sim.wait_until(|counts| counts.running == 0 && counts.aborted == aborted)).await;
    }
    node.sim.set_delays(Duration::ZERO, FOREVER);
    let mut client = node.send(CHAT, &streaming(), "").await;
    assert_ne!(soon(client.read(&mut [0; 1])).await.unwrap(), 0);
    drop(client);
    soon(node.sim.wait_until(|counts| counts.running == 0 && counts.aborted == 3)).await;
}

#[tokio::test]
async fn a_client_that_leaves_over_http_2_is_noticed_too() {
    let node = Node::with(Settings { first_token: FOREVER, ..Settings::default() }).await;
    let client = reqwest::Client::builder().http2_prior_knowledge().build().unwrap();
    for (aborted, body) in [(1, chat("Hi")), (2, streaming())] {
        let request = client.post(node.url(CHAT)).json(&body).send();
        let answered = async {
            // A stream has its head at once, so the answer must be held while the node is slow.
            let reply = request.await;
            std::future::pending::<()>().await;
            drop(reply);
        };
        tokio::select! {
            () = answered => {}
            () = soon(node.sim.wait_until(|counts| counts.running == 1)) => {}
        }
        soon(node.sim.wait_until(|counts| counts.running == 0 && counts.aborted == aborted)).await;
    }
}

#[tokio::test]
async fn a_pace_is_kept() {
    let pace = Duration::from_millis(20);
    let node =
        Node::with(Settings { first_token: pace, token_delay: pace, ..Settings::default() }).await;
    for stream in [false, true] {
        let begun = std::time::Instant::now();
        let body = with(chat("Hi"), json!({"max_tokens": 4, "stream": stream}));
        node.told(CHAT, body).await;
        assert!(begun.elapsed() >= 4 * pace);
    }
}

#[tokio::test]
async fn a_shutdown_lets_answers_finish_and_a_kill_does_not() {
    let node =
        Node::with(Settings { token_delay: Duration::from_millis(5), ..Settings::default() }).await;
    let addr = node.sim.addr();
    let mut client = node.send(CHAT, &streaming(), "").await;
    soon(node.sim.wait_until(|counts| counts.running == 1)).await;
    let mut answer = String::new();
    let (read, ()) = tokio::join!(client.read_to_string(&mut answer), soon(node.sim.shutdown()));
    read.unwrap();
    assert!(answer.ends_with("data: [DONE]\n\n\r\n0\r\n\r\n"), "{answer}");
    assert_eq!(TcpStream::connect(addr).await.unwrap_err().kind(), ErrorKind::ConnectionRefused);

    let node = Node::with(Settings { token_delay: FOREVER, ..Settings::default() }).await;
    let addr = node.sim.addr();
    let mut client = node.send(CHAT, &streaming(), "").await;
    soon(node.sim.wait_until(|counts| counts.running == 1)).await;
    soon(node.sim.kill()).await;
    let mut answer = Vec::new();
    let _ = soon(client.read_to_end(&mut answer)).await;
    assert!(!answer.ends_with(b"0\r\n\r\n"));
    assert_eq!(TcpStream::connect(addr).await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn a_dropped_node_lets_go_of_its_clients() {
    let node = Node::start().await;
    let mut client = node.send(CHAT, &chat("Hi"), "x-sim-fault: stall\r\n").await;
    soon(node.sim.wait_until(|counts| counts.running == 1)).await;
    drop(node);
    assert_eq!(soon(client.read(&mut [0; 1])).await.unwrap(), 0);
}
