//! What operators see and do on their own listener.

use serde_json::Value;

use super::{chats, state_of, status, upstream};
use crate::cli::sluice;
use crate::support::{TestGateway, node, nowhere};

#[tokio::test(flavor = "multi_thread")]
async fn a_drained_node_gets_no_work_and_finishes_what_it_has() {
    let (one, two) = (node(&["m"]).await, node(&["m"]).await);
    let gateway =
        TestGateway::start(&upstream(&[one.addr(), two.addr()], "models: [m], health: off")).await;
    let order = async |what: &str, node: std::net::SocketAddr| {
        let url = format!("http://{}/api/nodes/{what}?node=http%3A%2F%2F{node}", gateway.admin);
        gateway.client.post(url).send().await.unwrap().status().as_u16()
    };
    assert_eq!(order("drain", one.addr()).await, 200);
    for _ in 0..4 {
        assert_eq!(gateway.chat("m").send().await.unwrap().status(), 200);
    }
    assert_eq!((chats(&one), chats(&two)), (0, 4));
    let seen = status(&gateway).await;
    assert_eq!(
        (&seen["state"], &seen["upstreams"][0]["nodes"][0]["reason"]),
        (&"ok".into(), &"an operator took it out".into())
    );
    assert_eq!(order("drain", two.addr()).await, 200);
    assert_eq!(gateway.chat("m").send().await.unwrap().status(), 503);
    assert_eq!(status(&gateway).await["state"], "down");
    assert_eq!(order("undrain", one.addr()).await, 200);
    assert_eq!(gateway.chat("m").send().await.unwrap().status(), 200);
    assert_eq!(state_of(&gateway, one.addr()).await, "starting");
    assert_eq!(order("drain", nowhere()).await, 404);
    let nobody = format!("http://{}/api/nodes/drain", gateway.admin);
    assert_eq!(gateway.client.post(nobody).send().await.unwrap().status(), 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn r43_pages_of_strangers_operate_nothing() {
    let one = node(&["m"]).await;
    let gateway = TestGateway::start(&upstream(&[one.addr()], "models: [m], health: off")).await;
    let url = format!("http://{}/api/nodes/drain?node=http://{}", gateway.admin, one.addr());
    for (name, value) in [("origin", "http://evil.example"), ("host", "evil.example:9464")] {
        let request = gateway.client.post(&url).header(name, value);
        assert_eq!(request.send().await.unwrap().status(), 403, "{name}");
    }
    assert_eq!(gateway.client.get(&url).send().await.unwrap().status(), 405);
    assert_eq!(state_of(&gateway, one.addr()).await, "up");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_shows_the_nodes_and_ends_with_1_unless_all_is_well() {
    let one = node(&["m"]).await;
    let dead = nowhere();
    let fields = format!("models: [m], {}", super::QUICK);
    let gateway = TestGateway::start(&upstream(&[one.addr(), dead], &fields)).await;
    super::until(&gateway, dead, "down").await;
    let listen = gateway.admin.to_string();
    let dir = tempfile::tempdir().unwrap();
    let ended = sluice(dir.path(), &["status", "--admin-listen", &listen], &[]).await;
    assert_eq!(ended.code, 1, "{}", ended.err);
    assert!(ended.out.starts_with("DEGRADED  sluice "), "{}", ended.out);
    assert!(ended.line("llama ").contains(&one.addr().to_string()));
    assert!(ended.out.contains("its probes fail: cannot connect"), "{}", ended.out);
    let ended = sluice(dir.path(), &["status", "--json", "--admin-listen", &listen], &[]).await;
    let known: Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!((ended.code, &known["upstreams"][0]["nodes"][1]["state"]), (1, &"down".into()));
    let nobody = nowhere().to_string();
    let ended = sluice(dir.path(), &["status", "--admin-listen", &nobody], &[]).await;
    assert_eq!(ended.code, 1);
    assert!(ended.err.contains("no gateway at"), "{}", ended.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_have_series_and_leave_none_behind() {
    let (one, two) = (node(&["m"]).await, node(&["m"]).await);
    let fields = "models: [m], health: off";
    let gateway = TestGateway::start(&upstream(&[one.addr(), two.addr()], fields)).await;
    assert_eq!(gateway.series("sluice_node_takes_work"), 2.0);
    gateway.rewrite_routes(&upstream(&[two.addr()], fields)).await;
    assert_eq!(gateway.series("sluice_node_takes_work"), 1.0);
    let text = String::from_utf8(gateway.server.metrics.render().unwrap()).unwrap();
    assert!(!text.contains(&one.addr().to_string()), "{text}");
}
