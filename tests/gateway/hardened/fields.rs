//! R1 to R10 over HTTP/2: there is one framing, but fields that an HTTP/1.1 node would read as another (RFC 9113, 8.2 and 8.3).

use crate::support::fields::{Field, ask};
use crate::support::gateway::{Setup, preset};
use crate::support::heads::sent_up;
use crate::support::http::raw;
use crate::support::recorder::Recorder;
use crate::support::scripted::Came;
use crate::support::{KEY, TestGateway};

const BODY: &[u8] = br#"{"model":"m"}"#;

/// Fields that are added to a good head, or, where their name is one of it, take its place; `-` before a name takes it away.
type Change = &'static [(&'static str, &'static str)];

/// Nothing of these may reach the node.
const REFUSED: [Change; 65] = [
    &[("content-length", "12")],
    &[("content-length", "14")],
    &[("content-length", "0")],
    &[("content-length", "13"), ("content-length", "13")],
    &[("content-length", "13"), ("content-length", "12")],
    &[("content-length", "13, 13")],
    &[("content-length", "+13")],
    &[("content-length", "-13")],
    &[("content-length", "0xd")],
    &[("content-length", "x")],
    &[("content-length", "18446744073709551629")],
    &[("transfer-encoding", "chunked")],
    &[("transfer-encoding", "identity")],
    &[("transfer-encoding", "\u{b}chunked")],
    &[("transfer-encoding ", "chunked")],
    &[("connection", "close")],
    &[("connection", "transfer-encoding")],
    &[("connection", "upgrade"), ("upgrade", "h2c")],
    &[("upgrade", "websocket")],
    &[("keep-alive", "timeout=5")],
    &[("proxy-connection", "keep-alive")],
    &[("te", "chunked")],
    &[("te", "trailers, chunked")],
    &[("host", "other")],
    &[("host", "h"), ("host", "h")],
    &[("-:authority", "")],
    &[(":authority", "h/v1/models?")],
    &[(":authority", "u@h")],
    &[(":authority", "h:65536")],
    &[(":authority", "h:x")],
    &[(":authority", "a b")],
    &[(":authority", "h, other")],
    &[(":authority", "h\r\nx-a: b")],
    &[("-:authority", ""), ("host", "h/x?")],
    &[("-:path", "")],
    &[(":path", "")],
    &[(":path", "*")],
    &[(":path", "ping")],
    &[(":path", "http://h/ping")],
    &[(":path", "//ping")],
    &[(":path", "/a/../ping")],
    &[(":path", "/%70ing")],
    &[(":path", "/ping HTTP/1.1\r\nhost: h\r\n\r\nGET /metrics")],
    &[(":path", "/ping\nx-a: b")],
    &[(":path", "/pi ng")],
    &[(":path", "/ping\0")],
    &[(":path", "/ping"), (":path", "/metrics")],
    &[("-:method", "")],
    &[(":method", "GET"), (":method", "POST")],
    &[(":method", "CONNECT"), (":protocol", "websocket")],
    &[(":method", "TRACE"), (":path", "/ping")],
    &[(":method", "POST /metrics HTTP/1.1\r\nhost: h\r\n\r\nGET")],
    &[(":method", "GET POST")],
    &[(":method", "")],
    &[("-:scheme", "")],
    &[(":scheme", "http"), (":scheme", "http")],
    &[(":unknown", "a")],
    &[(":status", "200")],
    &[("x-a", "b\r\ncontent-length: 0")],
    &[("x-a", "b\nc")],
    &[("x-a", "b\0c")],
    &[("X-A", "b")],
    &[("x-a\r\nx-b", "c")],
    &[("x-a: b\r\nx-c", "d")],
    &[("", "b")],
];

/// These reach it as any other does, with their body.
const CLEAN: [Change; 13] = [
    &[],
    &[("content-length", "13")],
    &[("te", "trailers")],
    &[("host", "h")],
    &[("-:authority", ""), ("host", "h")],
    &[("expect", "100-continue")],
    &[("cookie", "a=b"), ("cookie", "c=d")],
    &[("x_a", "b"), ("content_length", "0"), ("transfer_encoding", "chunked")],
    &[("x-content-length", "0"), ("x-transfer-encoding", "chunked")],
    &[("x-http-method-override", "DELETE"), ("x-original-url", "/pause")],
    &[("x-forwarded-for", "1.2.3.4"), ("forwarded", "for=1.2.3.4")],
    &[("trailer", "authorization"), ("via", "2 x")],
    &[("max-forwards", "0"), ("range", "bytes=0-1")],
];

/// A good head with this change.
fn head(change: Change) -> Vec<Field> {
    let key = format!("Bearer {KEY}");
    let good = [
        (":method", "POST"),
        (":scheme", "http"),
        (":authority", "h"),
        (":path", "/v1/chat/completions"),
        ("authorization", &key),
    ];
    let changed =
        |name: &str| change.iter().any(|(known, _)| known.trim_start_matches('-') == name);
    let kept = good.into_iter().filter(|(name, _)| !changed(name));
    let added = change.iter().copied().filter(|(name, _)| !name.starts_with('-'));
    let field = |(name, value): (&str, &str)| (name.as_bytes().to_vec(), value.as_bytes().to_vec());
    let mut fields: Vec<Field> = kept.chain(added).map(field).collect();
    // What begins with a colon stands first, as it must.
    fields.sort_by_key(|(name, _)| !name.starts_with(b":"));
    fields
}

