//! The steps of a request's way that are pure functions, one by one: what each costs where nothing else is in the way.
//!
//! ```sh
//! cargo bench --bench hot_path            # all of it
//! cargo bench --bench hot_path -- body    # some of it
//! ```

#![expect(clippy::unwrap_used, reason = "a bench stops at the first surprise")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use http::{HeaderMap, HeaderValue, Method, Uri};
use serde::de::IgnoredAny;
use sluice::access::keys;
use sluice::config::{self, Environment, Source};
use sluice::gateway::Snapshot;
use sluice::gateway::access_log::{Line, Who};
use sluice::metrics::Metrics;
use sluice::routing::table::Found;
use sluice::upstream::resolve::SystemResolver;
use sluice::wire::events::Tail;
use sluice::wire::ids::RequestId;
use sluice::wire::splice::Pieces;
use sluice::wire::{head, paths};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// A thousand keys and every path of vLLM.
fn snapshot(metrics: &Metrics) -> Snapshot {
    let dir = tempfile::tempdir().unwrap();
    let routes = "upstreams: {node: {kind: vllm, nodes: [\"http://127.0.0.1:8000\"], models: [m]}}\nroutes: [{preset: vllm, upstream: node}]\n";
    std::fs::write(dir.path().join("routes.yaml"), routes).unwrap();
    let keys: String =
        (0..1_000).map(|n| format!("  - {{name: team-{n}, key: sk-team-{n:04}}}\n")).collect();
    std::fs::write(dir.path().join("keys.yaml"), format!("keys:\n{keys}")).unwrap();
    let environment = Environment::from_iter(Vec::<(String, String)>::new());
    let source = Source { dir: dir.path().to_owned(), environment, backend: None };
    let config = config::load(&source).map_err(|problems| problems.to_string()).unwrap();
    Snapshot::build(&config, None, &(Arc::new(SystemResolver) as Arc<_>), metrics).unwrap()
}

fn admission(c: &mut Criterion) {
    let metrics = Metrics::new().unwrap();
    let snapshot = snapshot(&metrics);
    let mut headers = HeaderMap::new();
    headers.insert("authorization", HeaderValue::from_static("Bearer sk-team-0500"));
    headers.insert("content-type", HeaderValue::from_static("application/json"));
    let now = SystemTime::now();
    c.bench_function("key: found among 1,000", |b| {
        b.iter(|| {
            let presented = keys::presented(black_box(&headers)).unwrap().unwrap();
            black_box(snapshot.keys.find(presented, now).is_some())
        });
    });
    let uri = Uri::from_static("/v1/chat/completions");
    c.bench_function("route: path and method, target", |b| {
        b.iter(|| {
            let path = black_box(&uri).path();
            paths::refuse_ambiguous(&Method::POST, path.as_bytes()).unwrap();
            let Found::Routes(routes) = snapshot.table.find(&Method::POST, path) else { return };
            black_box(routes[0].target(&uri, None).unwrap());
        });
    });
    c.bench_function("id: a new one, and that of a try", |b| {
        b.iter(|| black_box(RequestId::of(None).of_try()));
    });
    let upstream = &snapshot.upstreams[0].metrics;
    c.bench_function("metrics: an answer", |b| {
        b.iter(|| upstream.answered(black_box(200), black_box(Duration::from_millis(20))));
    });
}

/// A chat of about so many bytes, the model at its end: the worst place.
fn chat(bytes: usize) -> Vec<u8> {
    let text = "The quick brown fox jumps over. ".repeat(bytes / 32);
    format!(r#"{{"messages":[{{"role":"user","content":"{text}"}}],"stream":true,"model":"m"}}"#)
        .into_bytes()
}

fn body(c: &mut Criterion) {
    let mut group = c.benchmark_group("body");
    for bytes in [1 << 10, 64 << 10, 1 << 20] {
        let body = chat(bytes);
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_with_input(BenchmarkId::new("head", bytes), &body, |b, body| {
            b.iter(|| black_box(head::read(body).unwrap().stream));
        });
        group.bench_with_input(BenchmarkId::new("serde_json's skip", bytes), &body, |b, body| {
            b.iter(|| serde_json::from_slice::<IgnoredAny>(black_box(body)).unwrap());
        });
        let shared = Bytes::from(body);
        let at = head::read(&shared).unwrap().model_at.unwrap();
        group.bench_with_input(BenchmarkId::new("splice", bytes), &shared, |b, body| {
            b.iter(|| {
                Pieces::spliced(body, at.clone(), b"\"another\"").map(|p| p.len()).sum::<usize>()
            });
        });
    }
    group.finish();
}

fn stream(c: &mut Criterion) {
    let event = format!(
        "data: {{\"id\":\"chatcmpl-1\",\"choices\":[{{\"delta\":{{\"content\":\"{}\"}}}}]}}\n\n",
        "x".repeat(120)
    );
    let mut tail = Tail::default();
    c.bench_function("stream: where an event ends", |b| {
        b.iter(|| {
            tail.push(black_box(event.as_bytes()));
            black_box(tail.between_events())
        });
    });
}

fn access_log(c: &mut Criterion) {
    let metrics = Metrics::new().unwrap();
    let snapshot = snapshot(&metrics);
    let mut headers = HeaderMap::new();
    headers.insert("x-api-key", HeaderValue::from_static("sk-team-0500"));
    let presented = keys::presented(&headers).unwrap().unwrap();
    let key = snapshot.keys.find(presented, SystemTime::now()).unwrap();
    let line = Line {
        time: SystemTime::now(),
        id: RequestId::of(None),
        trace: None,
        who: Some(Who::Known(key.clone())),
        client: Some("192.0.2.1:40000".parse().unwrap()),
        method: "POST".into(),
        path: "/v1/chat/completions".into(),
        status: 200,
        error: None,
        model: Some("m".into()),
        upstream: Some(snapshot.upstreams[0].clone()),
        node: Some("192.0.2.2:8000".parse().unwrap()),
        tries: 1,
        stream: true,
        bytes_in: 1_024,
        bytes_out: 65_536,
        first_byte: Some(Duration::from_millis(20)),
        duration: Duration::from_millis(1_500),
        client_left: false,
    };
    let mut out = Vec::with_capacity(1_024);
    c.bench_function("access log: a line of JSON", |b| {
        b.iter(|| {
            out.clear();
            black_box(&line).write_json(&mut out);
            black_box(out.len())
        });
    });
}

criterion_group!(benches, admission, body, stream, access_log);
criterion_main!(benches);
