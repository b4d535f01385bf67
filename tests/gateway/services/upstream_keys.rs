//! What a node is shown: its own key in its own header, and nothing of the client's (rows A4, A6).

use super::chat_route;
use crate::support::gateway::{Setup, chat};
use crate::support::scripted::Scripted;
use crate::support::{KEY, TestGateway};

#[tokio::test(flavor = "multi_thread")]
async fn a4_each_route_sends_its_own_upstream_key_and_never_the_clients() {
    let upstream = Scripted::replying("{}").await;
    let of = |path: &str, key: &str| format!("{}{key}", super::route(path, upstream.addr));
    let routes = [
        "routes:\n".to_owned(),
        of("/v1/chat/completions", "    upstream_key: super-secret-chat-key\n"),
        of("/v1/completions", "    upstream_key: ${OTHER_KEY:?}\n"),
        of("/v1/embeddings", ""),
    ];
    let gateway =
        Setup::routes(&routes.concat()).env("OTHER_KEY", "key-of-the-environment").start().await;
    let expected = [
        ("/v1/chat/completions", Some("Bearer super-secret-chat-key")),
        ("/v1/completions", Some("Bearer key-of-the-environment")),
        ("/v1/embeddings", None),
    ];
    for (path, _) in expected {
        let request = gateway.client.post(gateway.url(path)).json(&chat("m"));
        // The first decides; none of them goes up.
        let request = request
            .header("X-Proxy-Secret", KEY)
            .header("x-internal-auth", "of the client")
            .header("x-api-key", "of the client")
            .bearer_auth("of the client")
            .header("proxy-authorization", "of the client")
            .header("cookie", "session=of the client")
            .header("api-key", "of the client");
        let reply = request.send().await.unwrap();
        assert_eq!(reply.status(), 200, "{path}");
        assert!(!format!("{:?}", reply.headers()).contains("secret"));
    }
    for (came, (path, key)) in upstream.seen().iter().zip(expected) {
        assert_eq!(came.header("authorization"), key, "{path}");
        assert_eq!(came.header("host"), Some(&*upstream.addr.to_string()));
        for absent in ["x-proxy-secret", "x-internal-auth", "x-api-key", "cookie", "api-key"] {
            assert_eq!(came.header(absent), None, "{path}");
        }
        assert!(!came.head.contains(KEY) && !came.head.contains("of the client"), "{}", came.head);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a6_upstream_key_header_and_prefix_have_defaults_and_may_be_replaced_or_empty() {
    let cases = [
        ("", "authorization", "Bearer sk-node"),
        ("    upstream_key_prefix: \"Token \"\n", "authorization", "Token sk-node"),
        ("    upstream_key_prefix: \"\"\n", "authorization", "sk-node"),
        ("    upstream_key_header: X-Node-Key\n", "x-node-key", "Bearer sk-node"),
        (
            "    upstream_key_header: X-API-Key\n    upstream_key_prefix: \"Token \"\n",
            "x-api-key",
            "Token sk-node",
        ),
        (
            "    upstream_key_header: x-proxy-secret\n    upstream_key_prefix: ''\n",
            "x-proxy-secret",
            "sk-node",
        ),
    ];
    for (fields, header, value) in cases {
        let upstream = Scripted::replying(r#"{"object":"list","data":[]}"#).await;
        let routes = format!("routes:\n{}{fields}", chat_route(upstream.addr, "sk-node"));
        let gateway = TestGateway::start(&routes).await;
        assert_eq!(gateway.chat("m").send().await.unwrap().status(), 200, "{fields}");
        // What the gateway asks by itself carries the key in the same way.
        assert_eq!(gateway.get("/v1/models").send().await.unwrap().status(), 200, "{fields}");
        let seen = upstream.seen();
        assert_eq!(seen.len(), 2);
        for came in seen {
            assert_eq!(came.header(header), Some(value), "{fields}{}", came.head);
            assert_eq!(came.head.matches("sk-node").count(), 1, "{}", came.head);
            assert!(!came.head.contains(KEY), "{}", came.head);
            let own = header == "authorization";
            assert_eq!(came.header("authorization").is_some(), own, "{}", came.head);
        }
    }
}
