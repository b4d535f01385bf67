//! Nobody waits for ever (R23 to R29): every wait has a bound that makes sense, and it holds against who sends by drops.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use sluice::config::{Environment, SETTINGS, Settings, SettingsArgs};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::gateway::{Setup, chat, preset};
use crate::support::http::{raw, read_until};
use crate::support::scripted::{Peer, Scripted};
use crate::support::{KEY, eventually, within};

/// No wait at all, by which nothing could ever be in time.
const NONE: &str = "0s";

/// What is no wait that anybody means: negative, no number, endless, longer than a day.
const NO_WAITS: [&str; 7] = ["-1s", "NaN", "nan s", "inf", "86401s", "25h", "1e999s"];

/// Settings for which no wait is a word of its own: at once, or never.
const MAY_BE_NONE: [&str; 3] = ["drain_delay", "drain_timeout", "sse_keepalive"];

/// What a wait may be.
const BOUNDS: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(1)..=Duration::from_secs(86_400);

/// For a bound of a second: with what a busy machine takes for the rest.
const SOON: Duration = Duration::from_secs(8);

/// A default that is a wait, in seconds.
fn seconds(default: &str) -> Option<f64> {
    default.strip_suffix('s')?.parse().ok()
}

#[test]
fn r23_settings_of_time_have_defaults_and_take_no_wait_that_makes_no_sense() {
    let waits = SETTINGS.iter().filter(|setting| seconds(setting.default).is_some());
    let mut checked = 0;
    for setting in waits {
        let given = seconds(setting.default).unwrap();
        assert!(BOUNDS.contains(&Duration::from_secs_f64(given)), "{}", setting.name);
        let none = Some(NONE).filter(|_| !MAY_BE_NONE.contains(&setting.name));
        for value in NO_WAITS.into_iter().chain(none) {
            let environment = Environment::from_iter([(setting.variable(), value.to_owned())]);
            let read = Settings::resolve(&SettingsArgs::default(), &environment, Path::new("/"));
            let told = read.err().unwrap_or_else(|| panic!("{} takes {value}", setting.name));
            assert!(told.to_string().contains(&setting.variable()), "{told}");
            checked += 1;
        }
    }
    assert!(checked > 50, "{checked}");
}

#[tokio::test(flavor = "multi_thread")]
async fn r23_times_of_an_upstream_have_defaults_and_take_no_wait_that_makes_no_sense() {
    let node = Scripted::replying("{}").await;
    for field in [
        "timeouts: { connect: VALUE }",
        "timeouts: { first_byte: VALUE }",
        "timeouts: { idle: VALUE }",
        "timeouts: { total: VALUE }",
        "keepalive_idle: VALUE",
        "health: { interval: VALUE }",
        "health: { timeout: VALUE }",
    ] {
        let quoted = NO_WAITS.map(|value| format!("\"{value}\""));
        let bare = [NONE, "0", "-1", ".inf", ".nan"].map(str::to_owned);
        for value in quoted.into_iter().chain(bare) {
            let field = field.replace("VALUE", &value);
            let routes = preset(node.addr).replace("health: off", &field);
            let started = Setup::routes(&routes).try_start().await;
            let told = started.err().unwrap_or_else(|| panic!("it takes {field}")).to_string();
            assert!(told.contains("upstreams.llama"), "{told}");
        }
    }
    let gateway = Setup::routes(&preset(node.addr)).start().await;
    let live = gateway.server.live.load_full();
    let (given, connect_max) = (live.upstreams[0].timeouts, Duration::from_secs(2));
    assert!(given.connect <= connect_max, "{given:?}");
    assert!([given.connect, given.first_byte, given.idle].iter().all(|wait| BOUNDS.contains(wait)));
    assert_eq!(node.seen().len(), 0);
}

/// Sends the head and half of the body, waits for longer than a node may take to answer, and sends the rest.
async fn slow_upload(to: std::net::SocketAddr, framing: &str, halves: [String; 2]) -> TcpStream {
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: h\r\nauthorization: Bearer {KEY}\r\n{framing}\r\n\r\n"
    );
    let mut stream = TcpStream::connect(to).await.unwrap();
    stream.write_all((head + &halves[0]).as_bytes()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    stream.write_all(halves[1].as_bytes()).await.unwrap();
    stream
}

