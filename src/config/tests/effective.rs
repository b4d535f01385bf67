//! What holds, and who said so.

use super::*;

/// `effective` of these files, a line each.
fn effective_of(routes: Option<&str>, keys: Option<&str>, environment: Environment) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in [("routes.yaml", routes), ("keys.yaml", keys)] {
        if let Some(text) = text {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
    }
    let source = Source { dir: dir.path().to_owned(), environment, backend: None };
    let config = load(&source).unwrap();
    let line = |one: &Effective| format!("{} = {} < {}", one.path, one.value, one.source);
    effective(&config, &Places::read(&source)).iter().map(line).collect()
}

/// A table with every kind of entry.
const LONG: &str = "\
upstreams:
  llama:
    kind: vllm
    nodes: ['http://${NODE}:${PORT:-8000}/v1', 'http://gpu-1:8000']
    key: ${VLLM_KEY:?}
    models: [a, b]
    timeouts: { first_byte: 1m }
    health: { interval: 10s }
    balance: ${BALANCE:-round_robin}
    retry: { attempts: 3 }
routes:
  - { preset: vllm, upstream: llama }
  - path: /v1/responses/{id}
    methods: [GET, POST]
    upstream: llama
aliases:
  gpt-4.1: a
fallbacks:
  a: [b, c]
";

/// A key with most of what keys may have.
const KEYS: &str = "\
keys:
  - name: team
    key_sha256: BA7816BF8F01CFEA414140DE5DAE2223B00361A396177A9CB410FF61F20015AD
    models: ['llama-*']
    expires: 2027-01-01T00:00:00Z
    limits: { rpm: 60, day: utc }
";

#[test]
fn every_value_of_a_long_upstream_says_where_it_stands() {
    let environment = env(&[
        ("NODE", "gpu"),
        ("VLLM_KEY", SECRET),
        ("DEFAULT_BACKEND", "llama"),
        ("INTERNAL_API_KEY", "sk-hunter2-too"),
    ]);
    assert_lines(
        &effective_of(Some(LONG), Some(KEYS), environment),
        &[
            "upstreams.llama.kind = vllm < routes.yaml:3:11",
            "upstreams.llama.nodes = [http://gpu:8000, http://gpu-1:8000] < routes.yaml:4:5, environment NODE",
            "upstreams.llama.key = **** < routes.yaml:5:10, environment VLLM_KEY",
            "upstreams.llama.key_header = authorization < default",
            "upstreams.llama.key_prefix = \"Bearer \" < default",
            "upstreams.llama.models = [a, b] < routes.yaml:6:5",
            "upstreams.llama.balance = round_robin < routes.yaml:9:14",
            "upstreams.llama.max_in_flight = as many as come < default",
            "upstreams.llama.health.path = /health < default",
            "upstreams.llama.health.interval = 10s < routes.yaml:8:25",
            "upstreams.llama.health.timeout = 2s < default",
            "upstreams.llama.health.unhealthy_after = 3 < default",
            "upstreams.llama.health.healthy_after = 2 < default",
            "upstreams.llama.timeouts.connect = 2s < default",
            "upstreams.llama.timeouts.first_byte = 1m < routes.yaml:7:29",
            "upstreams.llama.timeouts.idle = 2m < default",
            "upstreams.llama.timeouts.total = none < default",
            "upstreams.llama.keepalive_idle = 4s < default",
            "upstreams.llama.http2 = false < default",
            "upstreams.llama.retry.attempts = 3 < routes.yaml:10:24",
            "routes[0].preset = vllm < routes.yaml:12:15",
            "routes[0].upstream = llama < routes.yaml:12:31",
            "routes[0].forward_headers = [] < default",
            "routes[1].path = /v1/responses/{id} < routes.yaml:13:11",
            "routes[1].methods = [GET, POST] < routes.yaml:14:5",
            "routes[1].upstream = llama < routes.yaml:15:15",
            "routes[1].forward_headers = [] < default",
            "aliases.gpt-4.1 = a < routes.yaml:17:12",
            "fallbacks.a = [b, c] < routes.yaml:19:3",
            "DEFAULT_BACKEND = llama < environment DEFAULT_BACKEND",
            "keys[0].name = team < keys.yaml:2:11",
            "keys[0].key_sha256 = **** < keys.yaml:3:17",
            "keys[0].models = [llama-*] < keys.yaml:4:5",
            "keys[0].scopes = [inference] < default",
            "keys[0].expires = 2027-01-01T00:00:00Z < keys.yaml:5:14",
            "keys[0].limits.rpm = 60 < keys.yaml:6:20",
            "keys[0].limits.rpd = none < default",
            "keys[0].limits.tpm = none < default",
            "keys[0].limits.tpd = none < default",
            "keys[0].limits.concurrent = none < default",
            "keys[0].limits.day = utc < keys.yaml:6:29",
            "keys[1].name = internal-api-key < environment INTERNAL_API_KEY",
            "keys[1].key = **** < environment INTERNAL_API_KEY",
            "keys[1].models = all < default",
            "keys[1].scopes = [inference, admin] < environment INTERNAL_API_KEY",
            "keys[1].expires = never < default",
            "keys[1].limits.rpm = none < default",
            "keys[1].limits.rpd = none < default",
            "keys[1].limits.tpm = none < default",
            "keys[1].limits.tpd = none < default",
            "keys[1].limits.concurrent = none < default",
            "keys[1].limits.day = rolling < default",
        ],
    );
}

