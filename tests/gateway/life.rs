//! The process: how it starts, what it says when it cannot, and how it ends.

use std::net::SocketAddr;
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::support::gateway::{chat, preset};
use crate::support::http::{raw, read_until, status};
use crate::support::process::{Serving, folder, rest_of, run, slow, text};
use crate::support::scripted::Scripted;
use crate::support::{KEY, eventually, within};

#[tokio::test(flavor = "multi_thread")]
async fn r47_on_sigterm_it_says_so_and_lets_a_stream_end() {
    let node = slow(20).await;
    let mut serving = Serving::before(&node, &["--drain-delay", "300ms"]).await;
    assert_eq!(serving.readyz().await, 200);
    let stream = serving.stream().await;
    serving.signal("TERM").await;
    eventually(|| async { serving.readyz().await == 503 }).await;
    let rest = rest_of(stream).await;
    assert!(rest.contains("[DONE]") && rest.ends_with("0\r\n\r\n"), "{rest}");
    assert_eq!(serving.exit_code().await, Some(0));
    assert!(TcpStream::connect(serving.addr).await.is_err());
}

/// Its head has promised to keep the connection. Whoever asks again on it would be cut with the process.
#[tokio::test(flavor = "multi_thread")]
async fn r47_a_connection_ends_with_the_stream_that_was_on_it_when_the_process_began_to_stop() {
    let node = slow(1_000_000).await;
    let arguments = ["--drain-delay", "0s", "--drain-timeout", "1h"];
    let mut serving = Serving::before(&node, &arguments).await;
    let (short, long) = (serving.stream_of(Some(20)).await, serving.stream().await);
    serving.signal("TERM").await;
    eventually(|| async { TcpStream::connect(serving.addr).await.is_err() }).await;
    let rest = rest_of(short).await;
    assert!(rest.contains("[DONE]") && rest.ends_with("0\r\n\r\n"), "{rest}");
    // The process is there all the while: it was no end of its own that ended the connection.
    within(node.wait_until(|counts| counts.running == 1)).await;
    serving.signal("INT").await;
    assert_eq!(serving.exit_code().await, Some(0));
    drop(long);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_process_ends_as_soon_as_it_may_though_connections_are_open() {
    let node = slow(1).await;
    let mut serving =
        Serving::before(&node, &["--drain-delay", "0s", "--drain-timeout", "1h"]).await;
    let mut idle = TcpStream::connect(serving.addr).await.unwrap();
    idle.write_all(b"GET /livez HTTP/1.1\r\nhost: h\r\n\r\n").await.unwrap();
    read_until(&mut idle, "ok").await;
    let _silent = TcpStream::connect(serving.addr).await.unwrap();
    serving.signal("TERM").await;
    assert_eq!(serving.exit_code().await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_it_at_once() {
    for second in ["TERM", "INT"] {
        let node = slow(1_000_000).await;
        let mut serving =
            Serving::before(&node, &["--drain-delay", "1h", "--drain-timeout", "1h"]).await;
        let stream = serving.stream().await;
        serving.signal("TERM").await;
        eventually(|| async { serving.readyz().await == 503 }).await;
        serving.signal(second).await;
        assert_eq!(serving.exit_code().await, Some(0));
        assert!(!rest_of(stream).await.contains("[DONE]"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_outlives_drain_timeout_is_cut() {
    let node = slow(1_000_000).await;
    let arguments = ["--drain-delay", "0s", "--drain-timeout", "200ms"];
    let mut serving = Serving::before(&node, &arguments).await;
    let stream = serving.stream().await;
    serving.signal("TERM").await;
    assert!(!rest_of(stream).await.contains("[DONE]"));
    assert_eq!(serving.exit_code().await, Some(0));
    within(node.wait_until(|counts| counts.running == 0)).await;
}

/// A node of which nothing comes after the first event, nor that where `x-silent` is asked for.
async fn stuck() -> Scripted {
    Scripted::start(|_, mut peer| async move {
        let Some(came) = peer.request().await else { return };
        if !text(&came.body).contains("silent") {
            peer.send(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n").await;
            let event = "data: {\"choices\":[]}\n\n";
            peer.send(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes()).await;
        }
        peer.closed().await;
    })
    .await
}

/// A request on a connection of its own: all of it but the last `less` bytes.
async fn ask(to: SocketAddr, (path, body): (&str, &str), less: usize) -> TcpStream {
    let request = format!(
        "POST {path} HTTP/1.1\r\nhost: h\r\nauthorization: Bearer {KEY}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut stream = TcpStream::connect(to).await.unwrap();
    stream.write_all(&request.as_bytes()[..request.len() - less]).await.unwrap();
    stream
}

#[tokio::test(flavor = "multi_thread")]
async fn r47_when_the_time_is_over_each_client_is_told_in_the_form_that_is_possible() {
    let node = stuck().await;
    let routes = format!(
        "upstreams:\n  llama: {{ kind: vllm, nodes: [\"http://{}\"], models: [m], health: off, max_in_flight: 3 }}\n\
         routes:\n  - {{ preset: vllm, upstream: llama }}\n",
        node.addr
    );
    let arguments = ["--drain-delay", "0s", "--drain-timeout", "300ms"];
    let dir = folder(&[("routes.yaml", &routes)]);
    let mut serving = Serving::start(dir, &arguments, Stdio::piped()).await;
    let mut lines = BufReader::new(serving.child.stdout.take().unwrap()).lines();
    let said = |word: &str| {
        format!(
            r#"{{"model":"m","max_tokens":9,"stream":true,"messages":[{{"role":"user","content":"{word}"}}]}}"#
        )
    };
    let (openai, anthropic) = ("/v1/chat/completions", "/v1/messages");
    let mut streams = Vec::new();
    for path in [openai, anthropic] {
        let mut stream = ask(serving.addr, (path, &said("speak")), 0).await;
        read_until(&mut stream, "data: ").await;
        streams.push(stream);
    }
    let silent = ask(serving.addr, (openai, &said("silent")), 0).await;
    eventually(|| async { node.seen().len() == 3 }).await;
    let queued = ask(serving.addr, (openai, &said("speak")), 0).await;
    let half_sent = ask(serving.addr, (openai, &said("speak")), 1).await;
    let metrics = b"GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    let all_wait = || async {
        let told = raw(serving.operators, metrics).await;
        told.lines().any(|line| line == "sluice_requests_in_flight 5")
    };
    eventually(all_wait).await;
    serving.signal("TERM").await;
    for (stream, event) in streams.into_iter().zip(["data: {\"error\"", "event: error\ndata: {"]) {
        let rest = rest_of(stream).await;
        assert!(rest.contains(event), "{rest}");
        assert!(rest.contains("shutting down") && rest.ends_with("\n\n\r\n0\r\n\r\n"), "{rest}");
        assert!(!rest.contains("[DONE]"), "{rest}");
    }
    for stream in [silent, queued, half_sent] {
        let answer = rest_of(stream).await.to_lowercase();
        assert_eq!(status(&answer.to_uppercase()), 503, "{answer}");
        assert!(answer.contains("\"code\":\"draining\""), "{answer}");
        assert!(answer.contains("\r\nretry-after: 1\r\n"), "{answer}");
        assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
    }
    assert_eq!(serving.exit_code().await, Some(0));
    let mut told = Vec::new();
    while let Some(line) = within(lines.next_line()).await.unwrap() {
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(line["error"], "draining", "{line}");
        told.push(line["status"].as_u64().unwrap());
    }
    told.sort_unstable();
    assert_eq!(told, [200, 200, 503, 503, 503]);
}

#[tokio::test(flavor = "multi_thread")]
async fn r47_until_the_delay_is_over_requests_are_served_and_connections_end_with_them() {
    let node = slow(1).await;
    let arguments = ["--drain-delay", "1h", "--drain-timeout", "1h"];
    let mut serving = Serving::before(&node, &arguments).await;
    let mut kept = TcpStream::connect(serving.addr).await.unwrap();
    kept.write_all(b"GET /livez HTTP/1.1\r\nhost: h\r\n\r\n").await.unwrap();
    assert!(!read_until(&mut kept, "ok").await.to_lowercase().contains("connection: close"));
    serving.signal("TERM").await;
    eventually(|| async { serving.readyz().await == 503 }).await;
    let body = chat("m").to_string();
    let fresh = ask(serving.addr, ("/v1/chat/completions", &body), 0).await;
    kept.write_all(b"GET /livez HTTP/1.1\r\nhost: h\r\n\r\n").await.unwrap();
    for stream in [kept, fresh] {
        let answer = rest_of(stream).await;
        assert_eq!(status(&answer), 200, "{answer}");
        assert!(answer.to_lowercase().contains("\r\nconnection: close\r\n"), "{answer}");
    }
    serving.signal("TERM").await;
    assert_eq!(serving.exit_code().await, Some(0));
}

/// Nobody reads the access log: its pipe is full, and so is its queue. The process ends all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_nobody_reads_does_not_keep_it_alive() {
    let node = slow(1).await;
    let dir = folder(&[("routes.yaml", &preset(node.addr()))]);
    let arguments = ["--drain-delay", "0s", "--drain-timeout", "1s"];
    let mut serving = Serving::start(dir, &arguments, Stdio::piped()).await;
    let _unread = serving.child.stdout.take().unwrap();
    let path = "x".repeat(3_000);
    let client = reqwest::Client::new();
    for _ in 0..50 {
        let some = (0..20).map(|_| client.get(format!("http://{}/{path}", serving.addr)).send());
        for reply in futures_util::future::join_all(some).await {
            assert_eq!(reply.unwrap().status(), 401);
        }
    }
    serving.signal("TERM").await;
    assert_eq!(serving.exit_code().await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn sighup_reads_the_configuration_anew() {
    let node = slow(1).await;
    let mut serving = Serving::before(&node, &[]).await;
    serving.signal("HUP").await;
    serving.line("configuration").await;
    assert_eq!(serving.readyz().await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_cannot_start_says_why() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let good =
        ("routes.yaml", "routes:\n  - { path: /a, methods: [POST], upstream_url: http://h/a }\n");
    let typing_error = (
        "routes.yaml",
        "routes:\n  - path: /a\n    metods: [POST]\n    upstream_url: http://h/a\n",
    );
    for (files, arguments, code, said) in [
        (vec![], vec!["serve", "--no-such-flag"], 2, vec!["--no-such-flag"]),
        (vec![typing_error], vec!["serve"], 78, vec!["routes.yaml:3:", "routes[0]", "methods"]),
        (vec![("routes.yaml", "routes: [")], vec!["serve"], 78, vec!["routes.yaml:2:1", "YAML"]),
        (vec![good], vec!["serve", "--max-timeout", "soon"], 78, vec!["--max-timeout"]),
        (
            vec![good],
            vec!["serve", "--listen", "0.0.0.0:0", "--admin-listen", "127.0.0.1:0"],
            78,
            vec!["key"],
        ),
        (vec![good], vec!["serve", "--listen", &taken], 1, vec![taken.as_str(), "in use"]),
        (
            vec![good],
            vec!["serve", "--listen", "127.0.0.1:0", "--admin-listen", &taken],
            1,
            vec![taken.as_str()],
        ),
        (vec![good], vec!["healthcheck", "--listen", "127.0.0.1:1"], 1, vec!["127.0.0.1:1"]),
    ] {
        let output = run(&folder(&files), &arguments, None).await;
        let told = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {told}");
        assert!(said.iter().all(|word| told.contains(word)), "{arguments:?}: {told}");
        assert!(!told.contains("panicked"), "{told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn check_tells_every_problem_of_every_file_at_once() {
    let dir = folder(&[
        (
            "routes.yaml",
            "routes:\n  - { path: a, methods: [POST], upstream_url: http://h/a }\n  - { path: /b, methods: [PSOT], upstream_url: ftp://h }\n",
        ),
        ("keys.yaml", "keys:\n  - { name: one, key: sk-secret-of-one, modles: [x] }\n"),
    ]);
    let output = run(&dir, &["check"], None).await;
    assert_eq!(output.status.code(), Some(78));
    let told = text(&output.stderr);
    for word in ["routes.yaml:2:", "routes.yaml:3:", "keys.yaml:2:", "routes[1].methods", "models"]
    {
        assert!(told.contains(word), "{word}: {told}");
    }
    assert!(!told.contains("sk-secret-of-one"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fresh_key_has_the_hash_that_is_told_with_it() {
    let dir = folder(&[]);
    let made = text(&run(&dir, &["keys", "new"], None).await.stdout);
    let word = |line: usize| made.lines().nth(line).unwrap().rsplit(' ').next().unwrap().to_owned();
    let hashed = run(&dir, &["keys", "hash"], Some(&format!("{}\n", word(0)))).await;
    assert_eq!(text(&hashed.stdout), format!("key_sha256: {}\n", word(1)));
    assert_eq!(run(&dir, &["keys", "hash"], None).await.status.code(), Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn healthcheck_asks_the_gateway_that_runs() {
    let node = slow(1).await;
    let serving = Serving::before(&node, &[]).await;
    let listen = serving.addr.to_string();
    let output = run(&folder(&[]), &["healthcheck", "--listen", &listen], None).await;
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
}
