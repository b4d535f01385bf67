//! A real nginx with the configuration that is shipped: it asks `/internal/authz` before it lets a request in, and no request
//! is counted twice.

use std::net::SocketAddr;
use std::time::SystemTime;

use reqwest::{RequestBuilder, Response};
use ring::hmac;
use serde_json::{Value, json};

use crate::support::gateway::{Setup, chat, preset};
use crate::support::nginx::{Nginx, alone, folders, free_address};
use crate::support::tls::Tunnel;
use crate::support::{DEADLINE, TestGateway, eventually, node, node_with, within};
use sluice::sim::{Settings, Simulator};

const CHAT: &str = "/v1/chat/completions";
const CHECKED: &str = "x-ratelimit-checked";
const SECRET: &str = "a secret of at least 32 bytes, shared";

const KEYS: &str = "keys:
  - { name: team, key: sk-team, limits: { rpm: 3 } }
  - { name: once, key: sk-once, limits: { rpm: 1 } }
  - { name: free, key: sk-free }
";

/// nginx with what is shipped for it, before a gateway.
struct Before {
    tunnel: Tunnel,
    client: reqwest::Client,
    nginx: Nginx,
}

impl Before {
    async fn gateway(gateway: SocketAddr) -> Self {
        let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/config/nginx/nginx.conf");
        let mut text = std::fs::read_to_string(shipped).unwrap();
        let (dir, address) = (tempfile::tempdir().unwrap(), free_address());
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        std::fs::write(dir.path().join("cert.pem"), made.cert.pem()).unwrap();
        std::fs::write(dir.path().join("key.pem"), made.signing_key.serialize_pem()).unwrap();
        for (theirs, ours) in [
            ("worker_processes auto;", alone(dir.path())),
            ("http {", format!("http {{ {}", folders(dir.path()))),
            ("127.0.0.1:8080", gateway.to_string()),
            ("listen 443 ssl;", format!("listen {address} ssl;")),
            ("/etc/nginx/tls", dir.path().display().to_string()),
        ] {
            assert!(text.contains(theirs), "{theirs}");
            text = text.replace(theirs, &ours);
        }
        let nginx = Nginx::start(dir, &text);
        let tunnel = Tunnel::to(address, made.cert.der().clone()).await;
        let client = reqwest::Client::builder().timeout(DEADLINE).build().unwrap();
        let before = Self { tunnel, client, nginx };
        eventually(|| async { before.client.get(before.url("/livez")).send().await.is_ok() }).await;
        before
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.tunnel.addr)
    }

    async fn chat(&self, key: &str, body: &Value) -> Response {
        let asked = self.client.post(self.url(CHAT)).bearer_auth(key).json(body).send();
        within(asked).await.unwrap()
    }
}

async fn gateway(node: &Simulator) -> TestGateway {
    Setup::routes(&preset(node.addr()))
        .keys(KEYS)
        .file("secret", SECRET)
        .file("server.yaml", "authz_secret_file: secret\n")
        .start()
        .await
}

async fn send(request: RequestBuilder) -> Response {
    within(request.send()).await.unwrap()
}

/// What nginx asks; the answer's pass.
async fn authz(gateway: &TestGateway, key: &str, uri: &str) -> (u16, Option<String>) {
    let asked = gateway.client.get(gateway.url("/internal/authz")).bearer_auth(key);
    let reply = send(asked.header("x-original-uri", uri).header("x-original-method", "POST")).await;
    let pass = reply.headers().get(CHECKED).map(|pass| pass.to_str().unwrap().to_owned());
    (reply.status().as_u16(), pass)
}

