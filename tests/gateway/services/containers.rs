//! The compose file: what it promises of each container, and that the configuration which it mounts serves (row E10).

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use serde_yaml::Value;
use sluice::config::{Environment, Settings, SettingsArgs};
use sluice::upstream::resolve::Resolve;

use crate::cli::sluice;
use crate::support::gateway::{Setup, written};
use crate::support::{KEY, node};

/// A file at the top of the project.
fn file(name: &str) -> String {
    written(&Path::new(env!("CARGO_MANIFEST_DIR")).join(name))
}

/// The compose file, its anchors resolved.
fn compose() -> Value {
    let mut compose: Value = serde_yaml::from_str(&file("docker-compose.yml")).unwrap();
    compose.apply_merge().unwrap();
    compose
}

/// The profiles that start a service; none: it always starts.
fn profiles(service: &Value) -> Vec<&str> {
    texts(&service["profiles"])
}

/// The texts of a list, which may not be there.
fn texts(list: &Value) -> Vec<&str> {
    list.as_sequence().into_iter().flatten().map(|one| one.as_str().unwrap()).collect()
}

/// `text` where no variable is set: `${NAME:-default}` is its default.
fn by_default(text: &str) -> String {
    let mut parts = text.split("${");
    let mut whole = parts.next().unwrap().to_owned();
    for part in parts {
        let (variable, rest) = part.split_once('}').unwrap();
        whole += variable.split_once(":-").map_or("", |(_, default)| default);
        whole += rest;
    }
    whole
}

/// Every name is this address, as compose's own resolver tells for the name of a service.
struct Only(SocketAddr);

