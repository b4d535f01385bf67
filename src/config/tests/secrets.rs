//! Keys are never shown: not in problems, not to the terminal, not by `Debug`.

use super::*;

#[test]
fn no_problem_and_no_debug_shows_a_key() {
    let good = format!(
        "routes: [{{path: /a, methods: [GET], upstream_url: 'http://h:1/a', upstream_key: {SECRET}}}]"
    );
    let keys = format!("keys: [{{name: a, key: {SECRET}}}]");
    let environment = env(&[("VLLM_API_KEY", SECRET)]);
    let config = parse_all(Some(&good), Some(&keys), &environment).unwrap();
    let source = Source { dir: PathBuf::new(), environment, backend: None };
    assert!(!format!("{config:?} {source:?}").contains(SECRET));
}

#[test]
fn a_key_in_a_wrong_place_is_not_shown_in_logs() {
    let files = [
        format!("routes: {SECRET}"),
        SECRET.to_owned(),
        format!("{SECRET}: 1"),
        format!("routes: [{SECRET}]"),
        format!("routes: [{{path: {SECRET}, methods: {SECRET}, upstream_url: {SECRET}}}]"),
        format!("routes: [{{upstream_key:{SECRET}, upstream_key:{SECRET}}}]"),
        format!("routes: [{{preset: {SECRET}, upstream: {SECRET}}}]"),
        format!("routes: [{{path: /a, methods: [{SECRET}], upstream_key: [{SECRET}]}}]"),
        format!("upstreams: {{u: {{kind: {SECRET}, nodes: [{SECRET}], models: {SECRET}}}}}"),
        format!("upstreams: {{u: {{key_header: '{SECRET} ', key_prefix: \"{SECRET}\\n\"}}}}"),
        format!("upstreams: {{u: {{timeouts: {SECRET}, retry: {{attempts: {SECRET}}}}}}}"),
        format!("upstreams: {{u: {{dns: {SECRET}, balance: {SECRET}, health: {SECRET}}}}}"),
        format!("upstreams: {{u: {{health: {{path: {SECRET}, healthy_after: {SECRET}}}}}}}"),
        format!("upstreams: {{u: {{dns: 'http://{SECRET}@h', timeouts: {{total: {SECRET}}}}}}}"),
        format!("upstreams: {{u: {{nodes: ['http://{SECRET}:k@h', 'http://h?k={SECRET}']}}}}"),
        format!("upstreams: {{u: {{tls: {{ca_file: {SECRET}, server_name: '{SECRET} '}}}}}}"),
        format!("upstreams: {{u: {{tls: {SECRET}}}}}"),
        format!("fallbacks: {{a: [\"{SECRET}\\n\", [{SECRET}]], b: {SECRET}}}"),
        format!("routes: [\n  {{ path: {SECRET}"),
        format!("routes: *{SECRET}"),
        format!("routes: !{SECRET} []"),
        format!("? {{{SECRET}: 1}}\n: 2"),
        format!("a: [{SECRET}: {{? [x] : y}}]"),
        format!("aliases: {{a: \"{SECRET}\\n\", b: [{SECRET}]}}"),
        format!("routes: [{{path: '${{{SECRET}}}', methods: ['${{A:?{SECRET}}}']}}]"),
        format!("keys: [{{name: '{SECRET} ', key: '{SECRET} ', scopes: [{SECRET}]}}]"),
        format!("keys: [{{name: a, key: [{SECRET}], key_file: {SECRET}, expires: {SECRET}}}]"),
        format!("keys: [{{name: a, key_file: {SECRET}}}, {{name: b, key_sha256: {SECRET}}}]"),
    ];
    for text in &files {
        for (routes, keys) in [(Some(text.as_str()), None), (None, Some(text.as_str()))] {
            let problems = parse_all(routes, keys, &nothing()).unwrap_err();
            let shown = format!("{problems} {problems:?} {:?}", problems.list);
            assert!(!shown.contains("hunter2"), "{text}\n{shown}");
        }
    }
}

#[test]
fn a_key_field_is_not_quoted_to_the_terminal() {
    for (routes, keys) in [
        (format!("routes: [{{upstream_key: '{SECRET} '}}]"), "keys: []".to_owned()),
        (format!("routes: [{{upstream_key:{SECRET}}}]"), "keys: []".to_owned()),
        (format!("routes: [{{upstream_key: {{a: {SECRET}}}}}]"), "keys: []".to_owned()),
        (format!("upstreams: {{u: {{key: '{SECRET} '}}}}"), "keys: []".to_owned()),
        (format!("upstreams: {{u: {{key_file: '{SECRET}'}}}}"), "keys: []".to_owned()),
        (format!("upstreams: {{u: {{tls: {{ca_file: '{SECRET}'}}}}}}"), "keys: []".to_owned()),
        (ROUTES.to_owned(), format!("keys: [{{name: a, key: '{SECRET} '}}]")),
        (ROUTES.to_owned(), format!("keys: [{{name: a, key_sha256: {SECRET}}}]")),
        (ROUTES.to_owned(), format!("keys: [{{name: a, key_file: {SECRET}}}]")),
    ] {
        let problems = parse_all(Some(&routes), Some(&keys), &nothing()).unwrap_err();
        let shown = problems.for_terminal();
        assert!(!shown.contains("hunter2"), "{shown}");
    }
    for name in ["PROXY_SECRET_KEY", "INTERNAL_API_KEY", "ALLOWED_API_KEYS", "VLLM_API_KEY"] {
        let environment = env(&[(name, "sk-hunter2 x"), ("VLLM_BASE_URL", "http://v")]);
        let problems = parse_all(None, None, &environment).unwrap_err();
        assert!(!problems.for_terminal().contains("hunter2"), "{name}");
    }
}

#[test]
fn the_terminal_sees_the_value_cut_and_without_control_characters() {
    let long = "x".repeat(200);
    let text =
        format!("routes: [{{path: \"\\e[2J{long}\", methods: [GET], upstream_url: 'http://h'}}]");
    let problems = parse_all(Some(&text), None, &nothing()).unwrap_err();
    let shown = problems.for_terminal();
    assert!(shown.contains("(found: \"\\u{1b}[2Jxxx"), "{shown}");
    assert!(shown.contains("xxx…\")") && shown.len() < 300, "{shown}");
}
