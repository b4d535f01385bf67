//! Where a request goes: by its path, by its model, to a node with paths of its own (rows A10, A11).

use super::{code, target};
use crate::support::gateway::Setup;
use crate::support::scripted::Scripted;
use crate::support::tls::Tls;
use crate::support::{TestGateway, node};

/// What vLLM's server has, but for what the gateway answers itself.
const VLLM: [(&str, &str); 30] = [
    ("POST", "/scale_elastic_ep"),
    ("POST", "/is_scaling_elastic_ep"),
    ("POST", "/tokenize"),
    ("POST", "/detokenize"),
    ("POST", "/inference/v1/generate"),
    ("POST", "/pause"),
    ("POST", "/resume"),
    ("GET", "/is_paused"),
    ("GET", "/metrics"),
    ("GET", "/load"),
    ("GET", "/version"),
    ("POST", "/v1/responses"),
    ("GET", "/v1/responses/{response_id}"),
    ("POST", "/v1/responses/{response_id}/cancel"),
    ("POST", "/v1/messages"),
    ("POST", "/v1/messages/count_tokens"),
    ("POST", "/v1/chat/completions"),
    ("POST", "/v1/completions"),
    ("POST", "/v1/audio/transcriptions"),
    ("POST", "/v1/audio/translations"),
    ("GET, POST", "/ping"),
    ("POST", "/invocations"),
    ("POST", "/classify"),
    ("POST", "/v1/embeddings"),
    ("POST", "/score"),
    ("POST", "/v1/score"),
    ("POST", "/rerank"),
    ("POST", "/v1/rerank"),
    ("POST", "/v2/rerank"),
    ("POST", "/pooling"),
];

/// With the id that is asked for further down in the list.
const ANSWER: &str = "{\"odd\" : [1,\t2 ],\"id\":\"resp_0a-1.b~2\",\"\\u0061\":\"\u{1F600}\"}\r\n ";

/// A body as some client wrote it, and its content type.
fn body_for(path: &str) -> (&'static str, &'static [u8]) {
    if path.starts_with("/v1/audio/") {
        let form = b"--X\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nwhisper\r\n--X\r\n\
                     Content-Disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\n\r\n\0\xff\r\n--X--\r\n";
        return ("multipart/form-data; boundary=X", form);
    }
    ("application/json", b" {\"x\":[1,2 ],\"model\" : \"m\",\n\t\"e\":\"\\ud83d\\ude00\"}\r\n ")
}

