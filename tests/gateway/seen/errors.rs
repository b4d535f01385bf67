//! The last errors.

use crate::support::gateway::preset;
use crate::support::scripted::Scripted;
use crate::support::{TestGateway, eventually, node, nowhere};

#[tokio::test(flavor = "multi_thread")]
async fn what_went_wrong_is_told_with_its_request_and_without_its_prompt() {
    let dead = nowhere();
    let gateway = TestGateway::start(&preset(dead)).await;
    let answer = gateway.chat("m").header("x-request-id", "req-of-mine").send().await.unwrap();
    assert_eq!(answer.status(), 502);
    let status = || super::status(&gateway);
    eventually(|| async { status().await["errors"][0]["status"] == 502 }).await;
    let status = status().await;
    let errors = status["errors"].as_array().unwrap();
    let last = &errors[0];
    assert_eq!(
        (&last["code"], &last["id"]),
        (&"upstream_unreachable".into(), &"req-of-mine".into())
    );
    assert_eq!((&last["model"], &last["node"]), (&"m".into(), &format!("http://{dead}").into()));
    assert_eq!(last["key"], "proxy-secret-key");
    let tries: Vec<_> = errors[1..].iter().map(|one| (&one["code"], &one["status"])).collect();
    assert!(
        !tries.is_empty()
            && tries.iter().all(|one| *one == (&"connect".into(), &serde_json::Value::Null))
    );
    assert!(!status.to_string().contains("Hello there"), "{status}");
    eventually(|| async {
        gateway.chat("m").send().await.unwrap();
        super::status(&gateway).await["totals"]["errors_per_second"].as_f64().unwrap() > 0.0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_broke_is_an_error_though_it_began_well() {
    let broken = Scripted::start(|_, mut peer| async move {
        peer.request().await;
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
        let event = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"one\"}}]}\n\n";
        peer.send(format!("{head}{:x}\r\n{event}\r\n", event.len()).as_bytes()).await;
    })
    .await;
    let gateway = TestGateway::start(&preset(broken.addr)).await;
    let mut body = crate::support::gateway::chat("m");
    body["stream"] = true.into();
    let answer = gateway.post("/v1/chat/completions").json(&body).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert!(answer.text().await.unwrap().contains("upstream_error"));
    eventually(|| async { super::status(&gateway).await["errors"][0]["status"] == 200 }).await;
    let status = super::status(&gateway).await;
    assert_eq!(status["errors"][0]["code"], "upstream_error");
    assert_eq!(status["models"][0]["answers"]["errors"], 1, "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_that_was_not_taken_is_told_in_words_until_it_is_mended() {
    let one = node(&["m"]).await;
    let gateway = TestGateway::start(&preset(one.addr())).await;
    gateway.rewrite_routes("upstreams: [\n").await;
    let status = super::status(&gateway).await;
    let told = status["failed_reload"]["message"].as_str().unwrap();
    assert!(told.contains("routes.yaml"), "{told}");
    assert_eq!((&status["generation"], &status["state"]), (&1.into(), &"ok".into()));
    gateway.rewrite_routes(&preset(one.addr())).await;
    let status = super::status(&gateway).await;
    assert_eq!(
        (&status["failed_reload"], &status["generation"]),
        (&serde_json::Value::Null, &2.into())
    );
}
