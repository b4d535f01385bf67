//! Streams, and what every failure is called (rows B4, C3).

use reqwest::header::HeaderMap;
use serde_json::Value;
use sluice::sim::Fault;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::code;
use crate::support::gateway::{Setup, chat};
use crate::support::http::read_until;
use crate::support::scripted::Scripted;
use crate::support::{KEY, TestGateway, node, nowhere, within};

#[tokio::test(flavor = "multi_thread")]
async fn b4_a_stream_is_data_lines_and_ends_with_done() {
    let upstream = node(&["llama"]).await;
    let gateway = TestGateway::before(upstream.addr()).await;
    let mut body = chat("llama");
    body["stream"] = true.into();
    let request = gateway.client.post(gateway.url("/v1/chat/completions"));
    let reply = request.header("X-Proxy-Secret", KEY).json(&body).send().await.unwrap();
    assert_eq!(reply.status(), 200);
    assert!(reply.headers()["content-type"].to_str().unwrap().starts_with("text/event-stream"));
    let text = reply.text().await.unwrap();
    let events: Vec<&str> = text.strip_suffix("\n\n").unwrap().split("\n\n").collect();
    let (done, chunks) = events.split_last().unwrap();
    assert_eq!(*done, "data: [DONE]");
    assert!(chunks.len() > 2, "{text}");
    for chunk in chunks {
        let chunk: Value = serde_json::from_str(chunk.strip_prefix("data: ").unwrap()).unwrap();
        assert_eq!(chunk["object"], "chat.completion.chunk");
    }
}

/// The node sends its second event only after the client has read the first.
#[tokio::test(flavor = "multi_thread")]
async fn b4_each_event_of_a_stream_is_passed_on_as_it_comes() {
    let (read, reading) = tokio::sync::watch::channel(0);
    let upstream = Scripted::start(move |_, mut peer| {
        let mut reading = reading.clone();
        async move {
            peer.request().await;
            let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
            peer.send(head.as_bytes()).await;
            for number in 0..5 {
                let event = format!("data: {{\"n\":{number}}}\n\n");
                peer.send(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes()).await;
                reading.wait_for(|read| *read > number).await.unwrap();
            }
            peer.send(b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n").await;
        }
    })
    .await;
    let gateway = TestGateway::before(upstream.addr).await;
    let mut stream = TcpStream::connect(gateway.addr).await.unwrap();
    let body = r#"{"model":"m","stream":true}"#;
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: h\r\nauthorization: Bearer {KEY}\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    for number in 0..5 {
        read_until(&mut stream, &format!("\"n\":{number}")).await;
        read.send(number + 1).unwrap();
    }
    read_until(&mut stream, "data: [DONE]\n\n").await;
}

/// Routes to a node that answers, one that nobody is at, and one that never answers.
async fn gateway_of_c(invalid_key_status: Option<&str>) -> (TestGateway, Scripted, Scripted) {
    let good = Scripted::replying("{}").await;
    let silent = Scripted::start(|_, mut peer| async move {
        peer.request().await;
        peer.closed().await;
    })
    .await;
    let routes = [
        "routes:\n".to_owned(),
        super::route("/v1/completions", good.addr),
        super::route("/v1/chat/completions", nowhere()),
        super::route("/v1/embeddings", silent.addr),
    ];
    let setup = Setup::routes(&routes.concat());
    let setup = match invalid_key_status {
        Some(status) => setup.env("SLUICE_INVALID_KEY_STATUS", status),
        None => setup,
    };
    (setup.start().await, good, silent)
}

#[tokio::test(flavor = "multi_thread")]
async fn c3_no_key_wrong_key_bad_body_no_connection_and_timeout_have_their_statuses() {
    let (gateway, good, _silent) = gateway_of_c(Some("403")).await;
    let told = |request: reqwest::RequestBuilder| async {
        let reply = within(request.send()).await.unwrap();
        let (status, headers): (u16, HeaderMap) =
            (reply.status().as_u16(), reply.headers().clone());
        assert_eq!(headers["content-type"], "application/json");
        assert!(headers.contains_key("x-request-id"));
        (status, code(reply).await)
    };
    let invalid = |status| (status, "invalid_api_key".to_owned());
    let bare = || gateway.client.post(gateway.url("/v1/completions")).body("{}");
    assert_eq!(told(bare()).await, invalid(401));
    assert_eq!(told(bare().bearer_auth("wrong")).await, invalid(403));
    for bad in ["", "{", "no json", "[]", "\"text\"", "{\"model\":1}", "{} {}", "{\"a\":\"\u{7}\"}"]
    {
        let (status, code) = told(gateway.post("/v1/completions").body(bad)).await;
        assert_eq!((status, &*code), (400, "invalid_json"), "{bad:?}");
    }
    let double = r#"{"model":"a","prompt":"x","model":"b"}"#;
    let double = told(gateway.post("/v1/completions").body(double)).await;
    assert_eq!(double, (400, "duplicate_field".to_owned()));
    let unreachable = told(gateway.chat("m")).await;
    assert_eq!(unreachable, (502, "upstream_unreachable".to_owned()));
    let slow = told(gateway.post("/v1/embeddings?timeout=0.05").body("{}")).await;
    assert_eq!(slow, (504, "upstream_timeout".to_owned()));
    assert!(good.seen().is_empty(), "nothing of this went up");
    assert_eq!(gateway.post("/v1/completions").body("{}").send().await.unwrap().status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn c3_a_wrong_key_is_401_unless_a_setting_says_403() {
    let (gateway, ..) = gateway_of_c(None).await;
    let wrong = gateway.client.post(gateway.url("/v1/completions")).bearer_auth("wrong");
    assert_eq!(wrong.send().await.unwrap().status(), 401);

    let routes = format!("routes:\n{}", super::route("/v1/completions", nowhere()));
    let by_flag = Setup::routes(&routes)
        .flags(|flags| flags.invalid_key_status = Some("403".into()))
        .start()
        .await;
    let wrong = by_flag.client.post(by_flag.url("/v1/completions")).bearer_auth("wrong");
    assert_eq!(wrong.send().await.unwrap().status(), 403);
    let missing = by_flag.client.post(by_flag.url("/v1/completions"));
    assert_eq!(missing.send().await.unwrap().status(), 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn c3_a_node_that_breaks_or_refuses_our_key_is_502() {
    let upstream = node(&["llama"]).await;
    let gateway = TestGateway::before(upstream.addr()).await;
    for (fault, expected) in [
        (Fault::Close, "upstream_error"),
        (Fault::Reset, "upstream_error"),
        (Fault::Garbage, "upstream_error"),
        ("status=401".parse().unwrap(), "upstream_auth_failed"),
        ("redirect=http://elsewhere/".parse().unwrap(), "upstream_error"),
    ] {
        upstream.set_fault(Some(fault.clone()));
        let reply = gateway.chat("llama").send().await.unwrap();
        assert_eq!(reply.status(), 502, "{fault:?}");
        assert!(!reply.headers().contains_key("location"));
        assert_eq!(code(reply).await, expected, "{fault:?}");
    }
}
