//! Nodes of Ollama's: what the gateway does for nodes of vLLM's it does for them as well.

use std::time::Duration;

use serde_json::{Value, json};
use sluice::sim::{Fault, Kind, Settings, Simulator};

use crate::support::gateway::{Setup, chat};
use crate::support::scripted::Scripted;
use crate::support::{TestGateway, eventually, node, node_with};

async fn ollama() -> Simulator {
    ollama_with(Settings::default()).await
}

async fn ollama_with(settings: Settings) -> Simulator {
    node_with(Settings { kind: Kind::Ollama, models: vec!["m".into()], ..settings }).await
}

/// Every path, to these nodes; `more` fields.
fn routes(nodes: &[&Simulator], more: &str) -> String {
    let urls: Vec<String> =
        nodes.iter().map(|node| format!("\"http://{}\"", node.addr())).collect();
    let upstream = format!("{{ kind: ollama, nodes: [{}], health: off{more} }}", urls.join(", "));
    format!("upstreams:\n  o: {upstream}\nroutes:\n  - {{ preset: vllm, upstream: o }}\n")
}

fn streamed(model: &str) -> Value {
    let mut body = chat(model);
    body["stream"] = json!(true);
    body
}

async fn stream(gateway: &TestGateway) -> (u16, String) {
    let reply = gateway.post("/v1/chat/completions").json(&streamed("m")).send().await.unwrap();
    (reply.status().as_u16(), reply.text().await.unwrap())
}

fn fault(text: &str) -> Option<Fault> {
    Some(text.parse().unwrap())
}

