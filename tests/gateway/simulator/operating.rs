//! What operators and browsers ask of a node (samples `*pause*`, `*resume*`, `*elastic_ep*`, `options_chat.http`).

use reqwest::Method;
use serde_json::json;
use sluice::sim::Settings;
use tokio::task::JoinSet;

use super::support::{Node, chat, soon};

const CHAT: &str = "/v1/chat/completions";

/// Status and text of the answer to an empty POST.
async fn posted(node: &Node, path: &str) -> (u16, String) {
    let reply = node.client.post(node.url(path)).send().await.unwrap();
    (reply.status().as_u16(), reply.text().await.unwrap())
}

#[tokio::test]
async fn a_paused_node_is_well_but_answers_nothing() {
    let node = Node::start().await;
    let paused = async || node.get("/is_paused").await.text().await.unwrap();
    assert_eq!(paused().await, r#"{"is_paused":false}"#);
    let wanted = (200, r#"{"status":"paused"}"#.to_owned());
    assert_eq!(posted(&node, "/pause?mode=keep&clear_cache=false").await, wanted);
    assert_eq!(paused().await, r#"{"is_paused":true}"#);

    let mut waiting = JoinSet::new();
    waiting.spawn(node.post(CHAT, &chat("Hi")).send());
    node.sim.wait_until(|counts| counts.arrived == 4).await;
    for path in ["/health", "/ping", "/v1/models", "/metrics"] {
        assert_eq!(node.get(path).await.status(), 200, "{path}");
    }
    assert_eq!(node.get("/load").await.text().await.unwrap(), r#"{"server_load":1}"#);
    assert!(waiting.try_join_next().is_none());
    assert_eq!(posted(&node, "/resume").await, (200, r#"{"status":"resumed"}"#.to_owned()));
    assert_eq!(soon(waiting.join_next()).await.unwrap().unwrap().unwrap().status(), 200);
    assert_eq!(paused().await, r#"{"is_paused":false}"#);
}

#[tokio::test]
async fn a_pause_that_does_not_exist_is_refused() {
    let node = Node::start().await;
    assert_eq!(
        posted(&node, "/pause?mode=x&clear_cache=maybe").await,
        (400, r#"{"error":{"message":"2 validation errors:\n  {'type': 'literal_error', 'loc': 'query.mode', 'msg': \"Input should be 'abort', 'wait' or 'keep'\", 'input': 'x', 'ctx': {'expected': \"'abort', 'wait' or 'keep'\"}}\n  {'type': 'bool_parsing', 'loc': 'query.clear_cache', 'msg': 'Input should be a valid boolean, unable to interpret input', 'input': 'maybe'}","type":"Bad Request","param":"query.mode","code":400}}"#.to_owned())
    );
    assert_eq!(node.get("/is_paused").await.text().await.unwrap(), r#"{"is_paused":false}"#);
}

#[tokio::test]
async fn a_node_is_scaled_to_a_size() {
    let node = Node::locked("sk-node-1").await;
    assert_eq!(
        node.told("/scale_elastic_ep", json!({"new_data_parallel_size": 1})).await,
        r#"{"message":"Scaled to 1 data parallel engines"}"#
    );
    let told = posted(&node, "/is_scaling_elastic_ep").await;
    assert_eq!(told, (200, r#"{"is_scaling_elastic_ep":false}"#.to_owned()));
    for (body, says) in [
        (json!({}), "new_data_parallel_size is required"),
        (json!({"new_data_parallel_size": 0}), "new_data_parallel_size must be a positive integer"),
        (
            json!({"new_data_parallel_size": "1"}),
            "new_data_parallel_size must be a positive integer",
        ),
        (
            json!({"new_data_parallel_size": 2, "drain_timeout": 0}),
            "drain_timeout must be a positive integer",
        ),
    ] {
        assert_eq!(
            node.told("/scale_elastic_ep", body).await,
            format!(
                r#"{{"error":{{"message":"{says}","type":"Bad Request","param":null,"code":400}}}}"#
            )
        );
    }
    let request = node.client.post(node.url("/scale_elastic_ep")).body("{");
    let reply = request.header("content-type", "application/json").send().await.unwrap();
    assert!(reply.text().await.unwrap().contains("Invalid JSON format"));
}

#[tokio::test]
async fn a_browser_that_asks_first_is_told_no() {
    let node = Node::locked("sk-node-1").await;
    let ask = |path: &str, method: &'static str| {
        let request = node.client.request(Method::OPTIONS, node.url(path));
        let request = request.header("origin", "http://x.test");
        request
            .header("access-control-request-method", method)
            .header("access-control-request-headers", "authorization,content-type")
            .send()
    };
    for (path, method, says) in [
        (CHAT, "POST", "Disallowed CORS origin"),
        ("/nope", "BREW", "Disallowed CORS origin, method"),
    ] {
        let reply = ask(path, method).await.unwrap();
        assert_eq!(reply.status(), 400);
        let headers = reply.headers();
        for (name, value) in [
            ("server", "uvicorn"),
            (
                "vary",
                "Origin, Access-Control-Request-Method, Access-Control-Request-Headers, Access-Control-Request-Private-Network",
            ),
            ("access-control-allow-methods", "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT, QUERY"),
            ("access-control-max-age", "600"),
            ("access-control-allow-headers", "authorization,content-type"),
            ("content-type", "text/plain; charset=utf-8"),
        ] {
            assert_eq!(headers[name], value);
        }
        assert!(!headers.contains_key("access-control-allow-origin"));
        assert_eq!(reply.text().await.unwrap(), says);
    }
    let plain = node.client.request(Method::OPTIONS, node.url(CHAT)).send().await.unwrap();
    assert_eq!(
        (plain.status().as_u16(), &plain.headers()["allow"]),
        (405, &"POST".parse().unwrap())
    );
}

#[tokio::test]
async fn paths_that_no_contract_lists_are_unknown() {
    let node = Node::with(Settings::default()).await;
    for path in ["/v1/models/sim-llama", "/v2/embed", "/sleep", "/wake_up", "/server_info", "/docs"]
    {
        let reply = node.get(path).await;
        assert_eq!(reply.status(), 404, "{path}");
        assert_eq!(reply.text().await.unwrap(), r#"{"detail":"Not Found"}"#);
    }
}
