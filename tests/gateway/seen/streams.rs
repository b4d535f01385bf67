//! Streams under way: who has stalled.

use futures_util::StreamExt;
use tokio::sync::watch;

use crate::support::gateway::{chat, preset};
use crate::support::scripted::Scripted;
use crate::support::{TestGateway, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_shown_with_its_tokens_while_it_lasts() {
    let (go, gate) = watch::channel(0);
    let node = Scripted::start(move |_, mut peer| {
        let mut gate = gate.clone();
        async move {
            peer.request().await;
            let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
            peer.send(head.as_bytes()).await;
            for (turn, text) in ["{\"role\":\"assistant\",\"content\":\"\"}", "{\"content\":\"a\"}", "{\"content\":\"b\"}"]
                .into_iter()
                .enumerate()
            {
                gate.wait_for(|open| *open >= turn).await.unwrap();
                let event = format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{text}}}]}}\n\n");
                peer.send(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes()).await;
            }
            gate.wait_for(|open| *open >= 3).await.unwrap();
            let end = "data: [DONE]\n\n";
            peer.send(format!("{:x}\r\n{end}\r\n0\r\n\r\n", end.len()).as_bytes()).await;
        }
    })
    .await;
    let gateway = TestGateway::start(&preset(node.addr)).await;
    let mut body = chat("m");
    body["stream"] = true.into();
    let request = gateway.post("/v1/chat/completions").header("x-request-id", "req-slow");
    let mut pieces = request.json(&body).send().await.unwrap().bytes_stream();
    pieces.next().await.unwrap().unwrap();
    let shown = async || super::status(&gateway).await["streams"].clone();
    let streams = shown().await;
    assert_eq!((&streams[0]["id"], &streams[0]["tokens"]), (&"req-slow".into(), &0.into()));
    assert_eq!(
        (&streams[0]["model"], &streams[0]["key"]),
        (&"m".into(), &"proxy-secret-key".into())
    );
    assert_eq!(streams[0]["node"], format!("http://{}", node.addr));
    for turn in 1..=2_u64 {
        go.send(turn as usize).unwrap();
        eventually(|| async { shown().await[0]["tokens"] == turn }).await;
    }
    let told = shown().await[0].clone();
    assert!(told["last_token_age_seconds"].as_f64() <= told["age_seconds"].as_f64(), "{told}");
    assert_eq!(gateway.series("sluice_live_streams"), 1.0);
    assert_eq!(gateway.series("sluice_time_to_first_token_seconds_count"), 1.0);
    assert_eq!(gateway.series("sluice_inter_token_latency_seconds_count"), 1.0);
    go.send(3).unwrap();
    while pieces.next().await.is_some() {}
    eventually(|| async { shown().await.as_array().unwrap().is_empty() }).await;
    assert_eq!(gateway.series("sluice_live_streams"), 0.0);
}
