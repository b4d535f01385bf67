//! A request's body: how long it may be, what must be read of it, and that nobody gets past a key's models by it.

use std::net::SocketAddr;

use reqwest::Body;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::gateway::{Setup, preset};
use crate::support::http::{raw, read_until, status};
use crate::support::scripted::Scripted;
use crate::support::{KEY, TestGateway, eventually, within};

const LIMITED: &str = "sk-limited-key-of-the-tests";

/// A gateway with an alias for a secret model, and a key that may use `open` and the alias `short` alone.
async fn limited(node: SocketAddr) -> TestGateway {
    let routes = preset(node) + "aliases: { short: public-model, sly: secret-model }\n";
    Setup::routes(&routes)
        .keys(&format!("keys:\n  - {{ name: team, key: {LIMITED}, models: [open, short] }}\n"))
        .start()
        .await
}

/// Status and code of the answer to `body` on `path`.
async fn answer(gateway: &TestGateway, key: &str, (path, body): (&str, &str)) -> (u16, String) {
    let request = gateway.client.post(gateway.url(path)).bearer_auth(key).body(body.to_owned());
    let reply = within(request.send()).await.unwrap();
    let status = reply.status().as_u16();
    let body: Value = reply.json().await.unwrap();
    (status, body["error"]["code"].as_str().unwrap_or_default().to_owned())
}

const CHAT: &str = "/v1/chat/completions";

