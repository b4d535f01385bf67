//! What nodes tell of themselves, and what is told of stores, sessions and the configuration.

use serde_json::json;

use crate::nodes::{QUICK, upstream};
use crate::support::gateway::Setup;
use crate::support::{eventually, node};

#[tokio::test(flavor = "multi_thread")]
async fn a_nodes_caches_are_told_as_it_tells_them() {
    let one = node(&["m"]).await;
    let routes = upstream(&[one.addr()], &format!("models: [m], {QUICK}"));
    let gateway = Setup::routes(&routes).start().await;
    let prompt = "It was a dark and stormy night. ".repeat(40);
    let body =
        json!({"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": prompt}]});
    let told = || async { super::status(&gateway).await["upstreams"][0]["nodes"][0].clone() };
    eventually(|| async { told().await["kv_cache"].is_number() }).await;
    for _ in 0..4 {
        let asked = gateway.post("/v1/chat/completions").json(&body).send().await.unwrap();
        assert_eq!(asked.status(), 200);
    }
    // Of four prompts that are the same, three are found.
    eventually(|| async { told().await["prefix_hits"].as_f64().is_some_and(|part| part > 0.5) })
        .await;
    assert_eq!(
        gateway.series("sluice_node_kv_cache_usage_ratio"),
        told().await["kv_cache"].as_f64().unwrap()
    );
    assert!(gateway.series("sluice_node_prefix_hit_ratio") > 0.5);
    let status = super::status(&gateway).await;
    let model = &status["models"][0];
    assert_eq!(
        (&model["model"], &model["nodes_up"], &model["nodes"]),
        (&"m".into(), &1.into(), &1.into())
    );
    assert_eq!(model["answers"]["ok"], 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn stores_and_sessions_are_told() {
    let one = node(&["m"]).await;
    let routes = upstream(&[one.addr()], "models: [m], health: off");
    let gateway =
        Setup::routes(&routes).flags(|flags| flags.sessions = Some("true".into())).start().await;
    let status = super::status(&gateway).await;
    assert_eq!(
        status["stores"],
        json!([
            {"of": "limits", "kind": "memory", "up": true, "errors": 0},
            {"of": "sessions", "kind": "memory", "up": true, "errors": 0},
        ])
    );
    assert_eq!(status["sessions"], json!({"open": 0, "bytes": 0, "begun": 0}));
}
