//! Nodes that come to an end, or seem to: ports that close, engines that die, processes that are told to stop.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sluice::sim::{Fault, Settings};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use super::support::{FOREVER, Node, chat, chunks, soon, with};

const CHAT: &str = "/v1/chat/completions";

/// The last two events of a stream whose engine has died.
const LAST_WORDS: [&str; 2] = [
    "data: {\"error\": {\"message\": \"EngineCore encountered an issue. See stack trace (above) for the root cause.\", \"type\": \"InternalServerError\", \"param\": null, \"code\": 500}}\n\n",
    "data: [DONE]\n\n",
];

fn streaming() -> Value {
    with(chat("Hi"), json!({"stream": true, "max_tokens": 50}))
}

/// All that comes.
async fn rest(mut client: TcpStream) -> String {
    let mut answer = Vec::new();
    soon(client.read_to_end(&mut answer)).await.unwrap();
    String::from_utf8(answer).unwrap()
}

async fn refused(node: &Node) -> bool {
    let error = TcpStream::connect(node.sim.addr()).await.err();
    error.is_some_and(|error| error.kind() == ErrorKind::ConnectionRefused)
}

#[tokio::test]
async fn a_closed_port_refuses_until_it_opens_again() {
    let node = Node::with(Settings { token_delay: FOREVER, ..Settings::default() }).await;
    let mut client = node.send(CHAT, &streaming(), "").await;
    soon(node.sim.wait_until(|counts| counts.running == 1)).await;
    soon(node.sim.refuse()).await;
    assert!(refused(&node).await);
    let _cut = soon(client.read_to_end(&mut Vec::new())).await;
    assert_eq!((node.sim.running(), node.sim.aborted()), (0, 1));
    soon(node.sim.accept()).await;
    assert_eq!(node.get("/health").await.status(), 200);
}

#[tokio::test]
async fn a_request_can_close_the_port_for_good_or_for_a_time() {
    let node = Node::start().await;
    assert!(node.post(CHAT, &chat("Hi")).header("x-sim-fault", "refuse").send().await.is_err());
    assert!(refused(&node).await);
    soon(node.sim.accept()).await;
    assert_eq!(node.get("/health").await.status(), 200);

    node.sim.set_fault("refuse=50ms".parse().ok());
    let begun = Instant::now();
    assert!(node.post(CHAT, &chat("Hi")).send().await.is_err());
    soon(async { while refused(&node).await {} }).await;
    assert!(begun.elapsed() >= Duration::from_millis(50));
    assert_eq!(node.get("/health").await.status(), 200);

    // The end of a node whose port is closed is an end as any other.
    soon(node.sim.refuse()).await;
    soon(node.sim.shutdown()).await;
}

#[tokio::test]
async fn a_slow_node_is_slow_to_its_first_token() {
    let slower = Duration::from_millis(50);
    let settings = Settings {
        fault: Some(Fault::Slow(slower)),
        probe_fault: Some(Fault::Slow(2 * slower)),
        ..Settings::default()
    };
    let node = Node::with(settings).await;
    let begun = Instant::now();
    assert!(node.told(CHAT, chat("Hi")).await.contains("You said: Hi"));
    assert!(begun.elapsed() >= slower);
    let begun = Instant::now();
    assert_eq!(node.get("/health").await.status(), 200);
    assert!(begun.elapsed() >= 2 * slower);
}

#[tokio::test]
async fn a_share_of_requests_fails_and_the_same_seed_fails_the_same() {
    let mut runs = Vec::new();
    for fault_seed in [Some(1), Some(1), Some(2)] {
        let fault = "status=503".parse().ok();
        let node =
            Node::with(Settings { fault, fault_rate: 0.3, fault_seed, ..Settings::default() })
                .await;
        let mut run = Vec::new();
        for _ in 0..200 {
            run.push(node.post("/ping", &json!({})).send().await.unwrap().status().as_u16());
        }
        let failed = run.iter().filter(|status| **status == 503).count();
        assert!((30..90).contains(&failed), "{failed} of 200");
        runs.push(run);
    }
    assert_eq!(runs[0], runs[1]);
    assert_ne!(runs[0], runs[2]);
}

