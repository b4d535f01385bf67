//! Upstreams of the long form.

use std::time::Duration;

use super::*;

fn upstream(fields: &str) -> String {
    format!(
        "upstreams:\n  u: {{ nodes: ['http://h:1/'], {fields} }}\nroutes: [{{ preset: vllm, upstream: u }}]\n"
    )
}

#[test]
fn every_field_is_read_and_the_others_have_defaults() {
    let config = good(&upstream(
        "kind: openai, key: k, key_header: api-key, key_prefix: '', models: [a/b], balance: round_robin, timeouts: { connect: 500ms, first_byte: 1m30s, idle: 20s, total: 1h }, keepalive_idle: 2s, http2: true, retry: { attempts: 3 }",
    ));
    let found = &config.upstreams[0];
    assert_eq!(found.kind, Kind::OpenAi);
    assert_eq!(found.nodes.first().to_string(), "http://h:1");
    assert_eq!(found.credential.as_ref().unwrap().header, "api-key");
    assert_eq!(found.models.as_deref(), Some(&[ModelName::from("a/b")][..]));
    assert_eq!(found.balance, Balance::RoundRobin);
    let second = Duration::from_secs(1);
    assert_eq!(
        found.timeouts,
        Timeouts {
            connect: second / 2,
            first_byte: 90 * second,
            idle: 20 * second,
            total: Some(3_600 * second),
        }
    );
    assert_eq!((found.keepalive_idle, found.http2), (Duration::from_secs(2), true));
    assert_eq!(found.attempts, 3);
    let plain = &good(&upstream("")).upstreams[0];
    assert_eq!((plain.kind, plain.attempts), (Kind::Generic, 2));
    assert_eq!((plain.balance, plain.timeouts.total), (Balance::LeastLoad, None));
    assert_eq!((plain.timeouts.idle, plain.timeouts.connect), (120 * second, 2 * second));
    assert_eq!((plain.keepalive_idle, plain.models.clone()), (defaults::KEEPALIVE_IDLE, None));
}

#[test]
fn only_ollama_has_options_that_load_a_model_anew() {
    let config = good(&upstream("kind: ollama, load_options: [num_ctx, keep_alive]"));
    assert_eq!(config.upstreams[0].load_options, ["num_ctx", "keep_alive"]);
    let found = bad(&upstream("kind: ollama, load_options: [num_ctxt, 5]"));
    assert!(
        found.len() == 2 && found.iter().any(|one| one.contains("did you mean `num_ctx`?")),
        "{found:?}"
    );
    let found = bad(&upstream("kind: vllm, load_options: [num_ctx]"));
    assert!(found[0].contains("only nodes of `kind: ollama`"), "{found:?}");
}

#[test]
fn values_out_of_bounds_are_refused() {
    for field in [
        "timeouts: { connect: 5 }",
        "timeouts: { connect: '5' }",
        "timeouts: { connect: 0s }",
        "timeouts: { connect: 25h }",
        "timeouts: { connect: 99999999999999999999s }",
        "timeouts: { conect: 5s }",
        "timeouts: { idle: 0s }",
        "timeouts: { total: never }",
        "balance: least_lod",
        "max_in_flight: 0",
        "max_in_flight: 1000001",
        "max_queue: 100001",
        "session_header: session_id",
        "balance: [least_load]",
        "retry: { attempts: 0 }",
        "retry: { attempts: 11 }",
        "retry: { attempts: -1 }",
        "retry: 2",
        "keepalive_idle: soon",
        "http2: maybe",
        "models: []",
        "models: [a, a]",
        "models: ['']",
        "models: a",
        "key: k, key_file: f",
        "key_file: absent",
        "key: 'a b'",
        "key: k, key_prefix: \"a\\nb\"",
        "key: k, key_header: transfer-encoding",
    ] {
        assert_eq!(bad(&upstream(field)).len(), 1, "{field}: {:?}", bad(&upstream(field)));
    }
}

#[test]
fn a_name_cannot_hold_a_colon_and_a_broken_upstream_is_still_known_to_routes() {
    let found = bad(
        "upstreams:\n  'a:b': { nodes: ['http://h'] }\n  c: { nodes: [] }\nroutes: [{ preset: vllm, upstream: c }]\n",
    );
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].starts_with("routes.yaml:2:3: upstreams: a name is"), "{found:?}");
    assert!(
        found[1].starts_with("routes.yaml:3:8: upstreams.c.nodes: at least one node"),
        "{found:?}"
    );
}

#[test]
fn an_upstream_without_route_is_a_warning() {
    let config = good(&format!("upstreams: {{ idle: {{ nodes: ['http://h'] }} }}\n{ROUTES}\n"));
    assert_eq!(config.warnings, ["no route leads to the upstream `idle`"]);
}

#[test]
fn the_base_of_a_node_is_kept_but_for_the_usual_one() {
    for (url, base) in [
        ("http://h", ""),
        ("http://h/", ""),
        ("http://h/v1", ""),
        ("http://h/v1/", ""),
        ("https://h/v1/openai", "/v1/openai"),
        ("https://h/p/v1/", "/p/v1"),
    ] {
        assert_eq!(NodeUrl::parse(url).unwrap().base, base, "{url}");
    }
    assert_eq!(NodeUrl::parse("HTTPS://H").unwrap().port, 443);
    assert_eq!(NodeUrl::parse("http://[2001:db8::1]").unwrap().authority(), "[2001:db8::1]:80");
}
