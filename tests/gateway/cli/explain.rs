//! `sluice explain`: it says what the gateway then does.

use std::net::SocketAddr;

use http::Method;
use serde_json::{Value, json};
use sluice::sim::Simulator;

use super::{Ended, folder, sluice};
use crate::support::gateway::{Setup, TestGateway};
use crate::support::http::{raw, status};
use crate::support::{node, nowhere};

/// A request, as `explain` and the gateway are told it: method, path, model, key.
type Request = (&'static str, &'static str, Option<&'static str>, &'static str);

const KEYS: &str = "
keys:
  - {name: all, key: sk-all, scopes: [inference, admin]}
  - {name: some, key: sk-some, models: [a, gpt, 'free*']}
  - {name: operator, key: sk-operator, scopes: [admin]}
  - {name: old, key: sk-old, expires: 2020-01-01T00:00:00Z}
";

/// Several routes of one path: a configured upstream, a learnt one, one that is away; and others alone.
fn routes(one: SocketAddr, two: SocketAddr, gone: SocketAddr) -> String {
    let chat = |name: &str| {
        format!("  - {{path: /v1/chat/completions, methods: [POST], upstream: {name}}}\n")
    };
    format!(
        "upstreams:\n  one: {{kind: vllm, nodes: ['http://{one}/v1'], models: [a, free-1], health: off}}\n  \
         two: {{nodes: ['http://{two}']}}\n  gone: {{nodes: ['http://{gone}']}}\n\
         routes:\n{}{}{}  - {{preset: vllm, upstream: one}}\n  \
         - {{path: '/items/{{id}}', methods: [PUT], upstream_url: 'http://{two}/v1/{{id}}/x'}}\n\
         aliases: {{gpt: a, other: c}}\n",
        chat("one"),
        chat("two"),
        chat("gone"),
    )
}

/// Every way that a request may take, and every reason to be refused before a node is asked.
const REQUESTS: [Request; 33] = [
    ("POST", "/v1/chat/completions", Some("a"), "all"),
    ("POST", "/v1/chat/completions", Some("c"), "all"),
    ("POST", "/v1/chat/completions", Some("gpt"), "all"),
    ("POST", "/v1/chat/completions", Some("other"), "all"),
    ("POST", "/v1/chat/completions", Some("two:new"), "all"),
    ("POST", "/v1/chat/completions", Some("what"), "all"),
    ("POST", "/v1/chat/completions", None, "all"),
    ("POST", "/v1/chat/completions?timeout=5&x=1", Some("a"), "all"),
    ("POST", "/v1/chat/completions?timeout=-5", Some("a"), "all"),
    ("POST", "/v1/chat/completions?timeout=5&timeout=6", Some("a"), "all"),
    ("POST", "/v1/completions", Some("what"), "all"),
    ("PUT", "/items/7?a=b", None, "all"),
    ("GET", "/is_paused", None, "all"),
    ("GET", "/is_paused", None, "operator"),
    ("GET", "/is_paused", None, "some"),
    ("POST", "/v1/completions", Some("a"), "operator"),
    ("POST", "/v1/chat/completions", Some("a"), "some"),
    ("POST", "/v1/chat/completions", Some("gpt"), "some"),
    ("POST", "/v1/chat/completions", Some("c"), "some"),
    ("POST", "/v1/chat/completions", Some("two:free"), "some"),
    ("POST", "/v1/chat/completions", Some("two:c"), "some"),
    ("POST", "/v1/chat/completions", None, "some"),
    ("POST", "/v1/chat/completions", Some("a"), "old"),
    ("POST", "/v1/chat/completions", Some("a"), "nobody"),
    ("GET", "/v1/chat/completions", None, "all"),
    ("POST", "/v1/chat", Some("a"), "all"),
    ("POST", "/v1//chat/completions", Some("a"), "all"),
    ("POST", "/v1/models", None, "all"),
    ("TRACE", "/v1/completions", None, "all"),
    ("GET", "/v1/models", None, "all"),
    ("GET", "/health", None, "old"),
    ("GET", "/livez", None, "nobody"),
    ("GET", "/", None, "all"),
];