#[tokio::test(flavor = "multi_thread")]
async fn r18_a_body_may_be_as_long_as_the_limit_and_not_a_byte_longer() {
    let node = Scripted::replying("{}").await;
    let setup = Setup::routes(&preset(node.addr)).env("MAX_BODY_BYTES", "1000");
    let gateway = setup.start().await;
    let body = |size: usize| format!("{{\"user\":\"{}\"}}", "u".repeat(size - 11));
    for chunked in [false, true] {
        let framed = |body: String| match chunked {
            false => Body::from(body),
            true => Body::wrap_stream(futures_util::stream::iter([Ok::<_, std::io::Error>(body)])),
        };
        let just = gateway.post(CHAT).body(framed(body(1000))).send().await.unwrap();
        assert_eq!(just.status(), 200, "{chunked}");
        let over = gateway.post(CHAT).body(framed(body(1001))).send().await.unwrap();
        assert_eq!(over.status(), 413, "{chunked}");
        let text = over.text().await.unwrap();
        assert!(text.contains("MAX_BODY_BYTES") && text.contains("request_too_large"), "{text}");
    }
    assert_eq!(node.seen().len(), 2);
    eventually(|| async { gateway.series("sluice_held_request_bytes") == 0.0 }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn r18_a_body_that_is_announced_too_long_is_refused_before_it_is_sent() {
    let node = Scripted::replying("{}").await;
    let gateway = TestGateway::before(node.addr).await;
    for length in ["104857601", "18446744073709551615"] {
        let head = format!(
            "POST {CHAT} HTTP/1.1\r\nhost: h\r\nauthorization: Bearer {KEY}\r\ncontent-length: {length}\r\n\r\n"
        );
        let answer = raw(gateway.addr, head.as_bytes()).await;
        assert_eq!(status(&answer), 413, "{answer}");
    }
    assert_eq!(node.seen().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn r22_bodies_share_one_budget_and_give_it_back() {
    let node = Scripted::start(|_, mut peer| async move {
        peer.request().await;
        peer.closed().await;
    })
    .await;
    let setup = Setup::routes(&preset(node.addr)).flags(|flags| {
        flags.max_body_bytes = Some("1000".into());
        flags.max_held_bytes = Some("1500".into());
    });
    let gateway = setup.start().await;
    let body = format!("{{\"user\":\"{}\"}}", "u".repeat(989));
    let request = format!(
        "POST {CHAT} HTTP/1.1\r\nhost: h\r\nauthorization: Bearer {KEY}\r\ncontent-length: 1000\r\n\r\n{body}"
    );
    let mut waiting = TcpStream::connect(gateway.addr).await.unwrap();
    waiting.write_all(request.as_bytes()).await.unwrap();
    eventually(|| async { node.seen().len() == 1 }).await;
    assert_eq!(gateway.series("sluice_held_request_bytes"), 1000.0);
    let refused = gateway.post(CHAT).body(body.clone()).send().await.unwrap();
    assert_eq!(refused.status(), 503);
    assert!(refused.headers().contains_key("retry-after"));
    assert!(refused.text().await.unwrap().contains("overloaded"));
    drop(waiting);
    eventually(|| async { gateway.series("sluice_held_request_bytes") == 0.0 }).await;
    let mut after = TcpStream::connect(gateway.addr).await.unwrap();
    after.write_all(request.as_bytes()).await.unwrap();
    eventually(|| async { node.seen().len() == 2 }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_is_let_go_with_the_answers_first_byte() {
    let node = Scripted::start(|_, mut peer| async move {
        peer.request().await;
        peer.send(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n\
              9\r\ndata: 1\n\n\r\n",
        )
        .await;
        peer.closed().await;
    })
    .await;
    let gateway = TestGateway::before(node.addr).await;
    let mut reply = gateway.chat("m").send().await.unwrap();
    within(reply.chunk()).await.unwrap().unwrap();
    eventually(|| async { gateway.series("sluice_held_request_bytes") == 0.0 }).await;
    assert_eq!(gateway.series("sluice_requests_in_flight"), 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn r16_what_cannot_be_read_is_refused() {
    let node = Scripted::replying("{}").await;
    let gateway = TestGateway::before(node.addr).await;
    let deep =
        |levels: usize| format!("{{\"a\":{}1{}}}", "[".repeat(levels - 1), "]".repeat(levels - 1));
    let utf16: String = r#"{"model":"m"}"#.chars().flat_map(|c| [c, '\0']).collect();
    let (deep_enough, too_deep) = (deep(128), deep(129));
    for (body, code) in [
        ("", "invalid_json"),
        ("{", "invalid_json"),
        ("[]", "invalid_json"),
        ("\u{feff}{}", "invalid_json"),
        (r#"{"model":"m"} {}"#, "invalid_json"),
        (r#"{"model":"m"}}"#, "invalid_json"),
        (r#"{"model":"m","a":NaN}"#, "invalid_json"),
        (r#"{"model":7}"#, "invalid_json"),
        (r#"{"model":["m"]}"#, "invalid_json"),
        (r#"{"model":"\ud800"}"#, "invalid_json"),
        (&too_deep, "invalid_json"),
        (&utf16, "invalid_json"),
        (r#"{"model":"a","model":"b"}"#, "duplicate_field"),
        (r#"{"model":"a","mod\u0065l":"b"}"#, "duplicate_field"),
        (r#"{"\u006dodel":"a","mod\u0065l":"a"}"#, "duplicate_field"),
        (r#"{"n":1,"model":"a","n":2}"#, "duplicate_field"),
    ] {
        assert_eq!(answer(&gateway, KEY, (CHAT, body)).await, (400, code.into()), "{body}");
    }
    assert_eq!(node.seen().len(), 0);
    assert_eq!(answer(&gateway, KEY, (CHAT, &deep_enough)).await.0, 200);
    eventually(|| async { gateway.series("sluice_held_request_bytes") == 0.0 }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_is_read_as_json_whatever_its_content_type_says() {
    let node = Scripted::replying("{}").await;
    let gateway = limited(node.addr).await;
    for content_type in ["text/plain", "multipart/form-data; boundary=x", "application/json"] {
        for (model, expected) in [("open", 200), ("secret-model", 403)] {
            let request = gateway.client.post(gateway.url(CHAT)).bearer_auth(LIMITED);
            let request = request.header("content-type", content_type);
            let reply = request.body(format!("{{\"model\":\"{model}\"}}")).send().await.unwrap();
            assert_eq!(reply.status(), expected, "{content_type} {model}");
        }
    }
    let seen = node.seen();
    assert_eq!(seen.len(), 3);
    assert_eq!(seen[0].header("content-type"), Some("text/plain"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limited_key_gets_its_own_models_and_no_others() {
    let node = Scripted::replying("{}").await;
    let gateway = limited(node.addr).await;
    for (path, body, expected) in [
        (CHAT, r#"{"model":"open"}"#, (200, "")),
        (CHAT, r#"{"mod\u0065l":"op\u0065n"}"#, (200, "")),
        (CHAT, r#"{"model":"llama:open"}"#, (200, "")),
        (CHAT, r#"{"model":"short"}"#, (200, "")),
        (CHAT, r#"{"model":"public-model"}"#, (403, "model_not_allowed")),
        (CHAT, r#"{"model":"secret-model"}"#, (403, "model_not_allowed")),
        (CHAT, r#"{"model":"llama:secret-model"}"#, (403, "model_not_allowed")),
        (CHAT, r#"{"model":"llama:llama:open"}"#, (403, "model_not_allowed")),
        (CHAT, r#"{"model":"open:secret-model"}"#, (403, "model_not_allowed")),
        (CHAT, r#"{"model":"llama:"}"#, (403, "model_not_allowed")),
        (CHAT, r#"{"model":"sly"}"#, (403, "model_not_allowed")),
        (CHAT, r#"{"model":""}"#, (403, "model_not_allowed")),
        (CHAT, r#"{"model":" open"}"#, (403, "model_not_allowed")),
        (CHAT, r#"{"model":"open\u0000"}"#, (400, "invalid_model")),
        (CHAT, r#"{"model":null}"#, (400, "model_required")),
        (CHAT, r#"{"messages":[]}"#, (400, "model_required")),
        (CHAT, r#"{"Model":"open"}"#, (400, "model_required")),
        ("/tokenize", r#"{"prompt":"x"}"#, (400, "model_required")),
        ("/pooling", r#"{"model":"secret-model"}"#, (403, "model_not_allowed")),
        ("/ping", r#"{"model":"secret-model"}"#, (403, "model_not_allowed")),
        ("/ping", "no json", (400, "model_required")),
        ("/pause", r#"{"model":"open"}"#, (403, "scope_not_allowed")),
    ] {
        let answered = answer(&gateway, LIMITED, (path, body)).await;
        assert_eq!(answered, (expected.0, expected.1.into()), "{path} {body}");
    }
    let bodies: Vec<_> =
        node.seen().into_iter().map(|came| String::from_utf8(came.body).unwrap()).collect();
    assert_eq!(bodies.len(), 4, "{bodies:?}");
    assert_eq!(bodies[2], r#"{"model":"open"}"#);
    assert_eq!(bodies[3], r#"{"model":"public-model"}"#);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_body_is_read_to_its_end_and_its_connection_lives_on() {
    let node = Scripted::replying(r#"{"id":"done"}"#).await;
    let gateway = TestGateway::before(node.addr).await;
    let mut stream = TcpStream::connect(gateway.addr).await.unwrap();
    for (body, word, expected) in [("{]", "invalid_json", 400), ("{}", "done", 200)] {
        let request = format!(
            "POST {CHAT} HTTP/1.1\r\nhost: h\r\nauthorization: Bearer {KEY}\r\ncontent-length: 2\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let answer = read_until(&mut stream, word).await;
        assert_eq!(status(&answer), expected, "{answer}");
        if expected == 400 && !answer.ends_with('}') {
            stream.read_u8().await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_no_json_passes_where_nobody_knows_what_it_is() {
    let node = Scripted::replying("{}").await;
    let gateway = TestGateway::start(&format!(
        "routes:\n  - {{ path: /any, methods: [POST], upstream_url: 'http://{}/any' }}\n",
        node.addr
    ))
    .await;
    let brackets = [b"\0".as_slice(), &b"[".repeat(200)].concat();
    for body in [brackets, b"{".repeat(200), b"plain".to_vec()] {
        let reply = gateway.post("/any").body(body.clone()).send().await.unwrap();
        assert_eq!(reply.status(), 200, "{body:?}");
    }
}
