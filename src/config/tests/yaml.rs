//! YAML: duplicates, merges, `x-` keys, variables, positions, broken files.

use super::*;

#[test]
fn an_unknown_field_is_told_with_its_place_and_the_nearest_word() {
    let text = "\
routes:
  - path: /a
    methods: [POST]
    upstream_urll: http://h:1/a
";
    assert_lines(
        &bad(text),
        &["routes.yaml:4:5: routes[0].upstream_urll: unknown field; did you mean `upstream_url`?"],
    );
}

#[test]
fn all_problems_are_told_at_once_in_the_order_of_their_lines() {
    let text = "\
upstreams:
  llama:
    kind: vlm
    nodes: [http://a:1, http://A:1/v1]
    retry: { attempts: lots }
    balance: least_lode
    health: { intervall: 5s, unhealthy_after: 0 }
routes:
  - { path: v1, methods: [POTS, 7], upstream: lama }
  - path: /b
    methods: GET
    upstream_url: ftp://h
  - path: /c
    methods: [GET]
    upstream_url: http://h:1/c?d=e
fallbacks: { a: [] }
";
    assert_lines(
        &bad(text),
        &[
            "routes.yaml:3:11: upstreams.llama.kind: this must be `generic` or `openai` or `vllm` or `ollama`; did you mean `vllm`?",
            "routes.yaml:4:25: upstreams.llama.nodes[1]: this node stands here twice; keep one of them",
            "routes.yaml:5:24: upstreams.llama.retry.attempts: this must be a whole number",
            "routes.yaml:6:14: upstreams.llama.balance: this must be `least_load` or `round_robin` or `consistent_hash` or `prefix_aware`; did you mean `least_load`?",
            "routes.yaml:7:15: upstreams.llama.health.intervall: unknown field; did you mean `interval`?",
            "routes.yaml:7:47: upstreams.llama.health.unhealthy_after: this must be 1 to 100",
            "routes.yaml:9:13: routes[0].path: a path begins with `/`; write it without host and query",
            "routes.yaml:9:27: routes[0].methods[0]: this is no method that can be forwarded; did you mean `POST`?",
            "routes.yaml:9:33: routes[0].methods[1]: this must be a text; put it in quotes",
            "routes.yaml:9:47: routes[0].upstream: there is no such upstream; did you mean `llama`?",
            "routes.yaml:11:14: routes[1].methods: this must be a list",
            "routes.yaml:12:19: routes[1].upstream_url: this is no URL of a node; write `http://host:port` or `https://host`",
            "routes.yaml:15:19: routes[2].upstream_url: a query cannot stand here: a request brings its own",
            "routes.yaml:16:14: fallbacks.a: at least one model is needed; leave it out where there is none",
        ],
    );
}

#[test]
fn columns_count_characters_and_anchors_lead_to_where_the_value_stands() {
    let text = "\
x-wrong: &wrong ftp://h
routes:
  - { path: /ä, methods: [GET], upstream_url: 7 }
  - { path: /b, methods: [GET], upstream_url: *wrong }
";
    let found = bad(text);
    assert!(found[0].starts_with("routes.yaml:1:10: routes[1].upstream_url"), "{found:?}");
    assert!(found[1].starts_with("routes.yaml:3:13: routes[0].path"), "{found:?}");
    assert!(found[2].starts_with("routes.yaml:3:47: routes[0].upstream_url"), "{found:?}");
}

#[test]
fn a_missing_field_is_told_where_its_entry_begins() {
    assert_lines(
        &bad("routes:\n  - path: /a\n    upstream_url: http://h:1/a\n"),
        &["routes.yaml:2:5: routes[0]: `methods` is missing; write `methods: [POST]`"],
    );
}

#[test]
fn a_key_that_stands_twice_is_told_at_the_second() {
    let text = format!("{ROUTES}\naliases:\n  a: b\n  c: d\n  a: e\n");
    assert_lines(
        &bad(&text),
        &["routes.yaml:5:3: aliases: a key stands here twice; keep one of them"],
    );
    let twice = format!("{ROUTES}\n{ROUTES}\n");
    assert_lines(&bad(&twice), &["routes.yaml:2:1: a key stands here twice; keep one of them"]);
}

#[test]
fn a_syntax_error_is_told_alone_with_its_line() {
    let found = bad("routes:\n  - path: /a\n    methods: [GET\n    bogus: 1\n");
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with("routes.yaml:4:"), "{found:?}");
    assert!(found[0].contains("this is not YAML"), "{found:?}");
}

