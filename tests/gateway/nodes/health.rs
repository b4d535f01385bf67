//! Active probes: who is taken out, who is taken back, and who only looks well.

use http::StatusCode;
use sluice::sim::Fault;

use super::{QUICK, chats, state_of, status, until, upstream};
use crate::support::scripted::Scripted;
use crate::support::{TestGateway, eventually, node, within};

fn fields() -> String {
    format!("models: [m], balance: round_robin, {QUICK}")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_probes_fail_gets_no_work_until_they_do_not() {
    let (one, two) = (node(&["m"]).await, node(&["m"]).await);
    let gateway = TestGateway::start(&upstream(&[one.addr(), two.addr()], &fields())).await;
    let status = StatusCode::SERVICE_UNAVAILABLE;
    one.set_probe_fault(Some(Fault::Status { status, retry_after: None }));
    until(&gateway, one.addr(), "down").await;
    for _ in 0..4 {
        assert_eq!(gateway.chat("m").send().await.unwrap().status(), 200);
    }
    assert_eq!((chats(&one), chats(&two)), (0, 4));
    let reason = super::status(&gateway).await["upstreams"][0]["nodes"][0]["reason"].clone();
    assert_eq!(reason, "its probes fail: answered 503");
    one.set_probe_fault(None);
    until(&gateway, one.addr(), "starting").await;
    within(async {
        while chats(&one) == 0 {
            gateway.chat("m").send().await.unwrap();
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_takes_no_connection_is_known_to_be_down_long_before_its_turn() {
    let (one, two) = (node(&["m"]).await, node(&["m"]).await);
    let fields = "models: [m], balance: round_robin, health: { interval: 1h, timeout: 2s, unhealthy_after: 3, healthy_after: 2 }";
    let gateway = TestGateway::start(&upstream(&[one.addr(), two.addr()], fields)).await;
    let gone = one.addr();
    one.kill().await;
    for _ in 0..2 {
        assert_eq!(gateway.chat("m").send().await.unwrap().status(), 200);
    }
    until(&gateway, gone, "down").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_node_gets_no_work_though_its_health_is_fine() {
    let (one, two) = (node(&["m"]).await, node(&["m"]).await);
    let gateway = TestGateway::start(&upstream(&[one.addr(), two.addr()], &fields())).await;
    one.pause();
    until(&gateway, one.addr(), "paused").await;
    for _ in 0..4 {
        assert_eq!(gateway.chat("m").send().await.unwrap().status(), 200);
    }
    assert_eq!((chats(&one), chats(&two)), (0, 4));
    one.resume();
    until(&gateway, one.addr(), "starting").await;
}

/// `POST /sleep` gives a node's memory back; only its metrics tell.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_sleeps_gets_no_work_though_its_health_is_fine() {
    let two = node(&["m"]).await;
    let asleep = Scripted::start(|_, mut peer| async move {
        while let Some(came) = peer.request().await {
            let metrics = "vllm:num_requests_running 0.0\nvllm:engine_sleep_state{sleep_state=\"awake\"} 0.0\n";
            peer.answer("200 OK", if came.head.starts_with("GET /metrics ") { metrics } else { "" }).await;
        }
    })
    .await;
    let gateway = TestGateway::start(&upstream(&[asleep.addr, two.addr()], &fields())).await;
    until(&gateway, asleep.addr, "asleep").await;
    for _ in 0..4 {
        assert_eq!(gateway.chat("m").send().await.unwrap().status(), 200);
    }
    assert_eq!(chats(&two), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn health_is_told_of_each_node() {
    let one = node(&["m"]).await;
    let dead = crate::support::nowhere();
    let gateway =
        TestGateway::start(&upstream(&[one.addr(), dead], "models: [m], health: off")).await;
    let reply = gateway.get("/health").send().await.unwrap();
    assert_eq!(reply.status(), 200);
    let report: serde_json::Value = reply.json().await.unwrap();
    assert_eq!(report["status"], "degraded");
    assert_eq!(report["upstreams"][0]["url"], format!("http://{}", one.addr()));
    assert_eq!(
        (&report["upstreams"][0]["status"], &report["upstreams"][1]["status"]),
        (&"ok".into(), &"down".into())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_paused_through_the_gateway_gets_no_work_at_once() {
    let (one, two) = (node(&["m"]).await, node(&["m"]).await);
    let slow = "models: [m], balance: round_robin, health: { interval: 1h }";
    let gateway = TestGateway::start(&upstream(&[one.addr(), two.addr()], slow)).await;
    eventually(|| async { one.requests().iter().any(|came| came.target == "/is_paused") }).await;
    let pause = gateway.post(&format!("/pause?node=http://{}", one.addr()));
    assert_eq!(pause.send().await.unwrap().status(), 200);
    until(&gateway, one.addr(), "paused").await;
    assert_eq!((one.is_paused(), two.is_paused()), (true, false));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_probed_by_its_list_of_models_is_one_of_openais_kind() {
    let one = node(&["m"]).await;
    let routes = upstream(&[one.addr()], "models: [m], health: { interval: 20ms }")
        .replace("kind: vllm", "kind: openai");
    let gateway = TestGateway::start(&routes).await;
    eventually(|| async { one.requests().len() > 2 }).await;
    assert!(one.requests().iter().all(|came| came.target == "/v1/models"));
    assert_eq!(state_of(&gateway, one.addr()).await, "up");
    assert_eq!(status(&gateway).await["state"], "ok");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_generic_node_is_asked_for_nothing_that_nobody_wanted() {
    let one = node(&["m"]).await;
    let probed = node(&["m"]).await;
    let routes = format!(
        "upstreams:\n  plain: {{ nodes: ['http://{}'] }}\n  probed: {{ nodes: ['http://{}'], health: {{ path: /ping, interval: 20ms }} }}\n\
         routes:\n  - {{ path: /a, methods: [POST], upstream: plain }}\n  - {{ path: /b, methods: [POST], upstream: probed }}\n",
        one.addr(),
        probed.addr()
    );
    let _gateway = TestGateway::start(&routes).await;
    eventually(|| async { probed.requests().len() > 2 }).await;
    assert!(probed.requests().iter().all(|came| came.target == "/ping"));
    assert!(one.requests().is_empty());
}

/// What probes found holds only while somebody probes.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_probes_took_out_is_back_when_they_are_turned_off() {
    let one = node(&["m"]).await;
    let status = StatusCode::NOT_FOUND;
    one.set_probe_fault(Some(Fault::Status { status, retry_after: None }));
    let gateway = TestGateway::start(&upstream(&[one.addr()], &fields())).await;
    until(&gateway, one.addr(), "down").await;
    assert_eq!(gateway.chat("m").send().await.unwrap().status(), 503);
    gateway.rewrite_routes(&upstream(&[one.addr()], "models: [m], health: off")).await;
    assert_eq!(gateway.chat("m").send().await.unwrap().status(), 200);
}