#[tokio::test(flavor = "multi_thread")]
async fn a11_every_path_of_vllm_is_forwarded_with_its_parameters() {
    let upstream = Scripted::replying(ANSWER).await;
    let gateway = TestGateway::before(upstream.addr).await;
    for (methods, path) in VLLM {
        let path = path.replace("{response_id}", "resp_0a-1.b~2");
        let sent = format!("{path}?stream=true&starting_after=5&q=a%2Fb");
        for method in methods.split(", ") {
            let request = match method {
                "GET" => gateway.get(&sent),
                _ => {
                    let (content_type, body) = body_for(&path);
                    gateway.post(&sent).header("content-type", content_type).body(body)
                }
            };
            let reply = request.send().await.unwrap();
            assert_eq!(reply.status(), 200, "{method} {path}");
            assert_eq!(reply.headers()["content-type"], "application/json");
            assert_eq!(reply.text().await.unwrap(), ANSWER, "{method} {path}");
            let came = upstream.seen().pop().unwrap();
            assert!(
                came.head.starts_with(&format!("{method} {sent} HTTP/1.1\r\n")),
                "{}",
                came.head
            );
            let body = if method == "POST" { body_for(&path).1 } else { b"" };
            assert!(came.body == body, "{method} {path}");
        }
        for other in ["GET", "POST", "PUT", "DELETE", "PATCH"] {
            if methods.contains(other) {
                continue;
            }
            let method = reqwest::Method::from_bytes(other.as_bytes()).unwrap();
            let request = gateway.client.request(method, gateway.url(&path));
            let reply = request.bearer_auth(crate::support::KEY).send().await.unwrap();
            assert_eq!(reply.status(), 405, "{other} {path}");
            assert_eq!(reply.headers()["allow"], methods, "{other} {path}");
            let error = reply.json::<serde_json::Value>().await.unwrap();
            assert!(error["error"].is_object(), "{error}");
        }
    }
    assert_eq!(upstream.seen().len(), 31, "what was refused did not go up");
    for path in ["/v1/chat", "/v1/chat/completions/", "/v1/responses/a/b", "/server_info"] {
        let reply = gateway.post(path).body("{}").send().await.unwrap();
        assert_eq!(reply.status(), 404, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a11_what_the_gateway_answers_itself_takes_get_alone() {
    let upstream = Scripted::replying("{}").await;
    let gateway = TestGateway::before(upstream.addr).await;
    for path in ["/health", "/v1/models", "/v1/models/org/model", "/v1/llm/models", "/"] {
        let reply = gateway.post(path).body("{}").send().await.unwrap();
        assert_eq!(reply.status(), 405, "{path}");
        assert_eq!(reply.headers()["allow"], "GET", "{path}");
        assert_eq!(code(reply).await, "method_not_allowed", "{path}");
    }
    assert!(upstream.seen().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a11_parameters_of_a_path_are_repeated_where_the_upstream_url_says_so() {
    let upstream = Scripted::replying(r#"{"id":"resp_1"}"#).await;
    let routes = format!(
        "routes:\n  - path: /v1/responses/{{response_id}}/cancel\n    methods: [POST, DELETE]\n    \
         upstream_url: http://{0}/api/{{response_id}}/stop\n  - path: /v1/responses\n    \
         methods: [POST]\n    upstream_url: http://{0}/api/make\n",
        upstream.addr
    );
    let gateway = TestGateway::start(&routes).await;
    let made = gateway.post("/v1/responses").body("{}").send().await.unwrap();
    assert_eq!(made.text().await.unwrap(), r#"{"id":"resp_1"}"#);
    let reply = gateway.post("/v1/responses/resp_1/cancel?a=1").send().await.unwrap();
    assert_eq!(reply.status(), 200);
    assert_eq!(target(&upstream.seen()[1]), "/api/resp_1/stop?a=1");
    let reply = gateway.get("/v1/responses/resp_1/cancel").send().await.unwrap();
    assert_eq!(
        (reply.status().as_u16(), &reply.headers()["allow"]),
        (405, &"POST, DELETE".parse().unwrap())
    );
}

/// A node that lists `remote-model` and answers the rest.
async fn remote() -> Scripted {
    Scripted::start(|_, mut peer| async move {
        while let Some(came) = peer.request().await {
            let body = match target(&came) {
                "/v1/openai/models" => r#"{"object":"list","data":[{"id":"remote-model"}]}"#,
                _ => "remote",
            };
            peer.answer("200 OK", body).await;
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a10_two_routes_on_one_path_are_told_apart_by_the_model_and_the_upstream_path_may_differ() {
    let (local, remote) = (node(&["local-model"]).await, remote().await);
    let tls = Tls::before(remote.addr).await;
    let routes = format!(
        "routes:\n{}  - path: /v1/chat/completions\n    methods: [POST]\n    \
         upstream_url: https://localhost:{}/v1/openai/chat/completions\n    upstream_key: sk-remote\n",
        super::chat_route(local.addr(), "sk-local"),
        tls.port
    );
    let ca_file = tls.ca_file().to_str().unwrap().to_owned();
    let gateway = Setup::routes(&routes).flags(|flags| flags.ca_file = Some(ca_file)).start().await;

    let sent = r#"{"messages": [], "model": "remote-model" }"#;
    let reply = gateway.post("/v1/chat/completions").body(sent).send().await.unwrap();
    assert_eq!(reply.text().await.unwrap(), "remote");
    let came = remote.seen().pop().unwrap();
    assert_eq!(target(&came), "/v1/openai/chat/completions");
    assert_eq!(came.header("host"), Some(&*format!("localhost:{}", tls.port)));
    assert_eq!(came.header("authorization"), Some("Bearer sk-remote"));
    assert_eq!(came.body, sent.as_bytes());

    assert_eq!(gateway.chat("local-model").send().await.unwrap().status(), 200);
    let seen = local.requests();
    assert_eq!(seen.last().unwrap().target, "/v1/chat/completions");
    assert_eq!(seen.last().unwrap().headers["authorization"], "Bearer sk-local");

    let reply = gateway.chat("no-such-model").send().await.unwrap();
    assert_eq!(reply.status(), 404);
    assert_eq!(code(reply).await, "model_not_found");
    let models = gateway.get("/v1/models").send().await.unwrap().json().await.unwrap();
    assert_eq!(super::ids(&models), ["local-model", "remote-model"].into());
}

#[tokio::test(flavor = "multi_thread")]
async fn a10_an_https_upstream_that_nobody_certifies_is_never_spoken_to() {
    let remote = remote().await;
    let tls = Tls::before(remote.addr).await;
    let routes = format!(
        "routes:\n  - path: /v1/chat/completions\n    methods: [POST]\n    \
         upstream_url: https://localhost:{}/v1/chat/completions\n    upstream_key: sk-remote\n",
        tls.port
    );
    // Certified by another authority, then for another name.
    let other = Tls::before(remote.addr).await;
    let (foreign, own) = (other.ca_file(), tls.ca_file());
    for (routes, ca_file) in
        [(routes.clone(), foreign), (routes.replace("localhost", "127.0.0.1"), own)]
    {
        let ca_file = ca_file.to_str().unwrap().to_owned();
        let gateway =
            Setup::routes(&routes).flags(|flags| flags.ca_file = Some(ca_file)).start().await;
        let reply = gateway.chat("m").send().await.unwrap();
        assert_eq!(reply.status(), 502, "{routes}");
        assert_eq!(code(reply).await, "upstream_unreachable");
    }
    assert!(remote.seen().is_empty());
}
