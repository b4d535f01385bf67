//! What all share (R43 and R44; R42 is played in `quota/redis/`): the operators' listener, and what is told of all nodes.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures_util::future::join_all;
use reqwest::{Response, StatusCode};
use serde_json::Value;
use sluice::upstream::resolve::Resolve;

use crate::support::gateway::{Setup, chat, preset};
use crate::support::scripted::{Peer, Scripted};
use crate::support::{KEY, TestGateway, node, within};

/// Who asks for health or for models waits no longer, whatever the nodes do.
const LONGEST: Duration = Duration::from_secs(4);

/// A node that takes every request and answers none.
async fn hanging() -> Scripted {
    Scripted::start(|_, mut peer| async move {
        peer.request().await;
        peer.closed().await;
    })
    .await
}

/// A node that answers everything with `bytes`, and closes.
async fn saying(bytes: &'static str) -> Scripted {
    Scripted::start(move |_, mut peer: Peer| async move {
        if peer.request().await.is_some() {
            peer.send(bytes.as_bytes()).await;
        }
    })
    .await
}

/// Each node an upstream of its own, `n0`, `n1` and so on, with every path of vLLM.
fn each(nodes: &[SocketAddr]) -> String {
    let of = |(number, node): (usize, &SocketAddr)| {
        format!("  n{number}: {{ kind: vllm, nodes: ['http://{node}'], health: off }}\n")
    };
    let upstreams: String = nodes.iter().enumerate().map(of).collect();
    let route = |number| format!("  - {{ preset: vllm, upstream: n{number} }}\n");
    let routes: String = (0..nodes.len()).map(route).collect();
    format!("upstreams:\n{upstreams}routes:\n{routes}")
}

/// Asks, and is answered in time.
async fn in_time(gateway: &TestGateway, path: &str, key: Option<&str>) -> Response {
    let asked = Instant::now();
    let request = gateway.client.get(gateway.url(path));
    let request = key.into_iter().fold(request, |request, key| request.bearer_auth(key));
    let reply = within(request.send()).await.unwrap();
    assert!(asked.elapsed() < LONGEST, "{path}: {:?}", asked.elapsed());
    reply
}

#[tokio::test(flavor = "multi_thread")]
async fn r43_operators_have_a_door_of_their_own() {
    const TOOLS: [(&str, &str); 8] = [
        ("GET", "/api/status"),
        ("POST", "/api/nodes/drain"),
        ("POST", "/api/nodes/undrain"),
        ("POST", "/drain"),
        ("POST", "/login"),
        ("POST", "/logout"),
        ("GET", "/style.css"),
        ("GET", "/app.js"),
    ];
    let one = Scripted::replying("{}").await;
    let keyed = preset(one.addr).replace("kind: vllm", "kind: vllm, key: sk-of-the-node");
    let keys = "keys:\n  - { name: team, key: sk-of-the-team }\n";
    let setup = Setup::routes(&keyed).keys(keys).operators_from_anywhere();
    let gateway = setup.start().await;
    assert_eq!(gateway.chat("m").send().await.unwrap().status(), 200);
    let before = one.seen().len();
    for (method, path) in TOOLS {
        let query = format!("{path}?node=http://{}", one.addr);
        let send = async |base: SocketAddr, key: &str, path: &str| {
            let request =
                gateway.client.request(method.parse().unwrap(), format!("http://{base}{path}"));
            request.bearer_auth(key).send().await.unwrap().status()
        };
        assert_eq!(send(gateway.addr, KEY, path).await, 404, "{path} where applications connect");
        if path.starts_with("/api/") {
            assert_eq!(send(gateway.admin, "sk-wrong", &query).await, 401, "{path}");
            assert_eq!(send(gateway.admin, "sk-of-the-team", &query).await, 403, "{path}");
        }
    }
    // Nor does an application's request find its way through the operators' door.
    let url = format!("http://{}/v1/chat/completions", gateway.admin);
    let reply = gateway.client.post(url).bearer_auth(KEY).json(&chat("m")).send().await.unwrap();
    assert!(reply.status().is_client_error(), "{}", reply.status());
    for path in ["/", "/api/status", "/metrics"] {
        let url = format!("http://{}{path}", gateway.admin);
        let shown = gateway.client.get(url).bearer_auth(KEY).send().await.unwrap();
        let text = shown.text().await.unwrap();
        for secret in [KEY, "sk-of-the-node", "sk-of-the-team"] {
            assert!(!text.contains(secret), "{path} shows {secret}");
        }
    }
    assert_eq!(one.seen().len(), before, "nothing of it came to the node");
}

