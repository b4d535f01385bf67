//! No key is told: not in an error, a page, a header of an answer, whatever goes wrong. Logs and metrics are looked through
//! after every test (`support/gateway.rs`).

use reqwest::{Method, RequestBuilder, Response};
use serde_json::json;

use crate::support::gateway::{Setup, chat};
use crate::support::scripted::Scripted;
use crate::support::{TestGateway, node, nowhere, within};

const CHAT: &str = "/v1/chat/completions";

/// A node that tells everybody which key it was sent, with the status that they wish for as their `User-Agent`.
async fn telltale() -> Scripted {
    Scripted::start(|_, mut peer| async move {
        while let Some(came) = peer.request().await {
            let header = |name: &str| came.header(name).unwrap_or_default().to_owned();
            let body = json!({ "error": { "message": header("authorization") } }).to_string();
            peer.answer(&header("user-agent"), &body).await;
        }
    })
    .await
}

/// Everything that an answer says.
async fn said(reply: Response) -> String {
    let head = format!("{} {:?}", reply.status(), reply.headers());
    head + &within(reply.text()).await.unwrap()
}

async fn gateway() -> (TestGateway, Vec<Box<dyn std::any::Any>>) {
    let (good, bad) = (node(&["good"]).await, telltale().await);
    let upstream = |name: &str, addr: std::net::SocketAddr, more: &str| {
        format!(
            "  {name}: {{ kind: vllm, nodes: [\"http://{addr}\"], key: sk-node-{name}, models: [{name}], health: off{more} }}\n"
        )
    };
    let routes = [
        "upstreams:\n".to_owned(),
        upstream("good", good.addr(), ""),
        upstream("bad", bad.addr, ""),
        upstream("gone", nowhere(), ""),
        "routes:\n".to_owned(),
        ["good", "bad", "gone"]
            .map(|name| format!("  - {{ preset: vllm, upstream: {name} }}\n"))
            .concat(),
    ];
    let keys = "keys:\n  - { name: all, key: sk-all, scopes: [inference, admin] }\n  - { name: poor, key: sk-poor, models: [good], limits: { rpm: 1 } }\n";
    let setup = Setup::routes(&routes.concat()).keys(keys);
    let gateway = setup.flags(|flags| flags.max_body_bytes = Some("2000".to_owned())).start().await;
    (gateway, vec![Box::new(good), Box::new(bad)])
}

#[tokio::test(flavor = "multi_thread")]
async fn r14_no_answer_tells_a_key_whatever_goes_wrong() {
    let (gateway, _nodes) = gateway().await;
    let ask = |method: Method, path: &str, key: &str| -> RequestBuilder {
        gateway.client.request(method, gateway.url(path)).bearer_auth(key)
    };
    let chat_of = |key: &str, model: &str| ask(Method::POST, CHAT, key).json(&chat(model));
    let get = |path: &str, key: &str| ask(Method::GET, path, key);
    let mut asked: Vec<(u16, RequestBuilder)> = vec![
        (401, chat_of("sk-wrong", "good")),
        (401, ask(Method::POST, "/v1/messages", "sk-wrong").json(&chat("good"))),
        (403, chat_of("sk-poor", "bad")),
        (403, get("/metrics", "sk-poor")),
        (404, chat_of("sk-all", "none")),
        (404, get("/none", "sk-all")),
        (405, get(CHAT, "sk-all")),
        (400, ask(Method::POST, CHAT, "sk-all").body("{\"model\":sk-body")),
        (400, chat_of("sk-all", "good").header("x-timeout-seconds", "sk-timeout")),
        (400, chat_of("sk-all", "good").header("x-api-key", "sk-1").header("x-api-key", "sk-2")),
        (413, chat_of("sk-all", "good").body("x".repeat(3_000))),
        (200, chat_of("sk-poor", "good")),
        (429, chat_of("sk-poor", "good")),
        (502, chat_of("sk-all", "gone")),
        (200, get("/v1/models", "sk-all")),
        (200, get("/", "sk-all")),
        (204, get("/internal/authz", "sk-all").header("x-original-uri", CHAT)),
        (403, get("/internal/authz", "sk-poor").header("x-original-uri", CHAT)),
        (401, get("/health", "sk-wrong")),
    ];
    // A 401 of the node's is our own fault, 502; what else it says passes, without the key.
    for (status, wish) in [(502, "401 No"), (400, "400 No"), (500, "500 No")] {
        asked.push((status, chat_of("sk-all", "bad").header("user-agent", wish)));
    }
    let mut told = Vec::new();
    for (status, request) in asked {
        let reply = within(request.send()).await.unwrap();
        let url = reply.url().path().to_owned();
        assert_eq!(reply.status(), status, "{url}: {}", said(reply).await);
        told.push(said(reply).await);
    }
    for path in ["/metrics", "/api/status"] {
        let url = format!("http://{}{path}", gateway.admin);
        told.push(said(within(gateway.client.get(url).send()).await.unwrap()).await);
    }
    let secrets =
        ["sk-all", "sk-poor", "sk-wrong", "sk-node", "sk-body", "sk-timeout", "sk-1", "sk-2"];
    for (text, secret) in told.iter().flat_map(|text| secrets.map(|secret| (text, secret))) {
        assert!(!text.contains(secret), "{secret}: {text}");
    }
}
