//! Who gets a session, and what its key may.

use std::time::Duration;

use serde_json::json;
use sluice::sim::Settings;

use super::{NODE_KEY, answered, ask, begin, chats, error, guarded, init, replaced};
use crate::support::gateway::{Setup, preset};
use crate::support::{KEY, node, nowhere};

const KEYS: &str = "keys:
  - { name: team, key: sk-team-a, limits: { rpm: 4 } }
  - { name: narrow, key: sk-narrow, models: [other] }
  - { name: operator, key: sk-operator, scopes: [admin] }
";

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_a_random_and_an_empty_key_get_no_session_of_a_node_that_takes_any() {
    let node = node(&["m"]).await;
    let base = format!("http://{}", node.addr());
    let gateway =
        Setup::bare().env("VLLM_BASE_URL", &base).env("VLLM_MODEL_NAME", "m").start().await;
    for key in ["sk-wrong", "5f1e0c", "", "two words", "\u{7}"] {
        assert_eq!(
            error(init(&gateway, key).await).await,
            (401, "invalid_api_key".into()),
            "{key:?}"
        );
    }
    // With a key of the gateway's own the node's is no matter, and wrong ones stay wrong.
    let gateway = Setup::routes(&preset(node.addr())).env("VLLM_MODEL_NAME", "m").start().await;
    for key in ["sk-wrong", "", NODE_KEY] {
        assert_eq!(
            error(init(&gateway, key).await).await,
            (401, "invalid_api_key".into()),
            "{key:?}"
        );
    }
    let id = begin(&gateway, KEY).await;
    answered(&gateway, &id, "Hello").await;
    assert_eq!(chats(&node).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_cannot_be_asked_about_a_key_is_no_fault_of_the_key() {
    let base = format!("http://{}", nowhere());
    let gateway =
        Setup::bare().env("VLLM_BASE_URL", &base).env("VLLM_MODEL_NAME", "m").start().await;
    let (status, code) = error(init(&gateway, NODE_KEY).await).await;
    assert_eq!((status, code.as_str()), (502, "upstream_unreachable"));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_tries_keys_out_waits_and_the_others_do_not() {
    let node = guarded().await;
    let gateway = replaced(&node).start().await;
    for _ in 0..10 {
        assert_eq!(init(&gateway, "sk-wrong").await.status(), 401);
    }
    let refused = init(&gateway, NODE_KEY).await;
    let wait: u64 = refused.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=60).contains(&wait), "{wait}");
    assert_eq!(error(refused).await, (429, "too_many_attempts".into()));
    assert_eq!(gateway.series("sluice_session_refused_keys_total"), 10.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_has_the_limits_and_the_models_of_its_key() {
    let node = node(&["m"]).await;
    let routes = preset(node.addr());
    let gateway = Setup::routes(&routes).keys(KEYS).env("VLLM_MODEL_NAME", "m").start().await;
    let (one, two) = (begin(&gateway, "sk-team-a").await, begin(&gateway, "sk-team-a").await);
    for id in [&one, &two] {
        let reply = ask(&gateway, id, "Hello", json!({})).await;
        assert_eq!(reply.headers()["x-ratelimit-limit-requests"], "4");
        assert_eq!(reply.status(), 200);
    }
    let reply = ask(&gateway, &one, "Hello", json!({})).await;
    assert_eq!(error(reply).await, (429, "rate_limit_exceeded".into()));
    // To begin one is a request as well.
    assert_eq!(error(init(&gateway, "sk-team-a").await).await, (429, "rate_limit_exceeded".into()));
    let narrow = begin(&gateway, "sk-narrow").await;
    let reply = ask(&gateway, &narrow, "Hello", json!({})).await;
    assert_eq!(error(reply).await, (403, "model_not_allowed".into()));
    let operator = init(&gateway, "sk-operator").await;
    assert_eq!(error(operator).await, (403, "scope_not_allowed".into()));
    let lines = gateway.log_lines(9).await;
    let of_chats = lines.iter().filter(|line| line["path"] == "/chat");
    let keys: Vec<_> = of_chats.map(|line| line["key"].as_str().unwrap().to_owned()).collect();
    assert_eq!(keys, ["team", "team", "team", "narrow"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_gone_takes_its_sessions_along() {
    let node = node(&["m"]).await;
    let routes = preset(node.addr());
    let gateway = Setup::routes(&routes).keys(KEYS).env("VLLM_MODEL_NAME", "m").start().await;
    let id = begin(&gateway, "sk-team-a").await;
    let keys = gateway.file("keys.yaml");
    gateway.after_reload(|| std::fs::write(&keys, KEYS.replace("team", "other")).unwrap()).await;
    let reply = ask(&gateway, &id, "Hello", json!({})).await;
    assert_eq!(error(reply).await, (401, "invalid_api_key".into()));
    gateway.after_reload(|| std::fs::write(&keys, KEYS).unwrap()).await;
    answered(&gateway, &id, "Hello").await;
    assert_eq!(chats(&node).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_the_upstream_that_was_changed_opens_its_old_sessions_no_more() {
    let node = guarded().await;
    let routes = |key: &str| {
        let upstream = format!(
            "{{ kind: vllm, nodes: [\"http://{}\"], health: off, key: {key} }}",
            node.addr()
        );
        format!(
            "upstreams:\n  llama: {upstream}\nroutes:\n  - {{ preset: vllm, upstream: llama }}\n"
        )
    };
    let gateway = Setup::routes(&routes(NODE_KEY)).env("VLLM_MODEL_NAME", "m").start().await;
    let id = begin(&gateway, NODE_KEY).await;
    answered(&gateway, &id, "Hello").await;
    gateway.rewrite_routes(&routes("sk-another")).await;
    let reply = ask(&gateway, &id, "Hello", json!({})).await;
    assert_eq!(error(reply).await, (401, "invalid_api_key".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_was_brought_for_one_upstream_is_shown_to_no_other() {
    let (node, other) = (guarded().await, crate::support::node(&["other"]).await);
    let routes = |first: &str| {
        let upstreams = [("first", first), ("second", &format!("http://{}", other.addr()))];
        let upstreams: String = upstreams
            .iter()
            .map(|(name, url)| format!("  {name}: {{ kind: vllm, nodes: [\"{url}\"], health: off, models: [{name}] }}\n"))
            .collect();
        format!(
            "upstreams:\n{upstreams}routes:\n  - {{ preset: vllm, upstream: first }}\n  - {{ preset: vllm, upstream: second }}\nfallbacks: {{ first: [second] }}\n"
        )
    };
    let gateway = Setup::bare().env("VLLM_MODEL_NAME", "first");
    let gateway = gateway.file("routes.yaml", &routes(&format!("http://{}", node.addr())));
    let gateway = gateway.start().await;
    let id = begin(&gateway, NODE_KEY).await;
    node.refuse().await;
    for _ in 0..8 {
        let _whatever_becomes_of_it = ask(&gateway, &id, "Hello", json!({})).await;
    }
    let shown = other.requests().iter().any(|seen| seen.headers.contains_key("authorization"));
    assert!(!shown && !other.requests().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_can_be_switched_off_against_the_variables() {
    let node = guarded().await;
    let gateway = replaced(&node).env("SLUICE_SESSIONS", "false").start().await;
    assert_eq!(init(&gateway, NODE_KEY).await.status(), 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn neither_ids_nor_keys_are_shown_to_anybody_else() {
    let settings = Settings { token_delay: Duration::from_millis(1), ..Settings::default() };
    let node = super::guarded_with(settings).await;
    let gateway = replaced(&node).start().await;
    let id = begin(&gateway, NODE_KEY).await;
    answered(&gateway, &id, "A secret question").await;
    init(&gateway, "sk-wrong-one").await;
    let lines = gateway.log_lines(3).await;
    let told = serde_json::to_string(&lines).unwrap();
    assert!(!told.contains(&id) && !told.contains("secret question"), "{told}");
    // The node never learns the id, nor the gateway's other headers.
    for seen in node.requests() {
        let body = String::from_utf8_lossy(&seen.body).into_owned();
        assert!(!body.contains(&id) && !format!("{:?}", seen.headers).contains(&id));
    }
}
