//! `sluice schema`: what it refuses the gateway refuses, and what the gateway takes it takes.

use std::path::Path;

use serde_json::Value;
use sluice::config::schema::Document;
use sluice::config::{Environment, Settings, SettingsArgs, Texts, parse};

use super::{folder, sluice};
use crate::support::gateway::written;

/// A table that is right, where another file is looked at.
const ROUTES: &str = "routes: [{path: /a, methods: [GET], upstream_url: 'http://h'}]";

/// The JSON that an editor sees in a YAML file.
fn json_of(yaml: &str) -> Value {
    let mut document: serde_yaml::Value = serde_yaml::from_str(yaml).unwrap();
    document.apply_merge().unwrap();
    serde_json::to_value(document).unwrap()
}

fn fits(document: Document, yaml: &str) -> bool {
    let schema: Value = serde_json::from_str(&document.schema()).unwrap();
    jsonschema::draft202012::new(&schema).unwrap().is_valid(&json_of(yaml))
}

/// Whether the gateway takes it.
fn taken(document: Document, yaml: &str) -> bool {
    let environment = Environment::from_iter([("N", "1"), ("U", "http://h"), ("W", "vllm")]);
    let texts = match document {
        Document::Routes => Texts { routes: Some(yaml), keys: None },
        Document::Keys => Texts { routes: Some(ROUTES), keys: Some(yaml) },
        Document::Server => {
            let dir = folder(&[("server.yaml", yaml)]);
            let args = SettingsArgs::default();
            return Settings::resolve(&args, &environment, dir.path()).is_ok();
        }
    };
    parse(texts, &environment, None, &|_: &Path| Ok(b"key".to_vec())).is_ok()
}

/// A table of one route with these fields, before a node called `a`.
fn route(fields: &str) -> String {
    format!("upstreams: {{a: {{nodes: ['http://h']}}}}\nroutes: [{{{fields}}}]\n")
}

/// A table with one upstream of these fields.
fn upstream(fields: &str) -> String {
    format!("upstreams: {{a: {{{fields}}}}}\nroutes: [{{preset: vllm, upstream: a}}]\n")
}

/// A file with one key of these fields.
fn key(fields: &str) -> String {
    format!("keys: [{{{fields}}}]\n")
}

