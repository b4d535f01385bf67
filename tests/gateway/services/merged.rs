//! One list of models over all upstreams (rows A8, B3).

use serde_json::Value;
use sluice::sim::{Settings, Simulator};

use super::{code, credentials, ids};
use crate::support::{TestGateway, node, node_with, nowhere};

/// A node with these models that wants `key`.
async fn locked(key: &str, models: &[&str]) -> Simulator {
    let models = models.iter().map(|model| (*model).into()).collect();
    node_with(Settings { models, api_keys: vec![key.to_owned()], ..Settings::default() }).await
}

async fn list(gateway: &TestGateway) -> (reqwest::header::HeaderMap, Value) {
    let reply = gateway.get("/v1/models").send().await.unwrap();
    assert_eq!(reply.status(), 200);
    (reply.headers().clone(), reply.json().await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a8_models_of_every_upstream_are_merged_and_one_that_is_down_is_left_out() {
    let one = locked("sk-one", &["llama", "shared"]).await;
    let two = locked("sk-two", &["shared", "qwen"]).await;
    let down = nowhere();
    let mut routes = String::from("routes:\n");
    for path in ["/v1/chat/completions", "/v1/completions"] {
        for (node, key) in [(one.addr(), "sk-one"), (two.addr(), "sk-two"), (down, "sk-down")] {
            routes += &format!("{}    upstream_key: {key}\n", super::route(path, node));
        }
    }
    let gateway = TestGateway::start(&routes).await;
    let (headers, models) = list(&gateway).await;
    assert_eq!(models["object"], "list");
    assert_eq!(ids(&models), ["llama", "qwen", "shared"].into());
    assert_eq!(models["data"].as_array().unwrap().len(), 3, "an id is listed once: {models}");
    assert_eq!(headers["x-sluice-partial"], down.to_string());
    // Two routes to one host with one key are one upstream: it was asked once, with its own key.
    for (node, key) in [(&one, "Bearer sk-one"), (&two, "Bearer sk-two")] {
        let seen = node.requests();
        assert_eq!(seen.len(), 1);
        assert_eq!(seen[0].target, "/v1/models");
        assert_eq!(credentials(&seen[0]), [("authorization", key)]);
    }
    // The first object of an id wins, as it stands there.
    let id = models["data"][1]["id"].as_str().unwrap();
    assert_eq!(id, "shared");
    let one_of = gateway.get("/v1/models/shared").send().await.unwrap();
    assert_eq!(one_of.json::<Value>().await.unwrap(), models["data"][1]);
    // What was asked a moment ago is not asked again.
    list(&gateway).await;
    assert_eq!((one.requests().len(), two.requests().len()), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a8_an_upstream_that_refuses_our_key_is_left_out_and_none_at_all_is_502() {
    let node = locked("sk-right", &["llama"]).await;
    let wrong = format!("routes:\n{}", super::chat_route(node.addr(), "sk-wrong"));
    let gateway = TestGateway::start(&wrong).await;
    let reply = gateway.get("/v1/models").send().await.unwrap();
    assert_eq!(reply.status(), 502);
    let text = reply.text().await.unwrap();
    assert!(!text.contains("sk-wrong") && text.contains("upstream"), "{text}");

    let down = TestGateway::start(&format!("routes:\n{}", super::chat_route(nowhere(), "k"))).await;
    let reply = down.get("/v1/models").send().await.unwrap();
    assert_eq!(reply.status(), 502);
    assert_eq!(code(reply).await, "upstream_unreachable");
}

#[tokio::test(flavor = "multi_thread")]
async fn b3_llm_models_lists_the_same_objects_as_models() {
    let node = node(&["llama", "org/model"]).await;
    let gateway = TestGateway::before(node.addr()).await;
    let (_, models) = list(&gateway).await;
    let reply = gateway.get("/v1/llm/models").send().await.unwrap();
    assert_eq!(reply.status(), 200);
    assert_eq!(reply.json::<Value>().await.unwrap(), models);
    assert_eq!(ids(&models), ["llama", "org/model"].into());
    let bare = gateway.client.get(gateway.url("/v1/llm/models")).send().await.unwrap();
    assert_eq!(bare.status(), 401);
}
