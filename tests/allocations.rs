//! How often the gateway asks for memory, beside a bare Pingora proxy on the same work: counts are the same on every
//! machine, and the first sign of work that is done twice.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]
#![expect(clippy::print_stdout, reason = "the counts are worth a look")]
#![expect(unsafe_code, reason = "an allocator that counts is one that hands through")]

#[path = "../benches/gateway/bare.rs"]
mod bare;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bare::Bare;
use sluice::config::{Environment, Settings, SettingsArgs, Source};
use sluice::gateway::{AccessLog, Format};
use sluice::server::{Server, Start, bind};
use sluice::upstream::resolve::SystemResolver;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;

/// More than a bare proxy asks for, for each request: a key, a route, a model, metrics, a line in the log, a body that
/// could be sent again.
const MORE_PER_REQUEST_MAX: f64 = 20.0;

/// The same for each event of a stream that nobody changes, while comments may be due: two boxes round the calls of the
/// stand-in for the client's session. Timers are made anew each 10 ms.
const MORE_PER_EVENT_MAX: f64 = 2.5;

/// The same where nothing but the head of a stream is looked after: nothing.
const MORE_PER_EVENT_HANDED_OVER_MAX: f64 = 0.5;

/// Requests that are counted, after as many that fill pools and buffers.
const REQUESTS: u64 = 200;

/// The same of streams.
const STREAMS: u64 = 5;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static COUNTED: Cell<bool> = const { Cell::new(false) };
}

struct Counting;

fn count() {
    // A thread that ends has none any more.
    if COUNTED.try_with(Cell::get).unwrap_or(false) {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
    }
}

// SAFETY: everything is the system's allocator's.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(at, layout) }
    }
    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as the caller promises.
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// One thread, so that no work is stolen and counted twice.
fn runtime(counted: bool) -> Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .on_thread_start(move || COUNTED.set(counted))
        .build()
        .unwrap()
}

const KEY: &str = "sk-client";

/// A gateway as `serve` starts it: a key of its own, a model to read and a line for each request.
fn start_gateway(
    runtime: &Runtime,
    node: SocketAddr,
    dir: &std::path::Path,
    keepalive: &str,
) -> (Server, SocketAddr) {
    let timeouts = "{first_byte: 60s, idle: 60s}";
    let routes = format!(
        "upstreams: {{node: {{kind: vllm, nodes: [\"http://{node}\"], key: sk-node, models: [m], health: off, timeouts: {timeouts}}}}}\nroutes: [{{preset: vllm, upstream: node}}]\n"
    );
    std::fs::write(dir.join("routes.yaml"), routes).unwrap();
    let keys = format!("keys: [{{name: client, key: {KEY}, models: [m]}}]\n");
    std::fs::write(dir.join("keys.yaml"), keys).unwrap();
    let environment = Environment::from_iter(Vec::<(String, String)>::new());
    let flags =
        SettingsArgs { sse_keepalive: Some(keepalive.to_owned()), ..SettingsArgs::default() };
    let settings = Settings::resolve(&flags, &environment, dir);
    let settings = settings.map_err(|problems| problems.to_string()).unwrap();
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let _inside = runtime.enter();
    let (public, admin) = (bind(any).unwrap(), bind(any).unwrap());
    let address = public.local_addr().unwrap();
    let (access_log, writer) = AccessLog::start(Format::Json, std::io::sink()).unwrap();
    let server = Server::start(Start {
        settings,
        source: Source { dir: dir.to_owned(), environment, backend: None },
        public,
        admin,
        resolver: Arc::new(SystemResolver),
        access_log: (access_log, Some(writer)),
    });
    (server.map_err(|error| error.to_string()).unwrap(), address)
}

/// What the node may send: an event for each permit, so that each arrives alone.
static TURNS: Semaphore = Semaphore::const_new(0);

const EVENT: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\" word\"}}]}\n\n";

/// A node that answers a chat at once, or with as many events as its `max_tokens` says.
async fn node(listener: tokio::net::TcpListener) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let mut request = Vec::new();
        // A proxy that closes its connection ends it.
        while let Ok(1..) = stream.read_buf(&mut request).await {
            if !is_whole(&request) {
                continue;
            }
            let text = String::from_utf8(std::mem::take(&mut request)).unwrap();
            let events = text
                .split_once("\"stream\":true,\"max_tokens\":")
                .map(|(_, rest)| rest.split(',').next().unwrap().parse::<usize>().unwrap());
            match events {
                None => stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}").await.unwrap(),
                Some(events) => stream_events(&mut stream, events).await,
            }
        }
    }
}