/// Chats that a node was asked for.
fn chats(node: &Simulator) -> Vec<Value> {
    let seen = node.requests();
    let chats = seen.iter().filter(|seen| seen.target == "/api/chat");
    chats.map(|seen| serde_json::from_slice(&seen.body).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_try_goes_to_another_node_also_of_an_answer_in_one_piece() {
    for failure in ["reset", "status=503", "cut-after=0"] {
        let (bad, good) = (ollama().await, ollama().await);
        let gateway = TestGateway::start(&routes(&[&bad, &good], "")).await;
        bad.set_fault(fault(failure));
        for _ in 0..2 {
            assert_eq!(gateway.chat("m").send().await.unwrap().status(), 200, "{failure}");
            let (status, text) = stream(&gateway).await;
            assert!(status == 200 && text.ends_with("data: [DONE]\n\n"), "{failure}: {text}");
        }
        assert!(!chats(&bad).is_empty(), "{failure}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_breaks_ends_with_an_error_and_no_done() {
    for failure in ["cut-after=2", "reset-after=2", "die-after=2"] {
        let node =
            ollama_with(Settings { fault: fault(failure), tokens: 8, ..Settings::default() }).await;
        let gateway = TestGateway::start(&routes(&[&node], "")).await;
        let (status, text) = stream(&gateway).await;
        assert_eq!(status, 200, "{failure}");
        let last = text.trim_end().rsplit("\n\n").next().unwrap();
        let error: Value = serde_json::from_str(last.strip_prefix("data: ").unwrap()).unwrap();
        assert!(error["error"]["message"].is_string(), "{failure}: {text}");
        assert!(!text.contains("[DONE]"), "{failure}: {text}");
        eventually(|| async { gateway.series("sluice_upstream_failures_total") == 1.0 }).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_it_refuses_is_told_as_openai_tells_it() {
    let node = ollama().await;
    let gateway = TestGateway::start(&routes(&[&node], ", models: [m, gone]")).await;
    for body in [chat("gone"), streamed("gone")] {
        let reply = gateway.post("/v1/chat/completions").json(&body).send().await.unwrap();
        assert_eq!(
            (reply.status().as_u16(), &reply.headers()["content-type"]),
            (404, &"application/json".parse().unwrap())
        );
        let error: Value = reply.json().await.unwrap();
        let message = error["error"]["message"].as_str().unwrap();
        assert!(message.contains("'gone' not found"), "{message}");
        assert_eq!(error["error"]["type"], "not_found_error");
    }
    // What has no twin is refused before a node is asked.
    let before = node.requests().len();
    for (field, value, code) in [
        ("n", json!(2), "unsupported_parameter"),
        ("options", json!({ "num_ctx": 4096 }), "option_not_allowed"),
        ("keep_alive", json!("-1m"), "option_not_allowed"),
        (
            "messages",
            json!([{ "role": "user", "content": [{ "type": "input_audio", "input_audio": {} }] }]),
            "unsupported_content",
        ),
    ] {
        let mut body = chat("m");
        body[field] = value;
        let reply = gateway.post("/v1/chat/completions").json(&body).send().await.unwrap();
        assert_eq!(reply.status(), 400, "{field}");
        assert_eq!(reply.json::<Value>().await.unwrap()["error"]["code"], code);
    }
    assert_eq!(node.requests().len(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_without_a_body_or_of_another_shape_is_none() {
    for (head, body, told) in [
        ("200 OK\r\nContent-Length: 0", "", 502),
        ("200 OK\r\nContent-Type: application/json\r\nContent-Length: 9", "{\"a\":\"b\"}", 502),
        ("200 OK\r\nContent-Type: text/html\r\nContent-Length: 4", "<h1>", 502),
        ("204 No Content", "", 502),
        ("500 Internal Server Error\r\nContent-Length: 0", "", 500),
        ("400 Bad Request\r\nContent-Length: 14", "{\"error\":\"no\"}", 400),
    ] {
        let node = Scripted::start(move |_, mut peer| async move {
            while peer.request().await.is_some() {
                peer.send(format!("HTTP/1.1 {head}\r\n\r\n{body}").as_bytes()).await;
            }
        })
        .await;
        let upstream = format!(
            "{{ kind: ollama, nodes: [\"http://{}\"], health: off, models: [m] }}",
            node.addr
        );
        let routes =
            format!("upstreams:\n  o: {upstream}\nroutes:\n  - {{ preset: vllm, upstream: o }}\n");
        let gateway = TestGateway::start(&routes).await;
        let reply = gateway.chat("m").send().await.unwrap();
        assert_eq!(reply.status(), told, "{head}");
        let text = reply.text().await.unwrap();
        assert!(body.is_empty() && told == 500 || text.contains("\"error\""), "{head}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn options_that_load_a_model_anew_are_for_those_that_the_configuration_names() {
    let node = ollama().await;
    let gateway = TestGateway::start(&routes(&[&node], ", load_options: [num_ctx]")).await;
    let mut body = chat("m");
    body["options"] = json!({ "num_ctx": 4096, "mirostat": 1 });
    body["keep_alive"] = json!("10m");
    body["temperature"] = json!(0.5);
    assert_eq!(
        gateway.post("/v1/chat/completions").json(&body).send().await.unwrap().status(),
        200
    );
    let asked = chats(&node).pop().unwrap();
    assert_eq!((&asked["options"]["num_ctx"], &asked["keep_alive"]), (&json!(4096), &json!("10m")));
    assert_eq!((&asked["options"]["temperature"], &asked["stream"]), (&json!(0.5), &json!(false)));
    body["options"] = json!({ "num_gpu": 1 });
    assert_eq!(
        gateway.post("/v1/chat/completions").json(&body).send().await.unwrap().status(),
        400
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_counted_and_a_client_that_did_not_ask_sees_nothing_of_it() {
    let node = ollama().await;
    let keys = "keys:\n  - { name: team, key: sk-team-a, limits: { tpm: 1000 } }\n";
    let gateway = Setup::routes(&routes(&[&node], "")).keys(keys).start().await;
    let post = |body: Value| {
        gateway
            .client
            .post(gateway.url("/v1/chat/completions"))
            .bearer_auth("sk-team-a")
            .json(&body)
            .send()
    };
    let mut body = streamed("m");
    body["max_tokens"] = json!(7);
    let text = post(body.clone()).await.unwrap().text().await.unwrap();
    assert!(!text.contains("usage") && text.ends_with("data: [DONE]\n\n"), "{text}");
    body["stream_options"] = json!({ "include_usage": true });
    let text = post(body).await.unwrap().text().await.unwrap();
    let usage = text.rsplit("\n\n").find(|event| event.contains("\"choices\":[]")).unwrap();
    let usage: Value = serde_json::from_str(usage.strip_prefix("data: ").unwrap()).unwrap();
    let total = usage["usage"]["total_tokens"].as_u64().unwrap();
    assert_eq!(usage["usage"]["completion_tokens"], 7);
    let reply = post(chat("m")).await.unwrap();
    let left: u64 =
        reply.headers()["x-ratelimit-remaining-tokens"].to_str().unwrap().parse().unwrap();
    assert!(left <= 1000 - 2 * total, "{left} of two times {total}");
    let lines = gateway.log_lines(3).await;
    assert_eq!(
        (&lines[0]["usage_source"], &lines[0]["completion_tokens"]),
        (&json!("reported"), &json!(7))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_frees_the_node() {
    let node =
        ollama_with(Settings { token_delay: Duration::from_secs(3_600), ..Settings::default() })
            .await;
    let gateway = TestGateway::start(&routes(&[&node], "")).await;
    let reply = gateway.post("/v1/chat/completions").json(&streamed("m")).send().await.unwrap();
    assert_eq!(reply.status(), 200);
    eventually(|| async { node.running() == 1 }).await;
    drop(reply);
    eventually(|| async { node.running() == 0 }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_takes_the_place_of_a_model_of_vllm_that_is_down() {
    let (vllm, other) = (node(&["big"]).await, ollama().await);
    let vllm_at = vllm.addr();
    let upstreams = format!(
        "upstreams:\n  v: {{ kind: vllm, nodes: [\"http://{vllm_at}\"], health: off, models: [big] }}\n  o: {{ kind: ollama, nodes: [\"http://{}\"], health: off, models: [m] }}\n",
        other.addr()
    );
    let routes = "routes:\n  - { preset: vllm, upstream: v }\n  - { preset: vllm, upstream: o }\nfallbacks: { big: [m] }\n";
    let gateway = TestGateway::start(&format!("{upstreams}{routes}")).await;
    assert_eq!(gateway.chat("big").send().await.unwrap().status(), 200);
    vllm.refuse().await;
    for _ in 0..6 {
        let _ejects = gateway.chat("big").send().await.unwrap();
    }
    let reply: Value = gateway.chat("big").send().await.unwrap().json().await.unwrap();
    assert_eq!((&reply["model"], &reply["object"]), (&json!("m"), &json!("chat.completion")));
    assert_eq!(chats(&other).pop().unwrap()["model"], "m");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_it_answers_itself_on_openais_paths_passes_as_it_is() {
    let node = ollama().await;
    let gateway = TestGateway::start(&routes(&[&node], "")).await;
    let body = json!({ "model": "m", "max_tokens": 5, "messages": [{ "role": "user", "content": "Hello" }] });
    let reply = gateway.post("/v1/messages").json(&body).send().await.unwrap();
    // The simulated one has no such path.
    assert_eq!(reply.status(), 404);
    assert_eq!(reply.text().await.unwrap(), "404 page not found");
    assert!(node.requests().iter().any(|seen| seen.target == "/v1/messages"));
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_go_there_as_well() {
    let node = ollama().await;
    let gateway =
        Setup::routes(&routes(&[&node], "")).env("SESSION_TTL_SECONDS", "60").start().await;
    let post = |path: &str, body: Value| gateway.client.post(gateway.url(path)).json(&body).send();
    let begun: Value = post("/init_session", json!({ "vllm_api_key": crate::support::KEY }))
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    let id = begun["session_id"].as_str().unwrap();
    for stream in [false, true, false] {
        let reply =
            post("/chat", json!({ "session_id": id, "message": "Hello", "stream": stream }))
                .await
                .unwrap();
        assert_eq!(reply.status(), 200);
        let text = reply.text().await.unwrap();
        assert!(text.contains(if stream { "[DONE]" } else { "\"reply\"" }), "{text}");
    }
    let asked = chats(&node).pop().unwrap();
    assert_eq!(
        (asked["messages"].as_array().unwrap().len(), &asked["model"]),
        (6, &json!("m:latest"))
    );
}
