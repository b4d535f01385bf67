//! R34: how errors are told.

use serde_json::Value;

use super::wire::request;
use crate::support::gateway::Setup;
use crate::support::heads::only_came;
use crate::support::http::{raw, status};
use crate::support::scripted::{Peer, Scripted};
use crate::support::{KEY, nowhere};

const CHAT: &str = "POST /v1/chat/completions";

#[tokio::test(flavor = "multi_thread")]
async fn r34_every_error_is_one_object_and_names_no_node() {
    let broken = Scripted::start(|_, mut peer: Peer| async move {
        drop(peer.request().await);
    })
    .await;
    let silent = Scripted::start(|_, mut peer: Peer| async move { peer.closed().await }).await;
    let (ok, gone) = (Scripted::replying("{}").await, nowhere());
    let upstream = |name: &str, node: std::net::SocketAddr| {
        format!(
            "  {name}: {{ kind: vllm, nodes: ['http://{node}'], models: [{name}], health: off }}\n"
        )
    };
    let names = ["broken", "silent", "gone", "ok"];
    let routes: String =
        names.map(|name| format!("  - {{ preset: vllm, upstream: {name} }}\n")).concat();
    let addresses = [broken.addr, silent.addr, gone, ok.addr];
    let upstreams: String =
        names.iter().zip(addresses).map(|(name, node)| upstream(name, node)).collect();
    let keys = "keys:\n  - { name: team, key: sk-team }\n  - { name: once, key: sk-once, limits: { rpm: 1 } }\n  - { name: poor, key: sk-poor, models: [x] }\n";
    let setup = Setup::routes(&format!("upstreams:\n{upstreams}routes:\n{routes}")).keys(keys);
    let gateway = setup.flags(|flags| flags.max_body_bytes = Some("1000".into())).start().await;
    let of = |line: &str, lines: &str, body: &str| {
        let lines = format!("{lines}content-length: {}\r\n", body.len());
        request(line, &lines, body).replace(KEY, "sk-team")
    };
    let model = |name: &str| format!("{{\"model\":\"{name}\"}}");
    for (asked, expected) in [
        (of(CHAT, "", &model("gone")), (502, "upstream_unreachable")),
        (of(CHAT, "", &model("broken")), (502, "upstream_error")),
        (of(CHAT, "x-timeout-seconds: 0.2\r\n", &model("silent")), (504, "upstream_timeout")),
        (of(CHAT, "", &model("none")), (404, "model_not_found")),
        (of(CHAT, "x-timeout-seconds: 0\r\n", &model("gone")), (400, "invalid_timeout")),
        (of(CHAT, "", "{"), (400, "invalid_json")),
        (of(CHAT, "", &" ".repeat(1_001)), (413, "request_too_large")),
        (of(CHAT, "content-encoding: gzip\r\n", "{}"), (415, "unsupported_content_encoding")),
        (of("POST /none", "", ""), (404, "route_not_found")),
        (of("PUT /ping", "", ""), (405, "method_not_allowed")),
        (of("GET /a//b", "", ""), (400, "invalid_target")),
        (of("GET /metrics", "", ""), (403, "scope_not_allowed")),
        (of(CHAT, "", &model("gone")).replace("sk-team", "sk-poor"), (403, "model_not_allowed")),
        (of(CHAT, "", "{}").replace("sk-team", "sk-none"), (401, "invalid_api_key")),
    ] {
        let told = raw(gateway.addr, asked.as_bytes()).await;
        is_error(&told, expected);
        for node in addresses {
            assert!(!told.contains(&node.to_string()) && !told.contains("127.0.0.1"), "{told}");
        }
    }
    let once = of(CHAT, "", &model("ok")).replace("sk-team", "sk-once");
    assert_eq!(status(&raw(gateway.addr, once.as_bytes()).await), 200);
    is_error(&raw(gateway.addr, once.as_bytes()).await, (429, "rate_limit_exceeded"));
    only_came(&ok.seen(), ok.addr, (CHAT, ""), &model("ok"));
    assert!(broken.seen().iter().all(|came| came.body == model("broken").as_bytes()));
    assert!(silent.seen().is_empty());
}

/// An answer of the gateway's own: JSON of OpenAI's four fields, under its request's name.
#[track_caller]
fn is_error(answer: &str, (code, word): (u16, &str)) {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert_eq!(status(answer), code, "{answer}");
    let head = head.to_lowercase();
    assert!(head.contains("\r\ncontent-type: application/json"), "{head}");
    assert!(head.contains("\r\nx-request-id: req_"), "{head}");
    let told: Value = serde_json::from_str(body).unwrap();
    assert_eq!(told.as_object().unwrap().len(), 1, "{body}");
    let error = told["error"].as_object().unwrap();
    let fields: Vec<_> = error.keys().map(String::as_str).collect();
    assert_eq!(fields, ["code", "message", "param", "type"], "{body}");
    assert_eq!(error["code"], word, "{body}");
    assert!(error["message"].as_str().is_some_and(|text| !text.is_empty()), "{body}");
}
