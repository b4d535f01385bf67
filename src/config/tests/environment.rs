//! The environment of the replaced services, `--backend` and env files.

use super::*;

fn from_env(variables: &[(&str, &str)]) -> Config {
    parse_all(None, None, &env(variables)).unwrap()
}

#[test]
fn a_vllm_url_with_or_without_v1_is_the_same_node_with_the_preset() {
    for url in ["http://vllm:8000", "http://vllm:8000/v1", "http://vllm:8000/v1/"] {
        let config = from_env(&[("VLLM_BASE_URL", url), ("VLLM_API_KEY", "k")]);
        assert_eq!(config.upstreams[0].nodes.first().to_string(), "http://vllm:8000");
        assert_eq!(config.upstreams[0].name.as_str(), "vllm");
        assert_eq!(config.upstreams[0].kind, Kind::Vllm);
        assert_eq!(config.upstreams[0].credential.as_ref().unwrap().value, "Bearer k");
        assert_eq!(config.routes.len(), 30);
    }
}

#[test]
fn a_server_url_is_one_route() {
    let config = from_env(&[("LLM_SERVER_URL", "http://host:8080/v1/completions")]);
    assert_eq!(config.routes.len(), 1);
    assert_eq!(config.routes[0].path, "/v1/completions");
    assert_eq!(config.routes[0].methods, [Method::POST]);
    assert_eq!(config.routes[0].target, Target::Path("/v1/completions".to_owned()));
    assert_eq!(config.upstreams[0].kind, Kind::Generic);
    let found = bad_env(&[("LLM_SERVER_URL", "http://host:8080")]);
    assert!(found[0].starts_with("environment: LLM_SERVER_URL: the URL needs a path"), "{found:?}");
}

#[test]
fn nothing_configured_says_what_to_do() {
    for variables in [&[][..], &[("VLLM_BASE_URL", "")], &[("OLLAMA_BASE_URL", "")]] {
        let found = bad_env(variables);
        assert!(found[0].contains("set VLLM_BASE_URL"), "{found:?}");
        assert_eq!(found.len(), 1, "{found:?}");
    }
}

#[test]
fn upstreams_of_the_environment_do_not_count_beside_a_file() {
    let variables = env(&[("VLLM_BASE_URL", "http://vllm:8000"), ("LLM_SERVER_URL", "http://h/a")]);
    let config = parse_all(Some(ROUTES), None, &variables).unwrap();
    assert_eq!(config.upstreams.len(), 1);
    assert_eq!(config.warnings.len(), 2);
}

#[test]
fn a_default_backend_must_be_an_upstream() {
    let vllm = ("VLLM_BASE_URL", "http://vllm:8000");
    assert_eq!(from_env(&[vllm, ("DEFAULT_BACKEND", "vllm")]).default_upstream, Some(0));
    assert_lines(
        &bad_env(&[vllm, ("DEFAULT_BACKEND", "vlm")]),
        &["environment: DEFAULT_BACKEND: there is no such upstream; did you mean `vllm`?"],
    );
}

#[test]
fn ollama_is_an_upstream_beside_vllm_and_what_is_wrong_is_told() {
    let vllm = ("VLLM_BASE_URL", "http://vllm:8000");
    for (name, value) in [("TOKENS_JSON", "{}"), ("VLLM_API_KEY", "a b")] {
        let found = bad_env(&[vllm, (name, value)]);
        assert!(found[0].starts_with(&format!("environment: {name}: ")), "{found:?}");
    }
    let ollama = ("OLLAMA_BASE_URL", "http://o:11434/v1");
    let config = from_env(&[vllm, ollama, ("VLLM_API_KEY", "k"), ("DEFAULT_BACKEND", "ollama")]);
    assert_eq!((config.warnings.len(), config.default_upstream), (0, Some(1)));
    let [vllm, ollama] = &config.upstreams[..] else { panic!("{:?}", config.upstreams) };
    assert_eq!((vllm.kind, ollama.kind), (Kind::Vllm, Kind::Ollama));
    assert_eq!((vllm.credential.is_some(), ollama.credential.is_some()), (true, false));
    assert_eq!(ollama.health.as_ref().unwrap().path, "/api/version");
    assert_eq!(config.routes.len(), 60);
}