#[test]
fn a_short_route_brings_its_upstream_and_the_environment_its_own() {
    let routes = format!(
        "\
routes:
  - path: /v1/score
    methods: [POST]
    upstream_url: http://gpu:1/v1/score
    upstream_key: {SECRET}
    upstream_key_header: x-api-key
    upstream_key_prefix: '{SECRET}'
"
    );
    let found = effective_of(Some(&routes), None, nothing());
    assert_lines(
        &found[..9],
        &[
            "upstreams.gpu:1.kind = generic < default",
            "upstreams.gpu:1.nodes = [http://gpu:1] < routes.yaml:4:19",
            "upstreams.gpu:1.key = **** < routes.yaml:5:19",
            "upstreams.gpu:1.key_header = x-api-key < routes.yaml:6:26",
            "upstreams.gpu:1.key_prefix = **** < routes.yaml:7:26",
            "upstreams.gpu:1.models = as each node lists them < default",
            "upstreams.gpu:1.balance = least_load < default",
            "upstreams.gpu:1.max_in_flight = as many as come < default",
            "upstreams.gpu:1.health = off < default",
        ],
    );
    assert!(
        found.contains(&"routes[0].upstream_url = http://gpu:1/v1/score < routes.yaml:4:19".into())
    );
    let environment = env(&[
        ("VLLM_BASE_URL", "http://v"),
        ("VLLM_API_KEY", SECRET),
        ("LLM_SERVER_URL", "http://l/v1/completions"),
    ]);
    let found = effective_of(None, None, environment).join("\n");
    for line in [
        "upstreams.l:80.nodes = [http://l:80] < environment LLM_SERVER_URL",
        "upstreams.vllm.nodes = [http://v:80] < environment VLLM_BASE_URL",
        "upstreams.vllm.key = **** < environment VLLM_API_KEY",
        "upstreams.vllm.health.path = /health < default",
        "upstreams.vllm.timeouts.connect = 2s < default",
        "routes[0].path = /v1/completions < environment LLM_SERVER_URL",
        "routes[1].preset = vllm < environment VLLM_BASE_URL",
    ] {
        assert!(found.lines().any(|one| one == line), "{line}\n{found}");
    }
}

#[test]
fn a_name_for_all_nodes_and_a_probe_that_is_off_are_told_as_they_are_written() {
    let routes = "\
upstreams:
  pods: { dns: 'http://${NAME}:8000', kind: vllm, health: off, timeouts: { total: 1h } }
  some: { nodes: ['http://h'], health: { path: /up } }
routes:
  - { preset: vllm, upstream: pods }
  - { preset: vllm, upstream: some }
";
    let found = effective_of(Some(routes), None, env(&[("NAME", "vllm")])).join("\n");
    for line in [
        "upstreams.pods.dns = http://vllm:8000 < routes.yaml:2:16, environment NAME",
        "upstreams.pods.health = off < routes.yaml:2:59",
        "upstreams.pods.timeouts.total = 1h < routes.yaml:2:83",
        "upstreams.some.health.path = /up < routes.yaml:3:48",
        "upstreams.some.health.interval = 5s < default",
    ] {
        assert!(found.lines().any(|one| one == line), "{line}\n{found}");
    }
}
