//! `/openapi.json` says what is true: of every endpoint that there is, and of no other.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::{Value, json};
use sluice::sim::{self, Simulator};

use crate::support::gateway::{Setup, preset};
use crate::support::{KEY, TestGateway, node_with, nowhere};

/// What the gateway answers itself.
const OWN: [&str; 11] = [
    "/",
    "/docs",
    "/health",
    "/internal/authz",
    "/livez",
    "/openapi.json",
    "/readyz",
    "/redoc",
    "/v1/llm/models",
    "/v1/models",
    "/v1/models/{model_id}",
];

const SESSIONS: [&str; 4] = ["/chat", "/init_session", "/set_system_prompt", "/stop_session"];

/// vLLM's, of the preset.
const PRESET: [&str; 30] = [
    "/classify",
    "/detokenize",
    "/inference/v1/generate",
    "/invocations",
    "/is_paused",
    "/is_scaling_elastic_ep",
    "/load",
    "/metrics",
    "/pause",
    "/ping",
    "/pooling",
    "/rerank",
    "/resume",
    "/scale_elastic_ep",
    "/score",
    "/tokenize",
    "/v1/audio/transcriptions",
    "/v1/audio/translations",
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/messages",
    "/v1/messages/count_tokens",
    "/v1/rerank",
    "/v1/responses",
    "/v1/responses/{response_id}",
    "/v1/responses/{response_id}/cancel",
    "/v1/score",
    "/v2/rerank",
    "/version",
];

async fn document(gateway: &TestGateway) -> Value {
    let reply = gateway.client.get(gateway.url("/openapi.json")).send().await.unwrap();
    assert_eq!(reply.status(), 200);
    assert_eq!(reply.headers()["content-type"], "application/json");
    reply.json().await.unwrap()
}

/// Paths that are there.
fn paths(document: &Value) -> BTreeSet<&str> {
    document["paths"].as_object().unwrap().keys().map(String::as_str).collect()
}

/// Method, path, and what is said of them.
fn operations(document: &Value) -> impl Iterator<Item = (Method, &str, &Value)> {
    document["paths"].as_object().unwrap().iter().flat_map(|(path, item)| {
        let method = |name: &str| name.to_uppercase().parse().unwrap();
        item.as_object()
            .unwrap()
            .iter()
            .map(move |(name, said)| (method(name), path.as_str(), said))
    })
}

fn references<'v>(value: &'v Value, found: &mut Vec<&'v str>) {
    match value {
        Value::Object(fields) => {
            found.extend(fields.get("$ref").and_then(Value::as_str));
            fields.values().for_each(|value| references(value, found));
        }
        Value::Array(items) => items.iter().for_each(|value| references(value, found)),
        _ => {}
    }
}

