//! R1 to R10: what goes over the wire to a node, and back, byte by byte.

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::gateway::preset;
use crate::support::heads::{only_came, sent_up};
use crate::support::http::{raw, read_until, status};
use crate::support::scripted::{Peer, Scripted};
use crate::support::{KEY, TestGateway, eventually, within};

const BODY: &str = r#"{"model":"m"}"#;
const CHAT: &str = "POST /v1/chat/completions";

/// A node, and a gateway before it.
pub(super) async fn pair() -> (Scripted, TestGateway) {
    let node = Scripted::replying("{}").await;
    let gateway = TestGateway::before(node.addr).await;
    (node, gateway)
}

/// A request of HTTP/1.1 with the key, these lines in its head, and what follows the head.
pub(super) fn request(line: &str, lines: &str, rest: &str) -> String {
    format!(
        "{line} HTTP/1.1\r\nhost: h\r\nauthorization: Bearer {KEY}\r\nconnection: close\r\n{lines}\r\n{rest}"
    )
}

/// A chat with a body of 13 bytes.
pub(super) fn chat(lines: &str) -> String {
    request(CHAT, &format!("{lines}content-length: 13\r\n"), BODY)
}

/// What was refused says so in an error object, and closes its connection.
fn is_refused(answer: &str, statuses: &[u16]) -> bool {
    statuses.contains(&status(answer))
        && answer.to_lowercase().contains("\r\nconnection: close\r\n")
        && answer.contains("\r\n\r\n{\"error\":{\"message\":\"")
        && answer.matches("HTTP/1.1 ").count() == 1
}

/// Somebody else's request after an attack is the only one that reaches the node.
async fn victim(node: &Scripted, gateway: &TestGateway) {
    let before = node.seen().len();
    let answer = raw(gateway.addr, chat("").as_bytes()).await;
    assert!(status(&answer) == 200 && answer.ends_with("\r\n\r\n{}"), "{answer:?}");
    only_came(&node.seen()[before..], node.addr, (CHAT, ""), BODY);
}

