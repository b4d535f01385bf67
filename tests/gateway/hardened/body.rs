//! R16 to R22: what a body may be, and that nothing in it chooses where it goes.

use std::net::TcpListener;

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use super::wire::{chat, pair, request};
use crate::support::gateway::{Setup, preset};
use crate::support::heads::only_came;
use crate::support::http::{raw, status};
use crate::support::scripted::{Peer, Scripted};
use crate::support::{TestGateway, eventually, within};

const CHAT: &str = "POST /v1/chat/completions";

/// Status and code of the answer to a chat with this body.
async fn answer(gateway: &TestGateway, body: impl Into<reqwest::Body>) -> (u16, String) {
    let asked = gateway.post("/v1/chat/completions").body(body);
    let reply = within(asked.send()).await.unwrap();
    let status = reply.status().as_u16();
    let told: Value = within(reply.json()).await.unwrap();
    (status, told["error"]["code"].as_str().unwrap_or_default().to_owned())
}

/// The text in another encoding, of which `json.loads` of Python makes the same object.
fn utf16(text: &str, unit: fn(u16) -> [u8; 2]) -> Vec<u8> {
    text.encode_utf16().flat_map(unit).collect()
}

fn utf32(text: &str, unit: fn(u32) -> [u8; 4]) -> Vec<u8> {
    text.chars().flat_map(|c| unit(u32::from(c))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn r16_a_body_in_another_encoding_than_utf_8_is_refused() {
    let (node, gateway) = pair().await;
    let text = r#"{"model":"m","messages":[]}"#;
    for body in [
        ["\u{feff}".as_bytes(), text.as_bytes()].concat(),
        utf16(text, u16::to_le_bytes),
        utf16(text, u16::to_be_bytes),
        utf16(&format!("\u{feff}{text}"), u16::to_le_bytes),
        utf16(&format!("\u{feff}{text}"), u16::to_be_bytes),
        utf32(text, u32::to_le_bytes),
        utf32(text, u32::to_be_bytes),
        utf32(&format!("\u{feff}{text}"), u32::to_le_bytes),
        b"{\"model\":\"m\",\"metadata\":\"\xff\"}".to_vec(),
        b"{\"model\":\"m\",\"metadata\":{\"a\":[\"\xc3\x28\"]}}".to_vec(),
        b"{\"model\":\"m\",\"\xed\xa0\x80\":1}".to_vec(),
        b"{\"model\":\"m\",\"metadata\":\"\xc0\xaf\"}".to_vec(),
        b"{\"model\":\"\xf8\"}".to_vec(),
        b"{\"model\":\"m\"}\0".to_vec(),
        b"\0{\"model\":\"m\"}".to_vec(),
    ] {
        let told = answer(&gateway, body.clone()).await;
        assert_eq!(told, (400, "invalid_json".into()), "{body:?}");
    }
    assert_eq!(node.seen().len(), 0);
}

/// SPEC 4 has every field of the top level there once. A model's name may hold what vLLM may serve under: every letter and
/// space; R17's safe alphabet is all that is no control character.
#[tokio::test(flavor = "multi_thread")]
async fn r17_a_models_name_is_a_text_of_256_bytes_without_control_characters() {
    let (node, gateway) = pair().await;
    let named = |model: &str| json!({ "model": model }).to_string();
    for model in [
        "m".repeat(257),
        "\u{e9}".repeat(129),
        "a\nb".to_owned(),
        "a\r\nx-b: c".to_owned(),
        "a\0".to_owned(),
        "\u{1b}[2J".to_owned(),
        "a\u{7f}".to_owned(),
        "a\u{85}b".to_owned(),
    ] {
        let told = answer(&gateway, named(&model)).await;
        assert_eq!(told, (400, "invalid_model".into()), "{model:?}");
    }
    for value in ["7", "[\"m\"]", "{}", "true", "1.5"] {
        let told = answer(&gateway, format!("{{\"model\":{value}}}")).await;
        assert_eq!(told, (400, "invalid_json".into()), "{value}");
    }
    assert_eq!(node.seen().len(), 0);
    for model in ["m".repeat(256), "\u{e9}".repeat(128), "org/model: 8b@\u{43c}".to_owned()] {
        assert_eq!(answer(&gateway, named(&model)).await.0, 200, "{model:?}");
        assert_eq!(node.seen().last().unwrap().body, named(&model).as_bytes());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn r17_a_name_is_known_by_its_letters_alone() {
    let node = Scripted::replying("{}").await;
    let routes = preset(node.addr).replace("kind: vllm", "kind: vllm, models: [Llama]");
    let other =
        "  other: { kind: vllm, nodes: [\"http://127.0.0.1:1\"], models: [x], health: off }\n";
    let routes = routes.replace("upstreams:\n", &format!("upstreams:\n{other}"))
        + "  - { preset: vllm, upstream: other }\n";
    let gateway = TestGateway::start(&routes).await;
    for model in ["llama", "LLAMA", " Llama", "Llama ", "Ll\u{430}ma", "Llama\u{200b}", "Llam"] {
        let told = answer(&gateway, json!({ "model": model }).to_string()).await;
        assert_eq!(told, (404, "model_not_found".into()), "{model:?}");
    }
    assert_eq!(node.seen().len(), 0);
    assert_eq!(answer(&gateway, r#"{"mod\u0065l":"Ll\u0061ma"}"#).await.0, 200);
    assert_eq!(node.seen()[0].body, br#"{"mod\u0065l":"Ll\u0061ma"}"#);
}

#[tokio::test(flavor = "multi_thread")]
async fn r18_a_body_is_as_deep_and_has_as_many_fields_as_it_may_and_not_one_more() {
    let (node, gateway) = pair().await;
    let nested = |open: &str, close: &str, levels: usize| {
        format!(
            "{{\"model\":\"m\",\"a\":{}1{}}}",
            open.repeat(levels - 1),
            close.repeat(levels - 1)
        )
    };
    let fields = |count: usize| {
        let fields: Vec<_> = (0..count).map(|n| format!("\"f{n}\":0")).collect();
        format!("{{{}}}", fields.join(","))
    };
    for (just, over) in [
        (nested("[", "]", 128), nested("[", "]", 129)),
        (nested("{\"a\":", "}", 128), nested("{\"a\":", "}", 129)),
        (fields(1_024), fields(1_025)),
    ] {
        let before = node.seen().len();
        assert_eq!(answer(&gateway, just.clone()).await.0, 200);
        assert_eq!(node.seen()[before].body, just.as_bytes());
        assert_eq!(answer(&gateway, over).await, (400, "invalid_json".into()));
        assert_eq!(node.seen().len(), before + 1);
    }
    for levels in [10_000, 1_000_000] {
        let told = answer(&gateway, "[".repeat(levels)).await;
        assert_eq!(told, (400, "invalid_json".into()));
        let text = json!({ "model": "m", "user": "[{\"".repeat(levels) }).to_string();
        assert_eq!(answer(&gateway, text.clone()).await.0, 200);
        assert!(node.seen().last().unwrap().body == text.as_bytes());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn r19_what_json_does_not_know_is_refused_and_all_else_passes_byte_for_byte() {
    let (node, gateway) = pair().await;
    for value in [
        "NaN",
        "-NaN",
        "Infinity",
        "-Infinity",
        "nan",
        "inf",
        "1e",
        "01",
        "+1",
        ".5",
        "1.",
        "0x1",
        "1_000",
        "'a'",
        "undefined",
        "None",
        "True",
        "/**/1",
        "1 // a",
        "\"\n\"",
        "\"\t\"",
        "\"\\x41\"",
        "\"\\u12\"",
        "[1,]",
        "{\"a\":1,}",
        "{a:1}",
        "[1 2]",
    ] {
        for body in [
            format!("{{\"model\":\"m\",\"temperature\":{value}}}"),
            format!("{{\"model\":\"m\",\"messages\":[{{\"a\":{value}}}]}}"),
        ] {
            let told = answer(&gateway, body.clone()).await;
            assert_eq!(told, (400, "invalid_json".into()), "{body}");
        }
    }
    assert_eq!(node.seen().len(), 0);
    for body in [
        " \t\r\n{ \"model\" :\n\"m\" , \"b\":1,\"a\":2 } \n",
        r#"{"model":"m","n":1e400,"seed":123456789012345678901234567890,"x":-0.0,"y":1E+2}"#,
        r#"{"model":"m","a":{"b":1,"b":2},"c":[{"model":"x"}]}"#,
        r#"{"\u0061":"\ud83d\ude00\/","é":"\u2028","model":"m"}"#,
    ] {
        let before = node.seen().len();
        let lines = format!("content-length: {}\r\n", body.len());
        let told = raw(gateway.addr, request(CHAT, &lines, body).as_bytes()).await;
        assert_eq!(status(&told), 200, "{body} got {told}");
        only_came(&node.seen()[before..], node.addr, (CHAT, ""), body);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn r20_a_compressed_request_is_a_415_on_every_path() {
    let (node, gateway) = pair().await;
    let packed = b"\x1f\x8b\x08\0\0\0\0\0\0\x03\xabV\xcaMLIU\xb2R\xcaU\xaa\x05\0";
    for coding in
        ["gzip", "GZIP", "deflate", "br", "zstd", "x-gzip", "gzip, gzip", "chunked", "a", ""]
    {
        for path in ["/v1/chat/completions", "/v1/audio/transcriptions", "/ping", "/v1/messages"] {
            let asked = gateway.post(path).header("content-encoding", coding);
            let reply = within(asked.body(packed.to_vec()).send()).await.unwrap();
            assert_eq!(reply.status(), 415, "{coding} {path}");
            let told = within(reply.text()).await.unwrap();
            assert!(told.contains("\"error\":{") && told.contains("Content-Encoding"), "{told}");
        }
    }
    let twice = chat("content-encoding: identity\r\ncontent-encoding: gzip\r\n");
    let told = raw(gateway.addr, twice.as_bytes()).await;
    assert_eq!(status(&told), 415, "{told}");
    assert!(told.contains(r#""code":"unsupported_content_encoding""#), "{told}");
    // Nobody is asked to send what will not be read.
    let waits = request(
        CHAT,
        "expect: 100-continue\r\ncontent-encoding: gzip\r\ncontent-length: 9\r\n",
        "",
    );
    assert_eq!(status(&raw(gateway.addr, waits.as_bytes()).await), 415);
    assert_eq!(node.seen().len(), 0);
    let plain = chat("content-encoding: identity\r\n");
    assert_eq!(status(&raw(gateway.addr, plain.as_bytes()).await), 200);
    only_came(&node.seen(), node.addr, (CHAT, ""), r#"{"model":"m"}"#);
}

#[tokio::test(flavor = "multi_thread")]
async fn r20_a_compressed_answer_is_passed_on_as_it_is() {
    const PACKED: &[u8] = b"\x1f\x8b\x08\0\0\0\0\0\0\x03\xab\xae\x05\0\x43\xbf\xa6\xa3\x02\0\0\0";
    let node = Scripted::start(|_, mut peer: Peer| async move {
        while peer.request().await.is_some() {
            let length = PACKED.len();
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: {length}\r\n\r\n"
            );
            peer.send(&[head.as_bytes(), PACKED].concat()).await;
        }
    })
    .await;
    let gateway = TestGateway::before(node.addr).await;
    let asked = gateway.chat("m").header("accept-encoding", "gzip").send();
    let reply = within(asked).await.unwrap();
    assert_eq!(reply.headers()["content-encoding"], "gzip");
    assert_eq!(within(reply.bytes()).await.unwrap(), PACKED);
    assert_eq!(node.seen()[0].header("accept-encoding"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn r21_nothing_that_a_client_writes_chooses_where_a_request_goes() {
    let (node, gateway) = pair().await;
    let trap = TcpListener::bind("127.0.0.1:0").unwrap();
    trap.set_nonblocking(true).unwrap();
    let url = format!("http://{}", trap.local_addr().unwrap());
    let host = trap.local_addr().unwrap().to_string();
    let body = json!({
        "model": "m", "api_base": url, "base_url": url, "api_key": "sk-other", "url": url, "host": host,
        "endpoint": url, "upstream": url, "extra_headers": { "host": host },
        "metadata": { "api_base": url }, "extra_body": { "base_url": url },
    })
    .to_string();
    let lines = format!(
        "x-api-base: {url}\r\nx-upstream: {url}\r\nx-forwarded-host: {host}\r\nx-original-url: {url}\r\n\
         x-portkey-custom-host: {url}\r\nx-sluice-node: {url}\r\nlocation: {url}\r\ncontent-length: {}\r\n",
        body.len()
    );
    let line = format!("{CHAT}?api_base={url}&base_url={url}&node={host}&host={host}");
    let told = raw(gateway.addr, request(&line, &lines, &body).as_bytes()).await;
    assert_eq!(status(&told), 200, "{told}");
    only_came(&node.seen(), node.addr, (&line, ""), &body);
    for model in [&url, &format!("{host}:m"), "http:m", "../m", "m@other"] {
        let told = answer(&gateway, json!({ "model": model }).to_string()).await;
        assert_eq!(told.0, 200, "the only candidate's node judges {model}");
    }
    assert_eq!(node.seen().len(), 6);
    assert!(trap.accept().is_err(), "somebody connected to what the client named");
}

#[tokio::test(flavor = "multi_thread")]
async fn r22_a_body_that_finds_no_memory_is_a_503_that_says_when_to_come_back() {
    let node = Scripted::replying("{}").await;
    let setup = Setup::routes(&preset(node.addr)).flags(|flags| {
        flags.max_body_bytes = Some("1000".into());
        flags.max_held_bytes = Some("1000".into());
    });
    let gateway = setup.start().await;
    // Who is still sending holds what has come.
    let mut slow = tokio::net::TcpStream::connect(gateway.addr).await.unwrap();
    let half = request(CHAT, "content-length: 1000\r\n", &" ".repeat(990));
    slow.write_all(half.as_bytes()).await.unwrap();
    eventually(|| async { gateway.series("sluice_held_request_bytes") >= 990.0 }).await;
    let told = raw(gateway.addr, chat("").as_bytes()).await;
    assert_eq!(status(&told), 503, "{told}");
    assert!(told.to_lowercase().contains("\r\nretry-after: 1\r\n"), "{told}");
    assert!(told.contains(r#""code":"overloaded""#), "{told}");
    drop(slow);
    eventually(|| async { gateway.series("sluice_held_request_bytes") == 0.0 }).await;
    assert_eq!(status(&raw(gateway.addr, chat("").as_bytes()).await), 200);
    only_came(&node.seen(), node.addr, (CHAT, ""), r#"{"model":"m"}"#);
}
