//! The page of a gateway with everything there may be, and with as much of it as there may be.

use super::super::answer::Answer;
use super::super::status::{
    Answers, ErrorStatus, FailedReload, KeyStatus, LimitStatus, Line, ModelStatus, NodeStatus,
    Percentiles, SessionsStatus, StoreStatus, StreamStatus, Totals, UpstreamStatus,
};
use super::*;

/// What somebody may have called something.
const NASTY: &str = "<script>alert(1)</script>";

/// A line of sixty points that goes up and down, alike for the same `seed`.
fn line(seed: u32, highest: f64) -> Line {
    let mut state = seed.wrapping_mul(2_654_435_761) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        f64::from(state % 1_000) / 1_000.0
    };
    (0..60).map(|_| Some((next() * highest).round())).collect()
}

fn percentiles(p50_ms: f64) -> Percentiles {
    Percentiles { p50_ms: Some(p50_ms), p99_ms: Some(p50_ms * 6.7) }
}

const ANSWERS: Answers =
    Answers { ok: 182_345, refused: 212, errors: 3, retries: 17, aborts: 1_204 };

fn node(number: u32) -> NodeStatus {
    let told = match number % 16 {
        3 => ("down", Some("its probes fail: cannot connect")),
        7 => ("ejected", Some("it closed 5 connections in a row; tried again in 12.4 s")),
        9 => ("starting", Some("back in work, with 40 % of its share")),
        11 => ("drained", Some("an operator took it out")),
        _ => ("up", None),
    };
    NodeStatus {
        node: format!("http://10.0.{}.{}:8000", number / 8, number % 8 + 11),
        state: told.0,
        reason: told.1.map(str::to_owned),
        state_age_seconds: 754,
        takes_work: matches!(told.0, "up" | "starting"),
        in_flight: number * 7 % 23,
        load_bytes: 81_000,
        foreign: number % 3,
        running: Some(number * 5 % 31),
        waiting: Some(number % 4),
        kv_cache: Some(f64::from(number * 37 % 100) / 100.0),
        prefix_hits: Some(f64::from(number * 53 % 100) / 100.0),
        ttft: percentiles(f64::from(120 + number * 31 % 400)),
        inter_token_latency: percentiles(14.2),
        tokens_per_second: f64::from(number * 173 % 2_400),
        answers: ANSWERS,
        tokens_line: line(number, 2_400.0),
        models: None,
    }
}

fn model(number: u32) -> ModelStatus {
    ModelStatus {
        model: format!("org-{}/model-{number}-instruct", number % 7),
        nodes_up: 3,
        nodes: 4,
        requests_per_second: f64::from(number) / 3.0,
        tokens_per_second: f64::from(number * 91),
        ttft: percentiles(180.0),
        inter_token_latency: percentiles(13.1),
        answers: ANSWERS,
        tokens_line: line(number + 500, 900.0),
    }
}

fn key(number: u32) -> KeyStatus {
    let limit = |limit, allowed, part: u32| LimitStatus {
        limit,
        allowed,
        used: Some(allowed * u64::from(part % 101) / 100),
    };
    KeyStatus {
        key: format!("team-{number}"),
        expired: number % 97 == 5,
        requests: u64::from(number) * 317,
        limited: u64::from(number % 13),
        prompt_tokens: u64::from(number) * 91_237,
        completion_tokens: u64::from(number) * 12_345,
        limits: vec![
            limit("rpm", 600, number * 7),
            limit("tpd", 50_000_000, number * 3),
            limit("concurrent", 32, number),
        ],
    }
}