#[async_trait]
impl Resolve for Only {
    async fn lookup(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        assert_eq!((host, port), ("vllm", 8000), "the node of config/routes.yaml");
        Ok(vec![self.0])
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn e10_vllm_has_the_gpu_and_a_mounted_model_and_the_gateway_a_mounted_config() {
    let compose = compose();
    let (vllm, gateway) = (&compose["services"]["vllm"], &compose["services"]["sluice"]);
    assert_eq!(profiles(vllm), ["gpu"]);
    let device = &vllm["deploy"]["resources"]["reservations"]["devices"][0];
    assert_eq!(device["driver"], "nvidia");
    assert_eq!(texts(&device["capabilities"]), ["gpu"]);

    // The model is a folder that is mounted, for reading alone, and nothing is asked of other machines.
    let mounted: Vec<String> = texts(&vllm["volumes"]).into_iter().map(by_default).collect();
    assert_eq!(mounted, ["./models:/models:ro"]);
    let command: Vec<String> = texts(&vllm["command"]).into_iter().map(by_default).collect();
    assert_eq!(command, ["/models/model", "--served-model-name", "model", "/models/model"]);
    for (name, value) in [("HF_HUB_OFFLINE", "1"), ("VLLM_NO_USAGE_STATS", "1")] {
        assert_eq!(vllm["environment"][name], value, "{name}");
    }
    assert!(vllm.get("build").is_none());

    // Only the gateway reaches it, by a name and a port that the mounted configuration has.
    assert!(vllm.get("ports").is_none());
    assert_eq!(texts(&vllm["expose"]), ["8000"]);
    let mounted: Vec<String> = texts(&gateway["volumes"]).into_iter().map(by_default).collect();
    assert!(mounted.contains(&"./config:/config:ro".to_owned()), "{mounted:?}");
    assert!(mounted.contains(&"./models:/models:ro".to_owned()), "its tokenizer: {mounted:?}");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let checked = sluice(root, &["check"], &[("PROXY_SECRET_KEY", KEY)]).await;
    assert_eq!(checked.code, 0, "{}{}", checked.out, checked.err);

    let names = ["model", "/models/model"];
    let upstream = node(&names).await;
    let gateway = Setup::routes(&file("config/routes.yaml"))
        .keys(&file("config/keys.yaml"))
        .file("server.yaml", &file("config/server.yaml"))
        .resolver(Arc::new(Only(upstream.addr())))
        .start()
        .await;
    for name in names {
        let reply = gateway.chat(name).send().await.unwrap();
        assert_eq!(reply.status(), 200, "{name}");
    }
    let asked = upstream.requests();
    let chat = asked.iter().find(|one| one.target == "/v1/chat/completions").unwrap();
    assert_eq!(chat.headers["host"], "vllm:8000");
}

#[test]
fn without_a_profile_the_gateway_starts_alone_and_others_are_not_open_to_the_network() {
    let compose = compose();
    for (name, service) in compose["services"].as_mapping().unwrap() {
        let (name, ports) = (name.as_str().unwrap(), texts(&service["ports"]));
        if name == "sluice" {
            assert_eq!(profiles(service), [""; 0]);
            assert_eq!(by_default(ports[0]), "8080:8080");
            continue;
        }
        let profile = match name {
            "sim" => "demo",
            "vllm" => "gpu",
            "redis" => "redis",
            _ => "monitoring",
        };
        assert_eq!(profiles(service), [profile], "{name}");
        assert!(ports.iter().all(|port| port.starts_with("127.0.0.1:")), "{name}: {ports:?}");
    }
    for (name, service) in compose["services"].as_mapping().unwrap() {
        let hardened = service["read_only"] == true && texts(&service["cap_drop"]) == ["ALL"];
        assert!(hardened || name == "vllm", "{name:?}");
    }
    let sim = &compose["services"]["sim"];
    assert!(texts(&sim["command"]).contains(&"0.0.0.0:8000"), "where vLLM listens");
    assert_eq!(texts(&sim["networks"]["default"]["aliases"]), ["vllm"]);
}

/// The image's own check would ask for a gateway, and without one compose does not wait for a container.
#[tokio::test(flavor = "multi_thread")]
async fn the_simulated_nodes_container_is_asked_as_a_node() {
    let compose = compose();
    let check = texts(&compose["services"]["sim"]["healthcheck"]["test"]);
    assert_eq!(check[..2], ["CMD", "/sluice"]);
    let (dir, upstream) = (tempfile::tempdir().unwrap(), node(&["m"]).await);
    let address = upstream.addr().to_string();
    let mut arguments = check[2..].to_vec();
    for argument in arguments.iter_mut().filter(|argument| **argument == "127.0.0.1:8000") {
        *argument = &address;
    }
    let well = sluice(dir.path(), &arguments, &[]).await;
    assert_eq!(well.code, 0, "{arguments:?} {}", well.err);
    upstream.refuse().await;
    assert_eq!(sluice(dir.path(), &arguments, &[]).await.code, 1);
}

#[test]
fn redis_throws_no_limit_away_and_only_the_gateway_reaches_it() {
    let compose = compose();
    let redis = &compose["services"]["redis"];
    let command = texts(&redis["command"]).join(" ");
    assert!(command.contains("--maxmemory-policy noeviction"), "{command}");
    assert!(command.contains("--appendonly yes"), "{command}");
    assert_eq!(texts(&redis["volumes"]), ["redis:/data"]);
    assert!(redis.get("ports").is_none());
    assert_eq!(texts(&redis["networks"]), ["store"]);
    assert_eq!(compose["networks"]["store"]["internal"], true);
    for (name, service) in compose["services"].as_mapping().unwrap() {
        let on_it =
            service["networks"].as_sequence().is_some_and(|all| all.contains(&"store".into()));
        assert_eq!(on_it, name == "redis" || name == "sluice", "{name:?}");
    }
}

/// All of them at once, as somebody would have it who takes each `#` away.
#[test]
fn what_the_example_of_an_env_file_offers_is_understood() {
    let text = file(".env.example");
    let lines = text.lines().map(|line| line.trim_start_matches("# "));
    let pairs = lines
        .filter_map(|line| line.split_once('='))
        .filter(|(name, _)| name.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_'));
    let variables: Vec<(String, String)> =
        pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let has = |name: &str| variables.iter().any(|(known, _)| known == name);
    assert!(has("PROXY_SECRET_KEY") && has("COMPOSE_PROFILES"), "{variables:?}");
    let given = variables.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let environment = Environment::from_iter(given.chain([("PROXY_SECRET_KEY", KEY)]));
    let settings = Settings::resolve(&SettingsArgs::default(), &environment, "/none".as_ref());
    let settings = settings.map_err(|problems| problems.to_string()).unwrap();
    assert!(settings.redis_url.is_some());
    assert_eq!(settings.session_model.as_deref(), Some("/models/model"));
    let compose = file("docker-compose.yml");
    for name in ["MODELS_DIR", "VLLM_MODEL", "REDIS_MAXMEMORY"] {
        assert!(has(name) && compose.contains(&format!("${{{name}:-")), "{name}");
    }
}
