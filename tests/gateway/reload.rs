//! A changed configuration: it is live soon, it never opens the gateway, and no request notices.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::support::TestGateway;
use crate::support::gateway::{Setup, preset};
use crate::support::scripted::Scripted;
use crate::support::{KEY, eventually, within};

/// `keys.yaml` with these keys.
fn keys(keys: &[&str]) -> String {
    let key = |(number, key): (usize, &&str)| format!("  - {{ name: k{number}, key: {key} }}\n");
    format!("keys:\n{}", keys.iter().enumerate().map(key).collect::<String>())
}

/// A gateway whose keys are in `keys.yaml` alone.
async fn keyed(node: &Scripted, first: &[&str]) -> TestGateway {
    let setup = Setup::bare().file("routes.yaml", &preset(node.addr)).keys(&keys(first));
    setup.start().await
}

async fn status(gateway: &TestGateway, key: &str) -> u16 {
    let request = gateway.client.post(gateway.url("/v1/chat/completions")).bearer_auth(key);
    within(request.body(r#"{"model":"m"}"#).send()).await.unwrap().status().as_u16()
}

const ONE: &str = "sk-one-of-the-tests";
const TWO: &str = "sk-two-of-the-tests";

#[tokio::test(flavor = "multi_thread")]
async fn a_key_opens_when_it_is_written_and_refuses_when_it_is_gone() {
    let node = Scripted::replying("{}").await;
    let gateway = keyed(&node, &[ONE]).await;
    assert_eq!((status(&gateway, ONE).await, status(&gateway, TWO).await), (200, 401));
    std::fs::write(gateway.file("keys.yaml"), keys(&[ONE, TWO])).unwrap();
    eventually(|| async { status(&gateway, TWO).await == 200 }).await;
    // As editors and Kubernetes do it: a new file in the place of the old one.
    std::fs::write(gateway.file("new"), keys(&[TWO])).unwrap();
    std::fs::rename(gateway.file("new"), gateway.file("keys.yaml")).unwrap();
    eventually(|| async { status(&gateway, ONE).await == 401 }).await;
    assert_eq!(status(&gateway, TWO).await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn r38_nothing_that_happens_to_its_keys_opens_the_gateway() {
    let node = Scripted::replying("{}").await;
    let gateway = keyed(&node, &[ONE]).await;
    let file = gateway.file("keys.yaml");
    let huge = "x".repeat(17 << 20);
    for (what, text) in [
        ("empty", Some("")),
        ("no map", Some("[]")),
        ("cut", Some("keys:\n  - { name: k0, key: ")),
        ("binary", Some("\u{0}\u{1}\u{2}keys:")),
        ("huge", Some(huge.as_str())),
        ("a typing error", Some("kyes: []\n")),
        ("no key", Some("keys: []\n")),
        ("nothing", Some("keys:\n")),
        ("missing", None),
    ] {
        gateway
            .after_reload(|| match text {
                Some(text) => std::fs::write(&file, text).unwrap(),
                None => std::fs::remove_file(&file).unwrap(),
            })
            .await;
        assert_eq!(status(&gateway, "sk-wrong").await, 401, "{what}");
        let bare = gateway.client.post(gateway.url("/v1/chat/completions")).send().await.unwrap();
        assert_eq!(bare.status(), 401, "{what}");
        assert_eq!(status(&gateway, ONE).await, 200, "{what}");
    }
    std::fs::write(&file, keys(&[TWO])).unwrap();
    eventually(|| async { status(&gateway, TWO).await == 200 }).await;
    assert_eq!(status(&gateway, ONE).await, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_routes_file_keeps_the_old_routes() {
    let node = Scripted::replying("{}").await;
    let gateway = TestGateway::before(node.addr).await;
    for text in
        ["", "routes: [", "\u{0}\u{0}", "routes:\n  - { path: x }\n", "upstreams: {}\nroutes: 7\n"]
    {
        gateway.rewrite_routes(text).await;
        assert_eq!(status(&gateway, KEY).await, 200, "{text:?}");
    }
    gateway.after_reload(|| std::fs::remove_file(gateway.file("routes.yaml")).unwrap()).await;
    assert_eq!(status(&gateway, KEY).await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn key_files_are_followed_both_ways() {
    let node = Scripted::replying("{}").await;
    let routes = preset(node.addr).replace("kind: vllm", "kind: vllm, key_file: node.key");
    let gateway = Setup::bare()
        .file("routes.yaml", &routes)
        .file("node.key", "sk-node-1\n")
        .file("client.key", &format!("{ONE}\n"))
        .keys("keys:\n  - { name: one, key_file: client.key }\n")
        .start()
        .await;
    assert_eq!(status(&gateway, ONE).await, 200);
    std::fs::write(gateway.file("client.key"), TWO).unwrap();
    eventually(|| async { status(&gateway, TWO).await == 200 }).await;
    assert_eq!(status(&gateway, ONE).await, 401);
    std::fs::write(gateway.file("node.key"), "sk-node-2").unwrap();
    eventually(|| async {
        status(&gateway, TWO).await;
        node.seen().last().unwrap().header("authorization") == Some("Bearer sk-node-2")
    })
    .await;
    assert_eq!(node.seen()[0].header("authorization"), Some("Bearer sk-node-1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn r40_a_request_in_flight_ends_on_the_configuration_it_began_with() {
    let (go_on, wait) = tokio::sync::watch::channel(false);
    let node = Scripted::start(move |_, mut peer| {
        let mut wait = wait.clone();
        async move {
            while peer.request().await.is_some() {
                wait.wait_for(|go_on| *go_on).await.unwrap();
                peer.answer("200 OK", "old").await;
            }
        }
    })
    .await;
    let new = Scripted::replying("new").await;
    let gateway = TestGateway::before(node.addr).await;
    let in_flight = gateway.chat("m").send();
    let change = async {
        eventually(|| async { node.seen().len() == 1 }).await;
        gateway.rewrite_routes(&preset(new.addr)).await;
        assert_eq!(gateway.chat("m").send().await.unwrap().text().await.unwrap(), "new");
        go_on.send(true).unwrap();
    };
    let (reply, ()) = tokio::join!(in_flight, change);
    assert_eq!(reply.unwrap().text().await.unwrap(), "old");
}

/// Ten thousand routes, changed again and again while requests come without a pause.
#[tokio::test(flavor = "multi_thread")]
async fn r40_ten_thousand_routes_are_replaced_under_load_and_no_request_fails() {
    let node = Scripted::replying("{}").await;
    let routes = |last: &str| {
        let route =
            |path: &str| format!("  - {{ path: {path}, methods: [POST], upstream: any }}\n");
        let many: String = (0..10_000).map(|number| route(&format!("/many/{number}"))).collect();
        format!(
            "upstreams:\n  any: {{ nodes: [\"http://{}\"] }}\nroutes:\n{many}{}",
            node.addr,
            route(last)
        )
    };
    let gateway = TestGateway::start(&routes("/first")).await;
    let (over, sent) = (AtomicBool::new(false), AtomicUsize::new(0));
    let load = |client: reqwest::Client| async {
        let client = client;
        while !over.load(Ordering::Relaxed) {
            let path = format!("/many/{}", sent.fetch_add(1, Ordering::Relaxed) % 10_000);
            let reply = client.post(gateway.url(&path)).bearer_auth(KEY).send().await.unwrap();
            assert_eq!(reply.status(), 200);
        }
    };
    let change = async {
        for turn in 0..3 {
            let path = format!("/turn/{turn}");
            std::fs::write(gateway.file("routes.yaml"), routes(&path)).unwrap();
            eventually(|| async { gateway.post(&path).send().await.unwrap().status() == 200 })
                .await;
        }
        over.store(true, Ordering::Relaxed);
    };
    let clients = std::array::from_fn::<_, 2, _>(|_| load(gateway.client.clone()));
    tokio::join!(futures_util::future::join_all(clients), change);
    assert!(sent.load(Ordering::Relaxed) > 0);
}
