//! `sluice check`: what nodes say, and what holds.

use sluice::sim::Settings as Node;

use super::{folder, sluice};
use crate::support::scripted::Scripted;
use crate::support::{node, node_with, nowhere};

/// A node that wants this key.
async fn locked(key: &str) -> sluice::sim::Simulator {
    let api_keys = vec![key.to_owned()];
    node_with(Node { models: vec!["llama".into()], api_keys, ..Node::default() }).await
}

/// A node with a list of models, whose engine is dead.
async fn without_engine() -> Scripted {
    Scripted::start(|_, mut peer| async move {
        while let Some(came) = peer.request().await {
            match came.head.starts_with("GET /health ") {
                true => peer.answer("503 Service Unavailable", "").await,
                false => peer.answer("200 OK", r#"{"data":[{"id":"llama"}]}"#).await,
            }
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_mistakes_of_all_files_are_told_at_once() {
    let dir = folder(&[
        ("config/server.yaml", "max_timeuot: 5s\n"),
        (
            "config/routes.yaml",
            "routes:\n  - {path: /a, methods: [POTS], upstream_url: 'http://h'}\n",
        ),
        ("config/keys.yaml", "keys:\n  - {name: a}\n"),
    ]);
    let ended = sluice(dir.path(), &["check"], &[]).await;
    assert_eq!(ended.code, 78);
    for told in ["server.yaml:1:1", "routes.yaml:2:26", "keys.yaml:2"] {
        assert!(ended.err.contains(told), "{told}: {}", ended.err);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn online_asks_every_node_and_says_what_each_needs() {
    let (good, closed, dead) = (node(&["llama", "qwen"]).await, locked("sk-node").await, nowhere());
    let (engine, bare) = (without_engine().await, Scripted::replying("hello").await);
    let upstream = |name: &str, kind: &str, at: std::net::SocketAddr, more: &str| {
        format!("  {name}: {{kind: {kind}, nodes: ['http://{at}']{more}}}\n")
    };
    let upstreams = [
        upstream("good", "vllm", good.addr(), ", models: [llama, qwem, other]"),
        upstream("right-key", "vllm", closed.addr(), ", key: sk-node"),
        upstream("wrong-key", "vllm", closed.addr(), ", key: sk-hunter2"),
        upstream("no-key", "openai", closed.addr(), ""),
        upstream("dead", "vllm", dead, ""),
        upstream("engine", "vllm", engine.addr, ""),
        upstream("bare", "generic", bare.addr, ""),
        upstream("no-api", "openai", bare.addr, ""),
    ];
    let routes: String = (0..upstreams.len())
        .map(|n| upstreams[n].trim().split(':').next().unwrap())
        .map(|name| format!("  - {{path: /a, methods: [POST], upstream: {name}}}\n"))
        .collect();
    let routes = format!("upstreams:\n{}routes:\n{routes}", upstreams.concat());
    let dir = folder(&[("config/routes.yaml", &routes)]);

    let ended = sluice(dir.path(), &["check", "--online"], &[]).await;

    assert_eq!(ended.code, 1, "{}{}", ended.out, ended.err);
    for (name, told) in [
        ("good ", &["ok  ", "lists `llama`, `qwen`"][..]),
        ("right-key ", &["ok  ", "lists `llama`"]),
        ("wrong-key ", &["FAILED", "401 on /v1/models: it does not take our key"]),
        ("no-key ", &["FAILED", "401 on /v1/models: it wants a key; set `key`"]),
        ("dead ", &["FAILED", "cannot connect; is it running"]),
        ("engine ", &["FAILED", "503 on /health"]),
        ("bare ", &["ok  ", "lists no models"]),
        ("no-api ", &["FAILED", "answered no list of models; is this the URL of its API?"]),
    ] {
        let line = ended.line(name);
        assert!(told.iter().all(|told| line.contains(told)), "{told:?}: {line}");
    }
    assert!(ended.line("dead ").contains(&format!("http://{dead}")));
    assert_eq!(ended.out.lines().count(), 9, "a line for each node, and one on the files");
    let place = format!("http://{}", good.addr());
    for told in [
        format!(
            "good: the model `qwem` is configured, and {place} does not list it; did you mean `qwen`?"
        ),
        format!(
            "good: the model `other` is configured, and {place} does not list it; it lists `llama`, `qwen`"
        ),
        "5 of 8 nodes failed".to_owned(),
    ] {
        assert!(ended.err.contains(&told), "{told}: {}", ended.err);
    }
    assert_eq!(sluice(dir.path(), &["check"], &[]).await.code, 0, "the files are fine");
}

#[tokio::test(flavor = "multi_thread")]
async fn online_asks_each_node_of_an_upstream_where_it_is_probed() {
    let (one, other, dead) = (node(&["llama"]).await, node(&["qwen"]).await, nowhere());
    let engine = without_engine().await;
    let (a, b, c) = (one.addr(), other.addr(), engine.addr);
    let routes = format!(
        "upstreams:
  pair: {{kind: vllm, models: [llama], nodes: ['http://{a}', 'http://{b}/', 'http://{dead}']}}
  off: {{kind: vllm, nodes: ['http://{c}'], health: off}}
  probed: {{nodes: ['http://{c}'], health: {{path: /health}}}}
  named: {{kind: vllm, dns: 'http://localhost:{}'}}
  unknown: {{kind: vllm, dns: 'http://no-such-name.invalid'}}
routes:
  - {{path: /a, methods: [POST], upstream: pair}}
  - {{path: /a, methods: [POST], upstream: off}}
  - {{path: /a, methods: [POST], upstream: probed}}
  - {{path: /a, methods: [POST], upstream: named}}
  - {{path: /a, methods: [POST], upstream: unknown}}
",
        a.port()
    );
    let dir = folder(&[("config/routes.yaml", &routes)]);

    let ended = sluice(dir.path(), &["check", "--online"], &[]).await;

    assert_eq!(ended.code, 1, "{}{}", ended.out, ended.err);
    let pair = |place| format!("pair     http://{place} ");
    assert!(ended.line(&pair(a)).contains("lists `llama`"));
    assert!(ended.line(&pair(b)).contains("lists `qwen`"));
    assert!(ended.line(&pair(dead)).contains("FAILED  cannot connect"));
    let told = format!("pair: the model `llama` is configured, and http://{b} does not list it");
    assert!(ended.err.contains(&told), "{}", ended.err);
    assert!(ended.line("off ").contains("lists `llama`"));
    assert!(ended.line("probed ").contains("FAILED  503 on /health: it counts as dead"));
    let own = format!("named    http://127.0.0.1:{} ", a.port());
    assert!(ended.line(&own).contains("lists `llama`"));
    let hosts: Vec<_> = one.requests().iter().map(|one| one.headers["host"].clone()).collect();
    assert!(hosts.contains(&format!("localhost:{}", a.port()).parse().unwrap()), "{hosts:?}");
    assert!(ended.line("unknown ").contains("FAILED  the name cannot be resolved"));
}

#[tokio::test(flavor = "multi_thread")]
async fn online_is_well_where_every_node_is() {
    let good = node(&["llama"]).await;
    let (dir, url) = (folder(&[]), format!("http://{}", good.addr()));
    for (arguments, variables) in [
        (&["check", "--online", "--backend", &*url][..], &[][..]),
        (&["check", "--online"], &[("VLLM_BASE_URL", &*url)]),
    ] {
        let ended = sluice(dir.path(), arguments, variables).await;
        assert_eq!((ended.code, &*ended.err), (0, ""), "{}", ended.out);
    }
    let asked: Vec<String> = good.requests().iter().map(|one| one.target.clone()).collect();
    assert!(asked.contains(&"/health".to_owned()) && asked.contains(&"/v1/models".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn effective_prints_every_value_with_its_source() {
    let dir = folder(&[
        ("config/server.yaml", "max_timeout: ${LONGEST:-60s}\nlog_level: debug\n"),
        (
            "config/routes.yaml",
            "upstreams:\n  llama: {kind: vllm, nodes: ['http://${NODE}'], key_file: secret}\n\
             routes:\n  - {preset: vllm, upstream: llama}\naliases: {gpt: \"m\\e[2J\"}\n",
        ),
        ("config/secret", "sk-hunter2\n"),
        ("config/keys.yaml", "keys:\n  - {name: team, key: '${TEAM_KEY}', scopes: [admin]}\n"),
        ("gateway.env", "DEFAULT_BACKEND=llama\n"),
    ]);
    let arguments =
        ["check", "--effective", "--threads", "2", "--env-file", "gateway.env", "--h2c"];
    let variables = [
        ("NODE", "gpu:8000"),
        ("TEAM_KEY", "sk-hunter2-team"),
        ("PORT", "9000"),
        ("LOG_LEVEL", "WARNING"),
        ("LONGEST", "5m"),
        ("PROXY_SECRET_KEY", "sk-hunter2-all"),
    ];
    let good = dir.path().join("config/routes.yaml");
    let refused = sluice(dir.path(), &arguments, &variables).await;
    assert_eq!((refused.code, &*refused.out), (78, ""), "control characters: {}", refused.err);
    std::fs::write(&good, std::fs::read_to_string(&good).unwrap().replace("\\e[2J", "")).unwrap();

    let ended = sluice(dir.path(), &arguments, &variables).await;

    assert_eq!(ended.code, 0, "{}", ended.err);
    for (path, value, source) in [
        ("listen", "127.0.0.1:9000", "environment PORT"),
        ("threads", "2", "flag --threads"),
        ("h2c", "true", "flag --h2c"),
        ("max_timeout", "5m", "server.yaml:1:14, environment LONGEST"),
        ("log_level", "WARNING", "environment LOG_LEVEL"),
        ("drain_delay", "5s", "default"),
        ("upstreams.llama.nodes", "[http://gpu:8000]", "routes.yaml:2:23, environment NODE"),
        ("upstreams.llama.key_file", "****", "routes.yaml:2:60"),
        ("routes[0].preset", "vllm", "routes.yaml:4:14"),
        ("aliases.gpt", "m", "routes.yaml:5:16"),
        ("DEFAULT_BACKEND", "llama", "environment DEFAULT_BACKEND"),
        ("keys[0].key", "****", "keys.yaml:2:23, environment TEAM_KEY"),
        ("keys[1].key", "****", "environment PROXY_SECRET_KEY"),
    ] {
        let line = ended.line(&format!("{path} "));
        let columns: Vec<&str> =
            line.split("  ").map(str::trim).filter(|c| !c.is_empty()).collect();
        assert_eq!(columns, [path, value, source]);
    }
    assert!(!ended.out.contains("hunter2"), "{}", ended.out);
}
