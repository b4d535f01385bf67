//! A response is its maker's alone: what another key asks for is not there, in the same words as what never was.

use serde_json::{Value, json};

use super::{KEYS, asked, before_two, cancel, get, keeper, make, post, refused, told, unknown};
use crate::support::gateway::{Setup, preset};
use crate::support::scripted::{Peer, Scripted};
use crate::support::{TestGateway, within};

#[tokio::test(flavor = "multi_thread")]
async fn another_keys_response_is_not_there() {
    let (first, second) = (keeper("a").await, keeper("b").await);
    let gateway = before_two(&first, &second).await;
    let id = make(&gateway, "sk-one", "qwen").await;
    for id in [id.as_str(), "resp_b_9", "x"] {
        assert_eq!(told(get(&gateway, "sk-two", id)).await, unknown(id));
        assert_eq!(told(cancel(&gateway, "sk-two", id)).await, unknown(id));
    }
    let long = "x".repeat(3_000);
    let (status, text) = told(get(&gateway, "sk-one", &long)).await;
    assert!(status == 404 && text.len() < 700, "{text}");
    assert_eq!(refused(get(&gateway, "sk-wrong", &id)).await, (401, "invalid_api_key".into()));
    assert!(asked(&first).is_empty() && asked(&second).is_empty(), "no node was asked");
    assert_eq!(told(get(&gateway, "sk-one", &id)).await, (200, "b".into()));
    let lines = gateway.log_lines(9).await;
    let refused = lines.iter().filter(|line| line["error"] == "response_not_found");
    assert_eq!(refused.filter(|line| line["status"] == 404).count(), 7, "{lines:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_goes_to_the_node_that_made_it_whatever_route_comes_first() {
    let (first, second) = (keeper("a").await, keeper("b").await);
    let gateway = before_two(&first, &second).await;
    for (model, name) in [("llama", "a"), ("qwen", "b")] {
        let id = make(&gateway, "sk-one", model).await;
        assert_eq!(told(get(&gateway, "sk-one", &id)).await, (200, name.into()));
        assert_eq!(told(cancel(&gateway, "sk-one", &id)).await, (200, name.into()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_limited_to_models_asks_for_its_own_without_naming_one() {
    let (first, second) = (keeper("a").await, keeper("b").await);
    let gateway = before_two(&first, &second).await;
    let id = make(&gateway, "sk-limited", "llama").await;
    assert_eq!(told(get(&gateway, "sk-limited", &id)).await, (200, "a".into()));
    for body in ["", "{}"] {
        let request = cancel(&gateway, "sk-limited", &id).body(body);
        assert_eq!(told(request).await, (200, "a".into()));
    }
    let others = make(&gateway, "sk-one", "qwen").await;
    assert_eq!(told(get(&gateway, "sk-limited", &others)).await, unknown(&others));
    // To make one it must still say which model it uses.
    for body in [json!({ "input": "Hi" }), json!({ "input": "Hi", "previous_response_id": id })] {
        let told = refused(post(&gateway, "sk-limited", &body)).await;
        assert_eq!(told, (400, "model_required".into()));
    }
    let other_model = json!({ "model": "qwen", "previous_response_id": id });
    let told = refused(post(&gateway, "sk-limited", &other_model)).await;
    assert_eq!(told, (403, "model_not_allowed".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_keys_there_is_one_caller() {
    let node = keeper("a").await;
    let gateway = Setup::bare().file("routes.yaml", &preset(node.addr)).start().await;
    let made = told(gateway.client.post(gateway.url("/v1/responses")).body("{}")).await;
    assert_eq!(made, (200, r#"{"id":"resp_a_1"}"#.into()));
    let url = gateway.url("/v1/responses/resp_a_1");
    assert_eq!(told(gateway.client.get(&url)).await, (200, "a".into()));
    assert_eq!(told(gateway.client.get(url + "0")).await, unknown("resp_a_10"));
}

/// A node that makes the same response again and again.
async fn repeating() -> Scripted {
    Scripted::replying(r#"{"id":"resp_same"}"#).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_that_one_node_gives_two_keys_opens_to_neither() {
    let (first, second) = (repeating().await, repeating().await);
    let gateway = before_two(&first, &second).await;
    make(&gateway, "sk-one", "llama").await;
    make(&gateway, "sk-one", "llama").await;
    assert_eq!(told(get(&gateway, "sk-one", "resp_same")).await.0, 200);
    // At another node: the first key's is where it was.
    make(&gateway, "sk-two", "qwen").await;
    assert_eq!(told(get(&gateway, "sk-one", "resp_same")).await.0, 200);
    assert_eq!(told(get(&gateway, "sk-two", "resp_same")).await, unknown("resp_same"));
    assert!(asked(&second).is_empty());
    // At the same node: it may hold the second key's now.
    make(&gateway, "sk-two", "llama").await;
    for key in ["sk-one", "sk-two"] {
        assert_eq!(told(get(&gateway, key, "resp_same")).await, unknown("resp_same"));
        let next = json!({ "model": "llama", "previous_response_id": "resp_same" });
        let told = refused(post(&gateway, key, &next)).await;
        assert_eq!(told, (404, "previous_response_not_found".into()));
    }
}

/// A node that makes the id of a response of `request_id` in the body, or else of the request's own id.
async fn obedient() -> Scripted {
    Scripted::start(|_, mut peer: Peer| async move {
        while let Some(came) = peer.request().await {
            let body: Value = serde_json::from_slice(&came.body).unwrap_or_default();
            let of_head = format!("resp_{}", came.header("x-request-id").unwrap());
            let id = body["request_id"].as_str().map_or(of_head, str::to_owned);
            peer.answer("200 OK", &json!({ "id": id }).to_string()).await;
        }
    })
    .await
}

async fn made(gateway: &TestGateway, key: &str, name: &str) -> String {
    let request = post(gateway, key, &json!({ "input": "Hi" })).header("x-request-id", name);
    let reply = within(request.send()).await.unwrap();
    reply.json::<Value>().await.unwrap()["id"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_gets_a_response_by_the_name_of_its_request() {
    let node = obedient().await;
    let gateway = Setup::bare().file("routes.yaml", &preset(node.addr)).keys(KEYS).start().await;
    let id = made(&gateway, "sk-one", "job").await;
    for name in ["job", id.strip_prefix("resp_").unwrap()] {
        let other = made(&gateway, "sk-two", name).await;
        assert_ne!(other, id);
        assert_eq!(told(get(&gateway, "sk-two", &other)).await.0, 200);
    }
    assert_eq!(told(get(&gateway, "sk-one", &id)).await.0, 200);
    assert_eq!(told(get(&gateway, "sk-two", &id)).await, unknown(&id));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_that_its_client_chose_is_no_way_to_anothers_response() {
    let node = obedient().await;
    let gateway = Setup::bare().file("routes.yaml", &preset(node.addr)).keys(KEYS).start().await;
    let id = made(&gateway, "sk-one", "job").await;
    let seen = node.seen().len();
    let chosen = |id: &str| json!({ "input": "Hi", "request_id": id });
    let told_two = refused(post(&gateway, "sk-two", &chosen(&id))).await;
    assert_eq!(told_two, (400, "request_id_taken".into()));
    assert_eq!(node.seen().len(), seen, "the node would have put it in the other's place");
    // Old responses that the gateway has forgotten may be there still: whoever chooses an id is not believed.
    for key in ["sk-one", "sk-two"] {
        assert_eq!(told(post(&gateway, key, &chosen("old"))).await.0, 200);
        assert_eq!(told(get(&gateway, key, "old")).await, unknown("old"));
    }
    assert_eq!(told(post(&gateway, "sk-one", &chosen(&id))).await.0, 200);
    assert_eq!(told(get(&gateway, "sk-one", &id)).await.0, 200);
    // No choice.
    let none = post(&gateway, "sk-two", &json!({ "request_id": null })).header("x-request-id", "x");
    let (_, text) = told(none).await;
    let id = serde_json::from_str::<Value>(&text).unwrap()["id"].as_str().unwrap().to_owned();
    assert_eq!(told(get(&gateway, "sk-two", &id)).await.0, 200);
}
