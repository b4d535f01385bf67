//! How nodes are probed.

use std::time::Duration;

use super::*;

/// A table with one upstream of these fields, which begin at column 29 of line 2.
fn upstream(fields: &str) -> String {
    format!(
        "upstreams:\n  u: {{ nodes: ['http://h:1'], {fields} }}\nroutes: [{{ preset: vllm, upstream: u }}]\n"
    )
}

fn health(fields: &str) -> Option<HealthConfig> {
    good(&upstream(fields)).upstreams.remove(0).health
}

/// A probe of `path` with every default.
fn usual(path: &str) -> HealthConfig {
    HealthConfig {
        path: path.to_owned(),
        interval: Duration::from_secs(5),
        timeout: Duration::from_secs(2),
        unhealthy_after: 3,
        healthy_after: 2,
    }
}

#[test]
fn the_kind_says_whether_and_where_a_node_is_probed_unless_the_file_does() {
    for (fields, expected) in [
        ("kind: vllm", Some(usual("/health"))),
        ("kind: vllm, health: ~", Some(usual("/health"))),
        ("kind: vllm, health: {}", Some(usual("/health"))),
        ("kind: openai", Some(usual("/v1/models"))),
        ("kind: openai, health: { path: /v1/ping%20 }", Some(usual("/v1/ping%20"))),
        ("kind: generic", None),
        ("kind: generic, health: { path: / }", Some(usual("/"))),
        ("kind: vllm, health: off", None),
        ("kind: vllm, health: 'off'", None),
        ("kind: vllm, health: false", None),
        ("kind: vllm, health: '${PROBE:-off}'", None),
        ("kind: generic, health: off", None),
        (
            "kind: vllm, health: { path: /h, interval: 1s, timeout: 1m, unhealthy_after: 100, healthy_after: '1' }",
            Some(HealthConfig {
                interval: Duration::from_secs(1),
                timeout: Duration::from_secs(60),
                unhealthy_after: 100,
                healthy_after: 1,
                ..usual("/h")
            }),
        ),
        (
            "kind: openai, health: { interval: 30s, x-why: it is not ours }",
            Some(HealthConfig { interval: Duration::from_secs(30), ..usual("/v1/models") }),
        ),
    ] {
        assert_eq!(health(fields), expected, "{fields}");
    }
}

#[test]
fn what_cannot_be_probed_is_refused() {
    let form = "this must be `off`, or a map with `path` or `interval`";
    let generic = "health: `path` is missing: nothing is assumed of a generic node; name a path that it answers while it is well: `path: /health`";
    for (fields, told) in [
        ("health: {}", generic),
        ("kind: generic, health: { interval: 5s }", generic),
        ("kind: vllm, health: on", &format!("health: {form}")),
        ("kind: vllm, health: true", &format!("health: {form}")),
        ("kind: vllm, health: 5s", &format!("health: {form}")),
        ("kind: vllm, health: [/health]", &format!("health: {form}")),
        ("health: { path: 7 }", "health.path: this must be a text; put it in quotes"),
        (
            "health: { path: health }",
            "health.path: a path begins with `/`; write it without host and query",
        ),
        ("health: { path: '/h?x=1' }", "health.path: a path has no query and no fragment"),
        ("health: { path: '/h/{id}' }", "health.path: the path of a probe has no parameters"),
        ("health: { path: /h, interval: 0s }", "health.interval: this must be 1ms to 86400s"),
        (
            "health: { path: /h, timeout: 5 }",
            "health.timeout: this must be a text; put it in quotes",
        ),
        ("health: { path: /h, healthy_after: 0 }", "health.healthy_after: this must be 1 to 100"),
        (
            "health: { path: /h, unhealthy_after: 101 }",
            "health.unhealthy_after: this must be 1 to 100",
        ),
        (
            "health: { path: /h, unhealty_after: 2 }",
            "health.unhealty_after: unknown field; did you mean `unhealthy_after`?",
        ),
        ("helth: off", "helth: unknown field; did you mean `health`?"),
        (
            "kind: vlm, health: {}",
            "kind: this must be `generic` or `openai` or `vllm` or `ollama`; did you mean `vllm`?",
        ),
        ("kind: 7, health: {}", "kind: this must be a text; put it in quotes"),
    ] {
        let found = bad(&upstream(fields));
        assert_eq!(found.len(), 1, "{fields}: {found:?}");
        assert!(found[0].ends_with(&format!(": upstreams.u.{told}")), "{fields}: {found:?}");
    }
}
