//! Who may come in: every form of a key that the services replaced took (rows A3, B1, C1).

use reqwest::RequestBuilder;

use super::{chat_route, code};
use crate::support::gateway::{Setup, chat};
use crate::support::scripted::Scripted;
use crate::support::{KEY, TestGateway, node};

/// A chat with these headers and no others of ours.
fn with(gateway: &TestGateway, headers: &[(&str, &str)]) -> RequestBuilder {
    let request = gateway.client.post(gateway.url("/v1/chat/completions")).json(&chat("m"));
    headers.iter().fold(request, |request, (name, value)| request.header(*name, *value))
}

#[tokio::test(flavor = "multi_thread")]
async fn a3_each_form_of_the_key_opens_and_anything_else_is_401() {
    let upstream = Scripted::replying("{}").await;
    let routes = format!("routes:\n{}", chat_route(upstream.addr, "sk-upstream"));
    let gateway = TestGateway::start(&routes).await;
    let (bearer, lower) = (format!("Bearer {KEY}"), format!("bearer {KEY}"));
    let opening: [&[(&str, &str)]; 5] = [
        &[("X-Proxy-Secret", KEY)],
        &[("Authorization", &bearer)],
        &[("Authorization", &lower)],
        &[("X-Proxy-Secret", KEY), ("Authorization", "Bearer other")],
        &[("Cookie", "a=b"), ("X-Proxy-Secret", KEY)],
    ];
    for headers in opening {
        let reply = with(&gateway, headers).send().await.unwrap();
        assert_eq!(reply.status(), 200, "{headers:?}");
    }
    let basic = format!("Basic {KEY}");
    let refused: [&[(&str, &str)]; 9] = [
        &[],
        &[("X-Proxy-Secret", "wrong")],
        &[("X-Proxy-Secret", "")],
        &[("X-Proxy-Secret", &bearer)],
        &[("Authorization", "Bearer wrong")],
        &[("Authorization", "Bearer")],
        &[("Authorization", KEY)],
        &[("Authorization", &basic)],
        &[("X-Proxy-Secret", "wrong"), ("Authorization", &bearer)],
    ];
    for headers in refused {
        let reply = with(&gateway, headers).send().await.unwrap();
        assert_eq!(reply.status(), 401, "{headers:?}");
        assert_eq!(reply.headers()["www-authenticate"], "Bearer");
        assert!(!reply.headers()["x-request-id"].is_empty());
        assert_eq!(code(reply).await, "invalid_api_key", "{headers:?}");
    }
    let twice = [("X-Proxy-Secret", KEY), ("X-Proxy-Secret", KEY)];
    assert_eq!(with(&gateway, &twice).send().await.unwrap().status(), 400);
    let seen = upstream.seen();
    assert_eq!(seen.len(), opening.len(), "nothing that was refused went up");
    for came in seen {
        assert_eq!(came.header("authorization"), Some("Bearer sk-upstream"));
        assert!(!came.head.contains(KEY), "{}", came.head);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn b1_x_internal_auth_opens_with_internal_api_key() {
    let upstream = node(&["m"]).await;
    let gateway = Setup::bare()
        .env("INTERNAL_API_KEY", "internal-1")
        .env("VLLM_BASE_URL", &format!("http://{}", upstream.addr()))
        .start()
        .await;
    for (name, value) in [
        ("x-internal-auth", "internal-1"),
        ("X-Internal-Auth", "internal-1"),
        ("authorization", "Bearer internal-1"),
    ] {
        let reply = with(&gateway, &[(name, value)]).send().await.unwrap();
        assert_eq!(reply.status(), 200, "{name}");
    }
    for headers in [&[][..], &[("x-internal-auth", "internal-2")], &[("x-internal-auth", "")]] {
        let reply = with(&gateway, headers).send().await.unwrap();
        assert_eq!(reply.status(), 401, "{headers:?}");
    }
    // Its key has every scope, those of operators too.
    let metrics = gateway.client.get(gateway.url("/metrics"));
    let metrics = metrics.header("x-internal-auth", "internal-1").send().await.unwrap();
    assert_eq!(metrics.status(), 200);
    let seen = super::of_clients(upstream.requests());
    assert_eq!(seen.len(), 4);
    assert!(seen.iter().all(|one| super::credentials(one).is_empty()), "{seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn c1_each_of_allowed_api_keys_opens_as_bearer() {
    let upstream = node(&["m"]).await;
    let gateway = Setup::bare()
        .env("ALLOWED_API_KEYS", "first-key, second-key,third-key,")
        .env("VLLM_BASE_URL", &format!("http://{}", upstream.addr()))
        .start()
        .await;
    for key in ["first-key", "second-key", "third-key"] {
        let bearer = format!("Bearer {key}");
        let reply = with(&gateway, &[("Authorization", &bearer)]).send().await.unwrap();
        assert_eq!(reply.status(), 200, "{key}");
    }
    for wrong in ["Bearer first-key, second-key", "Bearer ", "Bearer ,", "Bearer fourth-key"] {
        let reply = with(&gateway, &[("Authorization", wrong)]).send().await.unwrap();
        assert_eq!(reply.status(), 401, "{wrong}");
    }
    let lines = gateway.log_lines(7).await;
    let names = lines.iter().filter_map(|line| line["key"].as_str());
    let mut names: Vec<&str> = names.filter(|name| name.starts_with("allowed")).collect();
    names.sort_unstable();
    assert_eq!(names, ["allowed-1", "allowed-2", "allowed-3"]);
    // They are keys of applications: a node is not operated with them.
    let metrics = gateway.client.get(gateway.url("/metrics")).bearer_auth("first-key");
    let metrics = metrics.send().await.unwrap();
    assert_eq!(metrics.status(), 403);
    assert_eq!(code(metrics).await, "scope_not_allowed");
    assert_eq!(super::of_clients(upstream.requests()).len(), 3);
}
