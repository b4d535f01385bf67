//! HTTP/2 (R45): what floods a connection is cut or costs nothing, and no one else notices.

use std::time::{Duration, Instant};

use serde_json::json;
use sluice::config::SETTINGS as SETTINGS_OF_SLUICE;
use sluice::sim::Settings;
use tokio::sync::watch;

use super::alone::Alone;
use crate::support::frames::{
    CONTINUATION, DATA, END_HEADERS, Frames, HEADERS, PAYLOAD_MAX, PING, RST_STREAM, SETTINGS,
    Sent, WINDOW_UPDATE, frame, literal, long_headers, post, request,
};
use crate::support::gateway::{Setup, chat, preset};
use crate::support::scripted::{Peer, Scripted};
use crate::support::{KEY, TestGateway, eventually, node_with, within};

const CHAT: &str = "/v1/chat/completions";

/// Refused: nothing of the stream was looked at (RFC 9113, 7).
const REFUSED_STREAM: u32 = 7;

/// A window that is larger than can be.
const FLOW_CONTROL_ERROR: u32 = 3;

/// Streams at once on one connection.
const STREAMS: usize = 100;

/// What a client of the rapid-reset kind begins and resets.
const RESETS: usize = 5_000;

/// What of it may reach a node: a few hundred. HAProxy lets 1,422 through.
const LET_THROUGH_MAX: usize = 400;

/// Longer than whoever is not part of a flood waits, with what a busy machine takes for the rest.
const SOON: Duration = Duration::from_secs(8);

/// What a flood may add to the memory of a gateway, in bytes.
const GROWTH_MAX: usize = 64 << 20;

/// A gateway that speaks HTTP/2 without TLS.
async fn gateway(node: &Scripted) -> TestGateway {
    let setup = Setup::routes(&preset(node.addr));
    setup.flags(|flags| flags.h2c = Some("true".into())).start().await
}

/// Odd numbers, as clients count streams.
fn streams(count: usize) -> impl Iterator<Item = u32> {
    (0..count as u32).map(|number| 2 * number + 1)
}

/// Whoever has nothing to do with it is answered soon, and with its own.
async fn others_are_served(gateway: &TestGateway, node: &Scripted) {
    let asked = Instant::now();
    let reply = within(gateway.chat("m").send()).await.unwrap();
    assert_eq!(reply.status(), 200);
    assert!(asked.elapsed() < SOON, "{:?}", asked.elapsed());
    assert_eq!(node.seen().last().unwrap().body, chat("m").to_string().as_bytes());
}

#[tokio::test(flavor = "multi_thread")]
async fn r45_five_thousand_resets_reach_no_node_five_thousand_times() {
    let node = Scripted::replying("{}").await;
    let gateway = gateway(&node).await;
    let mut frames = Frames::connect(gateway.addr).await;
    let body = json!({ "model": "m", "reset": true }).to_string();
    let begun: Vec<u32> = streams(RESETS).collect();
    for some in begun.chunks(50) {
        let cancel = 8_u32.to_be_bytes();
        let each = |stream: &u32| {
            [post(*stream, CHAT, body.as_bytes()), frame(RST_STREAM, 0, *stream, &cancel)].concat()
        };
        if frames.send(&some.iter().flat_map(each).collect::<Vec<_>>()).await != Sent::Yes {
            break;
        }
    }
    eventually(|| async { gateway.series("sluice_requests_in_flight") == 0.0 }).await;
    others_are_served(&gateway, &node).await;
    let reset = node.seen().iter().filter(|came| came.body == body.as_bytes()).count();
    assert!(reset <= LET_THROUGH_MAX, "{reset}");
    eventually(|| async { gateway.series("sluice_held_request_bytes") == 0.0 }).await;
}