#[test]
fn a_backend_is_one_vllm_node_and_excludes_a_file() {
    let backend = |routes, url, variables: &[(&str, &str)]| {
        parse(Texts { routes, keys: None }, &env(variables), Some(url), &no_files)
    };
    let config = backend(None, "http://gpu:8000/v1", &[("VLLM_BASE_URL", "http://v")]).unwrap();
    assert_eq!(config.upstreams.len(), 1);
    assert_eq!(config.upstreams[0].name.as_str(), "backend");
    assert_eq!((config.routes.len(), config.warnings.len()), (30, 1));
    let found = lines(backend(Some(ROUTES), "http://gpu", &[]).unwrap_err());
    assert!(found[0].starts_with("command line: --backend: there is a `routes.yaml`"), "{found:?}");
    let several = backend(None, "http://a:1, http://b:2,http://a:1/v1", &[]).unwrap();
    let urls = several.upstreams[0].nodes.urls().iter().map(ToString::to_string);
    assert_eq!(urls.collect::<Vec<_>>(), ["http://a:1", "http://b:2"]);
    let found = lines(backend(None, "gpu:8000", &[]).unwrap_err());
    assert!(found[0].starts_with("command line: --backend: this is no URL"), "{found:?}");
}

#[test]
fn an_env_file_fills_in_what_the_process_does_not_set() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(".env");
    let text = "\u{feff}# a comment\r\nexport A=1\nB = two words # comment\n\nC='[{\"t\": \"#\"}]'\n\
                D=\"a\\n\\\"b\\$\" # c\nE=x#y\nSET=file\nEMPTY=file\nF=\n";
    std::fs::write(&path, text).unwrap();
    let found = env(&[("SET", "process"), ("EMPTY", "")]).with_file(&path).unwrap();
    for (name, value) in [
        ("A", Some("1")),
        ("B", Some("two words")),
        ("C", Some("[{\"t\": \"#\"}]")),
        ("D", Some("a\n\"b$")),
        ("E", Some("x#y")),
        ("SET", Some("process")),
        ("EMPTY", Some("file")),
        ("F", None),
        ("G", None),
    ] {
        assert_eq!(found.get(name), value, "{name}");
    }
    for wrong in ["A", "1A=b", "A B=c", "A='b", "A='b' c"] {
        std::fs::write(&path, format!("# x\n{wrong}{SECRET}\n")).unwrap();
        let problems = nothing().with_file(&path).unwrap_err();
        assert!(problems.to_string().contains(":2:1: "), "{problems}");
        assert!(!problems.for_terminal().contains(SECRET));
    }
    assert!(nothing().with_file(&dir.path().join("absent")).is_err());
}

#[test]
fn tokens_of_the_environment_have_labels_and_limits() {
    let vllm = ("VLLM_BASE_URL", "http://vllm:8000");
    let tokens = r#"[{"token": "a", "label": "team-a", "rpm": 60, "rpd": 1000, "note": 1}, {"token": "b", "rpm": null}]"#;
    let config = from_env(&[vllm, ("TOKENS_JSON", tokens)]);
    let told: Vec<_> = config.keys.iter().map(|key| (key.name.as_str(), key.limits)).collect();
    let limits = KeyLimits { rpm: Some(60), rpd: Some(1000), ..KeyLimits::default() };
    assert_eq!(told, [("team-a", limits), ("token-2", KeyLimits::default())]);
    for (tokens, place) in [
        (r#"[{"token": "sk-secret"]"#, "TOKENS_JSON"),
        (r#"[{"label": "sk-secret"}]"#, "TOKENS_JSON[0]"),
        (r#"[{"token": "a"}, {"token": "sk secret"}]"#, "TOKENS_JSON[1].token"),
        (r#"[{"token": "sk-secret", "label": "two words"}]"#, "TOKENS_JSON[0].label"),
        (r#"[{"token": "sk-secret", "rpm": 0}]"#, "TOKENS_JSON[0].rpm"),
        (r#"[{"token": "sk-secret"}, {"token": "sk-secret", "label": "x"}]"#, "TOKENS_JSON[1]"),
    ] {
        let found = bad_env(&[vllm, ("TOKENS_JSON", tokens)]);
        assert_eq!(found.len(), 1, "{tokens}: {found:?}");
        assert!(found[0].starts_with(&format!("environment: {place}: ")), "{found:?}");
        assert!(!found[0].contains("secret"), "{found:?}");
    }
}
