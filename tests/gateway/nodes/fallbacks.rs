//! Models that answer in the place of one whose nodes are all down.

use serde_json::Value;

use super::{QUICK, chats, until};
use crate::support::gateway::{Setup, chat};
use crate::support::{KEY, TestGateway, node, nowhere};

/// A large model on `large` and a small one on `small`, which answers in its place.
fn routes(large: std::net::SocketAddr, small: std::net::SocketAddr) -> String {
    format!(
        "upstreams:\n  large: {{ kind: vllm, nodes: ['http://{large}'], models: [l], {QUICK} }}\n  \
           small: {{ kind: vllm, nodes: ['http://{small}'], models: [s], {QUICK} }}\n\
         routes:\n  - {{ preset: vllm, upstream: large }}\n  - {{ preset: vllm, upstream: small }}\n\
         fallbacks: {{ l: [s] }}\naliases: {{ big: l }}\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn another_model_answers_while_no_node_of_the_first_works() {
    let (large, small) = (node(&["l"]).await, node(&["s"]).await);
    let gateway = TestGateway::start(&routes(large.addr(), small.addr())).await;
    let model = async |asked: &str| {
        let reply = gateway.chat(asked).send().await.unwrap();
        assert_eq!(reply.status(), 200);
        reply.json::<Value>().await.unwrap()["model"].as_str().unwrap().to_owned()
    };
    assert_eq!(model("l").await, "l");
    large.refuse().await;
    until(&gateway, large.addr(), "down").await;
    assert_eq!((model("l").await, model("big").await), ("s".to_owned(), "s".to_owned()));
    large.accept().await;
    until(&gateway, large.addr(), "starting").await;
    assert_eq!((model("l").await, chats(&small)), ("l".to_owned(), 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_may_not_use_the_fallback_is_told_so() {
    let small = node(&["s"]).await;
    let dead = nowhere();
    let keys = "keys:\n  - { name: app, key: sk-app, models: [l] }\n";
    let setup = Setup::bare().file("routes.yaml", &routes(dead, small.addr())).keys(keys);
    let gateway = setup.env("PROXY_SECRET_KEY", KEY).start().await;
    until(&gateway, dead, "down").await;
    let request = gateway.client.post(gateway.url("/v1/chat/completions")).bearer_auth("sk-app");
    let reply = request.json(&chat("l")).send().await.unwrap();
    assert_eq!(reply.status(), 403);
    assert!(reply.text().await.unwrap().contains("model_not_allowed"));
    assert_eq!(chats(&small), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_known_model_without_a_node_that_works_is_a_503_and_never_a_404() {
    let small = node(&["s"]).await;
    let dead = nowhere();
    let gateway =
        TestGateway::start(&routes(dead, small.addr()).replace("fallbacks", "x-no")).await;
    until(&gateway, dead, "down").await;
    let reply = gateway.chat("l").send().await.unwrap();
    assert_eq!(
        (reply.status().as_u16(), &reply.headers()["retry-after"]),
        (503, &"1".parse().unwrap())
    );
    assert!(reply.text().await.unwrap().contains(r#""code":"no_healthy_node""#));
}

/// Nobody knows yet that the node is dead, or only a request can find out whether it still is: that request falls back, too.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_finds_its_node_dead_falls_back_in_its_next_try() {
    let small = node(&["s"]).await;
    let unprobed = routes(nowhere(), small.addr()).replace(QUICK, "health: off");
    let gateway = TestGateway::start(&unprobed).await;
    for _ in 0..12 {
        let reply = gateway.chat("l").send().await.unwrap();
        assert_eq!(reply.status(), 200);
        assert_eq!(reply.headers()["x-sluice-node"], format!("http://{}", small.addr()));
        assert_eq!(reply.json::<Value>().await.unwrap()["model"], "s");
    }
    assert_eq!(chats(&small), 12);
    // Once it was ejected, it was asked by trials alone.
    assert!(gateway.series("sluice_retries_total") < 12.0);
}
