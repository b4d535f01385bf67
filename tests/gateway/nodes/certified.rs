//! Https nodes whose upstream says who certifies them, and for which name.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;
use sluice::sim::Simulator;
use sluice::upstream::resolve::Resolve;

use super::chats;
use crate::cli::sluice;
use crate::support::gateway::{Setup, written};
use crate::support::tls::Tls;
use crate::support::{TestGateway, eventually, node, within};

/// Idle connections stay for longer than any test takes: whoever may use one again, does.
const KEPT: &str = "keepalive_idle: 1h";

/// Whatever it is called, it is on this machine.
struct Here;

#[async_trait]
impl Resolve for Here {
    async fn lookup(&self, _: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        Ok(vec![SocketAddr::from(([127, 0, 0, 1], port))])
    }
}

/// A node over TLS, known by its address alone; its certificate is for `localhost`.
struct Stage {
    node: Simulator,
    tls: Tls,
    /// What its authority's certificate says.
    own: String,
    /// What that of another one says.
    foreign: String,
    http2: bool,
}

impl Stage {
    async fn new(http2: bool) -> Self {
        let node = node(&["a", "b", "c"]).await;
        let tls = Tls::speaking(if http2 { b"h2" } else { b"http/1.1" }, node.addr()).await;
        let other = Tls::before(node.addr()).await;
        let (own, foreign) = (written(&tls.ca_file()), written(&other.ca_file()));
        Self { node, tls, own, foreign, http2 }
    }

    /// An upstream called `name` whose nodes are `place`, and which alone has the model of that name.
    fn upstream(&self, name: &str, place: &str, fields: &str) -> String {
        let (port, http2) = (self.tls.port, self.http2);
        format!(
            "  {name}: {{ kind: vllm, {}, models: [{name}], health: off, http2: {http2}, {KEPT}, {fields} }}\n",
            place.replace("PORT", &port.to_string())
        )
    }

    /// One upstream, `a`, at the node's address.
    fn routes(&self, fields: &str) -> String {
        routes(&[self.upstream("a", "nodes: ['https://127.0.0.1:PORT']", fields)])
    }
}

/// `routes.yaml` with upstreams, which are called `a`, `b` …
fn routes(upstreams: &[String]) -> String {
    let route = |name: char| format!("  - {{ preset: vllm, upstream: {name} }}\n");
    let routes: String = ('a'..).take(upstreams.len()).map(route).collect();
    format!("upstreams:\n{}routes:\n{routes}", upstreams.concat())
}

/// The status of a chat, and its error's code where it has one.
async fn chat(gateway: &TestGateway, model: &str) -> (u16, Option<String>) {
    let reply = within(gateway.chat(model).send()).await.unwrap();
    let status = reply.status().as_u16();
    let body: serde_json::Value = reply.json().await.unwrap();
    (status, body["error"]["code"].as_str().map(str::to_owned))
}

async fn is_answered(gateway: &TestGateway, model: &str) {
    assert_eq!(chat(gateway, model).await, (200, None));
}

async fn is_unreachable(gateway: &TestGateway, model: &str, why: &str) {
    let found = chat(gateway, model).await;
    assert_eq!(found, (502, Some("upstream_unreachable".to_owned())), "{why}");
}

const GOOD: &str = "tls: { ca_file: ca.pem, server_name: localhost }";