fn error(number: u32) -> ErrorStatus {
    ErrorStatus {
        age_seconds: f64::from(number) * 7.3,
        time: format!("2026-11-29T02:{:02}:{:02}.123Z", 59 - number / 60, 59 - number % 60),
        id: format!("0199{number:08x}-7d3c-7bc1-a4b1-{:012x}", u64::from(number) * 2_654_435_761),
        status: (!number.is_multiple_of(3)).then_some(502),
        code: ["connect", "upstream_unavailable", "stream_broken"][number as usize % 3],
        message: "The node closed the connection before it answered.".to_owned(),
        model: Some(format!("org-{}/model-{number}-instruct", number % 7)),
        node: Some(format!("http://10.0.0.{}:8000", number % 8 + 11)),
        key: Some(format!("team-{number}")),
        tries: 2,
    }
}

fn stream(number: u32) -> StreamStatus {
    StreamStatus {
        id: format!("0199{number:08x}-11aa-7bc1-a4b1-5c0de5c0de5c"),
        model: Some("org-1/model-1-instruct".to_owned()),
        node: "http://10.0.0.14:8000".to_owned(),
        key: Some("team-7".to_owned()),
        age_seconds: 93.0,
        last_token_age_seconds: 31.0 - f64::from(number),
        tokens: 812,
    }
}

/// A gateway that has a bad night, with so many nodes, models and keys.
fn status(nodes: u32, models: u32, keys: u32) -> Status {
    let half = nodes.div_ceil(2);
    let upstream = |name: &str, numbers: std::ops::Range<u32>| UpstreamStatus {
        upstream: name.to_owned(),
        kind: "vllm",
        balance: "prefix_aware",
        state: "degraded",
        queued: 12,
        nodes: numbers.map(node).collect(),
    };
    Status {
        state: "degraded",
        version: "0.1.0",
        uptime_seconds: 273_600,
        generation: 7,
        generation_age_seconds: 5_400,
        failed_reload: Some(FailedReload {
            age_seconds: 240,
            message: "routes.yaml:6:14: upstreams.llama.nodes: `http//10.0.0.12` is no URL\n  |\n6 |     nodes: [http//10.0.0.12]\n  |             ^"
                .to_owned(),
        }),
        totals: Totals {
            in_flight: 412,
            queued: 24,
            requests_per_second: 61.3,
            tokens_per_second: 18_420.0,
            prompt_tokens_per_second: 143_000.0,
            errors_per_second: 0.04,
            ttft: percentiles(182.0),
            inter_token_latency: percentiles(14.3),
            seconds_per_point: 5,
            in_flight_line: line(1, 400.0),
            queued_line: line(2, 30.0),
            requests_line: line(3, 60.0),
            tokens_line: line(4, 20_000.0),
            errors_line: line(5, 3.0),
            ttft_line: line(6, 400.0),
        },
        upstreams: vec![upstream("llama", 0..half), upstream("qwen", half..nodes)],
        models: (0..models).map(model).collect(),
        keys: (0..keys).map(key).collect(),
        streams: (0..20).map(stream).collect(),
        errors: (0..200).map(error).collect(),
        stores: vec![StoreStatus { of: "limits", kind: "redis", up: false, errors: 31 }],
        sessions: Some(SessionsStatus { open: 1_204, bytes: 8_400_000, begun: 91_000 }),
    }
}

fn text(status: &Status) -> String {
    page(status, &Visitor::Here).as_str().to_owned()
}

#[test]
fn everything_can_be_read_without_a_script() {
    let page = text(&status(16, 3, 3));
    for told in [
        "<title>DEGRADED · Sluice</title>",
        "aria-live=polite>DEGRADED</p>",
        "up 3 d 4 h, configuration 7 in effect for 1 h 30 min",
        "not taken, 4 min ago",
        "6 |     nodes: [http//10.0.0.12]\n  |             ^",
        "The store of limits (redis) is away: 31 calls failed.",
        "<b>http://10.0.0.14:8000</b> of llama is down for 12 min 34 s: its probes fail: cannot connect",
        "<dt>TTFT, p50</dt><dd>182 ms <small>p99 1.22 s</small>",
        "requests per second in the last 5 minutes: at most 59",
        "vllm, prefix_aware, 12 queued",
        "182k / 212 / <b class=bad>3</b>",
        "<button name=undrain value=\"http://10.0.1.14:8000\"",
        "<td>3 of 4</td>",
        "42 of 600",
        "31 s ago",
        "<b>connect</b> The node closed",
        "tried again",
        "and 150 more: <a href=/api/status>",
        "chat sessions: 1.2k open, 8.4 MB, 91k begun",
        "<noscript><meta http-equiv=refresh content=5></noscript>",
    ] {
        assert!(page.contains(told), "{told}");
    }
    assert!(!page.contains("style=") && !page.contains("onclick"), "against the policy");
}