#[tokio::test]
async fn an_engine_that_is_killed_ends_all_streams() {
    let node = Node::with(Settings { token_delay: FOREVER, ..Settings::default() }).await;
    let other = node.send(CHAT, &streaming(), "").await;
    soon(node.sim.wait_until(|counts| counts.running == 1)).await;
    let whole = node.send(CHAT, &chat("Hi"), "").await;
    soon(node.sim.wait_until(|counts| counts.running == 2)).await;
    node.sim.set_delays(Duration::ZERO, Duration::ZERO);
    let killer = node.send(CHAT, &streaming(), "x-sim-fault: kill-after=3,exit=1h\r\n").await;

    let answer = rest(killer).await;
    assert!(answer.ends_with("\r\n0\r\n\r\n"), "{answer}");
    assert_eq!(chunks(&answer)[3..], LAST_WORDS);
    assert_eq!(chunks(&rest(other).await)[2..], LAST_WORDS);
    assert!(rest(whole).await.starts_with("HTTP/1.1 500 "));
    assert_eq!(node.get("/health").await.status(), 200);
    for stream in [false, true] {
        let late =
            node.post(CHAT, &with(chat("Hi"), json!({"stream": stream}))).send().await.unwrap();
        assert_eq!(late.status(), 500);
        assert!(late.text().await.unwrap().contains("EngineCore encountered an issue."));
    }
    assert_eq!((node.sim.counts().finished, node.sim.running()), (3, 0));
}

#[tokio::test]
async fn a_process_whose_engine_was_killed_is_gone_after_a_while() {
    let node = Node::start().await;
    let exit = Duration::from_millis(50);
    node.sim.set_fault(Some(Fault::KillAfter { events: 1, exit }));
    let begun = Instant::now();
    let answer = node.bytes(CHAT, &streaming(), "").await;
    assert_eq!(chunks(&answer)[1..], LAST_WORDS);
    soon(node.sim.gone()).await;
    assert!(begun.elapsed() >= exit && refused(&node).await);
}

#[tokio::test]
async fn told_to_stop_a_node_ends_its_streams_as_a_dead_engine_does() {
    let settings = Settings { token_delay: FOREVER, max_num_seqs: 1, ..Settings::default() };
    let node = Node::with(settings).await;
    let running = node.send(CHAT, &streaming(), "").await;
    soon(node.sim.wait_until(|counts| counts.running == 1)).await;
    let waiting = node.send(CHAT, &streaming(), "").await;
    soon(node.sim.wait_until(|counts| counts.waiting == 1)).await;
    let addr = node.sim.addr();
    let (running, waiting, ()) =
        tokio::join!(rest(running), rest(waiting), soon(node.sim.terminate(Duration::ZERO)));
    assert_eq!(chunks(&running)[2..], LAST_WORDS);
    assert_eq!(chunks(&waiting), LAST_WORDS);
    assert_eq!(TcpStream::connect(addr).await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn given_time_to_stop_a_node_finishes_its_streams_and_takes_no_others() {
    let node =
        Node::with(Settings { token_delay: Duration::from_millis(20), ..Settings::default() })
            .await;
    let running = node.send(CHAT, &streaming(), "").await;
    soon(node.sim.wait_until(|counts| counts.running == 1)).await;
    let (addr, client) = (node.sim.addr(), node.client.clone());
    let url = |path: &str| format!("http://{addr}{path}");
    let meanwhile = async {
        let body = with(chat("Hi"), json!({"stream": true}));
        // The first may come before the node was told.
        let refused = async || client.post(url(CHAT)).json(&body).send().await.unwrap();
        let mut reply = soon(refused()).await;
        while reply.status() == 200 {
            reply = soon(refused()).await;
        }
        assert_eq!(client.get(url("/health")).send().await.unwrap().status(), 200);
        assert_eq!(
            (reply.status().as_u16(), reply.text().await.unwrap()),
            (500, r#"{"error":{"message":"cannot schedule new futures after shutdown","type":"InternalServerError","param":null,"code":500}}"#.to_owned())
        );
    };
    let ends = soon(node.sim.terminate(FOREVER));
    let (running, (), ()) = tokio::join!(rest(running), meanwhile, ends);
    assert_eq!(chunks(&running).len(), 52, "{running}");
    assert_eq!(TcpStream::connect(addr).await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
}