#[tokio::test(flavor = "multi_thread")]
async fn a_node_known_by_address_is_asked_for_by_its_name_and_trusted_by_its_own_authority() {
    for http2 in [false, true] {
        let stage = Stage::new(http2).await;
        for place in ["nodes: ['https://127.0.0.1:PORT']", "dns: 'https://gpu.internal:PORT'"] {
            let routes = routes(&[stage.upstream("a", place, GOOD)]);
            // What the gateway trusts otherwise does not matter here.
            for ca_file in [None, Some("other.pem")] {
                let setup = Setup::routes(&routes).file("ca.pem", &stage.own);
                let setup = setup.resolver(Arc::new(Here));
                let other = tempfile::tempdir().unwrap();
                let setup = setup.flags(|flags| {
                    flags.ca_file = ca_file.map(|name| {
                        let file = other.path().join(name);
                        std::fs::write(&file, &stage.foreign).unwrap();
                        file.display().to_string()
                    });
                });
                let gateway = setup.start().await;
                is_answered(&gateway, "a").await;
                is_answered(&gateway, "a").await;
            }
        }
        let names = stage.tls.asked_for();
        // A connection each, used again for the second request.
        assert_eq!(names, vec![Some("localhost".to_owned()); 4], "http2: {http2}");
        let seen = stage.node.requests();
        // The name is for TLS: the node is still asked as it is written.
        let host = format!("127.0.0.1:{}", stage.tls.port);
        if !http2 {
            assert_eq!(seen[0].headers["host"], host.as_str());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_with_another_authority_or_name_sees_nothing_of_a_request() {
    for http2 in [false, true] {
        let stage = Stage::new(http2).await;
        for (why, fields, trusted) in [
            ("its authority is another", GOOD, &stage.foreign),
            (
                "its name is another",
                "tls: { ca_file: ca.pem, server_name: gpu.internal }",
                &stage.own,
            ),
            ("it is not certified for its address", "tls: { ca_file: ca.pem }", &stage.own),
            ("nobody trusts its authority", "tls: { server_name: localhost }", &stage.foreign),
        ] {
            let setup = Setup::routes(&stage.routes(fields)).file("ca.pem", trusted);
            // Whom the gateway trusts otherwise is trusted no more where an upstream says whom.
            let dir = tempfile::tempdir().unwrap();
            let file = dir.path().join("boot.pem");
            let boot = if fields == GOOD { &stage.own } else { &stage.foreign };
            std::fs::write(&file, boot).unwrap();
            let setup = setup.flags(|flags| flags.ca_file = Some(file.display().to_string()));
            let gateway = setup.start().await;
            is_unreachable(&gateway, "a", why).await;
        }
        assert!(stage.node.requests().is_empty(), "http2: {http2}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_ca_file_takes_effect_without_a_restart_also_where_a_connection_is_at_hand() {
    for http2 in [false, true] {
        let stage = Stage::new(http2).await;
        let setup = Setup::routes(&stage.routes(GOOD)).file("ca.pem", &stage.foreign);
        let gateway = setup.start().await;
        let trust = |authority: &str| std::fs::write(gateway.file("ca.pem"), authority).unwrap();
        is_unreachable(&gateway, "a", "it is not trusted yet").await;
        gateway.after_reload(|| trust(&stage.own)).await;
        is_answered(&gateway, "a").await;
        gateway.after_reload(|| trust("no certificate")).await;
        is_answered(&gateway, "a").await;
        gateway.after_reload(|| trust(&stage.foreign)).await;
        is_unreachable(&gateway, "a", "it is trusted no more").await;
        gateway.after_reload(|| trust(&stage.own)).await;
        is_answered(&gateway, "a").await;
        assert_eq!(chats(&stage.node), 3, "http2: {http2}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_trust_a_node_never_rides_on_the_connection_of_who_does() {
    for http2 in [false, true] {
        let stage = Stage::new(http2).await;
        let place = "nodes: ['https://127.0.0.1:PORT']";
        let routes = routes(&[
            stage.upstream("a", place, GOOD),
            stage.upstream("b", place, "tls: { ca_file: other.pem, server_name: localhost }"),
            stage.upstream("c", place, "tls: { server_name: localhost }"),
        ]);
        let setup = Setup::routes(&routes).file("ca.pem", &stage.own);
        let gateway = setup.file("other.pem", &stage.foreign).start().await;
        for _ in 0..2 {
            is_answered(&gateway, "a").await;
            is_unreachable(&gateway, "b", "it trusts another authority").await;
            is_unreachable(&gateway, "c", "it trusts the system's authorities").await;
        }
        // The refusals have closed nothing: what was agreed on served both.
        assert_eq!(stage.tls.asked_for().len(), 1, "http2: {http2}");
        assert_eq!(chats(&stage.node), 2, "http2: {http2}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_gateway_asks_by_itself_trusts_the_same() {
    let stage = Stage::new(false).await;
    let upstream = |trusted: &str| {
        let place = format!("nodes: ['https://127.0.0.1:{}']", stage.tls.port);
        let health = "health: { interval: 20ms, unhealthy_after: 2, healthy_after: 1 }";
        let tls = format!("tls: {{ ca_file: {trusted}, server_name: localhost }}");
        routes(&[format!("  a: {{ kind: vllm, {place}, {health}, {tls} }}\n")])
    };
    let setup = Setup::routes(&upstream("other.pem"))
        .file("ca.pem", &stage.own)
        .file("other.pem", &stage.foreign);
    let gateway = setup.start().await;
    let state = || async {
        let status = super::status(&gateway).await;
        let node = &status["upstreams"][0]["nodes"][0];
        (node["state"].as_str().unwrap().to_owned(), node.to_string())
    };
    eventually(|| async {
        let (state, told) = state().await;
        state == "down" && told.contains("the TLS handshake failed")
    })
    .await;
    assert!(stage.node.requests().is_empty());
    gateway.rewrite_routes(&upstream("ca.pem")).await;
    eventually(|| async { state().await.0 == "up" }).await;
    let lists_models = || async { chat(&gateway, "a").await.0 == 200 };
    eventually(lists_models).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn check_online_tells_a_certificate_that_is_not_the_right_one() {
    let stage = Stage::new(false).await;
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("config");
    std::fs::create_dir(&config).unwrap();
    std::fs::write(config.join("routes.yaml"), stage.routes(GOOD)).unwrap();
    std::fs::write(config.join("ca.pem"), &stage.own).unwrap();
    let good = sluice(dir.path(), &["check", "--online"], &[]).await;
    assert_eq!((good.code, &*good.err), (0, ""), "{}", good.out);
    std::fs::write(config.join("ca.pem"), &stage.foreign).unwrap();
    let bad = sluice(dir.path(), &["check", "--online"], &[]).await;
    assert_eq!(bad.code, 1, "{}", bad.out);
    assert!(
        bad.line("a ").ends_with(
            "FAILED  the TLS handshake failed; is it for `localhost`, by an authority of `tls.ca_file` or of the setting `ca_file`?"
        ),
        "{}",
        bad.out
    );
    std::fs::write(config.join("ca.pem"), "none").unwrap();
    let refused = sluice(dir.path(), &["check"], &[]).await;
    assert!(
        refused.code == 78 && refused.err.contains("upstreams.a.tls.ca_file"),
        "{}",
        refused.err
    );
}