/// A file, what writes it, and what it is written from.
type Kind<'t> = (Document, fn(&str) -> String, &'t [&'t str]);

/// Every file of `kinds`.
fn files(kinds: &[Kind<'_>]) -> Vec<(Document, String)> {
    let all = kinds
        .iter()
        .flat_map(|(document, file, fields)| fields.iter().map(|fields| (*document, file(fields))));
    all.collect()
}

/// Routes that are refused for their shape.
const BAD_ROUTES: &[&str] = &[
    "methods: [GET], upstream_url: 'http://h'",
    "path: /a, upstream_url: 'http://h'",
    "path: /a, methods: [GET]",
    "path: a, methods: [GET], upstream_url: 'http://h'",
    "path: /a, methods: GET, upstream_url: 'http://h'",
    "path: /a, methods: [], upstream_url: 'http://h'",
    "path: /a, methods: [GETS], upstream_url: 'http://h'",
    "path: /a, methods: [GET], upstream_url: 'h:80'",
    "path: /a, methods: [GET], upstream_url: 'http://h', upstream_key: 5",
    "path: /a, methods: [GET], upstream_url: 'http://h', key: k",
    "path: /a, methods: [GET], upstream_url: 'http://h', upstream: a",
    "path: /a, methods: [GET], upstream: a, upstream_key: k",
    "path: /a, methods: [GET], upstream: a, forward_headers: x-a",
    "preset: vllm, upstream: a, methods: [GET]",
    "preset: vllm",
    "preset: vlm, upstream: a",
];

/// Upstreams that are.
const BAD_UPSTREAMS: &[&str] = &[
    "kind: vllm",
    "nodes: []",
    "nodes: 'http://h'",
    "nodes: ['http://h'], dns: 'http://h'",
    "dns: ['http://h']",
    "dns: h",
    "nodes: ['http://h'], balance: prefix_awar",
    "nodes: ['http://h'], balance: [least_load]",
    "nodes: ['http://h'], max_in_flight: 0",
    "nodes: ['http://h'], max_queue: 100001",
    "nodes: ['http://h'], health: on",
    "nodes: ['http://h'], health: true",
    "nodes: ['http://h'], health: {path: health}",
    "nodes: ['http://h'], health: {path: /h, interval: 5}",
    "nodes: ['http://h'], health: {path: /h, healthy_after: 0}",
    "nodes: ['http://h'], health: {path: /h, healthy_after: 101}",
    "nodes: ['http://h'], health: {path: /h, after: 3}",
    "nodes: ['http://h'], kind: vlm",
    "nodes: ['http://h'], key: a, key_file: b",
    "nodes: ['http://h'], models: []",
    "nodes: ['http://h'], models: [1]",
    "nodes: ['http://h'], retry: {attempts: 0}",
    "nodes: ['http://h'], retry: {attempts: two}",
    "nodes: ['http://h'], retry: 2",
    "nodes: ['http://h'], timeouts: {connect: 5}",
    "nodes: ['http://h'], timeouts: {read: 5s}",
    "nodes: ['http://h'], keepalive_idle: long",
    "nodes: ['http://h'], node: 'http://h'",
    "nodes: ['https://h'], tls: ca.pem",
    "nodes: ['https://h'], tls: {ca_file: [ca.pem]}",
    "nodes: ['https://h'], tls: {sni: h}",
];

#[test]
fn a_schema_takes_what_the_gateway_takes() {
    let routes: &[&str] = &[
        "path: '/a/{b}', methods: [post, Get], upstream_url: '${U}/{b}'",
        "path: /a, methods: [GET], upstream_url: 'HTTP://h', upstream_key: ~, x-note: [1]",
        "path: /a, methods: [GET], upstream: a, forward_headers: [x-a]",
        "preset: '${W}', upstream: a, forward_headers: ~",
    ];
    let upstreams: &[&str] = &[
        "kind: '${W}', nodes: ['${U}:8000'], retry: {attempts: '${N}'}",
        "kind: openai, nodes: [https://h/v1/x], key: k, key_header: x-k, key_prefix: '', models: [m]",
        "nodes: ['http://h'], key_file: k, timeouts: {connect: 500ms, first_byte: 1m 30s, x-why: 1}",
        "nodes: ['http://h'], keepalive_idle: 4s, retry: {attempts: 3}",
        "nodes: ['http://h'], key: ~, models: ~, timeouts: ~, retry: ~, kind: ~, balance: ~, health: ~",
        "nodes: ['http://a', 'http://b:8000/v1/x'], balance: round_robin, timeouts: {idle: 2m, total: 1h}",
        "dns: '${U}:8000', kind: vllm, balance: '${B:-least_load}', health: '${H:-off}'",
        "nodes: ['http://h'], health: off",
        "nodes: ['http://h'], health: false",
        "nodes: ['http://h'], health: {path: /h, interval: 1s, timeout: 1s, unhealthy_after: 1, healthy_after: '${N}', x-why: 1}",
        "kind: openai, nodes: ['http://h'], health: {}, tls: ~",
        "nodes: ['https://h'], tls: {server_name: '${N}.internal', ca_file: ~, x-why: 1}",
    ];
    let keys: &[&str] = &[
        "name: a, key: k, x-b: 1",
        "name: a, key_file: f, models: ['*'], scopes: [inference, admin], expires: 2027-01-01T00:00:00Z",
        "name: a, key: '${U}', models: ~, scopes: ~, expires: ~",
    ];
    let whole: &[&str] = &[
        "x-k: &k {upstream_key: k, upstream_key_header: x-api-key, upstream_key_prefix: ''}\n\
         routes: [{<<: *k, path: /a, methods: [GET], upstream_url: 'http://h'}]",
        "upstreams: {x-a: {nodes: ['http://h']}, 7: {nodes: ['http://h']}}\n\
         routes: [{preset: vllm, upstream: x-a}, {preset: vllm, upstream: '7'}]\naliases: {b: m}",
        "upstreams:\naliases:\nfallbacks:\nroutes: [{path: /a, methods: [GET], upstream_url: 'http://h'}]",
        "fallbacks: {a: [b, '${W}'], x-b: [a]}\nroutes: [{path: /a, methods: [GET], upstream_url: 'http://h'}]",
    ];
    let settings: &[&str] = &[
        "",
        "max_body_bytes: 1\nmax_held_bytes: '2'\nh2c: true\naccess_log: off\nthreads: '${N}'",
        "listen: '[::1]:80'\nadmin_listen: localhost:${N}\ndrain_delay: 0s\nx-why: 1",
        "cors_allow_origins: ['https://a', 'http://b:1']\nlog_level: Warning\nlog_format: json",
        "cors_allow_origins: '*'\ninvalid_key_status: 403\nca_file:\naccess_log: true",
        "sse_keepalive: 0\ndrain_timeout: 0",
        "sse_keepalive: '0'\nmax_timeout: 1m 30s",
        "sse_keepalive: '${N}s'",
        "invalid_key_status: '401'\nlisten:\nh2c: 'false'\nmax_timeout: 1h",
    ];
    for (document, yaml) in files(&[
        (Document::Routes, route, routes),
        (Document::Routes, upstream, upstreams),
        (Document::Routes, str::to_owned, whole),
        (Document::Keys, key, keys),
        (Document::Keys, str::to_owned, &["keys: []", "x-all: 1\nkeys: []"]),
        (Document::Server, str::to_owned, settings),
    ]) {
        assert!(taken(document, &yaml), "the gateway takes {document:?}: {yaml}");
        assert!(fits(document, &yaml), "the schema takes {document:?}: {yaml}");
    }
}

#[test]
fn a_schema_refuses_shapes_that_the_gateway_refuses() {
    let whole: &[&str] = &[
        "{}",
        "[]",
        "routes:",
        "routes: []",
        "routes: {}",
        "routes: [1]",
        "route: []\nroutes: [{path: /a, methods: [GET], upstream_url: 'http://h'}]",
        "aliases: {a: [b]}\nroutes: [{path: /a, methods: [GET], upstream_url: 'http://h'}]",
        "fallbacks: {a: b}\nroutes: [{path: /a, methods: [GET], upstream_url: 'http://h'}]",
        "fallbacks: {a: []}\nroutes: [{path: /a, methods: [GET], upstream_url: 'http://h'}]",
        "fallbacks: {a: [b, b]}\nroutes: [{path: /a, methods: [GET], upstream_url: 'http://h'}]",
        "fallbacks: [a]\nroutes: [{path: /a, methods: [GET], upstream_url: 'http://h'}]",
        "upstreams: {a b: {nodes: ['http://h']}}\nroutes: [{preset: vllm, upstream: a b}]",
    ];
    let keys: &[&str] = &[
        "key: k",
        "name: a",
        "name: a, key: k, key_file: f",
        "name: a, key_sha256: 5e88",
        "name: a, key: k, scopes: [operate]",
        "name: a, key: k, scopes: admin",
        "name: a, key: k, rpm: 1",
        "name: a, key: k, expires: tomorrow",
    ];
    let settings: &[&str] = &[
        "listen_on: 127.0.0.1:80",
        "listen: 8080",
        "max_timeout: 5",
        "sse_keepalive: 15",
        "sse_keepalive: off",
        "max_body_bytes: much",
        "log_level: loud",
        "invalid_key_status: 404",
        "cors_allow_origins: [1]",
        "h2c: maybe",
        "- listen",
    ];
    for (document, yaml) in files(&[
        (Document::Routes, route, BAD_ROUTES),
        (Document::Routes, upstream, BAD_UPSTREAMS),
        (Document::Routes, str::to_owned, whole),
        (Document::Keys, key, keys),
        (Document::Keys, str::to_owned, &["{}", "keys:", "keys: {}"]),
        (Document::Server, str::to_owned, settings),
    ]) {
        assert!(!taken(document, &yaml), "the gateway refuses {document:?}: {yaml}");
        assert!(!fits(document, &yaml), "the schema refuses {document:?}: {yaml}");
    }
}

/// With `UPDATE_DOCS=1` in the environment they are written instead.
#[test]
fn the_schemas_beside_the_examples_are_those_of_the_command_and_fit_them() {
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    for document in Document::ALL {
        let (path, wanted) = (config.join(document.file_name()), document.schema());
        if std::env::var_os("UPDATE_DOCS").is_some_and(|value| value == "1") {
            std::fs::write(&path, &wanted).unwrap();
        }
        let name = document.file_name();
        assert!(
            written(&path) == wanted,
            "{name}: UPDATE_DOCS=1 cargo test --test gateway schema writes it"
        );
        let example = written(&config.join(format!("{}.yaml", document.name())));
        let line = format!("# yaml-language-server: $schema=./{name}");
        assert_eq!(example.lines().next(), Some(&*line));
        assert!(fits(document, &example), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_prints_one_schema_or_says_which_there_are() {
    let dir = folder(&[]);
    for document in Document::ALL {
        let ended = sluice(dir.path(), &["schema", document.name()], &[]).await;
        assert_eq!((ended.code, ended.out), (0, document.schema()));
    }
    let all = sluice(dir.path(), &["schema"], &[]).await;
    assert_eq!(all.code, 0);
    assert_eq!(all.out.lines().count(), 3);
    assert_eq!(all.out.lines().next(), Some("sluice schema routes > config/routes.schema.json"));
}
