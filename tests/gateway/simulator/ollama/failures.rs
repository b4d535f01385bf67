//! Ollama nodes that fail, and clients that leave.

use std::io::ErrorKind;

use serde_json::{Value, json};
use sluice::sim::Settings;
use tokio::io::AsyncReadExt;

use super::super::support::{FOREVER, Node, chunks, soon, with};
use super::{chat, node, settings, settled, told};

const CHAT: &str = "/api/chat";
const V1: &str = "/v1/chat/completions";

/// A stream from each API.
fn asked() -> [(&'static str, Value); 2] {
    [(CHAT, chat("sim-llama", "Hi")), (V1, with(chat("sim-llama", "Hi"), json!({"stream": true})))]
}

/// What is read of the answer to a request with this fault, and how it ends.
async fn read(
    node: &Node,
    (path, body): (&str, &Value),
    fault: &str,
) -> (String, Result<(), ErrorKind>) {
    let mut socket = node.send(path, body, &format!("x-sim-fault: {fault}\r\n")).await;
    let mut answer = Vec::new();
    let end = soon(socket.read_to_end(&mut answer)).await.map(drop);
    (String::from_utf8_lossy(&answer).into_owned(), end.map_err(|error| error.kind()))
}

#[tokio::test]
async fn an_error_that_was_asked_for_has_the_shape_of_its_path() {
    let node = node().await;
    let failing = |path: &str, fault: &'static str| {
        node.post(path, &chat("sim-llama", "Hi")).header("x-sim-fault", fault).send()
    };
    let reply = failing(CHAT, "status=503,retry-after=7").await.unwrap();
    assert_eq!((reply.status().as_u16(), &reply.headers()["retry-after"]), (503, &7.into()));
    assert_eq!(reply.headers()["content-type"], "application/json; charset=utf-8");
    assert_eq!(
        reply.text().await.unwrap(),
        r#"{"error":"The simulator was told to answer 503 Service Unavailable."}"#
    );
    let reply = failing(V1, "status=429").await.unwrap();
    assert_eq!(
        reply.text().await.unwrap(),
        r#"{"error":{"message":"The simulator was told to answer 429 Too Many Requests.","type":"api_error","param":null,"code":null}}"#
    );
    let reply = failing(CHAT, "redirect=http://elsewhere/").await.unwrap();
    assert_eq!((reply.status().as_u16(), reply.headers().get("server")), (307, None));
    let reply = failing(CHAT, "nonsense").await.unwrap();
    assert_eq!(reply.status(), 400);
    assert!(reply.text().await.unwrap().starts_with(r#"{"error":"`nonsense` is no fault"#));
}

#[tokio::test]
async fn a_connection_ends_before_any_byte() {
    let node = node().await;
    for (path, body) in asked() {
        for (fault, end) in [
            ("close", Ok(())),
            ("cut-after=0", Ok(())),
            ("reset", Err(ErrorKind::ConnectionReset)),
            ("reset-after=0", Err(ErrorKind::ConnectionReset)),
        ] {
            let read = read(&node, (path, &body), fault).await;
            assert_eq!(read, (String::new(), end), "{path} {fault}");
        }
        let (bytes, _) = read(&node, (path, &body), "garbage").await;
        assert!(bytes.contains("not HTTP"), "{bytes}");
    }
    assert_eq!((node.sim.running(), node.sim.counts().aborted), (0, 0));
}

#[tokio::test]
async fn a_stream_breaks_after_so_many_lines() {
    let node = node().await;
    for (path, body) in asked() {
        let (cut, end) = read(&node, (path, &body), "cut-after=3").await;
        assert_eq!((chunks(&cut).len(), cut.ends_with("\n\r\n"), end), (3, true, Ok(())));
        let (reset, end) = read(&node, (path, &body), "reset-after=2").await;
        assert_eq!((chunks(&reset).len(), end), (2, Err(ErrorKind::ConnectionReset)));
    }
    let whole = with(chat("sim-llama", "Hi"), json!({"stream": false}));
    let (answer, _) = read(&node, (CHAT, &whole), "cut-after=1").await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    assert_eq!(body.len(), length.parse::<usize>().unwrap() / 2);
    assert!(head.contains("content-type: application/json; charset=utf-8"), "{head}");
}

#[tokio::test]
async fn a_death_in_a_stream_is_a_last_line_without_done() {
    let node = node().await;
    let (answer, end) = read(&node, (CHAT, &asked()[0].1), "die-after=2").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n0\r\n\r\n"));
    assert_eq!(end, Ok(()));
    let lines = chunks(&answer);
    assert_eq!(
        lines[2..],
        ["{\"error\":\"an error was encountered while running the model: unexpected EOF\"}\n"]
    );
    assert!(!answer.contains(r#""done":true"#));
}

#[tokio::test]
async fn a_death_in_a_stream_of_v1_is_swallowed() {
    let node = node().await;
    let (answer, end) = read(&node, (V1, &asked()[1].1), "die-after=2").await;
    assert_eq!((end, answer.ends_with("\r\n0\r\n\r\n")), (Ok(()), true));
    let events: Vec<_> = chunks(&answer).iter().map(|event| settled(event)).collect();
    assert_eq!(
        events[2..],
        [
            "data: {\"id\":\"chatcmpl-ID\",\"object\":\"chat.completion.chunk\",\"created\":0,\"model\":\"\",\"system_fingerprint\":\"fp_ollama\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"\"},\"finish_reason\":null}]}\n\n"
        ]
    );
    let created = |event: &str| event.split_once("\"created\":").unwrap().1[..10].to_owned();
    let raw = read(&node, (V1, &asked()[1].1), "die-after=1").await.0;
    let raw: Vec<_> = raw.lines().filter(|line| line.starts_with("data: ")).collect();
    assert_eq!(created(raw[0]), created(raw[1]), "one time for the whole stream");
    assert!(!answer.contains("[DONE]") && !answer.contains(r#"finish_reason":""#));
    let completion = json!({"model": "sim-llama", "prompt": "Hi", "stream": true, "stream_options": {"include_usage": true}});
    let (answer, _) = read(&node, ("/v1/completions", &completion), "die-after=1").await;
    assert_eq!(
        settled(&chunks(&answer)[1]),
        "data: {\"id\":\"cmpl-ID\",\"object\":\"text_completion\",\"created\":0,\"choices\":[{\"text\":\"\",\"index\":0,\"finish_reason\":null}],\"model\":\"\",\"system_fingerprint\":\"fp_ollama\",\"usage\":{\"prompt_tokens\":0,\"completion_tokens\":0,\"total_tokens\":0}}\n\n"
    );
}

#[tokio::test]
async fn a_death_before_the_first_line_has_a_status() {
    let node = node().await;
    let says = "an error was encountered while running the model: unexpected EOF";
    for (path, body) in asked() {
        let (answer, _) = read(&node, (path, &body), "die-after=0").await;
        assert!(answer.starts_with("HTTP/1.1 500 "), "{answer}");
        assert!(answer.contains("\r\ncontent-type: application/json\r\n"), "{answer}");
        let body: Value = answer.split_once("\r\n\r\n").unwrap().1.parse().unwrap();
        let error = if path == V1 { &body["error"]["message"] } else { &body["error"] };
        assert_eq!(error, says);
    }
    let whole = with(chat("sim-llama", "Hi"), json!({"stream": false}));
    let (answer, _) = read(&node, (CHAT, &whole), "die-after=5").await;
    assert!(answer.starts_with("HTTP/1.1 500 ") && answer.contains(says), "{answer}");
}

#[tokio::test]
async fn a_killed_engine_ends_all_streams_and_refuses_what_comes() {
    let node = Node::with(Settings { token_delay: FOREVER, num_parallel: 9, ..settings() }).await;
    let mut other = node.send(CHAT, &asked()[0].1, "").await;
    let mut answer = Vec::new();
    while !answer.ends_with(b"\"done\":false}\n\r\n") {
        assert_ne!(soon(other.read_buf(&mut answer)).await.unwrap(), 0);
    }
    let (answer, _) = read(&node, (CHAT, &asked()[0].1), "kill-after=1,exit=1h").await;
    assert!(answer.contains("{\"error\":\"an error was"), "{answer}");
    let mut rest = String::new();
    soon(other.read_to_string(&mut rest)).await.unwrap();
    assert!(
        rest.contains("{\"error\":\"an error was") && !rest.contains(r#""done":true"#),
        "{rest}"
    );
    for (path, body) in asked() {
        let (status, _, error) = told(&node, path, &body).await;
        assert_eq!(status, 500);
        assert!(
            error.contains("model runner has unexpectedly stopped, this may be due"),
            "{error}"
        );
    }
    assert_eq!(node.get("/").await.status(), 200);
}

#[tokio::test]
async fn a_stall_has_no_head_before_the_first_line() {
    let node = Node::with(Settings { num_parallel: 9, ..settings() }).await;
    for (path, body) in asked() {
        for fault in ["stall", "stall-after=0"] {
            let client = node.send(path, &body, &format!("x-sim-fault: {fault}\r\n")).await;
            soon(node.sim.wait_until(|counts| counts.running == 1)).await;
            let none = client.try_read(&mut [0; 1]).unwrap_err();
            assert_eq!(none.kind(), ErrorKind::WouldBlock);
            drop(client);
            soon(node.sim.wait_until(|counts| counts.running == 0)).await;
        }
        let mut client = node.send(path, &body, "x-sim-fault: stall-after=1\r\n").await;
        assert_ne!(soon(client.read(&mut [0; 1])).await.unwrap(), 0);
        drop(client);
        soon(node.sim.wait_until(|counts| counts.running == 0)).await;
    }
    assert_eq!(node.sim.aborted(), 6);
}

#[tokio::test]
async fn a_client_that_leaves_stops_its_answer() {
    let node = Node::with(Settings { token_delay: FOREVER, ..settings() }).await;
    let whole = with(chat("sim-llama", "Hi"), json!({"stream": false}));
    for (aborted, (path, body)) in (1..).zip(asked().into_iter().chain([(CHAT, whole)])) {
        let client = node.send(path, &body, "").await;
        soon(node.sim.wait_until(|counts| counts.running == 1)).await;
        drop(client);
        soon(node.sim.wait_until(|counts| counts.running == 0 && counts.aborted == aborted)).await;
    }
}
