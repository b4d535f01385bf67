//! What operates nodes goes to all of them, or to the one that is named.

use serde_json::Value;

use super::{QUICK, until, upstream};
use crate::support::{TestGateway, node, nowhere};

#[tokio::test(flavor = "multi_thread")]
async fn all_nodes_are_asked_and_the_answer_says_what_each_said() {
    let (one, two) = (node(&["m"]).await, node(&["m"]).await);
    let gateway =
        TestGateway::start(&upstream(&[one.addr(), two.addr()], "models: [m], health: off")).await;
    let reply = gateway.post("/pause").send().await.unwrap();
    assert_eq!(reply.status(), 200);
    assert!(one.is_paused() && two.is_paused());
    let said: Value = gateway.get("/is_paused").send().await.unwrap().json().await.unwrap();
    for (at, node) in [&one, &two].into_iter().enumerate() {
        let said = &said["nodes"][at];
        assert_eq!(said["node"], format!("http://{}", node.addr()));
        assert_eq!((&said["status"], &said["body"]["is_paused"]), (&200.into(), &true.into()));
    }
    assert_eq!(gateway.post("/resume").send().await.unwrap().status(), 200);
    assert!(!one.is_paused() && !two.is_paused());
}

/// What gets no work can still be operated, or nobody could take it back.
#[tokio::test(flavor = "multi_thread")]
async fn a_paused_node_is_resumed_through_the_gateway() {
    let (one, two) = (node(&["m"]).await, node(&["m"]).await);
    for nodes in [vec![one.addr()], vec![one.addr(), two.addr()]] {
        let fields = format!("models: [m], {QUICK}");
        let gateway = TestGateway::start(&upstream(&nodes, &fields)).await;
        let at =
            if nodes.len() > 1 { format!("?node=http://{}", one.addr()) } else { String::new() };
        assert_eq!(gateway.post(&format!("/pause{at}")).send().await.unwrap().status(), 200);
        until(&gateway, one.addr(), "paused").await;
        if nodes.len() == 1 {
            assert_eq!(gateway.chat("m").send().await.unwrap().status(), 503);
        }
        assert_eq!(gateway.get("/metrics").send().await.unwrap().status(), 200);
        assert_eq!(gateway.post(&format!("/resume{at}")).send().await.unwrap().status(), 200);
        until(&gateway, one.addr(), "starting").await;
        assert_eq!(gateway.chat("m").send().await.unwrap().status(), 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_of_all_nodes_are_one_exposition() {
    let (one, two) = (node(&["m"]).await, node(&["m"]).await);
    let dead = nowhere();
    let routes = upstream(&[one.addr(), two.addr(), dead], "models: [m], health: off");
    let gateway = TestGateway::start(&routes).await;
    let reply = gateway.get("/metrics").send().await.unwrap();
    assert_eq!(reply.status(), 200);
    assert_eq!(reply.headers().get_all("content-type").iter().count(), 1);
    assert!(reply.headers()["content-type"].to_str().unwrap().starts_with("text/plain"));
    assert_eq!(reply.headers()["x-sluice-partial"], format!("http://{dead}"));
    let text = reply.text().await.unwrap();
    for node in [&one, &two] {
        let of_node = |line: &&str| {
            line.starts_with("vllm:num_requests_running{")
                && line.contains(&format!("sluice_node=\"http://{}\"", node.addr()))
        };
        assert_eq!(text.lines().filter(of_node).count(), 1);
    }
    assert_eq!(text.matches("# TYPE vllm:num_requests_running ").count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_fails_is_told_and_the_others_have_done_it() {
    let one = node(&["m"]).await;
    let dead = nowhere();
    let gateway =
        TestGateway::start(&upstream(&[dead, one.addr()], "models: [m], health: off")).await;
    let reply = gateway.post("/pause").send().await.unwrap();
    assert_eq!(reply.status(), 502);
    let said: Value = reply.json().await.unwrap();
    assert_eq!(said["nodes"][0]["error"], "cannot connect");
    assert_eq!(said["nodes"][1]["status"], 200);
    assert!(one.is_paused());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_node_can_be_named_and_must_be_where_its_size_changes() {
    let (one, two) = (node(&["m"]).await, node(&["m"]).await);
    let gateway =
        TestGateway::start(&upstream(&[one.addr(), two.addr()], "models: [m], health: off")).await;
    for name in [
        format!("http://{}", two.addr()),
        format!("http%3A%2F%2F{}", two.addr()),
        two.addr().to_string(),
    ] {
        let reply = gateway.post(&format!("/pause?node={name}&keep=1")).send().await.unwrap();
        assert_eq!(reply.status(), 200, "{name}");
        assert_eq!(two.requests().last().unwrap().target, "/pause?keep=1");
    }
    assert_eq!((one.is_paused(), two.is_paused()), (false, true));
    for path in ["/scale_elastic_ep", "/pause?node=http://elsewhere:1", "/pause?node=a&node=b"] {
        let reply = gateway.post(path).body("{}").send().await.unwrap();
        assert_eq!(reply.status(), 400, "{path}");
        assert!(reply.text().await.unwrap().contains("node_required"), "{path}");
    }
    let path = format!("/scale_elastic_ep?node=http://{}", one.addr());
    let reply = gateway.post(&path).body(r#"{"new_data_parallel_size":2}"#).send().await.unwrap();
    assert!(!reply.text().await.unwrap().contains("node_required"));
    let targets = |node: &sluice::sim::Simulator| {
        node.requests().iter().filter(|came| came.target.starts_with("/scale")).count()
    };
    assert_eq!((targets(&one), targets(&two)), (1, 0));
}

/// Of whatever upstream it is: the one that is named, or none.
#[tokio::test(flavor = "multi_thread")]
async fn a_named_node_is_found_among_all_upstreams_of_the_path_and_no_other_takes_its_place() {
    let (one, two) = (node(&["m"]).await, node(&["n"]).await);
    let routes = format!(
        "upstreams:\n  first: {{ kind: vllm, nodes: ['http://{}'], models: [m], health: off }}\n  \
           second: {{ kind: vllm, nodes: ['http://{}'], models: [n], health: off }}\n\
         routes:\n  - {{ preset: vllm, upstream: first }}\n  - {{ preset: vllm, upstream: second }}\n",
        one.addr(),
        two.addr()
    );
    let gateway = TestGateway::start(&routes).await;
    let pause = async |node: std::net::SocketAddr| {
        let request = gateway.post(&format!("/pause?node=http://{node}"));
        request.send().await.unwrap().status().as_u16()
    };
    assert_eq!(pause(two.addr()).await, 200);
    assert_eq!((one.is_paused(), two.is_paused()), (false, true));
    assert_eq!(pause(nowhere()).await, 400);
    assert_eq!((one.is_paused(), two.is_paused()), (false, true));
}

/// A client that leaves lets go of all of them.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_for_nodes_on_behalf_of_a_client_that_left() {
    use crate::support::scripted::{Peer, Scripted};
    let (told, mut ended) = tokio::sync::mpsc::channel(2);
    let silent = || {
        let told = told.clone();
        Scripted::start(move |_, mut peer: Peer| {
            let told = told.clone();
            async move {
                while peer.request().await.is_some() {}
                told.send(()).await.ok();
            }
        })
    };
    let (one, two) = (silent().await, silent().await);
    let gateway =
        TestGateway::start(&upstream(&[one.addr, two.addr], "models: [m], health: off")).await;
    let mut asking = tokio::task::JoinSet::new();
    asking.spawn(gateway.post("/pause").send());
    crate::support::eventually(|| async { one.seen().len() + two.seen().len() == 2 }).await;
    asking.shutdown().await;
    for _ in 0..2 {
        crate::support::within(ended.recv()).await.unwrap();
    }
    crate::support::eventually(|| async { gateway.series("sluice_requests_in_flight") == 0.0 })
        .await;
}