#[test]
fn merges_apply_also_nested_and_extensions_are_left_alone() {
    let config = good(
        "\
x-key: &key { upstream_key: k }
x-base: &base { <<: *key, methods: [POST], x-note: why }
routes:
  - { <<: *base, path: /a, upstream_url: 'http://h:1/a', x-owner: me }
  - { <<: [*base], path: /b, methods: [GET], upstream_url: 'http://h:1/b' }
",
    );
    assert_eq!(config.upstreams.len(), 1);
    assert!(config.upstreams[0].credential.is_some());
    assert_eq!(config.routes[0].methods, [Method::POST]);
    assert_eq!(config.routes[1].methods, [Method::GET]);
}

#[test]
fn a_merge_of_no_map_is_a_problem() {
    let found = bad("routes:\n  - { <<: 7, path: /a, methods: [GET], upstream_url: 'http://h' }\n");
    assert_lines(
        &found,
        &[
            "routes.yaml:2:11: routes[0].<<: only a map can be merged here; write `<<: *name` with the anchor of a map, or a list of such",
        ],
    );
}

#[test]
fn an_upstream_and_an_alias_may_begin_with_x() {
    let config = good(
        "\
upstreams: { x-llama: { nodes: ['http://h:1'] } }
routes: [{ path: /a, methods: [GET], upstream: x-llama }]
aliases: { x-small: llama }
",
    );
    assert_eq!(config.upstreams[0].name.as_str(), "x-llama");
    assert_eq!(config.aliases[0].0.as_str(), "x-small");
}

#[test]
fn variables_expand_in_values_after_parsing() {
    let environment = env(&[("K", "a: b #c"), ("N", "3"), ("EMPTY", "")]);
    let text = "\
upstreams:
  u:
    nodes: ['http://${HOST_NAME:-h}:1']
    key: ${K:?}
    key_prefix: \"$$${EMPTY:-}$x \"
    retry: { attempts: '${N}' }
routes: [{ path: /a, methods: [GET], upstream: u }]
";
    // The key holds a space: it must have arrived as one value, and be refused as one.
    let found = lines(parse_all(Some(text), None, &environment).unwrap_err());
    assert!(found[0].starts_with("routes.yaml:4:10: upstreams.u.key: a key holds"), "{found:?}");
    let config = parse_all(Some(text), None, &env(&[("K", "k"), ("N", "3")])).unwrap();
    assert_eq!(config.upstreams[0].credential.as_ref().unwrap().value, "$$x k");
    assert_eq!(config.upstreams[0].nodes.first().host, "h");
    assert_eq!(config.upstreams[0].attempts, 3);
}

#[test]
fn a_variable_that_is_not_set_is_told_once_and_its_message_only_to_the_terminal() {
    let text = ROUTES.replace("/a,", "'${PATH_OF:?ask the operator}',");
    let problems = parse_all(Some(&text), None, &env(&[("PATH_OF", "")])).unwrap_err();
    assert_eq!(
        problems.to_string(),
        "routes.yaml:1:17: routes[0].path: the environment variable `PATH_OF` is not set; set it to a value that is not empty"
    );
    assert!(problems.for_terminal().contains("ask the operator"));
    for wrong in ["${A", "${A-b}", "${}", "${1}", "${A:-${B}}", "${A:+b}", "${A}"] {
        let text = ROUTES.replace("/a,", &format!("'{wrong}',"));
        assert_eq!(bad(&text).len(), 1, "{wrong}");
    }
}

#[test]
fn files_that_are_empty_cut_or_no_text_are_problems() {
    for text in ["", "# nothing\n", "routes:\n", "---\n...\n", "null", "7", "[]", "routes: []\n"] {
        assert!(!bad(text).is_empty(), "{text:?}");
        assert!(text == "routes: []\n" || !bad_keys(text).is_empty(), "{text:?}");
    }
    assert!(!bad("\u{0}\u{1}\u{2}").is_empty());
    assert!(!bad("routes: []\n---\nroutes: []\n").is_empty());
    assert!(!bad("routes: !tag []\n").is_empty());
    assert!(!bad("? [a]\n: b\n").is_empty());
}