/// The slower way: each stream is at its node before it is reset.
#[tokio::test(flavor = "multi_thread")]
async fn r45_streams_that_are_reset_when_they_are_served_use_a_budget_up() {
    const AT_ONCE: usize = 50;
    let node = Scripted::start(|_, mut peer| async move {
        peer.request().await;
        peer.closed().await;
    })
    .await;
    let gateway = gateway(&node).await;
    let mut frames = Frames::connect(gateway.addr).await;
    let body = json!({ "model": "m", "reset": true }).to_string();
    let begun: Vec<u32> = streams(RESETS).collect();
    for some in begun.chunks(AT_ONCE) {
        let under_way = || gateway.series("sluice_requests_in_flight");
        let posts = some.iter().flat_map(|one| post(*one, CHAT, body.as_bytes()));
        let cancel = 8_u32.to_be_bytes();
        let resets = some.iter().flat_map(|one| frame(RST_STREAM, 0, *one, &cancel));
        let (posts, resets): (Vec<u8>, Vec<u8>) = (posts.collect(), resets.collect());
        if frames.is_over() || frames.send(&posts).await != Sent::Yes {
            break;
        }
        eventually(|| async { under_way() == AT_ONCE as f64 || frames.is_over() }).await;
        if frames.send(&resets).await != Sent::Yes {
            break;
        }
        eventually(|| async { under_way() == 0.0 || frames.is_over() }).await;
    }
    eventually(|| async { gateway.series("sluice_requests_in_flight") == 0.0 }).await;
    let reset = node.seen().iter().filter(|came| came.body == body.as_bytes()).count();
    assert!(reset <= LET_THROUGH_MAX, "{reset}");
    eventually(|| async { gateway.series("sluice_held_request_bytes") == 0.0 }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn r45_of_two_hundred_streams_at_once_a_hundred_are_served_and_the_rest_refused() {
    let (go_on, wait) = watch::channel(false);
    let node = Scripted::start(move |_, mut peer: Peer| {
        let mut wait = wait.clone();
        async move {
            while peer.request().await.is_some() {
                wait.wait_for(|go_on| *go_on).await.unwrap();
                peer.answer("200 OK", "{}").await;
            }
        }
    })
    .await;
    let gateway = gateway(&node).await;
    let mut frames = Frames::connect(gateway.addr).await;
    let body = |stream: u32| json!({ "model": "m", "stream_number": stream }).to_string();
    let all: Vec<u8> =
        streams(2 * STREAMS).flat_map(|one| post(one, CHAT, body(one).as_bytes())).collect();
    assert_eq!(frames.send(&all).await, Sent::Yes);
    let refused = || {
        let came = frames.came().into_iter();
        let refused = came.filter(|frame| frame.reset() == Some(REFUSED_STREAM));
        refused.map(|frame| frame.stream).collect::<Vec<_>>()
    };
    eventually(|| async { refused().len() == STREAMS }).await;
    assert_eq!(refused(), streams(2 * STREAMS).skip(STREAMS).collect::<Vec<_>>());
    let chats = || {
        let seen = node.seen();
        seen.into_iter().filter(|came| came.head.starts_with("POST ")).collect::<Vec<_>>()
    };
    eventually(|| async { chats().len() == STREAMS }).await;
    go_on.send(true).unwrap();
    let answered = || frames.came().iter().filter(|frame| frame.kind == HEADERS).count();
    eventually(|| async { answered() == STREAMS }).await;
    assert!(!frames.is_closed(), "the connection is none the worse for it");
    let mut bodies: Vec<_> = chats().into_iter().map(|came| came.body).collect();
    let mut sent: Vec<_> = streams(STREAMS).map(|one| body(one).into_bytes()).collect();
    bodies.sort();
    sent.sort();
    assert_eq!(bodies, sent, "the first hundred, and nothing else");
}

#[tokio::test(flavor = "multi_thread")]
async fn r45_bounds_are_told_with_the_first_frame() {
    let node = Scripted::replying("{}").await;
    let gateway = gateway(&node).await;
    let frames = Frames::connect(gateway.addr).await;
    eventually(|| async { frames.came().iter().any(|frame| frame.kind == SETTINGS) }).await;
    let first = frames.came().remove(0);
    let told: Vec<(u16, u32)> = first
        .payload
        .chunks_exact(6)
        .map(|one| {
            let (name, value) = one.split_at(2);
            let value = u32::from_be_bytes(value.try_into().unwrap());
            (u16::from_be_bytes(name.try_into().unwrap()), value)
        })
        .collect();
    let of = |wanted: u16| told.iter().find(|(name, _)| *name == wanted).map(|(_, value)| *value);
    // SETTINGS_MAX_CONCURRENT_STREAMS and SETTINGS_MAX_HEADER_LIST_SIZE.
    assert_eq!(of(3), Some(STREAMS as u32), "{told:?}");
    assert!(of(6).is_some_and(|bytes| bytes <= 32_768), "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn r45_a_header_list_over_its_bound_is_refused_in_one_piece_or_in_many() {
    let one = "x".repeat(40 << 10);
    let large = request("POST", CHAT, &[("accept", &one)]);
    let names: Vec<String> = (0..700).map(|number| format!("x-many-{number:03}")).collect();
    let value = "y".repeat(24);
    let many: Vec<_> = names.iter().map(|name| (name.as_str(), value.as_str())).collect();
    let many = request("POST", CHAT, &many);
    for headers in [large, many] {
        let node = Scripted::replying("{}").await;
        let gateway = gateway(&node).await;
        let mut frames = Frames::connect(gateway.addr).await;
        frames.send(&long_headers(1, &headers, true)).await;
        // A status of its own, a stream that is reset, or a connection that is closed: none is an answer.
        eventually(|| async {
            let told = |kind| frames.came().iter().any(|frame| frame.kind == kind);
            frames.is_closed() || told(HEADERS) || told(RST_STREAM)
        })
        .await;
        let came = frames.came();
        // `:status: 200` is one byte of HPACK.
        assert!(!came.iter().any(|f| f.kind == HEADERS && f.payload[0] == 0x88), "{came:?}");
        assert_eq!(node.seen().len(), 0);
        others_are_served(&gateway, &node).await;
    }
}

/// Headers that never end, in large frames and in empty ones.
#[tokio::test(flavor = "multi_thread")]
async fn r45_headers_without_an_end_are_cut() {
    /// 64 MiB, or as many empty frames.
    const FRAMES: usize = 4_096;
    let filler = literal("x-endless", &"z".repeat(PAYLOAD_MAX - 20));
    for piece in [filler.as_slice(), &[]] {
        let node = Scripted::replying("{}").await;
        let gateway = gateway(&node).await;
        let mut frames = Frames::connect(gateway.addr).await;
        frames.send(&frame(HEADERS, 0, 1, &request("POST", CHAT, &[]))).await;
        let endless = frame(CONTINUATION, 0, 1, piece);
        let mut sent = 0;
        while sent < FRAMES && !frames.is_closed() && frames.send(&endless).await == Sent::Yes {
            sent += 1;
        }
        eventually(|| async { frames.is_closed() }).await;
        assert!(sent < FRAMES || piece.is_empty(), "{sent}");
        assert_eq!(node.seen().len(), 0);
        others_are_served(&gateway, &node).await;
    }
}

/// A flood of one kind of frame: its bytes, sent again and again.
fn floods() -> Vec<(&'static str, Vec<u8>)> {
    let open = frame(HEADERS, END_HEADERS, 1, &request("POST", CHAT, &[]));
    let many = |one: Vec<u8>| one.repeat(1_000);
    let setting = [0, 4, 0, 0, 0xff, 0xff];
    vec![
        ("settings", many(frame(SETTINGS, 0, 0, &setting))),
        ("pings", many(frame(PING, 0, 0, b"pingping"))),
        ("empty data", [open, many(frame(DATA, 0, 1, &[]))].concat()),
        ("window updates", many(frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]))),
        ("priorities", many(frame(2, 0, 3, &[0, 0, 0, 0, 16]))),
        ("unknown frames", many(frame(0xfa, 0, 0, b"of no known kind"))),
    ]
}

/// Also of a client that reads nothing of what it makes the gateway say.
#[tokio::test(flavor = "multi_thread")]
async fn r45_floods_are_cut_or_harmless_and_memory_stays_flat() {
    let node = Scripted::replying("{}").await;
    let gateway = Alone::speaking_http2(&preset(node.addr)).await;
    assert_eq!(within(gateway.chat().send()).await.unwrap().status(), 200);
    let (before, mut asked) = (gateway.resident_bytes(), 1);
    for (what, bytes) in floods() {
        for deaf in [false, true] {
            let mut frames = match deaf {
                true => Frames::deaf(gateway.addr()).await,
                false => Frames::connect(gateway.addr()).await,
            };
            for _ in 0..50 {
                // Of a stream that is begun twice the second begin is an error: cut, too.
                if frames.send(&bytes).await != Sent::Yes {
                    break;
                }
            }
            let began = Instant::now();
            assert_eq!(within(gateway.chat().send()).await.unwrap().status(), 200, "{what}");
            assert!(began.elapsed() < SOON, "{what}, deaf={deaf}: {:?}", began.elapsed());
            asked += 1;
            let grown = gateway.resident_bytes().saturating_sub(before);
            assert!(grown < GROWTH_MAX, "{what}, deaf={deaf}: {grown}");
        }
    }
    let chats = node.seen().into_iter().filter(|came| came.head.starts_with("POST "));
    let bodies: Vec<_> = chats.map(|came| came.body).collect();
    assert_eq!(bodies, vec![chat("m").to_string().into_bytes(); asked]);
    eventually(|| async { gateway.series("sluice_requests_in_flight").await == 0.0 }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn r45_a_window_beyond_all_bounds_ends_its_connection_or_its_stream_and_no_other() {
    let node = Scripted::replying("{}").await;
    let gateway = gateway(&node).await;
    let widest = 0x7fff_ffff_u32.to_be_bytes();
    let mut frames = Frames::connect(gateway.addr).await;
    frames.send(&frame(WINDOW_UPDATE, 0, 0, &widest).repeat(2)).await;
    eventually(|| async { frames.is_closed() }).await;
    let told = frames.came().iter().find_map(|frame| frame.goaway());
    assert_eq!(told, Some(FLOW_CONTROL_ERROR));
    let mut frames = Frames::connect(gateway.addr).await;
    let open = frame(HEADERS, END_HEADERS, 1, &request("POST", CHAT, &[]));
    frames.send(&[open, frame(WINDOW_UPDATE, 0, 1, &widest).repeat(2)].concat()).await;
    eventually(|| async {
        let reset = |frame: &_| crate::support::frames::Frame::reset(frame).is_some();
        frames.is_closed() || frames.came().iter().any(reset)
    })
    .await;
    let mut frames = Frames::connect(gateway.addr).await;
    frames.send(&frame(WINDOW_UPDATE, 0, 0, &[0; 4])).await;
    eventually(|| async { frames.is_closed() }).await;
    assert_eq!(node.seen().len(), 0);
    others_are_served(&gateway, &node).await;
    eventually(|| async { gateway.series("sluice_requests_in_flight") == 0.0 }).await;
}

#[test]
fn r45_http2_without_tls_is_off_by_default() {
    let setting = SETTINGS_OF_SLUICE.iter().find(|setting| setting.name == "h2c").unwrap();
    assert_eq!(setting.default, "false");
}

/// HTTP/2 has no clock of its own for a body: without ours one connection could hold all memory for bodies.
#[tokio::test(flavor = "multi_thread")]
async fn r25_over_http2_a_body_that_stops_is_given_up() {
    let node = Scripted::replying("{}").await;
    let setup = Setup::routes(&preset(node.addr)).flags(|flags| {
        flags.h2c = Some("true".into());
        flags.client_timeout = Some("1s".into());
    });
    let gateway = setup.start().await;
    let mut frames = Frames::connect(gateway.addr).await;
    let head = request("POST", CHAT, &[]);
    frames.send(&frame(HEADERS, END_HEADERS, 1, &head)).await;
    frames.send(&frame(DATA, 0, 1, &[b' '; 1_000])).await;
    assert_eq!(gateway.log_lines(1).await[0]["status"], 408);
    eventually(|| async { gateway.series("sluice_held_request_bytes") == 0.0 }).await;
    assert_eq!(node.seen().len(), 0);
    others_are_served(&gateway, &node).await;
}

/// What a client sends before it is told that nobody wants it is lawful, however often: others share its connection.
#[tokio::test(flavor = "multi_thread")]
async fn r45_bodies_of_refused_requests_are_no_flood() {
    let settings = Settings { models: vec!["m".into()], tokens: 1_000_000, ..Settings::default() };
    let delay = Duration::from_millis(20);
    let node =
        node_with(Settings { token_delay: delay, max_model_len: 2_000_100, ..settings }).await;
    let setup = Setup::routes(&preset(node.addr()));
    let gateway = setup.flags(|flags| flags.h2c = Some("true".into())).start().await;
    let client = reqwest::Client::builder().http2_prior_knowledge().build().unwrap();
    let ask = |key: &str, body: String| {
        let request = client.post(gateway.url(CHAT)).bearer_auth(key.to_owned());
        request.header("content-type", "application/json").body(body).send()
    };
    let mut body = chat("m");
    body["stream"] = true.into();
    let mut stream = within(ask(KEY, body.to_string())).await.unwrap();
    assert_eq!(stream.status(), 200);
    within(stream.chunk()).await.unwrap().unwrap();
    for _ in 0..60 {
        let reply = within(ask("sk-wrong", " ".repeat(60_000))).await;
        assert_eq!(reply.unwrap().status(), 401);
    }
    within(stream.chunk()).await.unwrap().unwrap();
}
