//! Web pages of other origins (row C5).

use reqwest::header::HeaderMap;
use reqwest::{Method, Response};

use crate::support::TestGateway;
use crate::support::gateway::{Setup, chat};
use crate::support::scripted::Scripted;

const PAGE: &str = "https://chat.example.com";

/// A node that has a mind of its own about other origins.
async fn permissive() -> Scripted {
    Scripted::start(|_, mut peer| async move {
        while peer.request().await.is_some() {
            peer.send(
                b"HTTP/1.1 200 OK\r\naccess-control-allow-origin: *\r\nvary: accept-encoding\r\n\
                  access-control-allow-credentials: true\r\ncontent-length: 2\r\n\r\n{}",
            )
            .await;
        }
    })
    .await
}

async fn with_origins(origins: Option<&str>) -> (TestGateway, Scripted) {
    let node = permissive().await;
    let routes = format!("routes:\n{}", super::chat_route(node.addr, "k"));
    let setup = Setup::routes(&routes);
    let setup = match origins {
        Some(origins) => setup.env("CORS_ALLOW_ORIGINS", origins),
        None => setup,
    };
    (setup.start().await, node)
}

/// What a browser asks before a page's POST with these headers.
async fn preflight(gateway: &TestGateway, origin: &str) -> Response {
    let url = gateway.url("/v1/chat/completions");
    let request = gateway.client.request(Method::OPTIONS, url).header("origin", origin);
    let request = request
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "authorization,content-type,x-stainless-lang");
    request.send().await.unwrap()
}

async fn actual(gateway: &TestGateway, origin: &str) -> HeaderMap {
    let reply = gateway.chat("m").header("origin", origin).send().await.unwrap();
    assert_eq!(reply.status(), 200);
    reply.headers().clone()
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> &'h str {
    headers.get(name).map_or("", |value| value.to_str().unwrap())
}

fn varies(headers: &HeaderMap) -> String {
    let all = headers.get_all("vary").iter().map(|value| value.to_str().unwrap().to_lowercase());
    all.collect::<Vec<_>>().join(", ")
}

fn says_nothing(headers: &HeaderMap) {
    let cors = |name: &&reqwest::header::HeaderName| name.as_str().starts_with("access-control-");
    assert_eq!(headers.keys().filter(cors).count(), 0, "{headers:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn c5_cors_answers_the_preflight_and_marks_the_answer() {
    for (origins, allowed) in [("*", "*"), ("https://a.example,https://chat.example.com", PAGE)] {
        let (gateway, node) = with_origins(Some(origins)).await;
        let reply = preflight(&gateway, PAGE).await;
        assert_eq!(reply.status(), 204, "a preflight carries no key");
        let headers = reply.headers();
        assert_eq!(text(headers, "access-control-allow-origin"), allowed);
        assert!(text(headers, "access-control-allow-methods").contains("POST"));
        let wanted = "authorization,content-type,x-stainless-lang";
        assert_eq!(text(headers, "access-control-allow-headers"), wanted);
        assert!(node.seen().is_empty(), "no node is asked");

        let headers = actual(&gateway, PAGE).await;
        assert_eq!(headers.get_all("access-control-allow-origin").iter().count(), 1);
        assert_eq!(text(&headers, "access-control-allow-origin"), allowed);
        assert!(text(&headers, "access-control-expose-headers").contains("x-request-id"));
        assert!(!headers.contains_key("access-control-allow-credentials"));
        assert!(varies(&headers).contains("accept-encoding"), "the node's own stays");
        // A page must be able to read why it was refused.
        let refused = gateway.client.post(gateway.url("/v1/chat/completions"));
        let refused = refused.header("origin", PAGE).json(&chat("m")).send().await.unwrap();
        assert_eq!(refused.status(), 401);
        assert_eq!(text(refused.headers(), "access-control-allow-origin"), allowed);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn c5_pages_of_origins_that_are_not_listed_may_not() {
    let (gateway, _node) = with_origins(Some(PAGE)).await;
    for origin in
        ["https://evil.example", "http://chat.example.com", "null", "https://chat.example.com.evil"]
    {
        says_nothing(preflight(&gateway, origin).await.headers());
        says_nothing(&actual(&gateway, origin).await);
    }
    // What depends on the origin says so, whoever asks: a cache must not serve one's answer to another.
    for origin in [PAGE, "https://evil.example"] {
        assert!(varies(&actual(&gateway, origin).await).contains("origin"), "{origin}");
        assert!(varies(preflight(&gateway, origin).await.headers()).contains("origin"), "{origin}");
    }
    let same_origin = gateway.chat("m").send().await.unwrap();
    assert!(varies(same_origin.headers()).contains("origin"));
}

#[tokio::test(flavor = "multi_thread")]
async fn c5_no_page_may_unless_a_setting_says_so() {
    let (gateway, _node) = with_origins(None).await;
    says_nothing(&actual(&gateway, PAGE).await);
    let reply = preflight(&gateway, PAGE).await;
    assert!(reply.status().is_client_error());
    says_nothing(reply.headers());
}