#[tokio::test(flavor = "multi_thread")]
async fn r27_a_node_hears_of_a_body_when_it_is_whole_and_its_clock_starts_then() {
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = connections.clone();
    let node = Scripted::start(move |_, mut peer: Peer| {
        counted.fetch_add(1, Ordering::Relaxed);
        async move {
            while peer.request().await.is_some() {
                peer.answer("200 OK", r#"{"heard":true}"#).await;
            }
        }
    })
    .await;
    let slow = "kind: vllm, timeouts: { first_byte: 2s }";
    let gateway = Setup::routes(&preset(node.addr).replace("kind: vllm", slow)).start().await;
    let body = chat("m").to_string();
    let (one, two) = body.split_at(body.len() / 2);
    let chunk = |text: &str| format!("{:x}\r\n{text}\r\n", text.len());
    let length = format!("content-length: {}", body.len());
    let uploads = [
        slow_upload(gateway.addr, &length, [one.to_owned(), two.to_owned()]),
        slow_upload(
            gateway.addr,
            "transfer-encoding: chunked",
            [chunk(one), chunk(two) + "0\r\n\r\n"],
        ),
    ];
    let halfway = async {
        eventually(|| async { gateway.series("sluice_requests_in_flight") == 2.0 }).await;
        eventually(|| async { gateway.series("sluice_held_request_bytes") > 0.0 }).await;
        assert_eq!(connections.load(Ordering::Relaxed), 0, "no node has heard of them");
    };
    let (streams, ()) = tokio::join!(futures_util::future::join_all(uploads), halfway);
    for mut stream in streams {
        let answer = read_until(&mut stream, "\r\n\r\n{").await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
    let seen = node.seen();
    assert_eq!(seen.len(), 2);
    assert!(seen.iter().all(|came| came.body == body.as_bytes()));
}

/// A node that sends `piece` after `beginning` again and again, each within the time between bytes.
async fn dripping(beginning: &'static str, piece: &'static str) -> Scripted {
    Scripted::start(move |_, mut peer: Peer| async move {
        peer.request().await;
        peer.send(beginning.as_bytes()).await;
        while peer.stream.write_all(piece.as_bytes()).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await
}

/// The head has one bound in all: it may not come by lines, each in its own time.
#[tokio::test(flavor = "multi_thread")]
async fn r28_a_head_that_comes_by_drops_is_a_504_in_time_and_nobody_is_asked_again() {
    for stream in [false, true] {
        let node = dripping("HTTP/1.1 200 OK\r\n", "x-more: of it\r\n").await;
        let limits = "kind: vllm, timeouts: { first_byte: 1s, idle: 60s }";
        let gateway = Setup::routes(&preset(node.addr).replace("kind: vllm", limits)).start().await;
        let mut body = chat("m");
        body["stream"] = stream.into();
        let asked = Instant::now();
        let reply = within(gateway.post("/v1/chat/completions").json(&body).send()).await.unwrap();
        assert!(asked.elapsed() < SOON, "stream={stream}: {:?}", asked.elapsed());
        assert_eq!(reply.status(), 504, "stream={stream}");
        let told: Value = reply.json().await.unwrap();
        assert_eq!(told["error"]["code"], "upstream_timeout");
        assert_eq!(node.seen().len(), 1);
        assert_eq!(gateway.log_lines(1).await[0]["tries"], 1);
        assert_eq!(gateway.series("sluice_requests_in_flight"), 0.0);
    }
}

/// The first byte is that of the body (SPEC 6).
#[tokio::test(flavor = "multi_thread")]
async fn r28_a_head_without_a_body_is_no_first_byte() {
    let node = Scripted::start(|_, mut peer| async move {
        peer.request().await;
        let json = "content-type: application/json\r\ncontent-length: 2\r\n\r\n";
        peer.send(format!("HTTP/1.1 200 OK\r\n{json}").as_bytes()).await;
        peer.closed().await;
    })
    .await;
    let limits = "kind: vllm, timeouts: { first_byte: 1s, idle: 60s }";
    for (tried, keepalive) in ["15s", "0"].into_iter().enumerate() {
        let setup = Setup::routes(&preset(node.addr).replace("kind: vllm", limits));
        let setup = setup.flags(|flags| flags.sse_keepalive = Some(keepalive.to_owned()));
        let gateway = setup.start().await;
        let asked = Instant::now();
        let request = gateway.chat("m").send();
        // Without its body the answer is none, whether the head was held back or its body was cut.
        let whole = match within(request).await {
            Ok(reply) if reply.status() == 200 => within(reply.bytes()).await.is_ok(),
            Ok(reply) => reply.status() != 504,
            Err(_) => false,
        };
        assert!(!whole && asked.elapsed() < SOON, "{keepalive}: {:?}", asked.elapsed());
        assert_eq!(node.seen().len(), tried + 1, "nobody is asked again");
        assert_eq!(gateway.log_lines(1).await[0]["error"], "upstream_timeout");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn r28_an_answer_that_falls_silent_is_cut_where_it_is_and_looks_cut() {
    let node = Scripted::start(|_, mut peer| async move {
        peer.request().await;
        let json = "content-type: application/json\r\ncontent-length: 100\r\n\r\n{\"begun\":";
        peer.send(format!("HTTP/1.1 200 OK\r\n{json}").as_bytes()).await;
        peer.closed().await;
    })
    .await;
    let limits = "kind: vllm, timeouts: { first_byte: 60s, idle: 1s }";
    let gateway = Setup::routes(&preset(node.addr).replace("kind: vllm", limits)).start().await;
    let body = chat("m").to_string();
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: h\r\nauthorization: Bearer {KEY}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let asked = Instant::now();
    let answer = raw(gateway.addr, request.as_bytes()).await;
    assert!(asked.elapsed() < SOON, "{:?}", asked.elapsed());
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("{\"begun\":"), "{answer}");
    assert_eq!(node.seen().len(), 1);
    assert_eq!(node.seen()[0].body, body.as_bytes());
    eventually(|| async { gateway.series("sluice_requests_in_flight") == 0.0 }).await;
}
