//! What is written down of a request, and what never is (rows C4, B5).

use serde_json::{Value, json};
use sluice::config::{Environment, Settings, SettingsArgs};
use sluice::sim::Settings as Node;

use super::process::{Port, Process};
use crate::support::gateway::Setup;
use crate::support::{KEY, node_with, nowhere};

const PROMPT: &str = "xyzzy-prompt";
const CLIENT_KEY: &str = "sk-of-the-client-0123456789";
const NODE_KEY: &str = "sk-of-the-node-0123456789";
const WRONG_KEY: &str = "sk-wrong-0123456789";

fn body(stream: bool) -> Value {
    json!({ "model": "llama", "stream": stream, "messages": [{ "role": "user", "content": PROMPT }] })
}

/// A table to a node with a key, and to one that is not there.
fn routes(node: std::net::SocketAddr) -> String {
    let dead = super::route("/v1/completions", nowhere());
    format!("routes:\n{}{dead}", super::chat_route(node, NODE_KEY))
}

async fn locked() -> sluice::sim::Simulator {
    let api_keys = vec![NODE_KEY.to_owned()];
    node_with(Node { models: vec!["llama".into()], api_keys, ..Node::default() }).await
}

/// Asks in every way that is logged: well, streamed, with a wrong key, without one, at a dead node, badly.
async fn ask(client: &reqwest::Client, base: &str) {
    let post = |path: &str| client.post(format!("{base}{path}?api_key={CLIENT_KEY}"));
    let chat = "/v1/chat/completions";
    let requests = [
        post(chat).bearer_auth(CLIENT_KEY).json(&body(false)),
        post(chat).header("x-api-key", CLIENT_KEY).json(&body(true)),
        post(chat).bearer_auth(WRONG_KEY).json(&body(false)),
        post(chat).json(&body(false)),
        post("/v1/completions").bearer_auth(CLIENT_KEY).json(&body(false)),
        post(chat).bearer_auth(CLIENT_KEY).body(format!("{{{PROMPT}")),
    ];
    for (number, request) in requests.into_iter().enumerate() {
        let request = request.header("x-request-id", format!("request-{number}"));
        let _whole = request.send().await.unwrap().bytes().await.unwrap();
    }
}