async fn pair() -> (Recorder, TestGateway) {
    let node = Recorder::start().await;
    let setup = Setup::routes(&preset(node.addr)).flags(|flags| flags.h2c = Some("true".into()));
    let gateway = setup.start().await;
    (node, gateway)
}

/// Somebody else, over HTTP/1.1, is the only one whose request reaches the node, and gets the answer to it.
async fn victim(node: &Recorder, gateway: &TestGateway, after: &str) {
    let body = r#"{"model":"m","user":"victim"}"#;
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: h\r\nauthorization: Bearer {KEY}\r\nconnection: close\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    let answer = raw(gateway.addr, request.as_bytes()).await;
    let came = node.take();
    let heads: Vec<_> = came.iter().map(|record| record.head()).collect();
    assert!(came.len() == 1 && came[0].body == body.as_bytes(), "{after} let through {heads:?}");
    assert!(answer.ends_with(&came[0].answer()), "{after}: {answer:?}");
}

/// What came is a chat with this body, to the byte.
fn is_whole(node: &Recorder, after: &str) -> String {
    let came = node.take();
    let [record] = came.as_slice() else { panic!("{after}: {came:?}") };
    let seen = Came { head: record.head(), body: record.body.clone() };
    let line = ("POST /v1/chat/completions", "");
    assert_eq!(seen.head, sent_up(&seen, node.addr, line, "h"), "{after}");
    assert_eq!(seen.body, BODY, "{after}");
    record.answer()
}

/// The stream was broken off, or answered with an error; that of Pingora's own has no body.
fn is_refused(answer: Option<&str>) -> bool {
    answer.is_none_or(|body| body.is_empty() || body.starts_with("{\"error\":{\"message\":"))
}

#[tokio::test(flavor = "multi_thread")]
async fn r01_over_http2_a_head_that_http1_would_read_differently_is_refused() {
    let (node, gateway) = pair().await;
    let mut wrong = Vec::new();
    for change in REFUSED {
        let answer = ask(gateway.addr, &head(change), Some(BODY), &[]).await;
        if !is_refused(answer.as_deref()) {
            wrong.push(format!("{change:?} got {answer:?}"));
            node.take();
        }
        victim(&node, &gateway, &format!("{change:?}")).await;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The fragment is gone before a request is one (h2): what is asked for is the path alone.
#[tokio::test(flavor = "multi_thread")]
async fn r12_over_http2_a_fragment_reaches_no_node() {
    let (node, gateway) = pair().await;
    let fields = head(&[(":path", "/ping#/../metrics")]);
    ask(gateway.addr, &fields, Some(BODY), &[]).await.unwrap();
    let heads: Vec<_> = node.take().iter().map(|record| record.head()).collect();
    assert!(heads.len() == 1 && heads[0].starts_with("POST /ping HTTP/1.1\r\n"), "{heads:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn r02_over_http2_a_good_head_reaches_the_node_as_any_other() {
    let (node, gateway) = pair().await;
    for change in CLEAN {
        let answer = ask(gateway.addr, &head(change), Some(BODY), &[]).await;
        let after = format!("{change:?}");
        assert_eq!(answer, Some(is_whole(&node, &after)), "{after}");
        victim(&node, &gateway, &after).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn r03_over_http2_trailers_end_here() {
    let (node, gateway) = pair().await;
    let field = |name: &str, value: &str| (name.as_bytes().to_vec(), value.as_bytes().to_vec());
    let trailers = [field("authorization", "Bearer other"), field("content-length", "5")];
    let answer = ask(gateway.addr, &head(&[]), Some(BODY), &trailers).await;
    assert_eq!(answer, Some(is_whole(&node, "trailers")));
    for wrong in [field(":path", "/metrics"), field("X-A", "b"), field("connection", "close")] {
        let answer = ask(gateway.addr, &head(&[]), Some(BODY), std::slice::from_ref(&wrong)).await;
        if answer.as_deref().is_some_and(|body| body.starts_with("{\"heard\":")) {
            assert_eq!(answer, Some(is_whole(&node, "wrong trailers")), "{wrong:?}");
        }
        victim(&node, &gateway, "wrong trailers").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn r08_over_http2_a_head_has_bounds_too() {
    let (node, gateway) = pair().await;
    let mut many = head(&[]);
    many.extend((0..101).map(|n| (format!("x-{n}").into_bytes(), b"b".to_vec())));
    let mut long = head(&[]);
    let path = long.iter_mut().find(|(name, _)| name == b":path").unwrap();
    path.1.extend_from_slice(format!("?{}", "a".repeat(9_000)).as_bytes());
    for head in [many, long] {
        let answer = ask(gateway.addr, &head, Some(BODY), &[]).await;
        assert!(is_refused(answer.as_deref()), "{answer:?}");
        victim(&node, &gateway, "a large head").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn r11_over_http2_two_keys_are_refused() {
    let (node, gateway) = pair().await;
    let mut twice = head(&[]);
    twice.push((b"authorization".to_vec(), format!("Bearer {KEY}").into_bytes()));
    let answer = ask(gateway.addr, &twice, Some(BODY), &[]).await.unwrap();
    assert!(answer.contains(r#""code":"duplicate_credential""#), "{answer}");
    victim(&node, &gateway, "two keys").await;
}