async fn bring(gateway: &TestGateway, key: &str, pass: &str) -> u16 {
    let request = gateway.client.post(gateway.url(CHAT)).bearer_auth(key).json(&chat("m"));
    send(request.header(CHECKED, pass)).await.status().as_u16()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_needs_no_key_needs_none_behind_nginx() {
    let node = node(&["m"]).await;
    let gateway = gateway(&node).await;
    let nginx = Before::gateway(gateway.addr).await;
    for path in ["/", "/health", "/docs", "/docs/init.js", "/redoc", "/openapi.json"] {
        let reply = send(nginx.client.get(nginx.url(path))).await;
        assert_eq!(reply.status(), 200, "{path}: {}", nginx.nginx.log());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn d8_nginx_asks_before_each_request_and_each_is_counted_once() {
    let node = node(&["m"]).await;
    let gateway = gateway(&node).await;
    let nginx = Before::gateway(gateway.addr).await;
    for left in ["2", "1", "0"] {
        let reply = nginx.chat("sk-team", &chat("m")).await;
        assert_eq!(reply.status(), 200, "{}", nginx.nginx.log());
        assert_eq!(reply.headers()["x-ratelimit-remaining-requests"], left);
        assert!(!reply.headers().contains_key(CHECKED));
    }
    let reply = nginx.chat("sk-team", &chat("m")).await;
    assert_eq!(reply.status(), 429);
    assert!(reply.headers()["retry-after"].to_str().unwrap().parse::<u32>().unwrap() <= 65);
    assert_eq!(reply.json::<Value>().await.unwrap()["error"]["code"], "rate_limit_exceeded");
    let reply = nginx.chat("sk-wrong", &chat("m")).await;
    assert_eq!(
        (reply.status().as_u16(), &reply.headers()["www-authenticate"]),
        (401, &"Bearer".parse().unwrap())
    );
    let reply = send(nginx.client.post(nginx.url("/pause")).bearer_auth("sk-free")).await;
    assert_eq!(reply.status(), 403);
    let seen = node.requests().into_iter().filter(|one| one.target == CHAT);
    let seen: Vec<_> = seen.collect();
    assert_eq!(seen.len(), 3);
    assert!(seen.iter().all(|one| !one.headers.contains_key(CHECKED)));
}

#[tokio::test(flavor = "multi_thread")]
async fn d8_nginx_sends_a_stream_on_as_it_comes_and_tells_of_a_client_that_leaves() {
    let never = std::time::Duration::from_secs(3_600);
    let settings = Settings { models: vec!["m".into()], token_delay: never, ..Settings::default() };
    let node = node_with(settings).await;
    let gateway = gateway(&node).await;
    let nginx = Before::gateway(gateway.addr).await;
    let mut body = chat("m");
    body["stream"] = json!(true);
    let mut reply = nginx.chat("sk-free", &body).await;
    let first = within(reply.chunk()).await.unwrap().unwrap();
    assert!(first.starts_with(b"data: {"), "{first:?}");
    drop(reply);
    within(node.wait_until(|counts| counts.aborted == 1)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn d8_a_pass_is_good_once_for_its_key_and_path_and_any_other_is_counted() {
    let node = node(&["m"]).await;
    let gateway = gateway(&node).await;
    let (status, pass) = authz(&gateway, "sk-once", CHAT).await;
    assert_eq!(status, 204);
    let pass = pass.unwrap();
    assert_eq!(bring(&gateway, "sk-once", &pass).await, 200);
    assert_eq!(bring(&gateway, "sk-once", &pass).await, 429, "it was used");

    let team = async |pass: &str| bring(&gateway, "sk-team", pass).await;
    let (_, pass) = authz(&gateway, "sk-free", CHAT).await;
    assert_eq!(team(&pass.unwrap()).await, 200, "another's: counted");
    let forged = hmac::Key::new(hmac::HMAC_SHA256, b"not the secret, but of its length");
    assert_eq!(team(&signed(&forged, 30)).await, 200, "forged: counted");
    let ours = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
    assert_eq!(team(&signed(&ours, -1)).await, 200, "expired: counted");
    assert_eq!(team("what").await, 429, "all three were");
    assert_eq!(team(&signed(&ours, 30)).await, 200, "one of another gateway with the secret");
}

/// A pass of the team's that expires in so many seconds, as anybody with the key can make it.
fn signed(key: &hmac::Key, seconds: i64) -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let expiry = i64::try_from(now.as_millis()).unwrap() + seconds * 1_000;
    let nonce = "00112233445566778899aabbccddeeff";
    let mac = hmac::sign(key, format!("team\n{CHAT}\n{expiry}\n{nonce}").as_bytes());
    let mac: String = mac.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{expiry}.{nonce}.{mac}")
}

#[tokio::test(flavor = "multi_thread")]
async fn d8_what_nginx_is_told_are_words_that_it_understands() {
    let (one, two) = (node(&["a"]).await, node(&["b"]).await);
    let upstream = |name: &str, node: &Simulator, model: &str| {
        format!(
            "  {name}: {{ kind: vllm, nodes: ['http://{}'], models: [{model}], health: off }}\n",
            node.addr()
        )
    };
    let routes = format!(
        "upstreams:\n{}{}routes:\n  - {{ preset: vllm, upstream: one }}\n  - {{ path: {CHAT}, methods: [POST], upstream: two }}\n",
        upstream("one", &one, "a"),
        upstream("two", &two, "b")
    );
    let keys = "keys:\n  - { name: team, key: sk-team, models: [b], limits: { rpm: 2 } }\n";
    let ask = async |gateway: &TestGateway, headers: &[(&str, &str)]| {
        let mut asked = gateway.client.get(gateway.url("/internal/authz")).bearer_auth("sk-team");
        for (name, value) in headers {
            asked = asked.header(*name, *value);
        }
        let reply = send(asked).await;
        let told =
            |name: &str| reply.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
        (
            reply.status().as_u16(),
            told("x-proxy-backend"),
            told("x-sluice-status"),
            told("x-auth-label"),
        )
    };
    let text = |text: &str| Some(text.to_owned());
    for (status, code) in [("403", 403), ("429", 429)] {
        let gateway = Setup::routes(&routes)
            .keys(keys)
            .flags(|flags| flags.authz_limit_status = Some(status.to_owned()))
            .env("DEFAULT_BACKEND", "two")
            .start()
            .await;
        let uri = ("x-original-uri", "/v1/chat/completions?timeout=5");
        assert_eq!(
            ask(&gateway, &[uri, ("x-model", "b")]).await,
            (204, text("two"), None, text("team"))
        );
        assert_eq!(ask(&gateway, &[uri, ("x-model", "a")]).await.2, text("403"), "not its model");
        assert_eq!(ask(&gateway, &[uri, ("x-model", "c")]).await.0, 403, "no model of anybody's");
        let only = ("x-original-uri", "/v1/embeddings");
        assert_eq!(ask(&gateway, &[only]).await.1, text("one"), "the path's only upstream");
        // Neither is counted; nor is what the gateway answers itself.
        let models = [("x-original-uri", "/v1/models"), ("x-original-method", "GET")];
        assert_eq!(ask(&gateway, &models).await.0, 204);
        assert_eq!(ask(&gateway, &[]).await.1, text("two"), "DEFAULT_BACKEND");
        assert_eq!(ask(&gateway, &[("x-original-uri", "/pause")]).await.2, text("403"));
        assert_eq!(ask(&gateway, &[("x-original-uri", "/a//b")]).await.2, text("400"));
        let told = ask(&gateway, &[uri]).await;
        assert_eq!((told.0, told.2), (code, text("429")));
    }
}
