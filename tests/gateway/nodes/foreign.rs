//! Work that did not come through this gateway.

use super::{QUICK, chats, status, upstream};
use crate::support::gateway::chat;
use crate::support::{TestGateway, eventually, node};

#[tokio::test(flavor = "multi_thread")]
async fn work_of_others_on_a_node_moves_new_work_away() {
    let (busy, free) = (node(&["m"]).await, node(&["m"]).await);
    busy.set_delays(std::time::Duration::from_secs(600), std::time::Duration::ZERO);
    let client = reqwest::Client::new();
    let mut others = tokio::task::JoinSet::new();
    for _ in 0..10 {
        let url = format!("http://{}/v1/chat/completions", busy.addr());
        others.spawn(client.post(url).json(&chat("m")).send());
    }
    busy.wait_until(|counts| counts.running == 10).await;
    let gateway = TestGateway::start(&upstream(
        &[busy.addr(), free.addr()],
        &format!("models: [m], {QUICK}"),
    ))
    .await;
    let foreign = async || {
        let status = status(&gateway).await;
        status["upstreams"][0]["nodes"][0]["foreign"].as_u64().unwrap()
    };
    eventually(|| async { foreign().await == 10 }).await;
    for _ in 0..10 {
        assert_eq!(gateway.chat("m").send().await.unwrap().status(), 200);
    }
    assert_eq!((chats(&busy), chats(&free)), (10, 10));
    others.shutdown().await;
    eventually(|| async { foreign().await == 0 }).await;
    assert_eq!(gateway.series("sluice_node_foreign_requests"), 0.0);
}

/// A request of ours is no stranger's, however often the node is asked while it comes and goes.
#[tokio::test(flavor = "multi_thread")]
async fn our_own_work_is_never_taken_for_that_of_others() {
    let (one, two) = (node(&["m"]).await, node(&["m"]).await);
    let addrs = [one.addr(), two.addr()];
    let gateway = TestGateway::start(&upstream(&addrs, &format!("models: [m], {QUICK}"))).await;
    for node in [&one, &two] {
        node.set_delays(std::time::Duration::from_secs(600), std::time::Duration::ZERO);
    }
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..8 {
        waiting.spawn(gateway.chat("m").send());
    }
    eventually(|| async { gateway.series("sluice_node_requests_running") == 8.0 }).await;
    assert_eq!(gateway.series("sluice_node_foreign_requests"), 0.0);
    assert_eq!(gateway.series("sluice_node_in_flight"), 8.0);
}