#[test]
fn names_are_never_markup() {
    let mut status = status(2, 1, 1);
    status.upstreams[0].upstream = NASTY.to_owned();
    status.upstreams[0].nodes[0].node = NASTY.to_owned();
    status.upstreams[0].nodes[0].takes_work = false;
    status.upstreams[0].nodes[0].reason = Some(NASTY.to_owned());
    status.models[0].model = NASTY.to_owned();
    status.keys[0].key = NASTY.to_owned();
    for one in &mut status.streams {
        (one.id, one.model, one.node) =
            (NASTY.to_owned(), Some(NASTY.to_owned()), NASTY.to_owned());
    }
    for one in &mut status.errors {
        (one.id, one.message, one.key) =
            (NASTY.to_owned(), NASTY.to_owned(), Some(NASTY.to_owned()));
        (one.time, one.node) = (NASTY.to_owned(), Some(NASTY.to_owned()));
    }
    status.failed_reload = Some(FailedReload { age_seconds: 1, message: NASTY.to_owned() });
    let visitor = Visitor::Key { name: NASTY.into(), by_login: true };
    let page = page(&status, &visitor);
    assert_eq!(page.as_str().matches("<script").count(), 1, "the page's own");
    assert!(page.as_str().matches("&lt;script&gt;alert(1)").count() > 20);
    assert!(!login(Some(NASTY)).as_str().contains("<script"));
    assert!(!told(NASTY).as_str().contains("<script"));
}

#[test]
fn an_empty_gateway_has_a_page() {
    let mut status = status(0, 0, 0);
    (status.streams, status.errors, status.stores) = (Vec::new(), Vec::new(), Vec::new());
    (status.state, status.failed_reload, status.sessions) = ("ok", None, None);
    (status.totals, status.upstreams) = (Totals::default(), Vec::new());
    let page = text(&status);
    assert!(page.contains(">OK</p>") && page.contains("<dd>- <small>p99 -<"));
    assert!(!page.contains("class=wrong") && page.contains("nothing yet"));
}

#[test]
fn of_a_thousand_keys_those_near_their_limits_are_shown_first() {
    let page = text(&status(2, 1, 1_000));
    assert!(page.contains("and 950 more: <a href=/api/status>"));
    let (_, keys) = page.split_once("Keys and quotas</h2>").unwrap();
    let (_, first) = keys.split_once("<tr data-key=\"").unwrap();
    let first = first.split("</tr>").next().unwrap();
    assert!(first.contains("class=\"bar full\""), "{first}");
}

#[test]
fn the_page_and_its_files_are_small() {
    const MOST: usize = 40 * 1024;
    let page = Answer::html(http::StatusCode::OK, page(&status(64, 50, 1_000), &Visitor::Here));
    let gzip = (http::header::ACCEPT_ENCODING, http::HeaderValue::from_static("gzip"));
    let asked = http::HeaderMap::from_iter([gzip]);
    let sent = |answer: Answer| answer.finish(&http::Method::GET, &asked).body().len();
    let all = [sent(page), sent(Answer::asset(&SCRIPT)), sent(Answer::asset(&STYLE))];
    assert!(all.iter().sum::<usize>() + ICON.text.len() <= MOST, "{all:?}");
    assert!(SCRIPT.text.len() <= 10_000 && STYLE.text.len() <= 8_000);
}
