//! Streams whose end looks good and is none: a node that tells of its own death and then ends well, or just ends.

use serde_json::{Value, json};
use sluice::sim::Fault;

use super::{EVENTS, HEAD, code_at_end, gateway, pause, read, stream};
use crate::support::gateway::Setup;
use crate::support::scripted::{Peer, Scripted};
use crate::support::{KEY, TestGateway, node, within};

/// As vLLM 0.32 tells it.
const DEATH: &str = "data: {\"error\": {\"message\": \"EngineCore encountered an issue.\", \"type\": \"InternalServerError\", \"param\": null, \"code\": 500}}\n\n";
const DONE: &str = "data: [DONE]\n\n";

/// A node that sends these chunks to each request, and ends its answer well.
async fn saying(chunks: &'static [&'static str]) -> Scripted {
    Scripted::start(move |_, mut peer: Peer| async move {
        while peer.request().await.is_some() {
            peer.send(HEAD.as_bytes()).await;
            for chunk in chunks {
                peer.chunk(chunk).await;
            }
            peer.send(b"0\r\n\r\n").await;
        }
    })
    .await
}

/// A node that sends these chunks to a request, and breaks off.
async fn breaking_after(chunks: &'static [&'static str]) -> Scripted {
    Scripted::start(move |_, mut peer: Peer| async move {
        peer.request().await;
        peer.send(HEAD.as_bytes()).await;
        for chunk in chunks {
            peer.chunk(chunk).await;
        }
    })
    .await
}

