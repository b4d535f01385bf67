//! Usage of streams: asked of the node where somebody needs it, and cut out again for a client that did not ask.

use serde_json::{Value, json};

use super::tokens::{post, spent, told, with};
use super::{CHAT, key, keys, limited};
use crate::support::gateway::{Setup, chat, preset};
use crate::support::scripted::Scripted;
use crate::support::{TestGateway, node, within};

const LIMIT: &str = "tpm: 1000000";

/// A key with a limit of tokens, and one without.
async fn two_keys(routes: &str) -> TestGateway {
    let keys = keys(&[key("team", LIMIT), key("free", "rpm: 1000")]);
    Setup::routes(routes).keys(&keys).start().await
}

/// A stream as its client gets it.
async fn stream(gateway: &TestGateway, bearer: &str, path: &str, body: &Value) -> String {
    let request = gateway.client.post(gateway.url(path)).bearer_auth(bearer).json(body);
    let reply = within(request.send()).await.unwrap();
    assert_eq!(reply.status(), 200);
    within(reply.text()).await.unwrap()
}

/// A stream without what differs between two answers to the same request, and without the fingerprint that vLLM tells with the
/// usage, where it is asked for that.
fn same(text: &str) -> String {
    let masked = |event: &str| {
        let Some(json) = event.strip_prefix("data: {") else { return event.to_owned() };
        let json = format!("{{{json}");
        let chunk: Value = serde_json::from_str(&json).unwrap();
        let id = chunk["id"].as_str().unwrap();
        let fingerprint = format!(",\"system_fingerprint\":{}", chunk["system_fingerprint"]);
        let created = format!("\"created\":{}", chunk["created"]);
        json.replace(id, "ID").replace(&created, "CREATED").replace(&fingerprint, "")
    };
    text.split("\n\n").map(masked).collect::<Vec<_>>().join("\n\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_ask_sees_what_it_would_see_had_nobody_asked() {
    let node = node(&["m"]).await;
    let gateway = two_keys(&preset(node.addr())).await;
    let completion = json!({ "model": "m", "prompt": "Once upon a time", "max_tokens": 9 });
    for (path, body) in [
        (CHAT, chat("m")),
        (CHAT, with(chat("m"), "n", json!(3))),
        (CHAT, with(chat("m"), "stream_options", json!({ "include_usage": false }))),
        (CHAT, with(chat("m"), "stream_options", json!(null))),
        (CHAT, with(chat("m"), "stream_options", json!({ "include_usage": true }))),
        ("/v1/completions", completion),
    ] {
        let body = with(with(body, "stream", json!(true)), "seed", json!(7));
        let metered = stream(&gateway, "sk-team", path, &body).await;
        let free = stream(&gateway, "sk-free", path, &body).await;
        assert_eq!(same(&metered), same(&free), "{path} {body}");
        let requests = node.requests();
        let [.., asked, plain] = requests.as_slice() else { panic!() };
        let asked: Value = serde_json::from_slice(&asked.body).unwrap();
        let options = json!({ "include_usage": true, "continuous_usage_stats": true });
        assert_eq!(asked["stream_options"], options);
        assert_eq!(plain.body, body.to_string(), "nobody needs to know");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_costs_what_its_node_tells_though_its_client_did_not_ask() {
    let node = node(&["m"]).await;
    let gateway = limited(&node, LIMIT).await;
    let body = with(chat("m"), "max_tokens", json!(20));
    let (_, usage) = told(post(&gateway, CHAT, &body).await).await;
    let whole = spent(&gateway, 1).await;
    assert_eq!(Some(whole), usage["total_tokens"].as_u64());
    let (text, usage) = told(post(&gateway, CHAT, &with(body, "stream", json!(true))).await).await;
    assert_eq!(usage, Value::Null, "{text}");
    assert_eq!(spent(&gateway, 3).await, 2 * whole);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_for_both_is_left_alone_and_what_is_no_switch_is_the_nodes_to_judge() {
    let node = node(&["m"]).await;
    let gateway = limited(&node, LIMIT).await;
    let both = json!({ "include_usage": true, "continuous_usage_stats": true });
    let body = with(with(chat("m"), "stream", json!(true)), "stream_options", both);
    let text = stream(&gateway, "sk-team", CHAT, &body).await;
    assert_eq!(text.matches("\"usage\":{").count(), text.matches("data: {").count(), "{text}");
    assert_eq!(node.requests()[0].body, body.to_string());
    let odd = with(body, "stream_options", json!({ "include_usage": "x" }));
    assert_eq!(post(&gateway, CHAT, &odd).await.status(), 400);
    assert_eq!(node.requests()[1].body, odd.to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alias_and_the_question_are_one_change_of_the_body() {
    let node = node(&["m"]).await;
    let routes = format!("{}aliases: {{ gpt: m }}\n", preset(node.addr()));
    let gateway = two_keys(&routes).await;
    let body = r#"{"messages":[{"role":"user","content":"Hi"}],"model" : "gpt", "stream":true}"#;
    let request = gateway.client.post(gateway.url(CHAT)).bearer_auth("sk-team");
    let request = request.header("content-type", "application/json").body(body);
    assert_eq!(within(request.send()).await.unwrap().status(), 200);
    let wanted = r#"{"messages":[{"role":"user","content":"Hi"}],"model" : "m","stream_options":{"continuous_usage_stats":true,"include_usage":true}, "stream":true}"#;
    assert_eq!(node.requests()[0].body, wanted);
}

/// A node of OpenAI's kind, which says this in chunks of a body.
async fn saying(chunks: &'static [&'static str]) -> (Scripted, TestGateway) {
    let node = Scripted::start(move |_, mut peer| async move {
        while peer.request().await.is_some() {
            peer.send(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n").await;
            for chunk in chunks {
                peer.send(format!("{:x}\r\n{chunk}\r\n", chunk.len()).as_bytes()).await;
            }
            peer.send(b"0\r\n\r\n").await;
        }
    })
    .await;
    let routes = preset(node.addr).replace("kind: vllm", "kind: openai, models: [m]");
    let gateway = two_keys(&routes).await;
    (node, gateway)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_of_openais_kind_is_asked_for_the_last_event_alone() {
    let (node, gateway) = saying(&[
        "data: {\"id\":\"1\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}],\"usage\":null,\"obfuscation\":\"x\"}\n\nda",
        "ta: {\"id\":\"1\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}],\"us",
        "age\":null}\n\ndata: {\"id\":\"1\",\"choices\":[],\"usage\":{\"prompt_tokens\":11,\"completion_tokens\":4}}\n\n",
        "data: [DONE]\n\n",
    ])
    .await;
    let body = with(chat("m"), "stream", json!(true));
    let text = stream(&gateway, "sk-team", CHAT, &body).await;
    assert_eq!(
        text,
        "data: {\"id\":\"1\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}],\"obfuscation\":\"x\"}\n\n\
         data: {\"id\":\"1\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n"
    );
    let asked: Value = serde_json::from_slice(&node.seen()[0].body).unwrap();
    assert_eq!(asked["stream_options"], json!({ "include_usage": true }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_breaks_inside_of_an_event_ends_with_whole_events_and_the_error() {
    let (_node, gateway) = saying(&[
        "data: {\"id\":\"1\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}]}\n\n",
        "data: {\"id\":\"1\",\"choices\":[{\"in",
    ])
    .await;
    let body = with(chat("m"), "stream", json!(true));
    let text = stream(&gateway, "sk-team", CHAT, &body).await;
    let events: Vec<&str> = text.split_terminator("\n\n").collect();
    assert_eq!(events.len(), 2, "{text}");
    let error: Value = serde_json::from_str(events[1].strip_prefix("data: ").unwrap()).unwrap();
    assert_eq!(error["error"]["code"], "upstream_error");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_counted_less_for_asking_otherwise() {
    let node = node(&["m"]).await;
    let gateway = limited(&node, LIMIT).await;
    let body = with(with(chat("m"), "n", json!(3)), "max_tokens", json!(9));
    let (_, usage) = told(post(&gateway, CHAT, &body).await).await;
    let whole = usage["total_tokens"].as_u64().unwrap();
    let both = json!({ "include_usage": true, "continuous_usage_stats": true });
    let (mut requests, mut before) = (1, spent(&gateway, 1).await);
    assert_eq!(before, whole);
    for (stream, options) in [
        (json!(true), both),
        (json!("true"), json!({ "include_usage": "off" })),
        (json!(1), json!({ "include_usage": 0, "x": 1 })),
    ] {
        requests += 1;
        let body = with(with(body.clone(), "stream", stream), "stream_options", options);
        let (text, _) = told(post(&gateway, CHAT, &body).await).await;
        assert!(text.contains("[DONE]"), "{text}");
        requests += 1;
        let after = spent(&gateway, requests - 1).await;
        assert_eq!(after - before, whole, "{body}");
        before = after;
    }
}