#[tokio::test(flavor = "multi_thread")]
async fn r01_a_body_that_is_shorter_than_announced_reaches_nobody() {
    let (node, gateway) = pair().await;
    for (lines, body) in [
        ("content-length: 20\r\n", BODY),
        ("transfer-encoding: chunked\r\n", "d\r\n{\"model\":\"m\"}\r\n"),
        ("transfer-encoding: chunked\r\n", "d\r\n{\"mod"),
    ] {
        let mut stream = TcpStream::connect(gateway.addr).await.unwrap();
        stream.write_all(request(CHAT, lines, body).as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        within(stream.read_to_end(&mut answer)).await.unwrap();
        assert!(!answer.starts_with(b"HTTP/1.1 200"), "{lines:?}");
    }
    gateway.log_lines(3).await;
    assert_eq!(node.seen().len(), 0);
    eventually(|| async { gateway.series("sluice_held_request_bytes") == 0.0 }).await;
    victim(&node, &gateway).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn r02_a_body_goes_up_with_one_length_however_it_was_framed_and_renamed() {
    let node = Scripted::replying("{}").await;
    let routes = preset(node.addr) + "aliases: { m: a-much-longer-name }\n";
    let gateway = TestGateway::start(&routes).await;
    let chunks = "6\r\n{\"mode\r\n7;a=b\r\nl\":\"m\"}\r\n0\r\nx-trailer: 1\r\n\r\n";
    for (lines, body) in [
        ("content-length: 13\r\n", BODY),
        ("transfer-encoding: chunked\r\n", chunks),
        ("expect: 100-continue\r\ncontent-length: 13\r\n", BODY),
    ] {
        let before = node.seen().len();
        let answer = raw(gateway.addr, request(CHAT, lines, body).as_bytes()).await;
        let answer = answer.trim_start_matches("HTTP/1.1 100 Continue\r\n\r\n");
        assert_eq!(status(answer), 200, "{answer:?}");
        let renamed = r#"{"model":"a-much-longer-name"}"#;
        only_came(&node.seen()[before..], node.addr, (CHAT, ""), renamed);
    }
    let before = node.seen().len();
    raw(gateway.addr, request("POST /ping", "", "").as_bytes()).await;
    only_came(&node.seen()[before..], node.addr, ("POST /ping", ""), "");
    raw(gateway.addr, request("GET /ping", "", "").as_bytes()).await;
    only_came(&node.seen()[before + 1..], node.addr, ("GET /ping", ""), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn r03_trailers_end_here_both_ways() {
    let node = Scripted::start(|_, mut peer: Peer| async move {
        while peer.request().await.is_some() {
            peer.send(
                b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n\
                  2\r\n{}\r\n0\r\nset-cookie: a=b\r\nx-of-the-node: 1\r\n\r\n",
            )
            .await;
        }
    })
    .await;
    let gateway = TestGateway::before(node.addr).await;
    let chunks = format!(
        "d\r\n{BODY}\r\n0\r\nauthorization: Bearer other\r\nx-forged: 1\r\ncontent-length: 1\r\n\r\n"
    );
    for lines in ["", "trailer: authorization, x-forged\r\nte: trailers\r\n"] {
        let before = node.seen().len();
        let lines = format!("{lines}transfer-encoding: chunked\r\n");
        let answer = raw(gateway.addr, request(CHAT, &lines, &chunks).as_bytes()).await;
        assert!(answer.ends_with("\r\n2\r\n{}\r\n0\r\n\r\n"), "{answer:?}");
        assert!(!answer.contains("set-cookie") && !answer.contains("x-of-the-node"), "{answer:?}");
        only_came(&node.seen()[before..], node.addr, (CHAT, ""), BODY);
    }
}

/// SPEC 6 has upgrades, CONNECT and TRACE refused; which of 400 and 405 it is, it leaves open.
#[tokio::test(flavor = "multi_thread")]
async fn r04_other_methods_and_upgrades_are_refused_before_a_node_is_asked() {
    let (node, gateway) = pair().await;
    let keyless = "CONNECT h:443 HTTP/1.1\r\nhost: h\r\n\r\n".to_owned();
    for attack in [
        keyless,
        request("CONNECT h:443", "", ""),
        request("CONNECT /v1/chat/completions", "", ""),
        request("TRACE /ping", "", ""),
        request("GET /ping", "upgrade: websocket\r\nconnection: upgrade\r\n", ""),
        request("GET /ping", "upgrade: h2c\r\n", ""),
        request(CHAT, "upgrade: h2c\r\ncontent-length: 13\r\n", BODY),
    ] {
        let answer = raw(gateway.addr, attack.as_bytes()).await;
        assert!(is_refused(&answer, &[400, 405]), "{attack:?} got {answer:?}");
    }
    for method in ["PUT", "PATCH", "DELETE", "PURGE", "OPTIONS", "PROPFIND", "get"] {
        let attack = request(&format!("{method} /ping"), "", "");
        let answer = raw(gateway.addr, attack.as_bytes()).await;
        assert!(is_refused(&answer, &[405]), "{method} got {answer:?}");
        assert!(answer.contains("\r\nallow: GET, POST\r\n"), "{answer:?}");
    }
    assert_eq!(node.seen().len(), 0);
    victim(&node, &gateway).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn r05_a_node_sees_its_own_host_whatever_the_client_asked_for() {
    let node = Scripted::replying("{}").await;
    let routes = preset(node.addr).replace("127.0.0.1", "localhost");
    let gateway = TestGateway::start(&routes).await;
    let own = node.addr.to_string().replace("127.0.0.1", "localhost");
    for host in ["h", "example.com:8443", "[::1]:80", "LOCALHOST", "10.0.0.1"] {
        let before = node.seen().len();
        let attack = chat("").replace("host: h\r\n", &format!("host: {host}\r\n"));
        assert_eq!(status(&raw(gateway.addr, attack.as_bytes()).await), 200, "{host}");
        let seen = node.seen();
        let [came] = &seen[before..] else { panic!("{seen:?}") };
        let head = sent_up(came, node.addr, (CHAT, ""), host);
        let head = head.replace(&format!("Host: {}\r", node.addr), &format!("Host: {own}\r"));
        assert_eq!(came.head, head);
    }
}

/// What a client says of itself, of others, and with `_`, which some servers take for `-`.
const FORGED: &str = "x-forwarded-for: 1.2.3.4\r\nX-Forwarded-For: 5.6.7.8\r\nx-forwarded-proto: https\r\n\
    x-forwarded-host: other\r\nx-forwarded-port: 1\r\nx-forwarded-prefix: /pause\r\nforwarded: for=1.2.3.4\r\n\
    x-real-ip: 1.2.3.4\r\nx_forwarded_for: 1.2.3.4\r\ncontent_type: text/plain\r\nopenai_beta: 1\r\nanthropic-a_b: 1\r\n\
    keep-alive: timeout=9\r\nproxy-connection: keep-alive\r\nte: trailers\r\nvia: 1.1 x\r\n";

#[tokio::test(flavor = "multi_thread")]
async fn r06_what_a_client_says_of_its_origin_and_names_with_underscores_end_here() {
    let (node, gateway) = pair().await;
    assert_eq!(status(&raw(gateway.addr, chat(FORGED).as_bytes()).await), 200);
    only_came(&node.seen(), node.addr, (CHAT, ""), BODY);
}

#[tokio::test(flavor = "multi_thread")]
async fn r07_only_listed_headers_go_up_and_what_a_route_adds() {
    let node = Scripted::replying("{}").await;
    let keyed = preset(node.addr).replace("kind: vllm", "kind: vllm, key: sk-of-the-node");
    let routes =
        keyed + "  - { path: /own, methods: [POST], upstream: llama, forward_headers: [x-own] }\n";
    let gateway = TestGateway::start(&routes).await;
    let listed = "content-type: application/json\r\naccept: text/event-stream\r\nuser-agent: a/1\r\n\
        anthropic-version: 2023-06-01\r\nanthropic-beta: b\r\nopenai-organization: o\r\nopenai-beta: b\r\n";
    let others = "cookie: a=b\r\nx-api-key-2: a\r\nreferer: http://a/\r\norigin: http://a\r\naccept-encoding: gzip\r\n\
        x-own: 1\r\nx-team: a\r\nx-data-parallel-rank: 3\r\nx-session-id: s\r\nproxy-authorization: Basic YTpi\r\n\
        x-original-url: /pause\r\nx-http-method-override: DELETE\r\nrange: bytes=0-1\r\nif-none-match: a\r\n";
    let key = "authorization: Bearer sk-of-the-node\r\n";
    for (line, own) in [(CHAT, ""), ("POST /own", "x-own: 1\r\n")] {
        let before = node.seen().len();
        let lines = format!("{listed}{others}content-length: 13\r\n");
        let answer = raw(gateway.addr, request(line, &lines, BODY).as_bytes()).await;
        assert_eq!(status(&answer), 200, "{answer}");
        let lines = format!("{listed}{own}{key}").replace("content-type", "Content-Type");
        only_came(&node.seen()[before..], node.addr, (line, &lines), BODY);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn r08_a_head_has_bounds_in_bytes_and_lines() {
    let (node, gateway) = pair().await;
    let with = |lines: String| chat(&lines);
    let headers = |count: usize| (0..count).map(|n| format!("x-{n}: b\r\n")).collect::<String>();
    let query = |bytes: usize| {
        chat("").replace("completions HTTP", &format!("completions?{} HTTP", "a".repeat(bytes)))
    };
    for (attack, expected) in [
        (with(headers(101)), 431),
        (with(headers(1_000)), 431),
        (with(format!("x-a: {}\r\n", "a".repeat(33 << 10))), 431),
        (with(format!("{}: a\r\n", "a".repeat(33 << 10))), 431),
        (with(format!("x-a: {}\r\n", "a".repeat(200 << 10))), 431),
        (query(8 << 10), 414),
        (query(20 << 10), 414),
        (query(40 << 10), 431),
        (chat("").replace("POST", &"A".repeat(17)), 400),
        (chat("").replace("POST", &"A".repeat(5_000)), 400),
    ] {
        let answer = raw(gateway.addr, attack.as_bytes()).await;
        let begin = &attack[..attack.len().min(60)];
        assert!(is_refused(&answer, &[expected]), "{begin:?} got {answer:?}");
    }
    assert_eq!(node.seen().len(), 0);
    // What is as large as it may be passes.
    let answer = raw(gateway.addr, with(headers(90)).as_bytes()).await;
    assert_eq!(status(&answer), 200, "{answer:?}");
    let large = format!("x-a: {}\r\n", "a".repeat(30 << 10));
    assert_eq!(status(&raw(gateway.addr, with(large).as_bytes()).await), 200);
    assert_eq!(status(&raw(gateway.addr, query(8_000).as_bytes()).await), 200);
    victim(&node, &gateway).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn r09_an_answer_whose_status_or_framing_is_none_is_a_502_and_spoils_no_other() {
    for answer in [
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\nrubbish",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: cow\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked, chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntransfer-encoding: cow\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 2\r\n\r\n{}",
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{}",
        "HTTP/1.1 200 OK\r\ncontent-length: 2, 2\r\n\r\n{}",
        "HTTP/1.1 200 OK\r\ncontent-length: +2\r\n\r\n{}",
        "HTTP/1.1 200 OK\r\ncontent-length: -2\r\n\r\n{}",
        "HTTP/1.1 200 OK\r\ncontent-length: 0x2\r\n\r\n{}",
        "HTTP/1.1 600 No\r\ncontent-length: 2\r\n\r\n{}",
        "HTTP/1.1 999 No\r\ncontent-length: 2\r\n\r\n{}",
        "HTTP/1.1 099 No\r\ncontent-length: 2\r\n\r\n{}",
        "HTTP/1.1 0 No\r\ncontent-length: 2\r\n\r\n{}",
        "HTTP/1.1 2000 No\r\ncontent-length: 2\r\n\r\n{}",
        "HTTP/1.1 -20 No\r\ncontent-length: 2\r\n\r\n{}",
        "HTTP/1.1 \r\ncontent-length: 2\r\n\r\n{}",
        "HTTP/2 200 OK\r\ncontent-length: 2\r\n\r\n{}",
        "200 OK\r\ncontent-length: 2\r\n\r\n{}",
    ] {
        let node = Scripted::start(move |_, mut peer: Peer| async move {
            while let Some(came) = peer.request().await {
                match came.body == BODY.as_bytes() {
                    true => peer.send(answer.as_bytes()).await,
                    false => peer.answer("200 OK", "{\"for\":\"victim\"}").await,
                }
            }
        })
        .await;
        let gateway = TestGateway::before(node.addr).await;
        let told = raw(gateway.addr, chat("").as_bytes()).await;
        assert_eq!(status(&told), 502, "{answer:?} became {told:?}");
        assert!(told.contains(r#""code":"upstream_error""#), "{answer:?} became {told:?}");
        only_came(&node.seen(), node.addr, (CHAT, ""), BODY);
        let other = gateway.chat("another").send().await.unwrap();
        assert_eq!(within(other.text()).await.unwrap(), "{\"for\":\"victim\"}", "{answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn r10_what_follows_a_body_on_its_connection_is_no_part_of_it() {
    let (node, gateway) = pair().await;
    let second = "GET /metrics HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n";
    let both = chat("").replace("connection: close\r\n", "") + second;
    let answer = raw(gateway.addr, both.as_bytes()).await;
    assert!(!answer.contains("HTTP/1.1 200 OK\r\ncontent-type: text"), "{answer:?}");
    only_came(&node.seen(), node.addr, (CHAT, ""), BODY);
    victim(&node, &gateway).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn r10_a_refused_request_with_a_small_body_leaves_an_honest_connection() {
    let (node, gateway) = pair().await;
    let mut stream = TcpStream::connect(gateway.addr).await.unwrap();
    let wrong = chat("").replace(KEY, "wrong").replace("connection: close\r\n", "");
    stream.write_all(wrong.as_bytes()).await.unwrap();
    let answer = read_until(&mut stream, "invalid_api_key").await;
    assert_eq!(status(&answer), 401);
    let says_close = answer.to_lowercase().contains("connection: close");
    let _closed = stream.write_all(chat("").as_bytes()).await;
    let mut rest = [0; 4096];
    let read = within(stream.read(&mut rest)).await.unwrap_or(0);
    let next = String::from_utf8_lossy(&rest[..read]);
    // The end of the first answer may come alone.
    assert!(says_close || next.contains("HTTP/1.1 200"), "{answer:?} then {next:?}");
    assert!(!next.contains("HTTP/1.1 4"), "{next:?}");
    assert!(node.seen().iter().all(|came| came.body == BODY.as_bytes()));
    victim(&node, &gateway).await;
}

/// A node that answers each question with its number, late and in pieces.
#[tokio::test(flavor = "multi_thread")]
async fn r10_clients_that_leave_and_attack_side_by_side_change_nobody_elses_answer() {
    let node = Scripted::start(|_, mut peer: Peer| async move {
        while let Some(came) = peer.request().await {
            peer.answer("200 OK", &String::from_utf8(came.body).unwrap()).await;
        }
    })
    .await;
    let gateway = TestGateway::before(node.addr).await;
    let attacks = [
        chat("content-length: 5\r\n"),
        chat("transfer-encoding: chunked\r\n"),
        request(CHAT, "transfer-encoding: chunked\r\n", "d\r\n{\"model\":\"m\"}xx0\r\n\r\n"),
        request(CHAT, "content-length: 14\r\nexpect: 100-continue\r\n", ""),
    ];
    let rounds = (0..40).map(|number: usize| {
        let attack = attacks[number % attacks.len()].clone();
        let (client, addr) = (gateway.chat("m"), gateway.addr);
        async move {
            let mut stream = TcpStream::connect(addr).await.unwrap();
            let _refused_early = stream.write_all(attack.as_bytes()).await;
            let asked = json!({ "model": "m", "user": format!("victim {number}") }).to_string();
            let reply = client.body(asked.clone()).send().await.unwrap();
            assert_eq!(within(reply.text()).await.unwrap(), asked);
        }
    });
    futures_util::future::join_all(rounds).await;
    assert_eq!(node.seen().len(), 40);
}

/// A request in chunks, whose connection its client would keep.
fn in_chunks(line: &str, chunks: &str) -> String {
    request(line, "transfer-encoding: chunked\r\n", chunks).replace("connection: close\r\n", "")
}

#[tokio::test(flavor = "multi_thread")]
async fn r10_a_connection_lives_on_after_chunks_however_they_came() {
    let (node, gateway) = pair().await;
    let mut stream = TcpStream::connect(gateway.addr).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let chunks = "6;a=b\r\n{\"mode\r\n7\r\nl\":\"m\"}\r\n0\r\nx-a: b\r\n\r\n";
    let asked = in_chunks(CHAT, chunks);
    for piece_bytes in [asked.len(), 1, 150, asked.len()] {
        let before = node.seen().len();
        for piece in asked.as_bytes().chunks(piece_bytes) {
            stream.write_all(piece).await.unwrap();
        }
        let answer = read_until(&mut stream, "\r\n\r\n{}").await;
        assert!(status(&answer) == 200 && !answer.contains("connection: close"), "{answer:?}");
        only_came(&node.seen()[before..], node.addr, (CHAT, ""), BODY);
    }
    stream.write_all(chat("").as_bytes()).await.unwrap();
    assert_eq!(status(&read_until(&mut stream, "\r\n\r\n{}").await), 200);
    assert_eq!(node.seen().len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn r10_nothing_can_hide_behind_chunks_that_two_programs_count_differently() {
    let (node, gateway) = pair().await;
    let hidden = request("GET /ping", "", "");
    let trailer = format!("0\r\nx-a: {}", "a".repeat(200_000));
    for chunks in
        ["", ";a", " d", "\td", "0;a\nb", "0\r\nnonsense", "0\r\nx-a: b\r\n c", trailer.as_str()]
    {
        let attack = in_chunks("POST /ping", chunks) + "\r\n\r\n" + &hidden;
        let (head, rest) = attack.split_at(attack.find("\r\n\r\n").unwrap() + 4);
        let at_once = raw(gateway.addr, attack.as_bytes()).await;
        let mut stream = TcpStream::connect(gateway.addr).await.unwrap();
        let invited = head.replace("\r\n\r\n", "\r\nexpect: 100-continue\r\n\r\n");
        stream.write_all(invited.as_bytes()).await.unwrap();
        read_until(&mut stream, "100 Continue\r\n\r\n").await;
        let _refused_early = stream.write_all(rest.as_bytes()).await;
        let mut later = Vec::new();
        within(stream.read_to_end(&mut later)).await.unwrap();
        for answer in [at_once, String::from_utf8(later).unwrap()] {
            assert!(
                is_refused(&answer, &[400]) && answer.contains("\"invalid_framing\""),
                "{answer:?}"
            );
        }
    }
    assert_eq!(node.seen().len(), 0);
    assert_eq!(gateway.log_lines(16).await.len(), 16);
    victim(&node, &gateway).await;
}
