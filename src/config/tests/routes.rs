//! Routes: short form, long form, presets.

use super::*;

fn route(fields: &str) -> String {
    format!("routes:\n  - {{ {fields} }}\n")
}

#[test]
fn the_short_form_of_the_replaced_service_works_verbatim() {
    let config = good(
        "\
routes:
  - path: /v1/chat/completions
    methods: [POST]
    upstream_url: http://vllm:8000/v1/chat/completions
    upstream_key: super-secret-chat-key    # absent: no key is sent
    upstream_key_header: Authorization     # default
    upstream_key_prefix: \"Bearer \"         # default
  - path: /v1/responses/{response_id}
    methods: [get]
    upstream_url: https://API.example.com/v1/openai/responses/{response_id}
    upstream_key: other
    upstream_key_header: X-Api-Key
    upstream_key_prefix: ''
  - path: /health
    methods: [GET]
    upstream_url: http://vllm:8000/health
    upstream_key: super-secret-chat-key
  - { path: /v1/models, methods: [GET], upstream_url: 'http://vllm:8000/v1/models' }
  - { path: /v1/models, methods: [GET], upstream_url: 'http://[::1]:8000' }
",
    );
    let names: Vec<&str> = config.upstreams.iter().map(|u| u.name.as_str()).collect();
    assert_eq!(names, ["vllm:8000", "api.example.com:443", "vllm:8000#2", "[::1]:8000"]);
    let credential = config.upstreams[0].credential.as_ref().unwrap();
    assert_eq!(credential.header, "authorization");
    assert_eq!(credential.value, "Bearer super-secret-chat-key");
    assert!(credential.value.is_sensitive());
    assert_eq!(config.upstreams[1].credential.as_ref().unwrap().value, "other");
    assert!(config.upstreams[1].nodes.first().tls);
    assert_eq!(config.upstreams[2].credential, None);
    assert_eq!(config.upstreams[0].kind, Kind::Generic);
    assert_eq!(config.routes[1].methods, [Method::GET]);
    let target = Target::Path("/v1/openai/responses/{response_id}".to_owned());
    assert_eq!(config.routes[1].target, target);
    assert_eq!(config.routes[2].upstream, 0);
    assert_eq!(config.routes[4].target, Target::Path("/".to_owned()));
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
}

#[test]
fn an_empty_upstream_key_sends_none() {
    let config =
        good(&route("path: /a, methods: [GET], upstream_url: 'http://h', upstream_key: ''"));
    assert_eq!(config.upstreams[0].credential, None);
}

#[test]
fn a_url_with_a_user_is_refused_and_never_quoted() {
    let text =
        route("path: /a, methods: [GET], upstream_url: 'http://u:sk-hunter2-never-shown@h/a'");
    let problems = parse_all(Some(&text), None, &nothing()).unwrap_err();
    assert!(problems.to_string().contains("upstream_key"), "{problems}");
    assert!(!problems.for_terminal().contains(SECRET));
}

#[test]
fn a_url_may_repeat_the_parameters_of_its_path_only() {
    let found = bad(&route("path: '/a/{id}', methods: [GET], upstream_url: 'http://h/a/{other}'"));
    assert!(found[0].contains("upstream_url: this repeats a parameter"), "{found:?}");
    good(&route("path: '/a/{id}', methods: [GET], upstream_url: 'http://h/all'"));
}

#[test]
fn paths_that_servers_read_differently_are_refused() {
    for path in [
        "a",
        "",
        "/a//b",
        "//",
        "/./a",
        "/a/..",
        "/a;b",
        "/a%20",
        "/a?b",
        "/a#b",
        "/a b",
        "/ä",
        "/a\\b",
        "/x{id}",
        "/{}",
        "/{1}",
        "/{id",
        "/{a}/{a}",
        "/{path:path}",
        "*",
    ] {
        let text = route(&format!("path: '{path}', methods: [GET], upstream_url: 'http://h/a'"));
        assert_eq!(bad(&text).len(), 1, "{path}");
    }
    for path in ["/", "/a", "/a/", "/v1/{id}/cancel", "/a-._~!$&()*+,=:@"] {
        good(&route(&format!("path: '{path}', methods: [GET], upstream_url: 'http://h/a'")));
    }
}

#[test]
fn addresses_that_are_none_are_refused() {
    for url in [
        "h",
        "h:80",
        "http:/h",
        "http://",
        "http://:80",
        "http://h:0",
        "http://h:65536",
        "http://h:+80",
        "http://h:",
        "http://a..b",
        "http://[::1",
        "http://[h]:1",
        "http://h b",
        "http://ä",
        "http://h/a#b",
        "http://h\\a",
        "http://h//a",
        "http://h/%zz",
    ] {
        let text = route(&format!("path: /a, methods: [GET], upstream_url: '{url}'"));
        assert_eq!(bad(&text).len(), 1, "{url}");
    }
}