fn tells_no_secret(text: &str) {
    for secret in [PROMPT, CLIENT_KEY, NODE_KEY, WRONG_KEY, KEY] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn c4_every_request_is_logged_and_no_key_or_prompt_is() {
    let node = locked().await;
    let keys = format!("keys:\n  - {{ name: team-a, key: {CLIENT_KEY} }}\n");
    let gateway = Setup::routes(&routes(node.addr())).keys(&keys).start().await;
    ask(&gateway.client, &gateway.url("")).await;
    let mut lines = gateway.log_lines(6).await;
    assert_eq!(lines.len(), 6);
    // A line is written when its answer has gone: the next request may be quicker.
    lines.sort_by_key(|line| line["id"].to_string());
    let column =
        |name: &str| -> Vec<Value> { lines.iter().map(|line| line[name].clone()).collect() };
    assert_eq!(column("status"), [200, 200, 401, 401, 502, 400]);
    let (team, none) = (json!("team-a"), Value::Null);
    let named = column("key");
    assert_eq!(named[..2], [team.clone(), team.clone()]);
    let unknown = named[2].as_str().unwrap().strip_prefix("unknown:").unwrap();
    assert!(unknown.len() == 8 && unknown.bytes().all(|b| b.is_ascii_hexdigit()), "{unknown}");
    assert_eq!(named[3..], [none.clone(), team.clone(), team]);
    let llama = json!("llama");
    assert_eq!(column("model"), [&llama, &llama, &none, &none, &llama, &none].map(Value::clone));
    assert_eq!(column("stream"), [false, true, false, false, false, false]);
    let errors = ["invalid_api_key", "invalid_api_key", "upstream_unreachable", "invalid_json"];
    assert_eq!(column("error")[2..], errors);
    for line in &lines {
        assert!(line["time"].is_string() && line["duration_ms"].is_number(), "{line}");
        assert_eq!(line["method"], "POST");
        assert!(!line["id"].as_str().unwrap().is_empty());
    }
    assert_eq!(column("path")[4], "/v1/completions");
    assert!(lines[0]["first_byte_ms"].is_number() && lines[0]["bytes_out"].as_u64() > Some(0));
    tells_no_secret(&serde_json::to_string(&lines).unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn c4_the_command_tells_no_secret_either_however_much_it_logs() {
    let node = locked().await;
    let (dir, port) = (tempfile::tempdir().unwrap(), Port::of([127, 0, 0, 1]));
    std::fs::write(dir.path().join("routes.yaml"), routes(node.addr())).unwrap();
    let listen = port.addr.to_string();
    let arguments = ["--config", ".", "--listen", &listen];
    let variables = [("ALLOWED_API_KEYS", CLIENT_KEY), ("LOG_LEVEL", "trace")];
    let process = Process::serve(dir.path(), &arguments, &variables, port.addr).await;
    ask(&reqwest::Client::new(), &format!("http://{listen}")).await;
    let broken = routes(node.addr()).replace("upstream_key:", "upstream_kex:");
    std::fs::write(dir.path().join("routes.yaml"), broken).unwrap();
    process.complained("configuration not taken").await;
    let ended = process.stop().await;
    assert_eq!(ended.code, Some(0));
    let lines = ended.out.lines().filter(|line| !line.contains("/livez"));
    let status = |line| serde_json::from_str::<Value>(line).unwrap()["status"].as_u64().unwrap();
    let mut statuses: Vec<u64> = lines.map(status).collect();
    // A line may be written after its client has asked something else.
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 200, 400, 401, 401, 502]);
    tells_no_secret(&ended.out);
    tells_no_secret(&ended.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn b5_log_level_takes_pythons_names() {
    let level = |text: &str| {
        let environment = Environment::from_iter([("LOG_LEVEL", text)]);
        let settings = Settings::resolve(&SettingsArgs::default(), &environment, "/none".as_ref());
        settings.unwrap().log_level.to_string()
    };
    for (python, ours) in [
        ("DEBUG", "DEBUG"),
        ("INFO", "INFO"),
        ("WARNING", "WARN"),
        ("warning", "WARN"),
        ("ERROR", "ERROR"),
        ("CRITICAL", "ERROR"),
    ] {
        assert_eq!(level(python), ours, "{python}");
    }
    let url = format!("http://{}", nowhere());
    for (name, announced, detailed) in
        [("DEBUG", true, true), ("INFO", true, false), ("WARNING", false, false)]
    {
        let (dir, port) = (tempfile::tempdir().unwrap(), Port::of([127, 0, 0, 1]));
        let number = port.number();
        let variables = [
            ("LOG_LEVEL", name),
            ("PORT", &number),
            ("VLLM_BASE_URL", &url),
            ("INTERNAL_API_KEY", CLIENT_KEY),
        ];
        let process = Process::serve(dir.path(), &[], &variables, port.addr).await;
        ask(&reqwest::Client::new(), &format!("http://{}", port.addr)).await;
        let ended = process.stop().await;
        assert_eq!(ended.err.contains("answers on"), announced, "{name}: {}", ended.err);
        assert_eq!(ended.err.contains(r#""level":"debug""#), detailed, "{name}: {}", ended.err);
    }
    let dir = tempfile::tempdir().unwrap();
    let wrong = Process::start(dir.path(), &["serve"], &[("LOG_LEVEL", "LOUD")]).ended().await;
    assert_eq!(wrong.code, Some(78));
    assert!(wrong.err.contains("LOG_LEVEL"), "{}", wrong.err);
}