/// What the command says.
async fn explained(gateway: &TestGateway, (method, path, model, key): Request) -> Ended {
    let config = gateway.dir.path().to_str().unwrap();
    let mut arguments = vec!["explain", method, path, "--config", config, "--key", key];
    model.inspect(|model| arguments.extend(["--model", model]));
    sluice(gateway.dir.path(), &arguments, &[]).await
}

/// What the gateway does: its line in the log.
async fn done(gateway: &TestGateway, (method, path, model, key): Request, number: usize) -> Value {
    let method: Method = method.parse().unwrap();
    let body = match model {
        Some(model) => json!({ "model": model, "messages": [], "prompt": "Hello" }).to_string(),
        None if method == Method::POST => "{}".to_owned(),
        None => String::new(),
    };
    let id = format!("request-{number}");
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer sk-{key}\r\n\
         x-request-id: {id}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let status = status(&raw(gateway.addr, (head + &body).as_bytes()).await);
    let lines = gateway.log_lines(number + 1).await;
    let line = lines.into_iter().find(|line| line["id"] == id).unwrap();
    assert_eq!(line["status"], status);
    line
}

/// The targets that a node has been asked for, but for lists of models.
fn targets(node: &Simulator) -> Vec<String> {
    let seen = node.requests();
    let asked = seen.iter().map(|one| format!("{} {}", one.method, one.target));
    asked.filter(|asked| asked != "GET /v1/models").collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn explain_says_what_the_gateway_does() {
    let (one, two, gone) = (node(&["a", "free-1"]).await, node(&["c"]).await, nowhere());
    let gateway = Setup::bare().keys(KEYS);
    let gateway = gateway.file("routes.yaml", &routes(one.addr(), two.addr(), gone)).start().await;
    for (number, request) in REQUESTS.into_iter().enumerate() {
        let explained = explained(&gateway, request).await;
        let before = [targets(&one).len(), targets(&two).len()];
        let line = done(&gateway, request, number).await;
        let result = explained.line("result").trim_start_matches("result").trim();
        let told = format!("{request:?}\n{}{line}", explained.out);
        match (line["upstream"].as_str(), line["error"].as_str()) {
            (Some(upstream), _) => {
                assert_eq!((explained.code, result), (0, "forwarded"), "{told}");
                let chosen = explained.line("upstream");
                assert!(chosen.contains(&format!(" `{upstream}`, ")), "{told}");
                let node = explained.line("node").trim_start_matches("node").trim();
                let (method, url) = node.split_once(" http://").unwrap();
                let (at, path) = url.split_at(url.find('/').unwrap());
                let asked = format!("{method} {path}");
                for (simulated, before) in [&one, &two].into_iter().zip(before) {
                    let new = targets(simulated).split_off(before);
                    let wanted = (simulated.addr().to_string() == at).then(|| asked.clone());
                    assert_eq!(new, Vec::from_iter(wanted), "{told}");
                }
            }
            (None, Some(code)) => {
                assert_eq!(explained.code, 1, "{told}");
                assert!(
                    result.starts_with(&format!("refused: {} {code}: ", line["status"])),
                    "{told}"
                );
            }
            (None, None) => {
                assert_eq!((explained.code, line["status"].as_u64()), (0, Some(200)), "{told}");
                assert_eq!(result, "answered by the gateway itself", "{told}");
            }
        }
    }
}

const CHAT: &str = "/v1/chat/completions";

/// What is explained, and how lines of it begin.
const STEPS: &[(&[&str], &[&str])] = &[
    (
        &["POST", CHAT, "--model", "gpt", "--key", "some"],
        &[
            "key        `some`, keys[1] (keys.yaml:4:6): inference; models a, gpt, free*",
            "route      `/v1/chat/completions`: routes[0] (routes.yaml:6:6), to upstream `one`",
            "scope      `inference` is needed",
            "model      `gpt` is an alias of `a`",
            "model      upstream `one`: configured models: 2, this is one of them",
            "upstream   `one`, upstreams.one (routes.yaml:2:3): the first that serves the model",
            "model      the node is asked for `a`",
            "timeout    2s to connect, 10m to the first byte, as configured",
            "attempts   2 in all",
            "limits     none",
        ],
    ),
    (
        &["post", CHAT, "--model", "what"],
        &[
            "key        not looked at",
            "model      upstream `one`: configured models: 2, this is none of them",
            "model      upstream `two`: models that its node lists: 1, this is none of them",
            "model      upstream `gone`: its models are not known: asked for them, the node: cannot connect",
            "upstream   `gone`, upstreams.gone (routes.yaml:4:3): the first whose models are not known",
        ],
    ),
    (&["POST", CHAT, "--model", "two:x"], &["model      the node is asked for `x`"]),
    (
        &["PUT", "/items/7?timeout=0.5"],
        &["route      `/items/{id}`, id = 7: routes[4]", "timeout    2s to connect, 500ms to the"],
    ),
    (&["POST", "/pause"], &["scope      `admin` is needed", "attempts   1: "]),
    (
        &["POST", "/v1/completions"],
        &["route      `/v1/completions`: routes[3] (routes.yaml:9:6), of a preset"],
    ),
    (
        &["GET", "/v1/responses/resp_1", "--key", "some"],
        &[
            "route      `/v1/responses/{response_id}`, response_id = resp_1: ",
            "response   only the gateway that runs knows",
            "result     forwarded to the node that made the response",
        ],
    ),
    (&["POST", "/v1/complitions"], &["route      the nearest path is `/v1/completions`"]),
    (&["GET", "/v1/model"], &["route      the nearest path is `/v1/models`"]),
    (
        &["GET", "/v1/models", "--key", "operater"],
        &["key        no key is called `operater`; did you mean `operator`?"],
    ),
    (
        &["GET", "/v1/models", "--key", "old"],
        &["key        `old`, keys[3] (keys.yaml:6:6): expired"],
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn each_step_says_why() {
    let (one, two, gone) = (node(&["a", "free-1"]).await, node(&["c"]).await, nowhere());
    let dir = folder(&[
        ("config/routes.yaml", &routes(one.addr(), two.addr(), gone)),
        ("config/keys.yaml", KEYS),
    ]);
    for (arguments, told) in STEPS {
        let ended = sluice(dir.path(), &[&["explain"], *arguments].concat(), &[]).await;
        for told in *told {
            assert!(ended.out.lines().any(|line| line.starts_with(told)), "{told}\n{}", ended.out);
        }
    }
    let variables = [("DEFAULT_BACKEND", "two"), ("SLUICE_INVALID_KEY_STATUS", "403")];
    let ended = sluice(dir.path(), &["explain", "POST", CHAT, "--model", "what"], &variables).await;
    assert!(ended.line("upstream").contains(": DEFAULT_BACKEND, as no"), "{}", ended.out);
    let ended = sluice(dir.path(), &["explain", "POST", CHAT, "--key", "no"], &variables).await;
    assert!(ended.line("result").contains("refused: 403 invalid_api_key"), "{}", ended.out);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_environment_brings_is_named_and_no_node_is_asked_without_need() {
    let upstream = node(&["m"]).await;
    let (dir, url) = (folder(&[]), format!("http://{}", upstream.addr()));
    let chat = ["explain", "POST", "/v1/chat/completions", "--model", "m"];
    let ended =
        sluice(dir.path(), &chat, &[("VLLM_BASE_URL", &url), ("PROXY_SECRET_KEY", "k")]).await;
    assert_eq!(ended.code, 0, "{}", ended.out);
    assert!(ended.line("route").contains(": environment VLLM_BASE_URL, of a preset"));
    assert!(ended.line("upstream").contains("`vllm`, environment VLLM_BASE_URL: the only route"));
    let backend = [&chat[..], &["--backend", &url]].concat();
    let ended = sluice(dir.path(), &backend, &[]).await;
    assert!(ended.line("upstream").contains("`backend`, flag --backend: "), "{}", ended.out);
    assert!(ended.line("key").contains("no key is configured"), "{}", ended.out);
    assert!(upstream.requests().is_empty(), "one candidate: its node judges the model");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_of_a_session_is_the_chat_that_it_becomes_and_ollama_is_asked_in_its_own_words()
{
    let (vllm, dir) = (node(&["m"]).await, folder(&[]));
    let (url, ollama) = (format!("http://{}", vllm.addr()), format!("http://{}", nowhere()));
    let variables = [("VLLM_BASE_URL", url.as_str()), ("VLLM_MODEL_NAME", "m")];
    let ended = sluice(dir.path(), &["explain", "POST", "/chat"], &variables).await;
    assert!(ended.line("session").contains("POST /v1/chat/completions"), "{}", ended.out);
    assert!(ended.line("node").contains("/v1/chat/completions"), "{}", ended.out);
    let begin = sluice(dir.path(), &["explain", "POST", "/init_session"], &variables).await;
    assert_eq!((begin.code, begin.line("session").is_empty()), (0, false), "{}", begin.out);
    let off = sluice(dir.path(), &["explain", "POST", "/chat"], &variables[..1]).await;
    assert!(off.line("result").contains("404 route_not_found"), "{}", off.out);
    let variables = [("OLLAMA_BASE_URL", ollama.as_str())];
    let chat = ["explain", "POST", "/v1/chat/completions?a=b", "--model", "ollama:qwen3:8b"];
    let ended = sluice(dir.path(), &chat, &variables).await;
    assert!(ended.line("node").ends_with(&format!("POST {ollama}/api/chat")), "{}", ended.out);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_several_nodes_each_is_asked_and_told_why_it_would_get_the_request_or_not() {
    let (one, two) = (node(&["a", "lora"]).await, node(&["a"]).await);
    let dead = nowhere();
    one.pause();
    let (first, second) = (one.addr(), two.addr());
    let routes = format!(
        "upstreams:\n  many: {{kind: vllm, nodes: ['http://{dead}', 'http://{first}', 'http://{second}']}}\n  \
         small: {{kind: vllm, nodes: ['http://{second}'], models: [s]}}\n\
         routes:\n  - {{preset: vllm, upstream: many}}\n  - {{preset: vllm, upstream: small}}\nfallbacks: {{lora: [s]}}\n"
    );
    let dir = folder(&[("config/routes.yaml", &routes)]);
    let explain = async |path: &'static str, model: &'static str| {
        sluice(dir.path(), &["explain", "POST", path, "--model", model], &[]).await
    };
    let ended = explain("/v1/chat/completions", "a").await;
    assert_eq!(ended.code, 0, "{}{}", ended.out, ended.err);
    let candidate = |ended: &Ended, node: SocketAddr| {
        ended.line(&format!("candidate  http://{node}: ")).split_once(": ").unwrap().1.to_owned()
    };
    assert_eq!(candidate(&ended, dead), "down: its probes fail: cannot connect");
    assert!(candidate(&ended, first).starts_with("paused: it is paused"), "{}", ended.out);
    assert!(candidate(&ended, second).starts_with("up, 0 running, 0 waiting"), "{}", ended.out);
    assert!(ended.line("balance").contains("least_load"));
    assert_eq!(ended.line("node"), format!("node       POST http://{second}/v1/chat/completions"));
    // Only a node that is paused has this model: another one answers in its place.
    let ended = explain("/v1/chat/completions", "lora").await;
    assert!(candidate(&ended, second).contains("does not list the model"), "{}", ended.out);
    assert!(ended.out.contains("a fallback: no node of the model works"), "{}", ended.out);
    assert!(ended.out.contains("the node is asked for `s`"), "{}", ended.out);
    let ended = explain("/pause", "a").await;
    assert!(ended.line("node").contains("all of them"), "{}", ended.out);
    for refused in ["/scale_elastic_ep", "/pause?node=x"] {
        let ended = explain(refused, "a").await;
        assert_eq!(ended.code, 1);
        assert!(ended.line("result").contains("400 node_required"), "{}", ended.out);
    }
}
