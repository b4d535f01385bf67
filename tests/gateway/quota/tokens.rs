//! Tokens: taken ahead by what a request may have, and settled with what it had.

use std::time::Duration;

use reqwest::Response;
use serde_json::{Value, json};
use sluice::sim::{Settings, Simulator};

use super::{CHAT, header, key, keys, limited};
use crate::support::gateway::{Setup, chat, preset};
use crate::support::{TestGateway, node, node_with, within};

/// Far more than all requests of a test.
const TPM: u64 = 1_000_000;

async fn many(node: &Simulator) -> TestGateway {
    limited(node, &format!("tpm: {TPM}")).await
}

pub(super) async fn post(gateway: &TestGateway, path: &str, body: &Value) -> Response {
    let request = gateway.client.post(gateway.url(path)).bearer_auth("sk-team").json(body);
    within(request.send()).await.unwrap()
}

/// What an answer says is left; its own tokens are taken ahead.
fn left(reply: &Response) -> u64 {
    header(reply, "x-ratelimit-remaining-tokens").parse().unwrap()
}

/// What is taken after `requests` of them, none of which is under way.
pub(super) async fn spent(gateway: &TestGateway, requests: usize) -> u64 {
    gateway.log_lines(requests).await;
    // It has a prompt of `[]`, and is no request of a kind that a node answers.
    let probe = json!({ "model": "m", "messages": [] });
    let reply = post(gateway, CHAT, &probe).await;
    assert_eq!(reply.status(), 400);
    let left = left(&reply);
    gateway.log_lines(requests + 1).await;
    TPM - left
}

pub(super) fn with(mut body: Value, field: &str, value: Value) -> Value {
    body[field] = value;
    body
}