/// The series of failures, by kind.
fn failures(gateway: &TestGateway, kind: &str) -> f64 {
    let text = String::from_utf8(gateway.server.metrics.render().unwrap()).unwrap();
    let label = format!("kind=\"{kind}\"");
    let of_kind =
        |line: &&str| line.starts_with("sluice_upstream_failures_total{") && line.contains(&label);
    text.lines()
        .filter(of_kind)
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_death_told_in_a_stream_is_its_error_and_its_end() {
    for chunks in [
        &[EVENTS[0], DEATH, DONE][..],
        // All in one.
        &[
            "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"one\"},\"finish_reason\":null}]}\n\ndata: {\"error\": {\"message\": \"x\", \"code\": 503}}\n\ndata: [DONE]\n\n",
        ],
        // Told in pieces.
        &[EVENTS[0], "da", "ta: {\"err", "or\": {\"message\": \"x\"", "}}", "\n", "\n", DONE],
    ] {
        let node = saying(chunks).await;
        for keepalive in ["15s", "0"] {
            let (gateway, clients) = gateway(node.addr, "", keepalive).await;
            for client in &clients {
                let (status, text, well) = stream(client, &gateway).await;
                assert!(status == 200 && well, "{text:?}");
                let (events, last) = text.split_at(EVENTS[0].len());
                assert_eq!((events, last.matches("\n\n").count()), (EVENTS[0], 1), "{text:?}");
                assert_eq!(code_at_end(&text), "upstream_error");
                assert!(!text.contains("EngineCore") && !text.contains("[DONE]"), "{text:?}");
            }
            let lines = gateway.log_lines(2).await;
            assert_eq!(failures(&gateway, "died"), 2.0);
            assert_eq!(gateway.series("sluice_upstream_failures_total"), 2.0);
            assert!(lines.iter().all(|line| line["error"] == "upstream_error"), "{lines:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_death_that_is_told_first_is_tried_again() {
    for chunks in [&[DEATH, DONE][..], &["dat", "a: {\"error\":{}}\n", "\ndata: [DONE]\n\n"], &[]] {
        for keepalive in ["15s", "50ms", "0"] {
            let node = Scripted::start(move |number, mut peer| async move {
                peer.request().await;
                peer.send(HEAD.as_bytes()).await;
                if number % 2 == 1 {
                    return peer.events().await;
                }
                if keepalive == "50ms" {
                    pause().await;
                }
                for chunk in chunks {
                    peer.chunk(chunk).await;
                }
                peer.send(b"0\r\n\r\n").await;
            })
            .await;
            let (gateway, clients) = gateway(node.addr, "", keepalive).await;
            for client in &clients {
                let (status, text, well) = stream(client, &gateway).await;
                assert!(status == 200 && well, "{text:?}");
                assert_eq!(text.replace(super::COMMENT, ""), EVENTS.concat());
            }
            let kind = if chunks.is_empty() { "broken" } else { "died" };
            assert_eq!(failures(&gateway, kind), 2.0);
            assert_eq!(node.seen().len(), 4);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_death_that_is_told_first_each_time_is_a_502() {
    let node = saying(&[DEATH, DONE]).await;
    let (gateway, clients) = gateway(node.addr, "", "15s").await;
    for client in &clients {
        let (status, text, well) = stream(client, &gateway).await;
        assert!(status == 502 && well && text.contains("upstream_error"), "{status} {text:?}");
    }
    assert_eq!(node.seen().len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_tells_of_its_death_and_hangs_is_told_of_once() {
    let node = Scripted::start(|_, mut peer| async move {
        peer.request().await;
        peer.send(HEAD.as_bytes()).await;
        peer.chunk(EVENTS[0]).await;
        peer.chunk(DEATH).await;
        peer.closed().await;
    })
    .await;
    for keepalive in ["50ms", "0"] {
        let (gateway, clients) =
            gateway(node.addr, ", timeouts: { first_byte: 1s, idle: 1s }", keepalive).await;
        for client in &clients {
            let (_, text, well) = stream(client, &gateway).await;
            assert!(well && text.matches("\"error\":").count() == 1, "{text:?}");
        }
        gateway.log_lines(2).await;
        assert_eq!(gateway.series("sluice_upstream_failures_total"), 2.0);
        assert_eq!(gateway.series("sluice_refusals_total"), 2.0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_just_ends_is_an_error_and_inside_of_an_event_a_cut() {
    for keepalive in ["15s", "0"] {
        let node = saying(&[EVENTS[0], EVENTS[0]]).await;
        let (whole, clients) = gateway(node.addr, "", keepalive).await;
        let node = Scripted::start(|_, mut peer: Peer| async move {
            while peer.request().await.is_some() {
                peer.send(HEAD.as_bytes()).await;
                peer.chunk(EVENTS[0]).await;
                peer.chunk("data: {\"half").await;
                pause().await;
                peer.send(b"0\r\n\r\n").await;
            }
        })
        .await;
        let (half, _) = gateway(node.addr, "", keepalive).await;
        for client in &clients {
            let (status, text, well) = stream(client, &whole).await;
            assert!(status == 200 && well && text.starts_with(EVENTS[0]), "{text:?}");
            assert_eq!(code_at_end(&text), "upstream_error");
            let told = stream(client, &half).await;
            assert_eq!(told, (200, format!("{}data: {{\"half", EVENTS[0]), false));
        }
        whole.log_lines(2).await;
        half.log_lines(2).await;
        assert_eq!((failures(&whole, "broken"), failures(&half, "broken")), (2.0, 2.0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_node_says_of_the_request_is_no_failure() {
    const REFUSAL: &str = "data: {\"error\":{\"message\":\"too long\",\"type\":\"BadRequestError\",\"param\":null,\"code\":400}}\n\n";
    const USAGE: &str = "data: {\"choices\":[],\"usage\":{\"total_tokens\":3}}\n\n";
    for chunks in [
        &[EVENTS[0], REFUSAL, DONE][..],
        &[REFUSAL],
        // Without a word at the end, but with a reason.
        &[EVENTS[0], EVENTS[1], USAGE],
        &[": of the node\n\n", EVENTS[0], DONE],
    ] {
        let node = saying(chunks).await;
        let (gateway, clients) = gateway(node.addr, "", "15s").await;
        for client in &clients {
            assert_eq!(stream(client, &gateway).await, (200, chunks.concat(), true));
        }
        assert_eq!(gateway.series("sluice_upstream_failures_total"), 0.0);
        assert_eq!(node.seen().len(), 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_of_another_path_may_end_as_it_likes() {
    let node = saying(&["data: 1\n\n"]).await;
    let gateway = TestGateway::before(node.addr).await;
    let reply =
        within(gateway.post("/invocations").body("{\"model\":\"m\"}").send()).await.unwrap();
    assert_eq!(read(reply).await, ("data: 1\n\n".to_owned(), true));
    assert_eq!(gateway.series("sluice_upstream_failures_total"), 0.0);
}

/// A simulated vLLM whose engine dies, as recorded of a real one, on each path that streams.
#[tokio::test(flavor = "multi_thread")]
async fn vllms_death_is_told_in_the_dialect_of_each_path() {
    for (path, input) in [
        (
            "/v1/chat/completions",
            json!({ "messages": [{ "role": "user", "content": "a b c d e f g" }] }),
        ),
        ("/v1/completions", json!({ "prompt": "a b c d e f g" })),
        (
            "/v1/messages",
            json!({ "messages": [{ "role": "user", "content": "a b c d e f g" }], "max_tokens": 20 }),
        ),
        ("/v1/responses", json!({ "input": "a b c d e f g" })),
    ] {
        let sim = node(&["m"]).await;
        sim.set_fault(Some(Fault::DieAfter(3)));
        let routes = crate::support::gateway::preset(sim.addr());
        let gateway = Setup::routes(&routes).start().await;
        let mut body = input;
        body["model"] = "m".into();
        body["stream"] = true.into();
        let reply =
            within(gateway.client.post(gateway.url(path)).bearer_auth(KEY).json(&body).send());
        let (text, well) = read(reply.await.unwrap()).await;
        let last = text.trim_end().rsplit("\n\n").next().unwrap();
        let data = last.lines().find_map(|line| line.strip_prefix("data: ")).unwrap();
        let error: Value = serde_json::from_str(data).unwrap();
        assert!(well, "{path}: {text:?}");
        if path == "/v1/messages" {
            assert!(last.starts_with("event: error\n"), "{text:?}");
            assert_eq!(error["error"]["type"], "api_error");
        } else {
            assert_eq!(error["error"]["code"], "upstream_error", "{path}");
        }
        assert!(!text.contains("[DONE]") && !text.contains("message_stop"), "{path}: {text:?}");
        assert_eq!(gateway.log_lines(1).await[0]["error"], "upstream_error", "{path}");
        assert_eq!(gateway.series("sluice_upstream_failures_total"), 1.0, "{path}");
    }
}

/// The client has all of it: what its node does then is no failure.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_breaks_off_after_a_good_end_has_not_failed() {
    let node = breaking_after(&EVENTS).await;
    for keepalive in ["15s", "0"] {
        let (gateway, clients) = gateway(node.addr, "", keepalive).await;
        for client in &clients {
            let (status, text, well) = stream(client, &gateway).await;
            assert!(status == 200 && well, "{text:?}");
            assert_eq!(text, EVENTS.concat());
        }
        let lines = gateway.log_lines(2).await;
        assert!(lines.iter().all(|line| line["error"].is_null()), "{lines:?}");
        assert_eq!(gateway.series("sluice_upstream_failures_total"), 0.0);
    }
}

/// One of two choices has finished: the other is lost with the node.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_breaks_between_its_choices_ends_is_told_so() {
    let node = breaking_after(&EVENTS[..2]).await;
    for keepalive in ["15s", "0"] {
        let (gateway, clients) = gateway(node.addr, "", keepalive).await;
        for client in &clients {
            let (status, text, well) = stream(client, &gateway).await;
            assert!(status == 200 && well, "{text:?}");
            assert_eq!(code_at_end(&text), "upstream_error");
        }
    }
}
