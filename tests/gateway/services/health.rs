//! How it goes, and who is told what (rows A9, B2, C6).

use serde_json::{Value, json};

use super::target;
use crate::support::gateway::Setup;
use crate::support::scripted::Scripted;
use crate::support::{TestGateway, node, nowhere};

fn health_route(url: &str, key: &str) -> String {
    format!(
        "  - path: /health\n    methods: [GET]\n    upstream_url: {url}\n    upstream_key: {key}\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a9_health_asks_each_health_route_with_its_own_key_and_reports_each() {
    let up = Scripted::replying("{}").await;
    let ill = Scripted::start(|_, mut peer| async move {
        while peer.request().await.is_some() {
            peer.answer("500 Internal Server Error", "sk-ill").await;
        }
    })
    .await;
    let down = nowhere();
    let routes = [
        "routes:\n",
        &health_route(&format!("http://{}/deep/health", up.addr), "sk-up"),
        &health_route(&format!("http://{}/health", ill.addr), "sk-ill"),
        &health_route(&format!("http://{down}/health"), "sk-down"),
    ];
    let gateway = TestGateway::start(&routes.concat()).await;
    let reply = gateway.get("/health").send().await.unwrap();
    assert_eq!(reply.status(), 200);
    let text = reply.text().await.unwrap();
    assert!(!text.contains("sk-"), "{text}");
    let report: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(report["status"], "degraded");
    let of = |index: usize| &report["upstreams"][index];
    assert_eq!((&of(0)["status"], &of(0)["http_status"]), (&json!("ok"), &json!(200)));
    assert_eq!((&of(1)["status"], &of(1)["http_status"]), (&json!("down"), &json!(500)));
    assert_eq!((&of(2)["status"], &of(2)["http_status"]), (&json!("down"), &Value::Null));
    assert!(of(2)["error"].is_string(), "{report}");
    for (index, addr) in [up.addr, ill.addr, down].into_iter().enumerate() {
        assert_eq!(of(index)["url"], format!("http://{addr}"));
        assert!(of(index)["latency_ms"].is_number(), "{report}");
    }
    let (up, ill) = (up.seen(), ill.seen());
    assert_eq!((target(&up[0]), target(&ill[0])), ("/deep/health", "/health"));
    assert_eq!(up[0].header("authorization"), Some("Bearer sk-up"));
    assert_eq!(ill[0].header("authorization"), Some("Bearer sk-ill"));

    // Without a key: the word alone. With a wrong one: nothing.
    let bare = gateway.client.get(gateway.url("/health")).send().await.unwrap();
    assert_eq!(
        (bare.status().as_u16(), &*bare.text().await.unwrap()),
        (200, r#"{"status":"degraded"}"#)
    );
    let wrong = gateway.client.get(gateway.url("/health")).bearer_auth("wrong");
    assert_eq!(wrong.send().await.unwrap().status(), 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a9_health_is_503_where_nothing_is_up_and_ok_where_all_is() {
    let down = format!("routes:\n{}", health_route(&format!("http://{}/health", nowhere()), "k"));
    let gateway = TestGateway::start(&down).await;
    for request in [gateway.get("/health"), gateway.client.get(gateway.url("/health"))] {
        let reply = request.send().await.unwrap();
        assert_eq!(reply.status(), 503);
        assert_eq!(reply.json::<Value>().await.unwrap()["status"], "down");
    }
    let node = node(&["m"]).await;
    let gateway = TestGateway::before(node.addr()).await;
    let report = gateway.get("/health").send().await.unwrap().json::<Value>().await.unwrap();
    assert_eq!(report["status"], "ok");
    assert_eq!(report["upstreams"][0]["upstream"], "llama");
    assert_eq!(node.requests()[0].target, "/health");
}

#[tokio::test(flavor = "multi_thread")]
async fn b2_health_answers_without_a_key() {
    let node = node(&["m"]).await;
    let gateway = Setup::bare()
        .env("INTERNAL_API_KEY", "internal-1")
        .env("VLLM_BASE_URL", &format!("http://{}", node.addr()))
        .start()
        .await;
    let reply = gateway.client.get(gateway.url("/health")).send().await.unwrap();
    assert_eq!(reply.status(), 200);
    assert_eq!(reply.headers()["content-type"], "application/json");
    assert_eq!(reply.text().await.unwrap(), r#"{"status":"ok"}"#);
}

#[tokio::test(flavor = "multi_thread")]
async fn c6_the_service_and_its_health_are_described_without_a_key() {
    let node = node(&["m"]).await;
    let gateway = Setup::bare()
        .env("ALLOWED_API_KEYS", "a")
        .env("LLM_SERVER_URL", &format!("http://{}/v1/completions", node.addr()))
        .start()
        .await;
    let bare = |path: &str| gateway.client.get(gateway.url(path)).send();
    let about = bare("/").await.unwrap();
    assert_eq!(about.status(), 200);
    let about: Value = about.json().await.unwrap();
    assert_eq!(about["name"], "sluice");
    assert_eq!(about["version"], env!("CARGO_PKG_VERSION"));
    assert!(about["endpoints"].as_array().unwrap().contains(&json!("/health")));
    for path in ["/health", "/livez", "/readyz"] {
        let reply = bare(path).await.unwrap();
        assert_eq!(reply.status(), 200, "{path}");
        assert_eq!(reply.text().await.unwrap(), r#"{"status":"ok"}"#, "{path}");
    }
    assert_eq!(bare("/v1/models").await.unwrap().status(), 401);
    assert_eq!(bare("/nothing").await.unwrap().status(), 401, "who has no key learns no paths");
}