/// Twenty clients of each kind at once: nodes are asked once, all at the same time.
#[tokio::test(flavor = "multi_thread")]
async fn r44_health_and_models_are_told_in_time_when_all_nodes_hang() {
    const CLIENTS: usize = 20;
    let nodes = join_all((0..6).map(|_| hanging())).await;
    let addresses: Vec<_> = nodes.iter().map(|node| node.addr).collect();
    let gateway = TestGateway::start(&each(&addresses)).await;
    let ask = |path, key| {
        join_all(
            (0..CLIENTS).map(move |_| (path, key)).map(|(path, key)| in_time(&gateway, path, key)),
        )
    };
    let (short, whole, models) =
        tokio::join!(ask("/health", None), ask("/health", Some(KEY)), ask("/v1/models", Some(KEY)));
    for reply in short {
        assert_eq!(reply.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(reply.text().await.unwrap(), r#"{"status":"down"}"#);
    }
    for reply in whole {
        assert_eq!(reply.status(), StatusCode::SERVICE_UNAVAILABLE);
        let told: Value = reply.json().await.unwrap();
        assert_eq!(told["upstreams"].as_array().unwrap().len(), nodes.len());
    }
    for reply in models {
        assert_eq!(reply.status(), StatusCode::BAD_GATEWAY);
        let text = reply.text().await.unwrap();
        assert!(text.contains("upstream_unreachable") && !text.contains("127.0.0.1"), "{text}");
    }
    for node in &nodes {
        let asked = |path: &str| {
            let line = format!("GET {path} ");
            node.seen().iter().filter(|came| came.head.starts_with(&line)).count()
        };
        assert_eq!((asked("/health"), asked("/v1/models")), (1, 1), "once for all");
        assert!(node.seen().iter().all(|came| !came.head.contains(KEY)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn r44_what_is_told_survives_garbage_and_shows_what_its_key_may_use() {
    let good = node(&["a-1", "b-1"]).await;
    let garbage = [
        hanging().await,
        saying("this is not HTTP\r\n\r\n").await,
        saying("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{\"data\":[").await,
        saying("HTTP/1.1 200 OK\r\ncontent-length: 42\r\n\r\n{\"data\":[{\"id\":5},null,{\"x\":1},[],\"a-9\"]} ").await,
        saying("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n").await,
        saying("HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n").await,
        saying("").await,
    ];
    let mut addresses = vec![good.addr()];
    addresses.extend(garbage.iter().map(|node| node.addr));
    let keys = "keys:\n  - { name: team, key: sk-team, models: ['a-*'] }\n";
    let gateway = Setup::routes(&each(&addresses)).keys(keys).start().await;
    let (health, models) = tokio::join!(
        in_time(&gateway, "/health", None),
        in_time(&gateway, "/v1/models", Some("sk-team"))
    );
    assert_eq!(health.status(), 200);
    assert_eq!(health.text().await.unwrap(), r#"{"status":"degraded"}"#);
    assert_eq!(models.status(), 200);
    let partial = models.headers()["x-sluice-partial"].to_str().unwrap().to_owned();
    assert!(partial.starts_with("n1, n2, ") && !partial.contains("n0"), "{partial}");
    let told = models.text().await.unwrap();
    assert!(!told.contains("127.0.0.1"), "{told}");
    let told: Value = serde_json::from_str(&told).unwrap();
    let names: Vec<_> = told["data"].as_array().unwrap().iter().map(|one| &one["id"]).collect();
    assert_eq!(names, ["a-1"]);
}

/// A resolver that never answers.
struct Silent;

#[async_trait]
impl Resolve for Silent {
    async fn lookup(&self, _: &str, _: u16) -> io::Result<Vec<SocketAddr>> {
        std::future::pending().await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn r44_health_and_models_are_told_in_time_when_no_name_is_found() {
    for nodes in ["dns: 'http://vllm:8000'", "nodes: ['http://vllm:8000']"] {
        let routes = format!(
            "upstreams:\n  llama: {{ kind: vllm, {nodes}, health: off }}\nroutes:\n  - {{ preset: vllm, upstream: llama }}\n"
        );
        let gateway = Setup::routes(&routes).resolver(Arc::new(Silent)).start().await;
        let (health, models) = tokio::join!(
            in_time(&gateway, "/health", None),
            in_time(&gateway, "/v1/models", Some(KEY))
        );
        assert_eq!((health.status().as_u16(), models.status().as_u16()), (503, 502), "{nodes}");
    }
}
