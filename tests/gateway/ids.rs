//! Names of requests and other headers: what goes up to a node, what comes down, and what ends at the gateway.

use reqwest::Client;

use crate::support::gateway::{Setup, chat, preset};
use crate::support::http::raw;
use crate::support::scripted::Scripted;
use crate::support::{KEY, TestGateway, nowhere, within};

fn names(head: &str) -> Vec<String> {
    let lines = head.lines().skip(1).filter_map(|line| line.split_once(':'));
    let mut names: Vec<String> = lines.map(|(name, _)| name.to_ascii_lowercase()).collect();
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clean_id_is_kept_and_any_other_replaced() {
    let node = Scripted::replying("{}").await;
    let gateway = TestGateway::before(node.addr).await;
    let longest = "x".repeat(128);
    for id in ["a.B_c-1", longest.as_str()] {
        let reply = gateway.chat("m").header("x-request-id", id).send().await.unwrap();
        assert_eq!(reply.headers()["x-request-id"], id);
    }
    let too_long = "x".repeat(129);
    for id in ["", "a b", "a/b", "\u{e9}", too_long.as_str()] {
        let reply = gateway.chat("m").header("x-request-id", id.as_bytes()).send().await.unwrap();
        let made = reply.headers()["x-request-id"].to_str().unwrap();
        assert!(made.starts_with("req_"), "{id:?} {made}");
    }
    let lines = gateway.log_lines(7).await;
    assert_eq!(lines[0]["id"], "a.B_c-1");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_names_its_request() {
    let gateway = Setup::routes(&preset(nowhere())).env("MAX_BODY_BYTES", "100").start().await;
    let named = |request: reqwest::RequestBuilder| request.header("x-request-id", "kept");
    let big = "x".repeat(200);
    let get = |path: &str| gateway.client.get(gateway.url(path));
    for (request, status) in [
        (get("/livez"), 200),
        (get("/"), 200),
        (get("/health"), 503),
        (get("/v1/models"), 401),
        (gateway.get("/v1/models"), 502),
        (gateway.get("/nowhere"), 404),
        (gateway.get("/v1/chat/completions"), 405),
        (gateway.get("/a;b"), 400),
        (gateway.post("/v1/chat/completions").body("{"), 400),
        (gateway.post("/v1/chat/completions").body(big), 413),
        (gateway.chat("m"), 502),
        (gateway.chat("m").header("x-timeout-seconds", "-1"), 400),
    ] {
        let reply = within(named(request).send()).await.unwrap();
        assert_eq!(reply.status(), status, "{}", reply.url());
        assert_eq!(reply.headers()["x-request-id"], "kept", "{}", reply.url());
        assert!(!reply.headers().contains_key("server"), "{}", reply.url());
        if status == 405 {
            assert_eq!(reply.headers()["allow"], "POST");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_of_anthropic_find_the_name_where_they_look_for_it() {
    let node = Scripted::replying("{}").await;
    let gateway = TestGateway::before(node.addr).await;
    for (path, looked_for) in [
        ("/v1/messages", Some("kept")),
        ("/v1/messages/count_tokens", Some("kept")),
        ("/v1/chat/completions", None),
    ] {
        for (body, status) in [(r#"{"model":"m"}"#, 200), ("{", 400)] {
            let request = gateway.post(path).header("x-request-id", "kept").body(body);
            let reply = request.send().await.unwrap();
            assert_eq!((reply.status().as_u16(), path), (status, path));
            let told = reply.headers().get("request-id").map(|value| value.to_str().unwrap());
            assert_eq!(told, looked_for, "{path} {status}");
            assert_eq!(reply.headers()["x-request-id"], "kept");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_try_has_a_name_of_its_own_and_continues_the_trace() {
    const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let node = Scripted::start(|number, mut peer| async move {
        peer.request().await;
        if number > 0 {
            peer.answer("200 OK", "{}").await;
        }
    })
    .await;
    let gateway = TestGateway::before(node.addr).await;
    let request = gateway.chat("m").header("x-request-id", "mine").header("traceparent", TRACE);
    let reply = request.header("tracestate", "a=1").send().await.unwrap();
    assert_eq!(
        (reply.status().as_u16(), &reply.headers()["x-request-id"]),
        (200, &"mine".parse().unwrap())
    );
    let seen = node.seen();
    let ids: Vec<_> = seen.iter().map(|came| came.header("x-request-id").unwrap()).collect();
    assert!(ids.len() == 2 && ids[0] != ids[1], "{ids:?}");
    assert!(ids.iter().all(|id| id.starts_with("mine-")), "{ids:?}");
    for came in &seen {
        let parent = came.header("traceparent").unwrap();
        assert!(parent.starts_with(&TRACE[..36]) && parent.ends_with("-01") && parent != TRACE);
        assert_eq!(came.header("tracestate"), Some("a=1"));
    }
    assert_eq!(gateway.log_lines(1).await[0]["trace"], &TRACE[3..35]);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_listed_headers_go_up() {
    let node = Scripted::replying("{}").await;
    let with_route = preset(node.addr)
        + "  - { path: /own, methods: [POST], upstream: llama, forward_headers: [x-own, x-secret] }\n";
    let keyed = with_route.replace("kind: vllm", "kind: vllm, key: sk-node");
    let gateway = TestGateway::start(&keyed).await;
    let request = format!(
        "POST /own HTTP/1.1\r\nHost: public.example\r\nX-Proxy-Secret: {KEY}\r\nX-Api-Key: a\r\n\
         X-Internal-Auth: b\r\nAuthorization: Bearer c\r\nProxy-Authorization: Basic d\r\n\
         Cookie: e=f\r\nForwarded: for=1.2.3.4\r\nX-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Host: g\r\n\
         X-Real-IP: 1.2.3.4\r\nX_Forwarded_For: h\r\nOpenai_Organization: i\r\nOpenAI-Beta: j\r\n\
         Anthropic-Version: k\r\nAnthropic_Beta: l\r\nAccept: m\r\nAccept-Encoding: gzip\r\n\
         User-Agent: n\r\nX-Own: o\r\nX-Secret: p\r\nConnection: x-secret, close\r\nTE: trailers\r\n\
         Keep-Alive: q\r\nTrailer: r\r\nExpect: 100-continue\r\nX-Sluice-Any: s\r\nRange: bytes=0-1\r\n\
         If-None-Match: t\r\nX-Timeout-Seconds: 20\r\nX-Sim-Fault: reset\r\nContent-Type: a/b\r\n\
         Transfer-Encoding: chunked\r\n\r\n2\r\n{{}}\r\n0\r\nX-Trailer: u\r\n\r\n"
    );
    let answer = raw(gateway.addr, request.as_bytes()).await;
    assert!(answer.contains(" 200 "), "{answer}");
    let came = node.seen().remove(0);
    let expected = [
        "accept",
        "anthropic-version",
        "authorization",
        "content-length",
        "content-type",
        "host",
        "openai-beta",
        "user-agent",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-proto",
        "x-own",
        "x-request-id",
    ];
    assert_eq!(names(&came.head), expected, "{}", came.head);
    assert_eq!(came.header("host"), Some(&*node.addr.to_string()));
    assert_eq!(came.header("authorization"), Some("Bearer sk-node"));
    assert_eq!(came.header("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(came.header("x-forwarded-host"), Some("public.example"));
    assert!(!came.head.contains(KEY));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_is_believed_names_the_client() {
    let node = Scripted::replying("{}").await;
    let trusting = |networks: &str| {
        let networks = Some(networks.to_owned());
        Setup::routes(&preset(node.addr)).flags(|flags| flags.trusted_proxies = networks)
    };
    let ask = async |gateway: &TestGateway, lines: &str| {
        let request = format!(
            "GET /version HTTP/1.1\r\nHost: public.example\r\nAuthorization: Bearer {KEY}\r\n{lines}\r\n\
             Connection: close\r\n\r\n"
        );
        assert!(raw(gateway.addr, request.as_bytes()).await.contains(" 200 "));
        let came = node.seen().pop().unwrap();
        ["for", "proto", "host"]
            .map(|what| came.header(&format!("x-forwarded-{what}")).unwrap().to_owned())
    };
    let through = "X-Forwarded-For: 6.6.6.6, 1.1.1.1\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: chat.example";
    let gateway = trusting("10.0.0.0/8, 127.0.0.1").start().await;
    assert_eq!(
        ask(&gateway, through).await,
        ["6.6.6.6, 1.1.1.1, 127.0.0.1", "https", "chat.example"]
    );
    let odd = "X-Forwarded-For: nonsense\r\nX-Forwarded-Proto: gopher\r\nX-Forwarded-Host: a b";
    assert_eq!(ask(&gateway, odd).await, ["nonsense, 127.0.0.1", "http", "public.example"]);
    let lines = gateway.log_lines(2).await;
    assert_eq!(lines[0]["client"], "1.1.1.1");
    assert!(lines[1]["client"].as_str().unwrap().starts_with("127.0.0.1:"));
    let gateway = trusting("10.0.0.0/8").start().await;
    assert_eq!(ask(&gateway, through).await, ["127.0.0.1", "http", "public.example"]);
    assert!(gateway.log_lines(1).await[0]["client"].as_str().unwrap().starts_with("127.0.0.1:"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_headers_go_up_from_http2() {
    let node = Scripted::replying("{}").await;
    let setup = Setup::routes(&preset(node.addr));
    let gateway = setup.flags(|flags| flags.h2c = Some("true".into())).start().await;
    let client = Client::builder().http2_prior_knowledge().build().unwrap();
    let request = client.post(gateway.url("/v1/chat/completions")).bearer_auth(KEY);
    let request = request.header("cookie", "a=b").header("te", "trailers").header("x-own", "c");
    assert_eq!(request.json(&chat("m")).send().await.unwrap().status(), 200);
    let came = node.seen().remove(0);
    let expected = [
        "accept",
        "content-length",
        "content-type",
        "host",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-proto",
        "x-request-id",
    ];
    assert_eq!(names(&came.head), expected, "{}", came.head);
    assert!(came.head.starts_with("POST /v1/chat/completions HTTP/1.1\r\n"), "{}", came.head);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_node_says_of_itself_does_not_come_down() {
    let node = Scripted::start(|_, mut peer| async move {
        while peer.request().await.is_some() {
            peer.send(
                b"HTTP/1.1 200 OK\r\nServer: uvicorn\r\nSet-Cookie: a=b\r\nLocation: http://inside/\r\n\
                  Strict-Transport-Security: max-age=1\r\nAlt-Svc: h3\r\nWWW-Authenticate: Basic\r\n\
                  Keep-Alive: timeout=5\r\nConnection: keep-alive, x-hop\r\nX-Hop: 1\r\nX-Request-Id: other\r\n\
                  Access-Control-Allow-Origin: *\r\nX-Kept: yes\r\nContent-Type: a/b; c=d\r\n\
                  Content-Length: 2\r\n\r\n{}",
            )
            .await;
        }
    })
    .await;
    let gateway = TestGateway::before(node.addr).await;
    let body = chat("m").to_string();
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: h\r\nauthorization: Bearer {KEY}\r\nconnection: close\r\n\
         x-request-id: mine\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let answer = raw(gateway.addr, request.as_bytes()).await;
    let head = answer.split("\r\n\r\n").next().unwrap();
    let expected = [
        "connection",
        "content-length",
        "content-type",
        "date",
        "x-kept",
        "x-request-id",
        "x-sluice-attempts",
        "x-sluice-node",
    ];
    assert_eq!(names(head), expected, "{head}");
    assert!(head.contains("mine") && !head.contains("other"), "{head}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_goes_up_byte_for_byte_without_its_timeout() {
    let node = Scripted::replying("{}").await;
    let gateway = TestGateway::before(node.addr).await;
    for (sent, arrived) in [
        ("/load", "/load"),
        ("/load?", "/load?"),
        ("/load?a=%20+&b&&c=/../;", "/load?a=%20+&b&&c=/../;"),
        ("/load?timeout=5", "/load"),
        ("/load?a=1&timeout=5&b=2", "/load?a=1&b=2"),
        ("/load?xtimeout=5&timeout_=6", "/load?xtimeout=5&timeout_=6"),
        ("/load?a=?&b=//", "/load?a=?&b=//"),
    ] {
        let request = format!(
            "GET {sent} HTTP/1.1\r\nhost: h\r\nauthorization: Bearer {KEY}\r\nconnection: close\r\n\r\n"
        );
        let answer = raw(gateway.addr, request.as_bytes()).await;
        assert!(answer.contains(" 200 "), "{sent}: {answer}");
        let line = format!("GET {arrived} HTTP/1.1");
        assert_eq!(node.seen().last().unwrap().head.lines().next(), Some(&*line), "{sent}");
    }
    for refused in
        ["timeout=0", "timeout=-1", "timeout=inf", "timeout=nan", "timeout=", "timeout=1&timeout=2"]
    {
        let reply = gateway.get(&format!("/load?{refused}")).send().await.unwrap();
        assert_eq!(reply.status(), 400, "{refused}");
    }
    let both =
        gateway.get("/load?timeout=x").header("x-timeout-seconds", "1").send().await.unwrap();
    assert_eq!(both.status(), 400);
    assert_eq!(node.seen().len(), 7);
}