async fn with_sessions(node: std::net::SocketAddr) -> TestGateway {
    Setup::routes(&preset(node)).env("SLUICE_SESSIONS", "true").start().await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_endpoint_is_described() {
    let gateway = with_sessions(nowhere()).await;
    let document = document(&gateway).await;
    assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    let all = OWN.iter().chain(&PRESET).chain(&SESSIONS).copied();
    assert_eq!(paths(&document), all.collect());
    for (method, path, said) in operations(&document) {
        assert!(said["summary"].as_str().is_some_and(|text| !text.is_empty()), "{method} {path}");
        let known =
            document["tags"].as_array().unwrap().iter().any(|tag| tag["name"] == said["tags"][0]);
        assert!(known, "{method} {path} has a tag that is not there");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_reference_leads_somewhere() {
    let gateway = with_sessions(nowhere()).await;
    let document = document(&gateway).await;
    let mut found = Vec::new();
    references(&document, &mut found);
    assert!(found.len() > 100, "{}", found.len());
    for reference in found {
        let place = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(place).is_some_and(Value::is_object), "{reference}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_described_that_is_not_there() {
    let gateway = with_sessions(nowhere()).await;
    let document = document(&gateway).await;
    for (method, path, _) in operations(&document) {
        let url = gateway.url(&path.replace(['{', '}'], ""));
        let request = gateway.client.request(method.clone(), url).bearer_auth(KEY);
        let reply = request.send().await.unwrap();
        let (status, text) = (reply.status().as_u16(), reply.text().await.unwrap());
        assert!(
            status != 405 && !text.contains("route_not_found"),
            "{method} {path}: {status} {text}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_configuration_does_not_have_is_left_out_and_what_it_adds_is_there() {
    let node = nowhere();
    let routes = format!(
        "upstreams:\n  a: {{ nodes: [\"http://{node}\"] }}\nroutes:\n\
         \x20 - {{ path: /v1/completions, methods: [POST], upstream: a }}\n\
         \x20 - {{ path: \"/v1/responses/{{id}}\", methods: [GET, DELETE], upstream: a }}\n\
         \x20 - {{ path: \"/files/{{file_id}}\", methods: [GET, PUT], upstream: a }}\n"
    );
    let gateway = TestGateway::start(&routes).await;
    let before = document(&gateway).await;
    let added = ["/files/{file_id}", "/v1/completions", "/v1/responses/{response_id}"];
    assert_eq!(paths(&before), OWN.iter().chain(&added).copied().collect());
    let file = &before["paths"]["/files/{file_id}"];
    assert_eq!(file["get"]["parameters"][0]["name"], "file_id");
    assert_eq!(file["put"]["responses"]["401"]["$ref"], "#/components/responses/401");
    assert!(file["put"]["requestBody"].is_object() && file["get"]["requestBody"].is_null());
    let response = before["paths"]["/v1/responses/{response_id}"].as_object().unwrap();
    assert_eq!(response.keys().collect::<Vec<_>>(), ["delete", "get"]);

    // As soon as the configuration is another one.
    gateway.rewrite_routes(&preset(node)).await;
    let after = document(&gateway).await;
    assert_eq!(paths(&after), OWN.iter().chain(&PRESET).copied().collect());
}

#[tokio::test(flavor = "multi_thread")]
async fn operating_endpoints_say_which_scope_they_need() {
    let gateway = TestGateway::before(nowhere()).await;
    let document = document(&gateway).await;
    let admin = |said: &Value| {
        said["description"]
            .as_str()
            .is_some_and(|text| text.contains("a key with the scope `admin`"))
    };
    let admin = operations(&document).filter(|(_, _, said)| admin(said)).map(|(_, path, _)| path);
    let known = [
        "/is_paused",
        "/is_scaling_elastic_ep",
        "/load",
        "/metrics",
        "/pause",
        "/resume",
        "/scale_elastic_ep",
    ];
    assert_eq!(admin.collect::<Vec<_>>(), known);
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_are_told_as_in_the_examples() {
    let keys = "keys: [{ name: small, key: sk-small, models: [m] }]";
    let setup = Setup::bare().file("routes.yaml", &preset(nowhere())).keys(keys);
    let gateway = setup.start().await;
    let document = document(&gateway).await;
    let small = json!({ "model": "llama-3.1-8b" }).to_string();
    for (path, key, body, (response, code)) in [
        ("/v1/completions", "sk-wrong", "{}", ("401", "invalid_api_key")),
        ("/v1/completions", "sk-small", "{", ("400", "invalid_json")),
        ("/v1/completions?timeout=soon", "sk-small", "{}", ("400", "invalid_timeout")),
        ("/pause", "sk-small", "{}", ("403", "scope_not_allowed")),
        ("/v1/completions", "sk-small", &small, ("403", "model_not_allowed")),
        ("/v1/messages", "sk-small", &small, ("anthropic.403", "model_not_allowed")),
    ] {
        let request = gateway.client.post(gateway.url(path)).bearer_auth(key).body(body.to_owned());
        let mut told: Value = request.send().await.unwrap().json().await.unwrap();
        let response = &document["components"]["responses"][response];
        let mut example =
            response["content"]["application/json"]["examples"][code]["value"].clone();
        for one in [&mut told, &mut example] {
            one.as_object_mut().unwrap().remove("request_id");
        }
        assert_eq!(told, example, "{path}");
    }
}

/// A node that does all that the document tells of.
async fn able() -> Simulator {
    node_with(sim::Settings { enable_scale_out: true, ..sim::Settings::default() }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_example_of_a_request_is_answered() {
    let node = able().await;
    let gateway = TestGateway::before(node.addr()).await;
    let document = document(&gateway).await;
    let mut played = 0;
    for (_, path, said) in operations(&document) {
        let body = &said["requestBody"]["content"]["application/json"];
        let named = body["examples"].as_object().into_iter().flat_map(|all| all.values());
        for example in named.map(|one| &one["value"]).chain(body.get("example")) {
            let reply = gateway.post(path).json(example).send().await.unwrap();
            let (status, text) = (reply.status(), reply.text().await.unwrap());
            assert_eq!(status, 200, "{path} {example}: {text}");
            played += 1;
        }
    }
    assert!(played >= 19, "{played}");
}