async fn stream_events(stream: &mut TcpStream, events: usize) {
    let head =
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    for _ in 0..events {
        TURNS.acquire().await.unwrap().forget();
        let chunk = format!("{:x}\r\n{EVENT}\r\n", EVENT.len());
        stream.write_all(chunk.as_bytes()).await.unwrap();
    }
    stream.write_all(b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n").await.unwrap();
}

/// A chat of which the answer has so many events.
fn chat(events: usize) -> Vec<u8> {
    let stream =
        if events > 0 { format!(r#""stream":true,"max_tokens":{events},"#) } else { String::new() };
    let body = format!(
        r#"{{"model":"m",{stream}"messages":[{{"role":"user","content":"Hello there"}}]}}"#
    );
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {KEY}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// Asks so often on one connection, and reads each answer to its end; the next event comes when one was read.
async fn ask(to: SocketAddr, request: &[u8], times: u64) {
    let mut stream = TcpStream::connect(to).await.unwrap();
    let mut answer = Vec::new();
    for _ in 0..times {
        stream.write_all(request).await.unwrap();
        answer.clear();
        while !is_whole(&answer) {
            TURNS.add_permits(1);
            assert_ne!(stream.read_buf(&mut answer).await.unwrap(), 0, "the connection ended");
        }
        let text = String::from_utf8_lossy(&answer);
        assert!(text.starts_with("HTTP/1.1 200"), "{text}");
        TURNS.forget_permits(usize::MAX);
    }
}

/// Whether a request or an answer has arrived.
fn is_whole(message: &[u8]) -> bool {
    let text = String::from_utf8_lossy(message);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let head = head.to_ascii_lowercase();
    match head.split_once("content-length: ") {
        Some((_, rest)) => {
            body.len() == rest.split("\r\n").next().unwrap().parse::<usize>().unwrap()
        }
        None => body.ends_with("0\r\n\r\n"),
    }
}

/// Allocations of a request whose answer has so many events, on average over so many.
fn per_request(client: &Runtime, to: SocketAddr, (events, requests): (usize, u64)) -> f64 {
    let request = chat(events);
    client.block_on(ask(to, &request, requests));
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    client.block_on(ask(to, &request, requests));
    (ALLOCATIONS.load(Ordering::Relaxed) - before) as f64 / requests as f64
}

#[test]
fn a_request_and_an_event_ask_for_little_more_memory_than_in_a_bare_proxy() {
    let (outside, inside) = (runtime(false), runtime(true));
    let listener = outside.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    outside.spawn(node(listener));
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let (_gateway, gateway) = start_gateway(&inside, address, dirs[0].path(), "15s");
    let (_other, handing_over) = start_gateway(&inside, address, dirs[1].path(), "0");
    let bare = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let proxy = Bare {
        node: address,
        elsewhere: ("/elsewhere", address),
        known: "Bearer sk-client",
        own: "Bearer sk-node",
    };
    inside.spawn(async move { proxy.serve(&bare.to_string()).await });
    while std::net::TcpStream::connect(bare).is_err() {
        std::thread::yield_now();
    }
    let figures = |to| {
        let events = |events| per_request(&outside, to, (events, STREAMS));
        (per_request(&outside, to, (0, REQUESTS)), (events(110) - events(10)) / 100.0)
    };
    let (bare_unary, bare_event) = figures(bare);
    for (to, per_event_max) in
        [(gateway, MORE_PER_EVENT_MAX), (handing_over, MORE_PER_EVENT_HANDED_OVER_MAX)]
    {
        let (unary, event) = figures(to);
        println!(
            "a request: {unary:.1}, bare {bare_unary:.1}; an event: {event:.2}, bare {bare_event:.2}"
        );
        assert!(unary <= bare_unary + MORE_PER_REQUEST_MAX, "{unary} a request, bare {bare_unary}");
        assert!(event <= bare_event + per_event_max, "{event} an event, bare {bare_event}");
    }
}
