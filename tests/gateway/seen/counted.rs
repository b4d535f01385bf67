//! What is counted of requests, and under which names.

use serde_json::json;

use crate::support::gateway::{Setup, preset};
use crate::support::{KEY, TestGateway, eventually, node, nowhere};

#[tokio::test(flavor = "multi_thread")]
async fn a_request_counts_for_its_node_its_model_and_its_key() {
    let one = node(&["m"]).await;
    let keys = "keys:\n  - name: team\n    key: sk-of-the-team\n";
    let gateway = Setup::routes(&preset(one.addr())).keys(keys).start().await;
    let asked = |stream: bool| {
        let body = json!({"model": "m", "max_tokens": 5, "stream": stream, "messages": [{"role": "user", "content": "Hi"}]});
        gateway
            .client
            .post(gateway.url("/v1/chat/completions"))
            .bearer_auth("sk-of-the-team")
            .json(&body)
            .send()
    };
    let whole: serde_json::Value = asked(false).await.unwrap().json().await.unwrap();
    let told = |name: &str| whole["usage"][name].as_f64().unwrap();
    gateway.log_lines(1).await;
    for (name, label) in [
        ("sluice_tokens_total", "model=\"m\""),
        ("sluice_key_tokens_total", "key=\"team\""),
        ("sluice_node_tokens_total", "node="),
    ] {
        let of_kind = |kind: &str| {
            let text = String::from_utf8(gateway.server.metrics.render().unwrap()).unwrap();
            let line = text
                .lines()
                .find(|line| line.starts_with(name) && line.contains(label) && line.contains(kind));
            line.unwrap().rsplit(' ').next().unwrap().parse::<f64>().unwrap()
        };
        assert_eq!(of_kind("kind=\"prompt\""), told("prompt_tokens"), "{name}");
        assert_eq!(of_kind("kind=\"completion\""), told("completion_tokens"), "{name}");
    }
    let stream = asked(true).await.unwrap().text().await.unwrap();
    assert!(stream.ends_with("data: [DONE]\n\n"), "{stream}");
    gateway.log_lines(2).await;
    // Nobody asked the stream for its usage: its tokens were counted as they passed.
    assert_eq!(
        gateway.series_with("sluice_tokens_total", "completion"),
        told("completion_tokens") + 5.0
    );
    assert_eq!(
        gateway.series_with("sluice_key_requests_total", "key=\"team\",status=\"2xx\""),
        2.0
    );
    assert_eq!(
        gateway.series_with("sluice_model_requests_total", "model=\"m\",status=\"2xx\""),
        2.0
    );
    assert_eq!(gateway.series_with("sluice_node_requests_total", "status=\"2xx\""), 2.0);
    for of in ["sluice_", "sluice_node_"] {
        assert_eq!(gateway.series(&format!("{of}time_to_first_token_seconds_count")), 1.0);
        assert_eq!(gateway.series(&format!("{of}inter_token_latency_seconds_count")), 4.0);
    }
    assert_eq!(gateway.series("sluice_overhead_seconds_count"), 2.0);
    assert_eq!(gateway.series("sluice_live_streams"), 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn models_that_clients_make_up_have_no_series() {
    let one = node(&["m"]).await;
    let gateway = TestGateway::before(one.addr()).await;
    assert_eq!(gateway.chat("m").send().await.unwrap().status(), 200);
    for number in 0..3 {
        assert_eq!(gateway.chat(&format!("made-up-{number}")).send().await.unwrap().status(), 404);
    }
    gateway.log_lines(4).await;
    assert_eq!(gateway.series_with("sluice_model_requests_total", "\"m\""), 1.0);
    let text = String::from_utf8(gateway.server.metrics.render().unwrap()).unwrap();
    assert!(!text.contains("made-up"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_try_that_failed_counts_at_its_node_and_a_refusal_at_its_key() {
    let (one, dead) = (node(&["m"]).await, nowhere());
    let routes = format!(
        "upstreams:\n  llama: {{ kind: vllm, nodes: ['http://{dead}', 'http://{}'], models: [m], health: off, balance: round_robin }}\nroutes:\n  - {{ preset: vllm, upstream: llama }}\n",
        one.addr()
    );
    let keys = "keys:\n  - name: little\n    key: sk-little\n    limits: { rpm: 2 }\n";
    let gateway = Setup::routes(&routes).keys(keys).start().await;
    let ask = async |key: &str| {
        let body = crate::support::gateway::chat("m");
        let request = gateway.client.post(gateway.url("/v1/chat/completions")).bearer_auth(key);
        request.json(&body).send().await.unwrap().status().as_u16()
    };
    assert_eq!(
        (ask("sk-little").await, ask("sk-little").await, ask("sk-little").await),
        (200, 200, 429)
    );
    eventually(|| async { gateway.series("sluice_node_requests_total") == 2.0 }).await;
    let of_dead = |name: &str| gateway.series_with(name, &dead.to_string());
    let failed = of_dead("sluice_node_failures_total");
    assert!(failed >= 1.0);
    assert_eq!(of_dead("sluice_node_retries_total"), failed);
    assert_eq!(gateway.series_with("sluice_key_limited_total", "little"), 1.0);
    assert_eq!(gateway.series_with("sluice_limit_refusals_total", "rpm"), 1.0);
    let status = super::status(&gateway).await;
    let of_key = |name: &str| {
        let keys = status["keys"].as_array().unwrap();
        keys.iter().find(|key| key["key"] == name).unwrap().clone()
    };
    assert_eq!(
        of_key("little")["limits"],
        json!([{"limit": "rpm", "allowed": 2, "used": 2}]),
        "{status}"
    );
    assert_eq!(
        (&of_key("little")["requests"], &of_key("little")["limited"]),
        (&2.into(), &1.into())
    );
    assert!(!status.to_string().contains(KEY) && !status.to_string().contains("sk-little"));
}