#[test]
fn a_small_file_cannot_unfold_into_a_huge_one() {
    let mut text = "x-0: &a0 [1,1,1,1,1,1,1,1,1,1]\n".to_owned();
    for level in 1..9 {
        let below = format!("*a{},", level - 1).repeat(10);
        text.push_str(&format!("x-{level}: &a{level} [{below}]\n"));
    }
    assert_eq!(bad(&text).len(), 1);
}

#[test]
fn files_of_a_directory_are_read_and_problems_of_both_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let source = Source { dir: dir.path().to_owned(), environment: nothing(), backend: None };
    let none = load(&source).unwrap_err().to_string();
    assert!(none.contains("VLLM_BASE_URL"), "{none}");
    std::fs::write(dir.path().join("routes.yaml"), ROUTES).unwrap();
    std::fs::write(dir.path().join("team.key"), "secret-of-team\n").unwrap();
    std::fs::write(dir.path().join("keys.yaml"), "keys: [{name: t, key_file: team.key}]").unwrap();
    let config = load(&source).unwrap();
    assert_eq!(config.watched, [dir.path().join("team.key")]);
    assert_eq!(config.keys[0].sha256, super::super::keys::sha256("secret-of-team"));
    std::fs::write(dir.path().join("routes.yaml"), [0xff, 0xfe, 0x00]).unwrap();
    std::fs::write(dir.path().join("keys.yaml"), "kees: []").unwrap();
    assert_lines(
        &lines(load(&source).unwrap_err()),
        &[
            "routes.yaml: this is not a UTF-8 text",
            "keys.yaml:1:1: kees: unknown field; did you mean `keys`?",
        ],
    );
    std::fs::remove_file(dir.path().join("routes.yaml")).unwrap();
    std::fs::create_dir(dir.path().join("routes.yaml")).unwrap();
    assert!(load(&source).unwrap_err().to_string().contains("not a regular file"));
}

#[test]
fn brackets_without_end_are_refused_before_they_cost_time() {
    assert!(bad(&"{a: ".repeat(1 << 20))[0].contains("brackets"));
    assert!(bad(&"{a: ".repeat(500))[0].contains("recursion limit"));
}

#[test]
fn a_file_past_the_bound_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = std::fs::File::create(dir.path().join("routes.yaml")).unwrap();
    file.set_len(defaults::FILE_BYTES_MAX + 1).unwrap();
    let source = Source { dir: dir.path().to_owned(), environment: nothing(), backend: None };
    assert!(load(&source).unwrap_err().to_string().contains("larger than"));
}

#[test]
fn many_upstreams_and_many_wrong_names_of_them_are_told_without_comparing_each_with_each() {
    let upstreams: String =
        (0..5_000).map(|n| format!("  u{n}: {{ nodes: ['http://h{n}'] }}\n")).collect();
    let routes: String = (0..5_000)
        .map(|n| format!("  - {{ path: /a, methods: [GET], upstream: v{n} }}\n"))
        .collect();
    let text = format!("upstreams:\n{upstreams}routes:\n{routes}");
    let problems = parse_all(Some(&text), None, &nothing()).unwrap_err();
    assert_eq!((problems.list.len(), problems.more), (100, 4_900));
}

#[test]
fn ten_thousand_routes_load_and_a_hundred_problems_of_them_are_told() {
    let route = |n: usize, url: &str| {
        format!(
            "  - path: /v1/m{n}\n    methods: [POST]\n    {url}: http://h{}:80/v1/m{n}\n",
            n % 99
        )
    };
    let all = |url: &str| {
        let routes: String = (0..10_000).map(|n| route(n, url)).collect();
        format!("routes:\n{routes}")
    };
    assert_eq!(good(&all("upstream_url")).routes.len(), 10_000);
    let problems = parse_all(Some(&all("upstream_urll")), None, &nothing()).unwrap_err();
    assert_eq!((problems.list.len(), problems.more), (100, 9_900));
    assert_eq!(problems.list[99].location, Some(Location { line: 301, column: 5 }));
}
