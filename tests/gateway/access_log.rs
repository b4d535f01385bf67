//! The access log: what a line tells of an answer, and that nobody waits for it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use sluice::sim::{Kind, Settings};

use crate::services::process::Port;
use crate::support::gateway::{Setup, preset};
use crate::support::{DEADLINE, KEY, TestGateway, eventually, node, node_with, within};

/// Asks with the key, and reads the answer to its end.
async fn ask(gateway: &TestGateway, (path, body): (&str, Value)) -> Value {
    let reply = within(gateway.post(path).json(&body).send()).await.unwrap();
    assert_eq!(reply.status(), 200, "{path}");
    let body = within(reply.bytes()).await.unwrap();
    serde_json::from_slice(&body).unwrap_or_default()
}

/// The reasons that the lines tell, as their answers ended.
async fn reasons(gateway: &TestGateway, count: usize) -> Vec<Value> {
    let mut lines = gateway.log_lines(count).await;
    // A line is written when its answer has gone: the next request may be quicker.
    lines.sort_by_key(|line| line["time"].to_string());
    lines.iter().map(|line| line["finish_reason"].clone()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_tells_why_the_answer_ended_in_its_own_words() {
    let node = node(&["m"]).await;
    let gateway = TestGateway::before(node.addr()).await;
    let message = json!([{"role": "user", "content": "Hello"}]);
    let (chats, completions) = ("/v1/chat/completions", "/v1/completions");
    for (path, body, reason) in [
        (chats, json!({"messages": message}), json!("stop")),
        (chats, json!({"messages": message, "max_tokens": 1}), json!("length")),
        (
            chats,
            json!({"messages": message, "max_tokens": 1, "stream": true, "n": 2}),
            json!("length"),
        ),
        (completions, json!({"prompt": "Hello", "max_tokens": 1}), json!("length")),
        (completions, json!({"prompt": "Hello", "stream": true}), json!("stop")),
        ("/v1/messages", json!({"messages": message, "max_tokens": 2000}), json!("end_turn")),
        (
            "/v1/messages",
            json!({"messages": message, "max_tokens": 1, "stream": true}),
            json!("max_tokens"),
        ),
        ("/v1/responses", json!({"input": "Hello"}), json!("completed")),
        (
            "/v1/responses",
            json!({"input": "Hello", "max_output_tokens": 1, "stream": true}),
            json!("incomplete"),
        ),
        ("/v1/embeddings", json!({"input": "Hello"}), Value::Null),
    ] {
        let mut body = body;
        body["model"] = json!("m");
        let before = gateway.log_lines(0).await.len();
        ask(&gateway, (path, body.clone())).await;
        let line = gateway.log_lines(before + 1).await.pop().unwrap();
        assert_eq!(line["finish_reason"], reason, "{path} {body}");
        assert!(line["first_byte_ms"].is_number(), "{line}");
        let streams = body["stream"] == true;
        // A message of one token has none that is an event of its own.
        assert_eq!(line["ttft_ms"].is_number(), streams, "{line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ollamas_answers_and_those_of_sessions_tell_it_too() {
    let ollama =
        Settings { kind: Kind::Ollama, models: vec!["m:latest".into()], ..Settings::default() };
    let ollama = node_with(ollama).await;
    let table = format!(
        "upstreams: {{o: {{kind: ollama, nodes: [\"http://{}\"]}}}}\nroutes: [{{preset: vllm, upstream: o}}]\n",
        ollama.addr()
    );
    let gateway = TestGateway::start(&table).await;
    for stream in [false, true] {
        let body = json!({"model": "m", "stream": stream, "max_tokens": 1, "messages": [{"role": "user", "content": "Hello"}]});
        ask(&gateway, ("/v1/chat/completions", body)).await;
    }
    assert_eq!(reasons(&gateway, 2).await, ["length", "length"]);

    let node = node(&["m"]).await;
    let setup = Setup::routes(&preset(node.addr())).env("VLLM_MODEL_NAME", "m");
    let gateway = setup.start().await;
    let begun = ask(&gateway, ("/init_session", json!({"vllm_api_key": KEY}))).await;
    for stream in [false, true] {
        let body = json!({"session_id": begun["session_id"], "message": "Hello", "stream": stream});
        ask(&gateway, ("/chat", body)).await;
    }
    assert_eq!(reasons(&gateway, 3).await, [Value::Null, json!("stop"), json!("stop")]);
    let lines = gateway.log_lines(3).await;
    assert_eq!((&lines[1]["path"], &lines[2]["path"]), (&json!("/chat"), &json!("/chat")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_asks_again_says_so() {
    let node = node(&["m"]).await;
    let gateway = TestGateway::before(node.addr()).await;
    for (count, told) in [("2", json!(2)), ("two", Value::Null), ("70000", Value::Null)] {
        let before = gateway.log_lines(0).await.len();
        let request = gateway.chat("m").header("x-stainless-retry-count", count);
        assert_eq!(within(request.send()).await.unwrap().status(), 200);
        let line = gateway.log_lines(before + 1).await.pop().unwrap();
        assert_eq!(line["client_retry"], told, "{count}");
    }
}

/// Asks `times` for what needs no node, one after the other on one connection.
fn knock(at: SocketAddr, times: usize) {
    let mut stream = TcpStream::connect(at).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    for _ in 0..times {
        stream.write_all(b"GET /livez HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
        let mut answer = [0; 4_096];
        let read = stream.read(&mut answer).unwrap();
        assert!(answer[..read].starts_with(b"HTTP/1.1 200 OK"), "{read}");
    }
}

/// The sum of the lines that did not fit.
async fn dropped(admin: SocketAddr) -> f64 {
    let text = reqwest::get(format!("http://{admin}/metrics")).await.unwrap().text().await.unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("sluice_access_log_dropped_total "));
    line.unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_output_that_nobody_reads_or_that_is_closed_holds_up_no_request() {
    // Twice what a pipe, the writer and the queue before it hold.
    const REQUESTS: usize = 40_000;
    const CONNECTIONS: usize = 8;
    let (dir, public, admin) =
        (tempfile::tempdir().unwrap(), Port::of([127, 0, 0, 1]), Port::of([127, 0, 0, 1]));
    let (listen, operators) = (public.addr.to_string(), admin.addr.to_string());
    let mut child = Command::new(env!("CARGO_BIN_EXE_sluice"))
        .args([
            "serve",
            "--backend",
            "http://127.0.0.1:9",
            "--listen",
            &listen,
            "--admin-listen",
            &operators,
        ])
        .args(["--drain-delay", "0s"])
        .env_clear()
        .current_dir(dir.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let out = child.stdout.take().unwrap();
    eventually(|| async { reqwest::get(format!("http://{listen}/livez")).await.is_ok() }).await;
    let knockers = (0..CONNECTIONS).map(|_| {
        let at = public.addr;
        tokio::task::spawn_blocking(move || knock(at, REQUESTS / CONNECTIONS))
    });
    for knocker in knockers.collect::<Vec<_>>() {
        within(knocker).await.unwrap();
    }
    assert!(dropped(admin.addr).await > 0.0, "lines are lost, and counted");
    drop(out);
    knock(public.addr, 100);
    let stop = format!("kill -TERM {}", child.id());
    assert!(Command::new("sh").args(["-c", &stop]).status().unwrap().success());
    let child = std::sync::Mutex::new(&mut child);
    eventually(|| async { child.lock().unwrap().try_wait().unwrap().is_some() }).await;
}