#[test]
fn the_same_path_method_and_upstream_twice_is_refused() {
    let line = "  - { path: '/a/{x}', methods: [GET, POST], upstream_url: 'http://h/a' }\n";
    let other = "  - { path: '/a/{y}', methods: [PUT, POST], upstream_url: 'http://h/b' }\n";
    assert_lines(
        &bad(&format!("routes:\n{line}{other}")),
        &[
            "routes.yaml:3:38: routes[1].methods[1]: the same path, method and upstream stand here twice; remove one of the two",
        ],
    );
    let elsewhere = other.replace("//h", "//other");
    assert_eq!(good(&format!("routes:\n{line}{elsewhere}")).routes.len(), 2);
}

const LONG: &str = "upstreams: { llama: { kind: vllm, nodes: ['http://gpu-0:8000/v1'] } }\n";

#[test]
fn a_preset_brings_the_table_of_vllm_and_explicit_routes_stand_beside_it() {
    let config = good(&format!(
        "{LONG}routes:\n  - {{ preset: vllm, upstream: llama }}\n  - {{ path: /version, methods: [GET], upstream: llama, forward_headers: [X-Team] }}\n"
    ));
    assert_eq!(config.routes.len(), 31);
    assert_eq!(config.routes.iter().filter(|route| route.preset).count(), 30);
    assert_eq!(
        config.upstreams[0].nodes.first().base,
        "",
        "`/v1` at the end is the same as nothing"
    );
    assert_eq!(config.routes[30].target, Target::Node);
    assert_eq!(config.routes[30].forward_headers, ["x-team"]);
    assert!(!config.routes.iter().any(|r| r.path == "/health" || r.path == "/v1/models"));
}

#[test]
fn a_preset_twice_with_foreign_fields_or_of_another_name_is_refused() {
    let found = bad(&format!(
        "{LONG}routes:\n  - {{ preset: vllm, upstream: llama }}\n  - {{ preset: vllm, upstream: llama }}\n  - {{ preset: vlm, path: /a }}\n"
    ));
    assert_lines(
        &found,
        &[
            "routes.yaml:4:7: routes[1]: this preset stands here twice for the same upstream; remove one of the two",
            "routes.yaml:5:7: routes[2]: `upstream` is missing; name one of `upstreams`",
            "routes.yaml:5:15: routes[2].preset: this must be `vllm`",
            "routes.yaml:5:26: routes[2].path: a preset brings its own paths and methods; write a route of its own for other paths",
        ],
    );
}

#[test]
fn forms_cannot_be_mixed() {
    let found = bad(&format!(
        "{LONG}routes:\n  - {{ path: /a, methods: [GET], upstream: llama, upstream_url: 'http://h' }}\n  - {{ path: /a, methods: [GET], upstream: llama, upstream_key: k }}\n"
    ));
    assert!(found[0].contains("exclude each other"), "{found:?}");
    assert!(found[1].contains("upstream_key: this goes with `upstream_url` only"), "{found:?}");
}

#[test]
fn headers_of_the_connection_and_credentials_are_not_forwarded() {
    for header in
        ["Connection", "host", "Content-Length", "cookie", "x_team", "authorization", "a b"]
    {
        let text = route(&format!(
            "path: /a, methods: [GET], upstream_url: 'http://h', forward_headers: ['{header}']"
        ));
        assert_eq!(bad(&text).len(), 1, "{header}");
    }
    let text = "path: /a, methods: [GET], upstream_url: 'http://h', upstream_key: k, upstream_key_header: Host";
    assert_eq!(bad(&route(text)).len(), 1);
}

#[test]
fn a_route_that_the_gateway_answers_itself_is_a_warning() {
    let config = good(&route("path: /docs, methods: [GET], upstream_url: 'http://h/docs'"));
    assert_eq!(config.warnings.len(), 1);
}

#[test]
fn an_alias_leads_to_a_model_and_not_to_an_alias() {
    let found = bad(&format!("{ROUTES}\naliases:\n  a: b\n  b: c\n  d: 7\n"));
    assert_lines(
        &found,
        &[
            "routes.yaml:3:6: aliases.a: an alias must lead to a model, not to an alias; name the model itself",
            "routes.yaml:5:6: aliases.d: this must be a text; name the model that is meant",
        ],
    );
}
