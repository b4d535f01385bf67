//! The process (R46 to R50): what goes wrong with one request is that request's, and a release is what it says it is.

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use futures_util::{StreamExt as _, stream};
use serde_json::{Value, json};
use sluice::sim::{Settings, Simulator};
use sluice::upstream::resolve::Resolve;

use super::alone::Alone;
use crate::nodes::upstream;
use crate::support::gateway::{Setup, chat, written};
use crate::support::scripted::{Peer, Scripted};
use crate::support::{KEY, eventually, node_with, within};

/// A resolver with a defect: it panics so often, in the middle of a request.
struct Panics {
    left: AtomicUsize,
    then: SocketAddr,
}

#[async_trait]
impl Resolve for Panics {
    async fn lookup(&self, host: &str, _: u16) -> io::Result<Vec<SocketAddr>> {
        let one_less = |left: usize| left.checked_sub(1);
        let left = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less);
        assert!(left.is_err(), "a defect that the test put there: {host}");
        Ok(vec![self.then])
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn r46_a_panic_costs_one_request_and_gives_back_what_that_held() {
    const PANICS: usize = 6;
    let good = Scripted::replying(r#"{"whole":true}"#).await;
    let (go_on, wait) = tokio::sync::watch::channel(false);
    let slow = Scripted::start(move |_, mut peer: Peer| {
        let mut wait = wait.clone();
        async move {
            peer.request().await;
            let head = "content-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
            peer.send(format!("HTTP/1.1 200 OK\r\n{head}9\r\ndata: 1\n\n\r\n").as_bytes()).await;
            wait.wait_for(|go_on| *go_on).await.unwrap();
            peer.send(b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n").await;
        }
    })
    .await;
    let routes = format!(
        "upstreams:\n  bad: {{ kind: vllm, nodes: ['http://defect:8000'], models: [m], health: off }}\n  \
           slow: {{ kind: vllm, nodes: ['http://{}'], models: [s], health: off }}\n\
         routes:\n  - {{ preset: vllm, upstream: bad }}\n  - {{ preset: vllm, upstream: slow }}\n",
        slow.addr
    );
    let resolver = Panics { left: AtomicUsize::new(PANICS), then: good.addr };
    let setup = Setup::routes(&routes).resolver(Arc::new(resolver));
    let gateway = setup.flags(|flags| flags.h2c = Some("true".into())).start().await;
    let http2 = reqwest::Client::builder().http2_prior_knowledge().build().unwrap();
    let ask = |client: &reqwest::Client, model: &str, stream: bool| {
        let mut body = chat(model);
        body["stream"] = stream.into();
        client.post(gateway.url("/v1/chat/completions")).bearer_auth(KEY).json(&body).send()
    };
    // A stream on each kind of connection; with HTTP/2 the panics come on the same one.
    let mut streams = Vec::new();
    for client in [&gateway.client, &http2] {
        let mut reply = within(ask(client, "s", true)).await.unwrap();
        assert_eq!(within(reply.chunk()).await.unwrap().unwrap(), "data: 1\n\n");
        streams.push(reply);
    }
    for turn in 0..PANICS {
        let client = if turn % 2 == 0 { &gateway.client } else { &http2 };
        match within(ask(client, "m", turn % 3 == 0)).await {
            Ok(reply) => assert_eq!(reply.status(), 500, "turn {turn}"),
            Err(closed) => assert!(!closed.is_timeout(), "turn {turn}: {closed}"),
        }
    }
    for gauge in ["sluice_requests_in_flight", "sluice_node_in_flight"] {
        eventually(|| async { gateway.series(gauge) == 2.0 }).await;
    }
    eventually(|| async { gateway.series("sluice_held_request_bytes") == 0.0 }).await;
    assert_eq!(good.seen().len(), 0);
    for client in [&gateway.client, &http2] {
        let reply = within(ask(client, "m", false)).await.unwrap();
        assert_eq!(reply.text().await.unwrap(), r#"{"whole":true}"#);
    }
    assert_eq!(good.seen().len(), 2);
    go_on.send(true).unwrap();
    for reply in streams {
        assert_eq!(within(reply.text()).await.unwrap(), "data: [DONE]\n\n");
    }
    eventually(|| async { gateway.series("sluice_requests_in_flight") == 0.0 }).await;
}

/// A file of the project.
fn file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

#[test]
fn r46_a_panic_unwinds_and_none_is_written_on_purpose() {
    let manifest = written(&file("Cargo.toml"));
    assert!(!manifest.contains("panic = \"abort\""));
    for lint in ["unwrap_used", "expect_used", "panic", "todo"] {
        assert!(manifest.contains(&format!("\n{lint} = \"deny\"\n")), "{lint}");
    }
}

/// What went wrong where nothing was to go wrong; the words of an answer are the node's echo of the question.
fn wrong(number: usize, stream: bool, status: u16, body: Option<&str>) -> Option<String> {
    let own = format!("You said:{}", format!(" alpha{number}").repeat(99));
    let told = |what: &str| Some(format!("{number} stream={stream} {status} {what}: {body:?}"));
    // An answer that is cut looks cut, and no more is known of it.
    let body = body?;
    match (status, stream) {
        (200, false) => {
            let Ok(answer) = serde_json::from_str::<Value>(body) else { return told("no JSON") };
            let said = answer["choices"][0]["message"]["content"].as_str().unwrap_or_default();
            if said.len() < 12 || !own.starts_with(said) { told("another's answer") } else { None }
        }
        (200, true) => {
            let mut said = String::new();
            for event in body.split("\n\n").filter_map(|event| event.strip_prefix("data: ")) {
                let event: Value = serde_json::from_str(event).unwrap_or_default();
                said += event["choices"][0]["delta"]["content"].as_str().unwrap_or_default();
            }
            let (done, broken) = (body.ends_with("data: [DONE]\n\n"), body.contains("\"error\""));
            if !own.starts_with(&said) || done == broken { told("another's stream") } else { None }
        }
        (429 | 500 | 502 | 503 | 504, _) => {
            let error = serde_json::from_str::<Value>(body).unwrap_or_default();
            if error["error"]["message"].is_string() { None } else { told("no error") }
        }
        _ => told("not to be expected"),
    }
}

/// A node that fails a third of its requests, always the same ones.
async fn unsteady(seed: u64) -> Simulator {
    let models = vec!["m".into()];
    node_with(Settings { models, fault_rate: 0.34, fault_seed: Some(seed), ..Settings::default() })
        .await
}

/// A short form of the soak in `benches/`: every fault that the simulator knows, and every answer looked at.
#[tokio::test(flavor = "multi_thread")]
async fn r48_under_random_faults_no_answer_is_wrong_and_nothing_is_left_behind() {
    const FAULTS: [&str; 12] = [
        "status=500",
        "status=503",
        "status=429,retry-after=0",
        "reset",
        "close",
        "stall",
        "garbage",
        "stall-after=2",
        "cut-after=2",
        "reset-after=1",
        "die-after=3",
        "slow=20ms",
    ];
    const EACH: usize = 32;
    let nodes = [unsteady(7).await, unsteady(11).await];
    let addresses = nodes.each_ref().map(Simulator::addr);
    let fields = "models: [m], health: off, timeouts: { first_byte: 2s, idle: 2s }";
    let gateway = Alone::start(&upstream(&addresses, fields)).await;
    assert_eq!(within(gateway.chat().send()).await.unwrap().status(), 200);
    let before = gateway.descriptors();
    let mut all_wrong = Vec::new();
    for (round, fault) in FAULTS.iter().enumerate() {
        nodes.iter().for_each(|node| node.set_fault(Some(fault.parse().unwrap())));
        let asked = stream::iter(round * EACH..(round + 1) * EACH).map(|number| {
            let (gateway, streamed) = (&gateway, number % 2 == 1);
            async move {
                let message = json!({ "role": "user", "content": format!("alpha{number}") });
                let body = json!({ "model": "m", "messages": [message], "stream": streamed });
                let sent = gateway.post("/v1/chat/completions").json(&body).send();
                let reply = within(sent).await.unwrap();
                let status = reply.status().as_u16();
                let body = within(reply.text()).await.ok();
                wrong(number, streamed, status, body.as_deref())
            }
        });
        all_wrong.extend(asked.buffer_unordered(8).collect::<Vec<_>>().await.into_iter().flatten());
    }
    assert_eq!(all_wrong, Vec::<String>::new());
    for gauge in ["sluice_requests_in_flight", "sluice_node_in_flight", "sluice_held_request_bytes"]
    {
        eventually(|| async { gateway.series(gauge).await == 0.0 }).await;
    }
    eventually(|| async { gateway.descriptors() <= before + 15 }).await;
    for node in &nodes {
        within(node.wait_until(|counts| counts.running == 0)).await;
        for came in node.requests() {
            assert!(!came.headers.contains_key("authorization"));
            let body: Value = serde_json::from_slice(&came.body).unwrap();
            let message = body["messages"][0]["content"].as_str().unwrap();
            let number = message.strip_prefix("alpha").and_then(|number| number.parse().ok());
            assert!(
                message == "Hello there"
                    || number.is_some_and(|one: usize| one < FAULTS.len() * EACH)
            );
        }
    }
}

#[test]
fn r49_what_a_release_is_made_of_is_written_down_and_looked_at() {
    let (manifest, lock) = (written(&file("Cargo.toml")), written(&file("Cargo.lock")));
    let pinned: Vec<_> = manifest.lines().filter(|line| line.starts_with("pingora")).collect();
    assert_eq!(pinned.len(), 3);
    let locked = lock.split("[[package]]").filter(|one| one.contains("\nname = \"pingora"));
    let locked: BTreeSet<_> = locked.map(|one| one.split('"').nth(3).unwrap()).collect();
    assert_eq!(locked.len(), 1, "one version of all its parts: {locked:?}");
    for line in pinned {
        let version = line.split("version = \"=").nth(1).unwrap_or_else(|| panic!("{line}"));
        assert_eq!(Some(&version[..version.find('"').unwrap()]), locked.first().copied());
    }
    assert!(!written(&file(".gitignore")).contains("Cargo.lock"));
    let deny = written(&file(".deny.toml"));
    let ignored = deny.lines().filter(|line| line.contains("RUSTSEC-"));
    assert!(ignored.clone().all(|line| line.contains("reason = \"")), "{deny}");
    assert!(deny.contains("[advisories]") && deny.contains("unknown-registry = \"deny\""));
}

/// What reads bytes from outside has a target, and each target bytes to begin with.
#[test]
fn r50_what_reads_from_outside_is_fuzzed() {
    let manifest = written(&file("tests/fuzz/Cargo.toml"));
    let named: BTreeSet<_> = manifest
        .lines()
        .filter_map(|line| line.strip_prefix("path = \"fuzz_targets/")?.strip_suffix(".rs\""))
        .collect();
    let there = std::fs::read_dir(file("tests/fuzz/fuzz_targets")).unwrap();
    let there = there.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let there: BTreeSet<_> = there.map(|name| name.trim_end_matches(".rs").to_owned()).collect();
    assert_eq!(named, there.iter().map(String::as_str).collect());
    for reader in [
        "raw_head",
        "body_head",
        "config",
        "request_target",
        "stream_end",
        "ollama",
        "chunks",
        "chunked",
        "form",
    ] {
        assert!(named.contains(reader), "{reader}");
    }
}

#[test]
fn r50_each_target_begins_with_seeds() {
    for entry in std::fs::read_dir(file("tests/fuzz/fuzz_targets")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let seeds = file("tests/fuzz/seeds").join(name.trim_end_matches(".rs"));
        let there = std::fs::read_dir(&seeds).map_or(0, Iterator::count);
        assert!(there > 0, "{}", seeds.display());
    }
}
