//! A response that goes on from another is made where that one is kept.

use serde_json::{Value, json};

use super::{
    KEYS, asked, before_two, get, keeper, make, post, refused, told, two, unknown_previous,
};
use crate::support::gateway::Setup;
use crate::support::{KEY, TestGateway};

/// Asks for a response that goes on from `previous`, with `model` where there is one.
fn next(gateway: &TestGateway, model: Option<&str>, previous: &Value) -> reqwest::RequestBuilder {
    let mut body = json!({ "input": "More", "previous_response_id": previous });
    if let Some(model) = model {
        body["model"] = model.into();
    }
    post(gateway, "sk-one", &body)
}

#[tokio::test(flavor = "multi_thread")]
async fn it_goes_to_the_node_that_keeps_the_previous_one() {
    let (first, second) = (keeper("a").await, keeper("b").await);
    let gateway = before_two(&first, &second).await;
    let id = make(&gateway, "sk-one", "qwen").await;
    for (model, made) in
        [(Some("qwen"), "resp_b_2"), (None, "resp_b_3"), (Some("second:qwen"), "resp_b_4")]
    {
        let (status, text) = told(next(&gateway, model, &json!(id))).await;
        assert_eq!((status, text), (200, format!(r#"{{"id":"{made}"}}"#)), "{model:?}");
        let (_, answer) = told(get(&gateway, "sk-one", made)).await;
        assert_eq!(answer, "b", "{model:?}");
    }
    let sent: Value = serde_json::from_slice(&second.seen()[1].body).unwrap();
    assert_eq!(sent["previous_response_id"], id.as_str());
    // Without one, it is the model alone that decides.
    let (_, text) = told(next(&gateway, None, &Value::Null)).await;
    assert_eq!(text, r#"{"id":"resp_a_1"}"#);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_unknown_or_anothers_is_not_gone_on_from() {
    let (first, second) = (keeper("a").await, keeper("b").await);
    let gateway = before_two(&first, &second).await;
    let id = make(&gateway, "sk-two", "llama").await;
    for id in [id.as_str(), "resp_x", "", "\u{e9}\"\\"] {
        let expected = unknown_previous(&id.replace('\\', "\\\\").replace('"', "\\\""));
        assert_eq!(told(next(&gateway, Some("llama"), &json!(id))).await, expected, "{id:?}");
    }
    let (status, text) = told(next(&gateway, Some("llama"), &json!("x".repeat(100_000)))).await;
    assert!(status == 404 && text.len() < 800, "{}", text.len());
    for wrong in [json!(7), json!([id]), json!(true)] {
        let told = refused(next(&gateway, Some("llama"), &wrong)).await;
        assert_eq!(told, (400, "invalid_json".into()), "{wrong}");
    }
    let twice =
        r#"{"model":"llama","previous_response_id":null,"previous_response\u005fid":"resp_a_1"}"#;
    let request =
        gateway.client.post(gateway.url("/v1/responses")).bearer_auth("sk-one").body(twice);
    assert_eq!(refused(request).await, (400, "duplicate_field".into()));
    assert_eq!((first.seen().len(), second.seen().len()), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_is_served_elsewhere_cannot_go_on_from_it() {
    let (first, second) = (keeper("a").await, keeper("b").await);
    let gateway = before_two(&first, &second).await;
    let id = make(&gateway, "sk-one", "qwen").await;
    let request = next(&gateway, Some("llama"), &json!(id));
    let (status, text) = told(request).await;
    assert_eq!(status, 404);
    let error: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(error["error"]["code"], "model_not_found");
    assert_eq!(error["error"]["param"], "model");
    assert!(error["error"]["message"].as_str().unwrap().contains("does not serve"), "{text}");
    assert_eq!((first.seen().len(), second.seen().len()), (0, 1));
    let aliased = two(first.addr, second.addr) + "aliases: { small: qwen, large: llama }\n";
    gateway.rewrite_routes(&aliased).await;
    assert_eq!(told(next(&gateway, Some("small"), &json!(id))).await.0, 200);
    let sent: Value = serde_json::from_slice(&second.seen()[1].body).unwrap();
    assert_eq!(sent["model"], "qwen");
    assert_eq!(refused(next(&gateway, Some("large"), &json!(id))).await.0, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_models_are_learnt_is_asked_what_it_serves() {
    let (first, second) = (keeper("a").await, keeper("b").await);
    let routes = two(first.addr, second.addr);
    let routes = routes.replace(", models: [llama]", "").replace(", models: [qwen]", "");
    let gateway = Setup::bare().file("routes.yaml", &routes).keys(KEYS).start().await;
    let id = make(&gateway, "sk-one", "second:anything").await;
    assert_eq!(id, "resp_b_1");
    assert_eq!(told(next(&gateway, Some("model-b"), &json!(id))).await.0, 200);
    let told = refused(next(&gateway, Some("model-a"), &json!(id))).await;
    assert_eq!(told, (404, "model_not_found".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn with_one_node_the_node_judges_the_model() {
    let node = keeper("a").await;
    let gateway = TestGateway::before(node.addr).await;
    let id = make(&gateway, KEY, "m").await;
    let body = json!({ "model": "no such", "previous_response_id": id });
    assert_eq!(told(post(&gateway, KEY, &body)).await.0, 200);
    assert!(asked(&node).is_empty());
}
