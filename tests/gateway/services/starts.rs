//! How the services replaced were started: the command itself, with their variables and files (rows A1, B6, B7, C2, C8,
//! D6, D9).

use std::net::SocketAddr;
use std::process::Command;

use serde_json::{Value, json};
use sluice::config::{Environment, Settings, SettingsArgs};

use super::process::{Port, Process};
use super::{chat_route, code, credentials, ids};
use crate::support::gateway::{Setup, chat};
use crate::support::{KEY, node, nowhere};

/// Where `serve` listens, told these variables alone.
fn listens(variables: &[(&str, &str)]) -> SocketAddr {
    let environment = Environment::from_iter(variables.iter().copied());
    let settings = Settings::resolve(&SettingsArgs::default(), &environment, "/none".as_ref());
    settings.unwrap().listen
}

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

async fn chats(base: impl std::fmt::Display, header: &str, value: &str) -> u16 {
    let request = reqwest::Client::new().post(format!("http://{base}/v1/chat/completions"));
    let reply = request.header(header, value).json(&chat("m")).send().await.unwrap();
    reply.status().as_u16()
}

#[tokio::test(flavor = "multi_thread")]
async fn a1_one_key_in_the_environment_and_routes_yaml_are_enough_to_start() {
    assert_eq!(listens(&[("HOST", "0.0.0.0")]), addr("0.0.0.0:8080"), "as in its image");
    let upstream = node(&["m"]).await;
    let (dir, port) = (tempfile::tempdir().unwrap(), Port::of([127, 0, 0, 1]));
    std::fs::create_dir(dir.path().join("config")).unwrap();
    let routes = format!("routes:\n{}", chat_route(upstream.addr(), "super-secret-chat-key"));
    std::fs::write(dir.path().join("config/routes.yaml"), routes).unwrap();
    std::fs::write(dir.path().join(".env"), format!("PROXY_SECRET_KEY={KEY}\n")).unwrap();
    let number = port.number();
    let arguments = ["--env-file", ".env"];
    let process = Process::serve(dir.path(), &arguments, &[("PORT", &number)], port.addr).await;
    assert_eq!(chats(port.addr, "X-Proxy-Secret", KEY).await, 200);
    assert_eq!(chats(port.addr, "X-Proxy-Secret", "wrong").await, 401);
    let seen = upstream.requests();
    assert_eq!(credentials(&seen[0]), [("authorization", "Bearer super-secret-chat-key")]);
    let ended = process.stop().await;
    assert_eq!(ended.code, Some(0), "{}", ended.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn a1_without_a_key_it_serves_this_machine_alone_and_without_routes_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let url = format!("http://{}", nowhere());
    let admin = ["serve", "--admin-listen", "127.0.0.1:0"];
    let open = [&admin[..], &["--backend", &url, "--listen", "0.0.0.0:0"]].concat();
    let open = Process::start(dir.path(), &open, &[]).ended().await;
    assert_eq!(open.code, Some(78), "{}", open.err);
    assert!(open.err.contains("no key is configured"), "{}", open.err);
    let own = [&admin[..], &["--listen", "127.0.0.1:0"]].concat();
    let nowhere_to_go =
        Process::start(dir.path(), &own, &[("PROXY_SECRET_KEY", KEY)]).ended().await;
    assert_eq!(nowhere_to_go.code, Some(78), "{}", nowhere_to_go.err);
    assert!(nowhere_to_go.err.contains("routes.yaml"), "{}", nowhere_to_go.err);
    let usage = Process::start(dir.path(), &["serve", "--no-such-flag"], &[]).ended().await;
    assert_eq!(usage.code, Some(2), "{}", usage.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn b6_port_sets_the_port() {
    assert_eq!(listens(&[("PORT", "8002")]), addr("127.0.0.1:8002"));
    let upstream = node(&["m"]).await;
    let (dir, port) = (tempfile::tempdir().unwrap(), Port::of([127, 0, 0, 1]));
    let (number, url) = (port.number(), format!("http://{}", upstream.addr()));
    let variables = [("PORT", &*number), ("INTERNAL_API_KEY", KEY), ("VLLM_BASE_URL", &url)];
    let process = Process::serve(dir.path(), &[], &variables, port.addr).await;
    assert_eq!(chats(port.addr, "x-internal-auth", KEY).await, 200);
    let second = ["serve", "--admin-listen", "127.0.0.1:0"];
    let second = Process::start(dir.path(), &second, &variables).ended().await;
    assert_eq!(second.code, Some(1), "a port that is taken: {}", second.err);
    assert_eq!(process.stop().await.code, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn b7_a_simulated_model_answers_as_a_node_does() {
    let dir = tempfile::tempdir().unwrap();
    let sim = ["sim", "--listen", "127.0.0.1:0", "--model", "fake", "--api-key", "sk-fake"];
    let sim = Process::start(dir.path(), &sim, &[]);
    let said = sim.said("http://").await;
    let base = said.trim().rsplit(' ').next().unwrap().to_owned();
    let client = reqwest::Client::new();
    let models = client.get(format!("{base}/v1/models")).bearer_auth("sk-fake").send().await;
    assert_eq!(ids(&models.unwrap().json().await.unwrap()), ["fake"].into());
    let bare = client.get(format!("{base}/v1/models")).send().await.unwrap();
    assert_eq!(bare.status(), 401);
    let ended = sim.stop().await;
    assert_eq!(ended.code, Some(0), "{}", ended.err);

    let demo = ["demo", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];
    let quick = ["--first-token", "0s", "--token-delay", "0s"];
    let demo = Process::start(dir.path(), &[&demo[..], &quick].concat(), &[]);
    let said = demo.said(" chat --url ").await;
    let line = said.lines().map(str::trim).find(|line| line.starts_with("curl ")).unwrap();
    // curl URL -H 'NAME: VALUE' -H 'NAME: VALUE' -d 'BODY'
    let quoted: Vec<&str> = line.split('\'').collect();
    let url = quoted[0].split(' ').nth(1).unwrap();
    let request = client.post(url).body(quoted[5].to_owned());
    let request = [quoted[1], quoted[3]].into_iter().fold(request, |request, header| {
        let (name, value) = header.split_once(": ").unwrap();
        request.header(name, value)
    });
    let reply = request.send().await.unwrap();
    assert_eq!(reply.status(), 200, "{line}");
    let reply: Value = reply.json().await.unwrap();
    assert_eq!(reply["object"], "chat.completion");
    let line = said.lines().map(str::trim).find(|line| line.contains(" chat --url ")).unwrap();
    let chat = Command::new("sh").args(["-c", &format!("{line} -q Hello")]).output().unwrap();
    assert!(chat.stdout.starts_with(b"You said: Hello"), "{line}: {chat:?}");
    assert_eq!(demo.stop().await.code, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn c2_llm_server_url_alone_makes_its_route() {
    let upstream = node(&["m"]).await;
    let gateway = Setup::bare()
        .env("ALLOWED_API_KEYS", KEY)
        .env("LLM_SERVER_URL", &format!("http://{}/v1/completions", upstream.addr()))
        .start()
        .await;
    let sent = json!({ "model": "m", "prompt": "Hello there" });
    let reply = gateway.post("/v1/completions").json(&sent).send().await.unwrap();
    assert_eq!(reply.status(), 200);
    assert_eq!(reply.json::<Value>().await.unwrap()["object"], "text_completion");
    let seen = upstream.requests();
    assert_eq!(seen[0].target, "/v1/completions");
    assert_eq!(seen[0].body, serde_json::to_vec(&sent).unwrap());
    assert_eq!(credentials(&seen[0]), []);
    let other = gateway.chat("m").send().await.unwrap();
    assert_eq!(other.status(), 404, "that route and no other");
    assert_eq!(code(other).await, "route_not_found");
}

#[tokio::test(flavor = "multi_thread")]
async fn c8_port_12000_is_taken_from_the_environment() {
    assert_eq!(listens(&[("PORT", "12000")]), addr("127.0.0.1:12000"));
    assert_eq!(listens(&[("HOST", "0.0.0.0"), ("PORT", "12000")]), addr("0.0.0.0:12000"));
    let upstream = node(&["m"]).await;
    let (dir, port) = (tempfile::tempdir().unwrap(), Port::of([0, 0, 0, 0]));
    let number = port.number();
    let url = format!("http://{}/v1/chat/completions", upstream.addr());
    let variables = [
        ("HOST", "0.0.0.0"),
        ("PORT", &number),
        ("ALLOWED_API_KEYS", "a,b"),
        ("LLM_SERVER_URL", &url),
    ];
    let local = SocketAddr::from(([127, 0, 0, 1], port.addr.port()));
    let process = Process::serve(dir.path(), &[], &variables, local).await;
    assert_eq!(chats(local, "authorization", "Bearer b").await, 200);
    // An image without curl asks so whether the gateway in it lives.
    let healthcheck = || Process::start(dir.path(), &["healthcheck"], &variables).ended();
    assert_eq!(healthcheck().await.code, Some(0));
    assert_eq!(process.stop().await.code, Some(0));
    assert_eq!(healthcheck().await.code, Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn d6_vllm_base_url_alone_makes_every_path_of_vllm() {
    for base in ["", "/", "/v1", "/v1/"] {
        let upstream = node(&["m"]).await;
        let gateway = Setup::bare()
            .env("PROXY_SECRET_KEY", KEY)
            .env("VLLM_BASE_URL", &format!("http://{}{base}", upstream.addr()))
            .env("VLLM_API_KEY", "sk-vllm")
            .start()
            .await;
        assert_eq!(gateway.chat("m").send().await.unwrap().status(), 200, "{base}");
        for path in ["/version", "/metrics", "/v1/models", "/health"] {
            let reply = gateway.get(path).send().await.unwrap();
            assert_eq!(reply.status(), 200, "{path} {base}");
        }
        let prompt = json!({ "model": "m", "prompt": "Hello" });
        let tokens = gateway.post("/tokenize").json(&prompt).send().await.unwrap();
        assert_eq!(tokens.status(), 200, "{base}");
        let seen = upstream.requests();
        let targets: Vec<&str> = seen.iter().map(|one| &*one.target).collect();
        let expected =
            ["/v1/chat/completions", "/version", "/metrics", "/v1/models", "/health", "/tokenize"];
        for target in expected {
            assert!(targets.contains(&target), "{base} {target}: {targets:?}");
        }
        for one in &seen {
            assert_eq!(credentials(one), [("authorization", "Bearer sk-vllm")], "{}", one.target);
        }
        assert_eq!(gateway.log_lines(1).await[0]["upstream"], "vllm");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn d9_host_and_port_come_from_an_env_file() {
    let upstream = node(&["m"]).await;
    let (dir, port) = (tempfile::tempdir().unwrap(), Port::of([127, 0, 0, 2]));
    let env = format!(
        "# The gateway\nexport HOST=127.0.0.2\nPORT=\"{}\"   # its port\nVLLM_BASE_URL='http://{}/v1'\n\n\
         PROXY_SECRET_KEY={KEY}\nINTERNAL_API_KEY=of-the-file\n",
        port.number(),
        upstream.addr()
    );
    std::fs::write(dir.path().join("gateway.env"), env).unwrap();
    let arguments = ["--env-file", "gateway.env"];
    let variables = [("INTERNAL_API_KEY", "of-the-environment")];
    let process = Process::serve(dir.path(), &arguments, &variables, port.addr).await;
    assert_eq!(chats(port.addr, "X-Proxy-Secret", KEY).await, 200);
    assert_eq!(chats(port.addr, "x-internal-auth", "of-the-environment").await, 200);
    assert_eq!(chats(port.addr, "x-internal-auth", "of-the-file").await, 401, "the file yields");
    let elsewhere = SocketAddr::from(([127, 0, 0, 1], port.addr.port()));
    assert!(reqwest::get(format!("http://{elsewhere}/livez")).await.is_err(), "on HOST alone");
    assert_eq!(process.stop().await.code, Some(0));
    let missing = ["serve", "--env-file", "none.env"];
    assert_eq!(Process::start(dir.path(), &missing, &[]).ended().await.code, Some(78));
}
