//! What stays: the state of nodes over reloads, and responses at the node that made them.

use serde_json::{Value, json};

use super::{QUICK, chats, in_flight, state_of, until, upstream};
use crate::support::{TestGateway, eventually, node, within};

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_keeps_what_is_known_of_a_node_and_what_is_under_way_there() {
    let (one, two) = (node(&["m"]).await, node(&["m"]).await);
    let nodes = [one.addr(), two.addr()];
    let gateway = TestGateway::start(&upstream(&nodes, &format!("models: [m], {QUICK}"))).await;
    let drain = format!("http://{}/api/nodes/drain?node=http://{}", gateway.admin, one.addr());
    assert_eq!(gateway.client.post(drain).send().await.unwrap().status(), 200);
    two.set_delays(std::time::Duration::from_secs(600), std::time::Duration::ZERO);
    let mut waiting = tokio::task::JoinSet::new();
    waiting.spawn(gateway.chat("m").send());
    eventually(|| async { chats(&two) == 1 }).await;
    let before = in_flight(&gateway).await;
    assert!(before > 0);
    gateway
        .rewrite_routes(&upstream(
            &nodes,
            &format!("models: [m], retry: {{ attempts: 3 }}, {QUICK}"),
        ))
        .await;
    assert_eq!(state_of(&gateway, one.addr()).await, "drained");
    assert_eq!(in_flight(&gateway).await, before);
    waiting.shutdown().await;
    eventually(|| async { in_flight(&gateway).await == 0 }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_response_stays_with_the_node_that_made_it() {
    let (one, two) = (node(&["m"]).await, node(&["m"]).await);
    let fields = format!("models: [m], balance: round_robin, {QUICK}");
    let gateway = TestGateway::start(&upstream(&[one.addr(), two.addr()], &fields)).await;
    let mut made = Vec::new();
    for _ in 0..4 {
        let body = json!({ "model": "m", "input": "Hello", "store": true });
        let reply = gateway.post("/v1/responses").json(&body).send().await.unwrap();
        let node = reply.headers()["x-sluice-node"].to_str().unwrap().to_owned();
        let id = reply.json::<Value>().await.unwrap()["id"].as_str().unwrap().to_owned();
        made.push((id, node));
    }
    assert!(made.iter().any(|(_, node)| *node != made[0].1));
    for (id, node) in &made {
        let reply = gateway.get(&format!("/v1/responses/{id}")).send().await.unwrap();
        assert_eq!(
            (reply.status().as_u16(), &reply.headers()["x-sluice-node"]),
            (200, &node.parse().unwrap())
        );
        let body = json!({ "model": "m", "input": "More", "previous_response_id": id });
        let reply = gateway.post("/v1/responses").json(&body).send().await.unwrap();
        assert_eq!(
            (reply.status().as_u16(), &reply.headers()["x-sluice-node"]),
            (200, &node.parse().unwrap())
        );
    }
    // Nowhere else, also when it is down.
    let (id, _) = made.iter().find(|(_, node)| node.ends_with(&one.addr().to_string())).unwrap();
    one.refuse().await;
    until(&gateway, one.addr(), "down").await;
    let reply = gateway.get(&format!("/v1/responses/{id}")).send().await.unwrap();
    assert_eq!(reply.status(), 502);
    let body = json!({ "model": "m", "input": "More", "previous_response_id": id });
    let reply = gateway.post("/v1/responses").json(&body).send().await.unwrap();
    assert_eq!(reply.status(), 503);
    within(async {
        let asked = two.requests().into_iter().filter(|came| came.target.ends_with(id.as_str()));
        assert_eq!(asked.count(), 0);
    })
    .await;
}

/// Other nodes of its upstream may have the model: only the one that keeps the response will do, and it judges.
#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_the_node_of_a_response_does_not_have_is_that_nodes_to_refuse() {
    let (one, two) = (node(&["a"]).await, node(&["b"]).await);
    let gateway = TestGateway::start(&upstream(&[one.addr(), two.addr()], QUICK)).await;
    let body = json!({ "model": "a", "input": "Hello", "store": true });
    let reply = gateway.post("/v1/responses").json(&body).send().await.unwrap();
    let id = reply.json::<Value>().await.unwrap()["id"].as_str().unwrap().to_owned();
    let body = json!({ "model": "b", "input": "More", "previous_response_id": id });
    let reply = gateway.post("/v1/responses").json(&body).send().await.unwrap();
    assert_eq!(reply.status(), 404);
    assert_eq!(reply.headers()["x-sluice-node"], format!("http://{}", one.addr()));
}
