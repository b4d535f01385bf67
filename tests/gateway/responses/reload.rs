//! What is known of responses lives through reloads, and means nodes and keys by what they are called.

use serde_json::json;

use super::{KEYS, asked, before_two, cancel, get, keeper, make, post, told, two, unknown};
use crate::support::gateway::Setup;
use crate::support::{KEY, TestGateway};

#[tokio::test(flavor = "multi_thread")]
async fn a_response_is_found_while_its_node_is_configured() {
    let (first, second) = (keeper("a").await, keeper("b").await);
    let gateway = before_two(&first, &second).await;
    let id = make(&gateway, "sk-one", "qwen").await;
    let with_both = two(first.addr, second.addr);
    let renamed = with_both.replace("second", "third");
    gateway.rewrite_routes(&renamed).await;
    assert_eq!(told(get(&gateway, "sk-one", &id)).await, (200, "b".into()));
    let gone = with_both.replace(&second.addr.to_string(), &first.addr.to_string());
    gateway.rewrite_routes(&gone).await;
    assert_eq!(told(get(&gateway, "sk-one", &id)).await, unknown(&id));
    let next = json!({ "model": "qwen", "previous_response_id": id });
    assert_eq!(told(post(&gateway, "sk-one", &next)).await, super::unknown_previous(&id));
    gateway.rewrite_routes(&with_both).await;
    assert_eq!(told(get(&gateway, "sk-one", &id)).await, (200, "b".into()));
    assert!(asked(&first).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_response_is_its_keys_by_name() {
    let (first, second) = (keeper("a").await, keeper("b").await);
    let gateway = before_two(&first, &second).await;
    let id = make(&gateway, "sk-one", "llama").await;
    let write = |keys: &str| std::fs::write(gateway.file("keys.yaml"), keys).unwrap();
    gateway.after_reload(|| write(&KEYS.replace("sk-one", "sk-one-of-next-month"))).await;
    assert_eq!(told(get(&gateway, "sk-one-of-next-month", &id)).await, (200, "a".into()));
    gateway.after_reload(|| write(&KEYS.replace("name: one", "name: renamed"))).await;
    assert_eq!(told(get(&gateway, "sk-one", &id)).await, unknown(&id));
}

/// One node with two accounts: what one made is asked for with that one's key.
#[tokio::test(flavor = "multi_thread")]
async fn of_two_upstreams_at_one_node_it_is_the_one_that_made_it() {
    let node = keeper("a").await;
    let account = |name: &str| {
        format!(
            "  {name}: {{ nodes: [\"http://{}\"], key: sk-{name}, models: [{name}] }}\n",
            node.addr
        )
    };
    let routes = format!(
        "upstreams:\n{}{}routes:\n  - {{ preset: vllm, upstream: x }}\n  - {{ preset: vllm, upstream: y }}\n",
        account("x"),
        account("y")
    );
    let gateway = TestGateway::start(&routes).await;
    for name in ["y", "x"] {
        let id = make(&gateway, KEY, name).await;
        assert_eq!(told(get(&gateway, KEY, &id)).await.0, 200);
        let key = format!("Bearer sk-{name}");
        assert_eq!(node.seen().last().unwrap().header("authorization"), Some(&*key));
    }
}

/// The short form, as in the service replaced: a route for each path, each with its own URL.
#[tokio::test(flavor = "multi_thread")]
async fn routes_of_the_short_form_do_the_same() {
    let (first, second) = (keeper("a").await, keeper("b").await);
    let mut routes = "routes:\n".to_owned();
    for node in [&first, &second] {
        for (path, method) in [
            ("/v1/responses", "POST"),
            ("/v1/responses/{response_id}", "GET"),
            ("/v1/responses/{response_id}/cancel", "POST"),
        ] {
            routes += &format!(
                "  - path: {path}\n    methods: [{method}]\n    upstream_url: http://{}{path}\n    \
                 upstream_key: sk-node\n",
                node.addr
            );
        }
    }
    let gateway = Setup::bare().file("routes.yaml", &routes).keys(KEYS).start().await;
    for (model, name) in [("model-a", "a"), ("model-b", "b")] {
        let id = make(&gateway, "sk-one", model).await;
        assert_eq!(told(get(&gateway, "sk-one", &id)).await, (200, name.into()));
        assert_eq!(told(cancel(&gateway, "sk-one", &id)).await, (200, name.into()));
        assert_eq!(told(get(&gateway, "sk-two", &id)).await, unknown(&id));
        let next = json!({ "input": "More", "previous_response_id": id });
        assert!(told(post(&gateway, "sk-one", &next)).await.1.contains(&format!("resp_{name}_")));
    }
    let expected = ["/v1/responses/resp_b_1", "/v1/responses/resp_b_1/cancel"];
    assert_eq!(asked(&second), expected);
}