/// The text of an answer, and the last usage in it.
pub(super) async fn told(reply: Response) -> (String, Value) {
    assert_eq!(reply.status(), 200);
    let text = within(reply.text()).await.unwrap();
    let usage = text.rmatch_indices("\"usage\":{").next().map(|(at, _)| {
        let value = &text[at + "\"usage\":".len()..];
        serde_json::Deserializer::from_str(value).into_iter::<Value>().next().unwrap().unwrap()
    });
    (text, usage.unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_answer_reports_is_what_it_costs_on_every_path() {
    let node = node(&["m"]).await;
    let gateway = many(&node).await;
    let usage = json!({ "include_usage": true });
    let asked = [
        (CHAT, chat("m")),
        (CHAT, with(with(chat("m"), "stream", json!(true)), "stream_options", usage)),
        ("/v1/completions", json!({ "model": "m", "prompt": "Once upon a time", "max_tokens": 9 })),
        ("/v1/messages", with(chat("m"), "max_tokens", json!(500))),
        ("/v1/messages", with(with(chat("m"), "max_tokens", json!(500)), "stream", json!(true))),
        ("/v1/responses", json!({ "model": "m", "input": "Hello there" })),
        ("/v1/responses", json!({ "model": "m", "input": "Hello there", "stream": true })),
        ("/v1/embeddings", json!({ "model": "m", "input": "Hello there" })),
    ];
    let (mut requests, mut before) = (0, 0);
    for (path, body) in asked {
        let (text, usage) = told(post(&gateway, path, &body).await).await;
        requests += 1;
        let after = spent(&gateway, requests).await;
        requests += 1;
        let number = |name: &str| usage[name].as_u64();
        let answer = number("completion_tokens").or(number("output_tokens")).unwrap_or(0);
        let prompt = number("prompt_tokens").or(number("input_tokens"));
        // Anthropic's streams tell of the prompt at their begin alone.
        let prompt = prompt.unwrap_or_else(|| {
            let at = text.find("\"input_tokens\":").unwrap() + "\"input_tokens\":".len();
            text[at..].split(|c: char| !c.is_ascii_digit()).next().unwrap().parse().unwrap()
        });
        assert!(prompt > 0, "{path}: {text}");
        assert_eq!(after - before, prompt + answer, "{path}: {text}");
        before = after;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_counted_where_nothing_is_reported() {
    let node = node(&["m"]).await;
    let routes = preset(node.addr()).replace("kind: vllm", "kind: generic");
    let keys = keys(&[key("team", &format!("tpm: {TPM}"))]);
    let gateway = Setup::routes(&routes).keys(&keys).start().await;
    let body = with(with(chat("m"), "stream", json!(true)), "max_tokens", json!(4));
    let reply = post(&gateway, CHAT, &body).await;
    let (text, usage) = told(reply).await;
    assert_eq!(usage, Value::Null, "{text}");
    let events = text.matches("data: {").count() as u64;
    let prompt = sluice::wire::usage::estimated(chat("m")["messages"].to_string().as_bytes());
    assert_eq!(spent(&gateway, 1).await, prompt + events, "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_leaves_in_the_middle_pays_for_what_was_made() {
    let settings = Settings {
        models: vec!["m".into()],
        token_delay: Duration::from_millis(5),
        ..Settings::default()
    };
    let node = node_with(settings).await;
    let gateway = many(&node).await;
    let body = with(with(chat("m"), "stream", json!(true)), "max_tokens", json!(8_000));
    let body = with(body, "ignore_eos", json!(true));
    let mut reply = post(&gateway, CHAT, &body).await;
    assert!(TPM - left(&reply) > 8_000, "all that it may have is taken ahead");
    let mut seen = Vec::new();
    while String::from_utf8_lossy(&seen).matches("data: {").count() < 10 {
        seen.extend_from_slice(&within(reply.chunk()).await.unwrap().unwrap());
    }
    drop(reply);
    within(node.wait_until(|counts| counts.aborted == 1)).await;
    let spent = spent(&gateway, 1).await;
    assert!((10..4_000).contains(&spent), "{spent}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_over_the_limit_is_refused_in_tokens_and_what_never_fits_is_told_so() {
    let node = node(&["m"]).await;
    let gateway = limited(&node, "tpm: 100").await;
    let ask = async |tokens: u64| {
        let reply = post(&gateway, CHAT, &with(chat("m"), "max_tokens", json!(tokens))).await;
        let status = reply.status().as_u16();
        let again = reply.headers().get("x-should-retry").is_none();
        assert_eq!(header(&reply, "x-ratelimit-limit-tokens"), "100");
        assert!(!reply.headers().contains_key("x-ratelimit-limit-requests"));
        (status, again, reply.json::<Value>().await.unwrap())
    };
    let (status, again, body) = ask(200).await;
    assert_eq!((status, again), (429, false));
    let message = body["error"]["message"].as_str().unwrap();
    assert!(
        message
            .starts_with("Request too large for this API key on tokens per min (TPM): Limit 100"),
        "{message}"
    );
    let (status, _, body) = ask(4).await;
    assert_eq!(status, 200);
    let used = body["usage"]["total_tokens"].as_u64().unwrap();
    gateway.log_lines(2).await;
    let (status, again, body) = ask(85).await;
    assert_eq!((status, again), (429, true), "{body}");
    assert_eq!(
        (&body["error"]["type"], &body["error"]["code"]),
        (&json!("tokens"), &json!("rate_limit_exceeded"))
    );
    let message = body["error"]["message"].as_str().unwrap();
    assert!(message.contains(&format!("Limit 100, Used {used}, Requested ")), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_image_takes_no_more_ahead_than_a_model_makes_of_it() {
    let node = node(&["m"]).await;
    let gateway = limited(&node, "tpm: 10000").await;
    let url = format!("data:image/png;base64,{}", "iVBORw0KGgo/".repeat(100_000));
    let content = json!([
        { "type": "text", "text": "What is this?" },
        { "type": "image_url", "image_url": { "url": url } },
    ]);
    let body = json!({ "model": "m", "messages": [{ "role": "user", "content": content }] });
    assert_eq!(post(&gateway, CHAT, &body).await.status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_failed_or_was_refused_by_its_node_costs_no_tokens() {
    let node = node(&["m"]).await;
    let gateway = many(&node).await;
    for (fault, status) in [("reset", 502), ("status=400", 400), ("status=500", 500)] {
        node.set_fault(Some(fault.parse().unwrap()));
        let reply = post(&gateway, CHAT, &with(chat("m"), "max_tokens", json!(1_000))).await;
        assert_eq!(reply.status(), status, "{fault}");
    }
    node.set_fault(None);
    assert_eq!(spent(&gateway, 3).await, 0);
}
