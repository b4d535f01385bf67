//! Pages that describe the API (row C7). What they look like, and that requests can be tried there, tests/browser tells.

use reqwest::{Method, Response};

use super::chat_route;
use crate::support::gateway::{Setup, preset};
use crate::support::scripted::Scripted;
use crate::support::{TestGateway, nowhere};

const PAGES: [&str; 2] = ["/docs", "/redoc"];

async fn open(gateway: &TestGateway, path: &str) -> Response {
    gateway.client.get(gateway.url(path)).send().await.unwrap()
}

fn header<'r>(reply: &'r Response, name: &str) -> &'r str {
    reply.headers().get(name).map_or("", |value| value.to_str().unwrap())
}

/// What a page loads.
fn loaded(html: &str) -> Vec<String> {
    let named =
        html.split(['"', '\'']).filter(|text| text.ends_with(".js") || text.ends_with(".css"));
    named.map(|path| format!("/{path}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn c7_the_documents_are_there_without_a_key_and_without_another_host() {
    let gateway = TestGateway::before(nowhere()).await;
    for page in PAGES {
        let reply = open(&gateway, page).await;
        assert_eq!(
            (reply.status().as_u16(), header(&reply, "content-type")),
            (200, "text/html; charset=utf-8")
        );
        let policy = header(&reply, "content-security-policy").to_owned();
        assert!(policy.contains("default-src 'none'; script-src 'self'"), "{policy}");
        let html = reply.text().await.unwrap();
        assert!(!html.contains("//"), "{html}");
        let files = loaded(&html);
        assert!(files.len() >= 2, "{html}");
        for file in files {
            let reply = open(&gateway, &file).await;
            assert_eq!(reply.status(), 200, "{file}");
            assert!(!reply.bytes().await.unwrap().is_empty(), "{file}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_browser_has_is_not_sent_again() {
    let gateway = TestGateway::before(nowhere()).await;
    for path in ["/docs", "/docs/init.js", "/docs/swagger-ui.css", "/openapi.json"] {
        let tag = header(&open(&gateway, path).await, "etag").to_owned();
        for (known, status) in
            [(tag.as_str(), 304), ("\"other\"", 200), (&format!("\"other\", W/{tag}"), 304)]
        {
            let request = gateway.client.get(gateway.url(path)).header("if-none-match", known);
            let reply = request.send().await.unwrap();
            assert_eq!(
                (reply.status().as_u16(), header(&reply, "etag")),
                (status, tag.as_str()),
                "{path} {known}"
            );
            assert_eq!(reply.bytes().await.unwrap().is_empty(), status == 304, "{path} {known}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_come_packed_or_as_the_client_wants_them() {
    let gateway = TestGateway::before(nowhere()).await;
    let file = gateway.url("/docs/swagger-ui.css");
    let ask = |coding| gateway.client.get(&file).header("accept-encoding", coding).send();
    let (packed, plain) = (ask("br, gzip").await.unwrap(), ask("identity").await.unwrap());
    assert_eq!(
        (header(&packed, "content-encoding"), header(&plain, "content-encoding")),
        ("gzip", "")
    );
    assert_ne!(header(&packed, "etag"), header(&plain, "etag"));
    assert_eq!(
        (header(&packed, "vary"), header(&plain, "vary")),
        ("accept-encoding", "accept-encoding")
    );
    assert_eq!(packed.bytes().await.unwrap()[..2], [0x1f, 0x8b]);
    assert!(plain.text().await.unwrap().starts_with(".swagger-ui"));
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_cost_no_limit_and_stand_in_the_access_log() {
    let node = Scripted::replying("{}").await;
    let keys = "keys: [{ name: one, key: sk-one, limits: { rpm: 1 } }]";
    let setup = Setup::bare().file("routes.yaml", &preset(node.addr)).keys(keys);
    let gateway = setup.start().await;
    for path in ["/docs", "/redoc", "/openapi.json", "/docs/init.js"] {
        let request = gateway.client.get(gateway.url(path)).bearer_auth("sk-one");
        assert_eq!(request.send().await.unwrap().status(), 200);
    }
    let chat = gateway.client.post(gateway.url("/v1/chat/completions")).bearer_auth("sk-one");
    assert_eq!(chat.body(r#"{"model":"m"}"#).send().await.unwrap().status(), 200);
    let lines = gateway.log_lines(5).await;
    assert_eq!(
        (lines[0]["path"].as_str(), lines[0]["status"].as_u64()),
        (Some("/docs"), Some(200))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn other_methods_get_what_they_get_of_other_answers_of_the_gateways() {
    let gateway = TestGateway::start(&format!("routes:\n{}", chat_route(nowhere(), "k"))).await;
    for method in [Method::HEAD, Method::POST, Method::OPTIONS] {
        let status = async |path: &str| {
            let request = gateway.client.request(method.clone(), gateway.url(path));
            request.bearer_auth(crate::support::KEY).send().await.unwrap().status()
        };
        for page in ["/docs", "/redoc", "/openapi.json"] {
            assert_eq!(status(page).await, status("/livez").await, "{method} {page}");
        }
    }
}
