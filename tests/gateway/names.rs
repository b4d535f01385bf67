//! Nodes that are known by name: traffic follows the name, and a name that is slow or unknown hurts nobody else.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use sluice::upstream::resolve::Resolve;

use crate::support::TestGateway;
use crate::support::gateway::Setup;
use crate::support::scripted::Scripted;
use crate::support::{eventually, nowhere, within};

/// What a name is at the moment: addresses, nothing, or an answer that never comes.
#[derive(Clone)]
enum Answer {
    Is(Vec<SocketAddr>),
    Unknown,
    Never,
}

#[derive(Default)]
struct Names(Mutex<HashMap<String, Answer>>);

impl Names {
    fn set(&self, name: &str, answer: Answer) {
        self.0.lock().unwrap().insert(name.to_owned(), answer);
    }
}

#[async_trait]
impl Resolve for Names {
    async fn lookup(&self, host: &str, _: u16) -> io::Result<Vec<SocketAddr>> {
        let answer = self.0.lock().unwrap().get(host).cloned();
        match answer {
            Some(Answer::Is(addresses)) => Ok(addresses),
            Some(Answer::Never) => std::future::pending().await,
            Some(Answer::Unknown) | None => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

/// `/one` goes to the name `one`, `/two` to `two`.
async fn gateway(names: &Arc<Names>) -> TestGateway {
    let route = |name: &str| {
        format!(
            "  - {{ path: /{name}, methods: [POST], upstream_url: \"http://{name}:8000/x\" }}\n"
        )
    };
    let routes = format!("routes:\n{}{}", route("one"), route("two"));
    Setup::routes(&routes).resolver(names.clone()).start().await
}

async fn answer(gateway: &TestGateway, path: &str) -> (u16, String) {
    let reply = within(gateway.post(path).header("x-timeout-seconds", "20").send()).await.unwrap();
    (reply.status().as_u16(), reply.text().await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn traffic_follows_a_name_that_moves() {
    let (old, new) = (Scripted::replying("old").await, Scripted::replying("new").await);
    let names = Arc::new(Names::default());
    names.set("one", Answer::Is(vec![old.addr]));
    let gateway = gateway(&names).await;
    assert_eq!(answer(&gateway, "/one").await, (200, "old".into()));
    names.set("one", Answer::Is(vec![new.addr]));
    eventually(|| async { answer(&gateway, "/one").await.1 == "new" }).await;
    assert_eq!(new.seen()[0].header("host"), Some("one:8000"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_is_looked_up_anew_when_its_address_takes_no_connection() {
    let new = Scripted::replying("new").await;
    let names = Arc::new(Names::default());
    names.set("one", Answer::Is(vec![nowhere()]));
    let gateway = gateway(&names).await;
    assert_eq!(answer(&gateway, "/one").await.0, 502);
    names.set("one", Answer::Is(vec![new.addr]));
    assert_eq!(answer(&gateway, "/one").await, (200, "new".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_address_of_a_name_is_tried_in_the_same_request() {
    let good = Scripted::replying("good").await;
    let names = Arc::new(Names::default());
    names.set("one", Answer::Is(vec![nowhere(), good.addr]));
    let gateway = gateway(&names).await;
    assert_eq!(answer(&gateway, "/one").await, (200, "good".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_unknown_is_a_502_until_it_is_known() {
    let node = Scripted::replying("there").await;
    let names = Arc::new(Names::default());
    names.set("one", Answer::Unknown);
    let gateway = gateway(&names).await;
    let (status, body) = answer(&gateway, "/one").await;
    assert!(status == 502 && body.contains("upstream_unreachable"), "{status} {body}");
    names.set("one", Answer::Is(Vec::new()));
    assert_eq!(answer(&gateway, "/one").await.0, 502);
    names.set("one", Answer::Is(vec![node.addr]));
    assert_eq!(answer(&gateway, "/one").await, (200, "there".into()));
    names.set("one", Answer::Unknown);
    assert_eq!(answer(&gateway, "/one").await, (200, "there".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_keeps_the_address_of_a_name_that_is_unknown_just_then() {
    let node = Scripted::replying("there").await;
    let names = Arc::new(Names::default());
    names.set("one", Answer::Is(vec![node.addr]));
    let gateway = gateway(&names).await;
    assert_eq!(answer(&gateway, "/one").await, (200, "there".into()));
    names.set("one", Answer::Unknown);
    let routes = std::fs::read_to_string(gateway.file("routes.yaml")).unwrap();
    gateway.rewrite_routes(&format!("# edited\n{routes}")).await;
    assert_eq!(gateway.series("sluice_config_generation"), 2.0);
    assert_eq!(answer(&gateway, "/one").await, (200, "there".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_never_answered_holds_up_nobody_else() {
    let node = Scripted::replying("quick").await;
    let names = Arc::new(Names::default());
    names.set("one", Answer::Never);
    names.set("two", Answer::Is(vec![node.addr]));
    let gateway = gateway(&names).await;
    let waiting: Vec<_> =
        (0..50).map(|_| gateway.post("/one").header("x-timeout-seconds", "10").send()).collect();
    let quick = async {
        for _ in 0..50 {
            assert_eq!(answer(&gateway, "/two").await, (200, "quick".into()));
        }
    };
    tokio::select! {
        _ = futures_util::future::join_all(waiting) => panic!("a name was found"),
        () = quick => {}
    }
    let late = gateway.post("/one").header("x-timeout-seconds", "0.1").send().await.unwrap();
    assert_eq!(late.status(), 504);
    eventually(|| async { gateway.series("sluice_requests_in_flight") == 0.0 }).await;
}
