//! Nodes that fail after the first byte of their answer: the client is never given a broken answer for a whole one.

use serde_json::json;
use sluice::sim::Fault;

use crate::support::gateway::{Setup, chat, preset};
use crate::support::http::raw;
use crate::support::scripted::Scripted;
use crate::support::{KEY, TestGateway, eventually, node, within};

/// A node that begins an answer so, and closes.
async fn breaking(answer: &'static str) -> Scripted {
    Scripted::start(move |_, mut peer| async move {
        if peer.request().await.is_some() {
            peer.send(answer.replace('\n', "\r\n").as_bytes()).await;
        }
    })
    .await
}

/// A chat, and every byte that comes back.
async fn bytes(gateway: &TestGateway) -> String {
    let body = chat("m").to_string();
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: h\r\nauthorization: Bearer {KEY}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    raw(gateway.addr, request.as_bytes()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn r33_a_stream_that_breaks_ends_with_an_error_in_the_dialect_of_its_path() {
    let messages = json!([{ "role": "user", "content": "one two three four five six" }]);
    let body = json!({ "model": "m", "messages": messages, "max_tokens": 20, "stream": true });
    for fault in [Fault::CutAfter(2), Fault::ResetAfter(2)] {
        for (path, last) in [
            ("/v1/chat/completions", "data: {\"error\":{"),
            ("/v1/messages", "event: error\ndata: {\"type\":\"error\","),
        ] {
            let sim = node(&["m"]).await;
            sim.set_fault(Some(fault.clone()));
            let gateway = TestGateway::before(sim.addr()).await;
            let reply = gateway.post(path).json(&body).send().await.unwrap();
            assert_eq!(reply.status(), 200);
            let text = within(reply.text()).await.unwrap();
            let events: Vec<&str> = text.split_terminator("\n\n").collect();
            assert!(events.len() > 1, "{path} {fault:?}: {text}");
            assert!(events.last().unwrap().starts_with(last), "{path} {fault:?}: {text}");
            assert!(!text.contains("[DONE]") && !text.contains("message_stop"), "{text}");
            assert_eq!(sim.requests().len(), 1);
            let line = gateway.log_lines(1).await.remove(0);
            assert_eq!(line["error"], "upstream_error", "{line}");
            assert_eq!(line["client_left"], false, "{line}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn r28_a_stream_that_falls_silent_ends_with_an_error() {
    let sim = node(&["m"]).await;
    sim.set_fault(Some(Fault::StallAfter(2)));
    let gateway = TestGateway::before(sim.addr()).await;
    let mut body = chat("m");
    body["stream"] = true.into();
    let request = gateway.post("/v1/chat/completions").header("x-timeout-seconds", "0.3");
    let text = request.json(&body).send().await.unwrap().text().await.unwrap();
    let last = text.trim_end().rsplit("\n\n").next().unwrap();
    assert!(last.starts_with("data: {\"error\":") && last.contains("upstream_timeout"), "{text}");
    within(sim.wait_until(|counts| counts.running == 0)).await;
    assert_eq!(sim.requests().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn r33_a_stream_that_breaks_inside_an_event_is_cut() {
    let node = breaking(
        "HTTP/1.1 200 OK\ncontent-type: text/event-stream\ntransfer-encoding: chunked\n\n10\ndata: {\"half\":\"a\n",
    )
    .await;
    let gateway = TestGateway::before(node.addr).await;
    let came = bytes(&gateway).await;
    assert!(came.contains("half"), "{came}");
    assert!(!came.contains("\"error\"") && !came.ends_with("0\r\n\r\n"), "{came}");
}

#[tokio::test(flavor = "multi_thread")]
async fn r33_an_answer_that_breaks_off_looks_broken() {
    for answer in [
        "HTTP/1.1 200 OK\ncontent-type: application/json\ntransfer-encoding: chunked\n\n5\n{\"id\"\n",
        "HTTP/1.1 200 OK\ncontent-type: application/json\ncontent-length: 100\n\n{\"id\"",
    ] {
        let node = breaking(answer).await;
        let gateway = TestGateway::before(node.addr).await;
        let came = bytes(&gateway).await;
        assert!(came.starts_with("HTTP/1.1 200") && !came.ends_with("0\r\n\r\n"), "{came}");
        assert_eq!(came.matches("HTTP/1.1").count(), 1, "{came}");
        assert!(gateway.chat("m").send().await.unwrap().bytes().await.is_err());
        assert_eq!(node.seen().len(), 2);
        eventually(|| async { gateway.series("sluice_requests_in_flight") == 0.0 }).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn r33_an_answer_that_breaks_off_looks_broken_over_http2_too() {
    let node = breaking(
        "HTTP/1.1 200 OK\ncontent-type: application/json\ntransfer-encoding: chunked\n\n5\n{\"id\"\n",
    )
    .await;
    let setup = Setup::routes(&preset(node.addr));
    let gateway = setup.flags(|flags| flags.h2c = Some("true".into())).start().await;
    let client = reqwest::Client::builder().http2_prior_knowledge().build().unwrap();
    let request = client.post(gateway.url("/v1/chat/completions")).bearer_auth(KEY);
    let reply = within(request.json(&chat("m")).send()).await.unwrap();
    assert_eq!(reply.status(), 200);
    assert!(within(reply.bytes()).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_breaks_over_http2_ends_with_an_error_and_a_good_end() {
    let sim = node(&["m"]).await;
    sim.set_fault(Some(Fault::CutAfter(2)));
    let setup = Setup::routes(&preset(sim.addr()));
    let gateway = setup.flags(|flags| flags.h2c = Some("true".into())).start().await;
    let client = reqwest::Client::builder().http2_prior_knowledge().build().unwrap();
    let mut body = chat("m");
    body["stream"] = true.into();
    let request = client.post(gateway.url("/v1/chat/completions")).bearer_auth(KEY).json(&body);
    let text = within(within(request.send()).await.unwrap().text()).await.unwrap();
    let last = text.trim_end().rsplit("\n\n").next().unwrap();
    assert!(last.starts_with("data: {\"error\":"), "{text}");
}

/// A slow client must not hold a node for ever: when it takes no bytes for as long as it may, the node is let go.
#[tokio::test(flavor = "multi_thread")]
async fn r26_a_client_that_takes_no_bytes_frees_the_node() {
    let (told, mut freed) = tokio::sync::mpsc::channel(1);
    let node = Scripted::start(move |_, mut peer| {
        let told = told.clone();
        async move {
            peer.request().await;
            peer.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await;
            let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x1_0000));
            while tokio::io::AsyncWriteExt::write_all(&mut peer.stream, chunk.as_bytes())
                .await
                .is_ok()
            {}
            told.send(()).await.unwrap();
        }
    })
    .await;
    let setup = Setup::routes(&preset(node.addr));
    let gateway = setup.flags(|flags| flags.write_timeout = Some("300ms".into())).start().await;
    let reply = gateway.chat("m").send().await.unwrap();
    within(freed.recv()).await.unwrap();
    eventually(|| async { gateway.series("sluice_requests_in_flight") == 0.0 }).await;
    drop(reply);
}
