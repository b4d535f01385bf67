//! R11 to R14: who may ask, for what, and that no key is told to anybody.

use http::{Request, Version};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::wire::{chat, pair, request};
use crate::support::gateway::{Setup, preset};
use crate::support::heads::only_came;
use crate::support::http::{http2, raw, status};
use crate::support::scripted::{Peer, Scripted};
use crate::support::{KEY, TestGateway, within};

const CHAT: &str = "POST /v1/chat/completions";
const BODY: &str = r#"{"model":"m"}"#;

/// The chat with these lines in the place of its key.
fn with_key(lines: &str) -> String {
    chat("").replace(&format!("authorization: Bearer {KEY}\r\n"), lines)
}

#[tokio::test(flavor = "multi_thread")]
async fn r11_a_key_is_shown_once_in_whatever_letters_and_spaces() {
    let (node, gateway) = pair().await;
    for scheme in ["Bearer ", "bearer ", "BEARER ", "BeArEr ", "Bearer   ", "Bearer \t"] {
        for end in ["", " ", "\t "] {
            let before = node.seen().len();
            let attack = with_key(&format!("authorization: {scheme}{KEY}{end}\r\n"));
            let answer = raw(gateway.addr, attack.as_bytes()).await;
            assert_eq!(status(&answer), 200, "{scheme:?} {end:?}");
            only_came(&node.seen()[before..], node.addr, (CHAT, ""), BODY);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn r11_two_keys_are_a_400_and_a_wrong_one_is_a_401() {
    let (node, gateway) = pair().await;
    let (half, more) = (&KEY[..KEY.len() - 1], format!("{KEY}x"));
    for (lines, expected) in [
        (format!("authorization: Bearer {KEY}\r\nauthorization: Bearer {KEY}\r\n"), 400),
        (format!("authorization: Bearer wrong\r\nAuthorization: Bearer {KEY}\r\n"), 400),
        (format!("authorization:\r\nauthorization: Bearer {KEY}\r\n"), 400),
        (format!("x-api-key: {KEY}\r\nX-API-Key: {KEY}\r\n"), 400),
        (format!("x-proxy-secret: {KEY}\r\nx-proxy-secret: {KEY}\r\n"), 400),
        (format!("authorization: Bearer {KEY}, Bearer {KEY}\r\n"), 401),
        (format!("authorization: Bearer wrong {KEY}\r\n"), 401),
        (format!("authorization: Bearer{KEY}\r\n"), 401),
        (format!("authorization: Basic {KEY}\r\n"), 401),
        (format!("authorization: {KEY}\r\n"), 401),
        (format!("authorization: Bearer {half}\r\n"), 401),
        (format!("authorization: Bearer {more}\r\n"), 401),
        (format!("authorization: Bearer {}\r\n", KEY.to_uppercase()), 401),
        (format!("x-proxy-secret: wrong\r\nauthorization: Bearer {KEY}\r\n"), 401),
        ("authorization: Bearer \r\n".to_owned(), 401),
        ("authorization: Bearer\r\n".to_owned(), 401),
        (String::new(), 401),
        (format!("cookie: authorization=Bearer {KEY}\r\n"), 401),
        (format!("proxy-authorization: Bearer {KEY}\r\n"), 401),
        (format!("x_api_key: {KEY}\r\n"), 401),
    ] {
        let answer = raw(gateway.addr, with_key(&lines).as_bytes()).await;
        assert_eq!(status(&answer), expected, "{lines:?} got {answer:?}");
        assert!(answer.contains("{\"error\":{"), "{answer:?}");
        let challenges = answer.to_lowercase().contains("\r\nwww-authenticate: bearer\r\n");
        assert_eq!(challenges, expected == 401, "{answer:?}");
    }
    let in_target = chat("").replace("completions HTTP", &format!("completions?key={KEY} HTTP"));
    let in_target = in_target.replace(&format!("authorization: Bearer {KEY}\r\n"), "");
    assert_eq!(status(&raw(gateway.addr, in_target.as_bytes()).await), 401);
    assert_eq!(node.seen().len(), 0);
}

/// Paths that a node might read as others; the last stand below the one path where `%` is at home.
const PATHS: [&str; 24] = [
    "//v1/chat/completions",
    "/v1//chat/completions",
    "/v1/../metrics",
    "/v1/chat/completions/..",
    "/./metrics",
    "/v1/./chat/completions",
    "/v1/chat/completions/.",
    "/metrics;x",
    "/v1/chat;/completions",
    "/v1\\chat\\completions",
    "/\\metrics",
    "/v1/chat%2fcompletions",
    "/v1/chat%2Fcompletions",
    "/%2e%2e/metrics",
    "/%6detrics",
    "/%70ause",
    "/metrics%00",
    "/metrics%3f",
    "/metr\u{ef}cs",
    "/metrics\0",
    "http://h/metrics",
    "/v1/models/../chat/completions",
    "/v1/models//x",
    "/v1/models/a;b",
];

#[tokio::test(flavor = "multi_thread")]
async fn r12_a_path_with_two_readings_is_refused() {
    let (node, gateway) = pair().await;
    for path in PATHS {
        for method in ["GET", "POST"] {
            let attack = request(&format!("{method} {path}"), "content-length: 0\r\n", "");
            let answer = raw(gateway.addr, attack.as_bytes()).await;
            assert_eq!(status(&answer), 400, "{method} {path:?} got {answer:?}");
        }
    }
    assert_eq!(node.seen().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn r12_a_path_with_two_readings_is_refused_over_http2_too() {
    let node = Scripted::replying("{}").await;
    let gateway =
        Setup::routes(&preset(node.addr)).flags(|flags| flags.h2c = Some("true".into())).start();
    let gateway = gateway.await;
    // What a client library lets through: a URI of ASCII.
    let sendable =
        |path: &&&str| path.is_ascii() && !path.contains(['\\', '\0']) && path.starts_with('/');
    for path in PATHS.iter().filter(sendable) {
        let request = Request::get(format!("http://h{path}"))
            .version(Version::HTTP_2)
            .header("authorization", format!("Bearer {KEY}"));
        let (head, body) = http2(gateway.addr, request.body("".into()).unwrap()).await;
        assert_eq!(head.status, 400, "{path} got {body}");
    }
    assert_eq!(node.seen().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn r12_percent_is_at_home_in_a_models_id_only_where_the_gateway_answers_itself() {
    let node = Scripted::replying("{}").await;
    let routes = format!(
        "upstreams:\n  any: {{ nodes: [\"http://{}\"] }}\n\
         routes:\n  - {{ path: \"/v1/models/{{id}}\", methods: [DELETE], upstream: any }}\n",
        node.addr
    );
    let gateway = TestGateway::start(&routes).await;
    for id in ["%2e%2e", "..%2fmetrics", "a%00"] {
        let attack = request(&format!("DELETE /v1/models/{id}"), "", "");
        assert_eq!(status(&raw(gateway.addr, attack.as_bytes()).await), 400, "{id}");
    }
    assert_eq!(node.seen().len(), 0);
}

/// What vLLM serves beside the paths of the table, and most of it without its key.
const CLOSED: [&str; 26] = [
    "/abort_requests",
    "/collective_rpc",
    "/destroy_weights_update_group",
    "/docs/oauth2-redirect",
    "/get_world_size",
    "/health/",
    "/init_weights_update_group",
    "/init_weight_transfer_engine",
    "/is_sleeping",
    "/metrics/",
    "/pause/",
    "/reset_mm_cache",
    "/reset_prefix_cache",
    "/server_info",
    "/sleep",
    "/start_profile",
    "/stop_profile",
    "/update_weights",
    "/v1",
    "/v1/",
    "/v1/audio/speech",
    "/v1/chat",
    "/v1/chat/completions/",
    "/v1/load_lora_adapter",
    "/v1/unload_lora_adapter",
    "/wake_up",
];

#[tokio::test(flavor = "multi_thread")]
async fn r12_nothing_of_a_node_can_be_reached_that_is_not_in_the_table() {
    let (node, gateway) = pair().await;
    for path in CLOSED {
        for method in ["GET", "POST", "DELETE"] {
            let asked = request(&format!("{method} {path}"), "", "");
            let answer = raw(gateway.addr, asked.as_bytes()).await;
            assert_eq!(status(&answer), 404, "{method} {path} got {answer:?}");
            assert!(answer.contains(r#""code":"route_not_found""#), "{answer:?}");
        }
    }
    for path in ["/V1/chat/completions", "/v1/Chat/completions", "/v1/chat/completion", "/PAUSE"] {
        let answer = raw(gateway.addr, request(&format!("POST {path}"), "", "").as_bytes()).await;
        assert_eq!(status(&answer), 404, "{path} got {answer:?}");
    }
    assert_eq!(node.seen().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn r13_who_has_no_key_is_told_before_a_byte_of_the_body_is_read() {
    let (node, gateway) = pair().await;
    let framings = [
        "content-length: 50000000\r\n",
        "content-length: 50000000\r\nexpect: 100-continue\r\n",
        "transfer-encoding: chunked\r\n",
    ];
    for framing in framings {
        for key in ["", "authorization: Bearer wrong\r\n"] {
            let mut stream = TcpStream::connect(gateway.addr).await.unwrap();
            let head = format!("{CHAT} HTTP/1.1\r\nhost: h\r\n{key}{framing}\r\n");
            stream.write_all(head.as_bytes()).await.unwrap();
            let mut answer = Vec::new();
            within(stream.read_to_end(&mut answer)).await.unwrap();
            let answer = String::from_utf8(answer).unwrap();
            assert_eq!(status(&answer), 401, "{framing:?} got {answer:?}");
            assert!(answer.to_lowercase().contains("\r\nconnection: close\r\n"), "{answer:?}");
            assert!(answer.contains(r#""code":"invalid_api_key""#), "{answer:?}");
            assert_eq!(gateway.series("sluice_held_request_bytes"), 0.0);
        }
    }
    assert_eq!(node.seen().len(), 0);
}

/// A node with a key, which is shown to it, that answers with `answer`.
async fn before(answer: &'static str) -> (Scripted, TestGateway) {
    let node = Scripted::start(move |_, mut peer: Peer| async move {
        while peer.request().await.is_some() {
            peer.send(answer.as_bytes()).await;
        }
    })
    .await;
    let routes = preset(node.addr).replace("kind: vllm", "kind: vllm, key: sk-of-the-node");
    let keys = "keys:\n  - { name: team, key: sk-of-the-team }\n";
    let gateway = Setup::routes(&routes).keys(keys).start().await;
    (node, gateway)
}

#[tokio::test(flavor = "multi_thread")]
async fn r14_headers_that_tell_of_a_node_or_of_keys_end_here() {
    let (node, gateway) = before(
        "HTTP/1.1 200 OK\r\nServer: uvicorn\r\nX-Powered-By: a\r\nSet-Cookie: a=b\r\nAuthorization: Bearer a\r\n\
         X-Proxy-Secret: a\r\nX-Internal-Auth: a\r\nX-API-Key: a\r\nWWW-Authenticate: Bearer\r\nProxy-Authenticate: Basic\r\n\
         Location: http://10.0.0.1/\r\nX-Echo: Bearer sk-of-the-node\r\nConnection: x-hop\r\nX-Hop: 1\r\n\
         Content-Type: application/json\r\nContent-Length: 2\r\nX-Passes: 1\r\n\r\n{}",
    )
    .await;
    let asked = chat("").replace(KEY, "sk-of-the-team");
    let answer = raw(gateway.addr, asked.as_bytes()).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert_eq!(body, "{}");
    let mut names: Vec<String> =
        head.lines().skip(1).map(|line| line.split_once(':').unwrap().0.to_lowercase()).collect();
    names.sort_unstable();
    let expected =
        ["connection", "content-length", "content-type", "date", "x-passes", "x-request-id"];
    assert_eq!(names, expected, "{head}");
    let key = "authorization: Bearer sk-of-the-node\r\n";
    only_came(&node.seen(), node.addr, (CHAT, key), BODY);
}

/// SPEC 6: what contains the key is not passed on. Its bytes are blotted out, and the rest of the node's own words is the
/// client's to see, with the node's own status: a body that is forwarded as it comes cannot be taken back.
#[tokio::test(flavor = "multi_thread")]
async fn r14_redirects_refusals_of_our_key_and_errors_that_repeat_it_tell_nothing() {
    for (answer, expected) in [
        (
            "HTTP/1.1 302 Found\r\nlocation: http://10.0.0.1/?key=sk-of-the-node\r\ncontent-length: 0\r\n\r\n",
            502,
        ),
        ("HTTP/1.1 304 Not Modified\r\nlocation: http://10.0.0.1/\r\n\r\n", 502),
        (
            "HTTP/1.1 401 No\r\nwww-authenticate: Bearer\r\ncontent-length: 14\r\n\r\nsk-of-the-node",
            502,
        ),
        ("HTTP/1.1 403 No\r\ncontent-length: 14\r\n\r\nsk-of-the-node", 502),
        ("HTTP/1.1 400 No\r\ncontent-length: 14\r\n\r\nsk-of-the-node", 400),
        (
            "HTTP/1.1 500 No\r\nx-key: sk-of-the-node\r\ncontent-length: 21\r\n\r\nBearer sk-of-the-node",
            500,
        ),
    ] {
        let (node, gateway) = before(answer).await;
        let asked = chat("").replace(KEY, "sk-of-the-team");
        let told = raw(gateway.addr, asked.as_bytes()).await;
        assert_eq!(status(&told), expected, "{answer:?} became {told:?}");
        for secret in ["sk-of-the-node", "10.0.0.1", &node.addr.to_string()] {
            assert!(!told.contains(secret), "{answer:?} became {told:?}");
        }
        let key = "authorization: Bearer sk-of-the-node\r\n";
        only_came(&node.seen()[..1], node.addr, (CHAT, key), BODY);
    }
}
