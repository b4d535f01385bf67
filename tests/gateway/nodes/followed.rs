//! Nodes that a name stands for: every address it has, those that come and those that go.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use sluice::upstream::resolve::Resolve;

use super::{chats, state_of};
use crate::support::gateway::Setup;
use crate::support::{TestGateway, eventually, node, within};

/// A name that can be moved.
struct Name(Mutex<Vec<SocketAddr>>);

#[async_trait]
impl Resolve for Name {
    async fn lookup(&self, host: &str, _: u16) -> io::Result<Vec<SocketAddr>> {
        assert_eq!(host, "vllm");
        Ok(self.0.lock().unwrap().clone())
    }
}

async fn gateway(name: &Arc<Name>) -> TestGateway {
    let routes = "upstreams:\n  llama: { kind: vllm, dns: 'http://vllm:8000', models: [m], health: off }\nroutes:\n  - { preset: vllm, upstream: llama }\n";
    Setup::routes(routes).resolver(name.clone()).start().await
}

/// Looks the name up as the gateway does every five seconds.
async fn look_up(gateway: &TestGateway) {
    gateway.server.live.load().upstreams[0].look_up().await.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_address_is_a_node_and_none_that_comes_or_goes_costs_a_request() {
    let (one, two, three) = (node(&["m"]).await, node(&["m"]).await, node(&["m"]).await);
    let name = Arc::new(Name(Mutex::new(vec![one.addr(), two.addr()])));
    let gateway = gateway(&name).await;
    for _ in 0..6 {
        let reply = gateway.chat("m").send().await.unwrap();
        assert_eq!(reply.status(), 200);
    }
    assert_eq!((chats(&one), chats(&two)), (3, 3));
    // Its name is what the nodes hear.
    assert_eq!(one.requests()[0].headers["host"], "vllm:8000");

    one.pause();
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..2 {
        waiting.spawn(gateway.chat("m").send());
    }
    eventually(|| async { chats(&one) == 4 }).await;
    *name.0.lock().unwrap() = vec![two.addr(), three.addr()];
    look_up(&gateway).await;
    assert_eq!(state_of(&gateway, one.addr()).await, "gone");
    for _ in 0..4 {
        assert_eq!(gateway.chat("m").send().await.unwrap().status(), 200);
    }
    assert!(chats(&three) >= 2);
    // Who is gone finishes what it has.
    one.resume();
    while let Some(reply) = within(waiting.join_next()).await {
        assert_eq!(reply.unwrap().unwrap().status(), 200);
    }
    assert_eq!(chats(&one), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resolver_that_is_away_takes_no_node_with_it() {
    let one = node(&["m"]).await;
    let name = Arc::new(Name(Mutex::new(Vec::new())));
    let gateway = gateway(&name).await;
    let reply = gateway.chat("m").send().await.unwrap();
    assert_eq!(reply.status(), 502);
    assert!(reply.text().await.unwrap().contains("upstream_unreachable"));
    *name.0.lock().unwrap() = vec![one.addr()];
    assert_eq!(gateway.chat("m").send().await.unwrap().status(), 200);
    name.0.lock().unwrap().clear();
    look_up(&gateway).await;
    assert_eq!(gateway.chat("m").send().await.unwrap().status(), 200);
    // Nor after a reload.
    gateway.after_reload(|| drop(gateway.server.reload())).await;
    assert_eq!(gateway.chat("m").send().await.unwrap().status(), 200);
}

/// A name among others that nobody knows: its node is one that cannot be reached, and another is asked.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_name_is_not_found_takes_no_request_with_it() {
    struct Nobody;
    #[async_trait]
    impl Resolve for Nobody {
        async fn lookup(&self, _: &str, _: u16) -> io::Result<Vec<SocketAddr>> {
            Err(io::ErrorKind::NotFound.into())
        }
    }
    let one = node(&["m"]).await;
    let routes = format!(
        "upstreams:\n  llama: {{ kind: vllm, nodes: ['http://gone:8000', 'http://{}'], models: [m], health: off }}\nroutes:\n  - {{ preset: vllm, upstream: llama }}\n",
        one.addr()
    );
    let gateway = Setup::routes(&routes).resolver(Arc::new(Nobody)).start().await;
    for _ in 0..8 {
        assert_eq!(gateway.chat("m").send().await.unwrap().status(), 200);
    }
    assert!(gateway.series("sluice_retries_total") >= 1.0);
}
