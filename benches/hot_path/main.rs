//! The steps of a request's way that are pure functions, one by one: what each costs where nothing else is in the way.
//!
//! ```sh
//! cargo bench --bench hot_path                      # the time of all
//! cargo bench --bench hot_path -- body              # of some
//! cargo bench --bench hot_path -- --instructions    # counted by callgrind: the same on every run, below any noise
//! ```

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a bench stops at the first surprise")]
#![expect(clippy::print_stdout, reason = "a bench tells its figures")]

mod seen;

use std::hint::black_box;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use criterion::Criterion;
use http::{HeaderMap, HeaderValue, Method, Uri};
use serde::de::IgnoredAny;
use sluice::access::keys;
use sluice::access::limits::{Account, Part};
use sluice::chat::tokens::{Counter, Kept};
use sluice::chat::{Conversation, Message, Role};
use sluice::config::{
    self, Balance, Day, Environment, KeyLimits, Kind, NodeUrl, Nodes, Source, UpstreamConfig,
    with_defaults,
};
use sluice::gateway::Snapshot;
use sluice::gateway::access_log::{Asked, Line, Who};
use sluice::metrics::Metrics;
use sluice::routing::table::{Found, with_query};
use sluice::upstream::Upstream;
use sluice::upstream::balance::{Affinity, Wish};
use sluice::upstream::node::Registry;
use sluice::upstream::prefix::chain::Chain;
use sluice::upstream::resolve::SystemResolver;
use sluice::wire::events::Tail;
use sluice::wire::finish::Finish;
use sluice::wire::ids::RequestId;
use sluice::wire::ollama;
use sluice::wire::splice::{Edit, Pieces};
use sluice::wire::usage::Tally;
use sluice::wire::usage::ask::Hidden;
use sluice::wire::usage::chunks::Chunks;
use sluice::wire::{head, paths};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// A step, ready to be done again and again.
type Step = (String, Box<dyn FnMut()>);

/// How often a step is done under callgrind; twice as often in a second run, so that the start is in neither figure.
const COUNTED: usize = 1_000;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["--do", name, times] => {
            let (_, mut step) = steps().into_iter().find(|(known, _)| known == name).unwrap();
            (0..times.parse().unwrap()).for_each(|_| step());
        }
        ["--instructions"] => {
            for (name, _) in steps() {
                let once = instructions(&name, COUNTED);
                let twice = instructions(&name, 2 * COUNTED);
                println!("{:>9} {name}", (twice - once) / COUNTED as u64);
            }
        }
        _ => {
            let mut criterion = Criterion::default().configure_from_args();
            for (name, mut step) in steps() {
                criterion.bench_function(&name, |bencher| bencher.iter(&mut step));
            }
            criterion.final_summary();
        }
    }
}

/// Instructions of a process that does a step so often.
fn instructions(name: &str, times: usize) -> u64 {
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]);
    valgrind.arg(std::env::current_exe().unwrap()).args(["--do", name, &times.to_string()]);
    let output = valgrind.output().expect("apt-get install valgrind");
    let told = String::from_utf8_lossy(&output.stderr);
    let (_, collected) = told.split_once("Collected : ").expect("callgrind tells what it counted");
    collected.split_whitespace().next().unwrap().parse().unwrap()
}

fn steps() -> Vec<Step> {
    let metrics = Metrics::new().unwrap();
    let snapshot = Arc::new(snapshot(&metrics));
    let mut steps = admission(&snapshot);
    steps.extend([1 << 10, 64 << 10, 1 << 20].into_iter().flat_map(body));
    steps.extend(prompt());
    steps.push(limits());
    steps.push(events());
    steps.extend(usage());
    steps.extend(ollama());
    steps.push(access_log(&snapshot));
    steps.extend(seen::steps());
    steps.extend(tokens());
    steps
}

fn step(name: impl Into<String>, run: impl FnMut() + 'static) -> Step {
    (name.into(), Box::new(run))
}

/// A thousand keys and every path of vLLM.
fn snapshot(metrics: &Metrics) -> Snapshot {
    let dir = tempfile::tempdir().unwrap();
    let nodes: String = (0..8).map(|n| format!("http://127.0.0.1:{}, ", 8_000 + n)).collect();
    let routes = format!(
        "upstreams: {{node: {{kind: vllm, nodes: [{nodes}], models: [m]}}}}\nroutes: [{{preset: vllm, upstream: node}}]\n"
    );
    std::fs::write(dir.path().join("routes.yaml"), routes).unwrap();
    let keys: String =
        (0..1_000).map(|n| format!("  - {{name: team-{n}, key: sk-team-{n:04}}}\n")).collect();
    std::fs::write(dir.path().join("keys.yaml"), format!("keys:\n{keys}")).unwrap();
    let environment = Environment::from_iter(Vec::<(String, String)>::new());
    let source = Source { dir: dir.path().to_owned(), environment, backend: None };
    let config = config::load(&source).map_err(|problems| problems.to_string()).unwrap();
    let registry = Arc::new(Registry::new(Arc::new(SystemResolver), 0));
    Snapshot::build(&config, None, &registry, metrics).unwrap()
}

fn headers() -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("authorization", HeaderValue::from_static("Bearer sk-team-0500"));
    headers.insert("content-type", HeaderValue::from_static("application/json"));
    headers
}

fn admission(snapshot: &Arc<Snapshot>) -> Vec<Step> {
    let (headers, now) = (headers(), SystemTime::now());
    let uri = Uri::from_static("/v1/chat/completions");
    let [keys, table, nodes, upstream] = std::array::from_fn(|_| snapshot.clone());
    vec![
        step("key: found among 1,000", move || {
            let presented = keys::presented(black_box(&headers)).unwrap().unwrap();
            black_box(keys.keys.find(presented, now).is_some());
        }),
        step("route: path and method, target", move || {
            let path = black_box(&uri).path();
            paths::refuse_ambiguous(&Method::POST, path.as_bytes()).unwrap();
            let Found::Routes(routes) = table.table.find(&Method::POST, path) else { return };
            let asked = with_query(&uri, uri.query()).unwrap();
            let members = routes[0].upstream.members();
            black_box(routes[0].target(&asked, &members[0].node).unwrap());
        }),
        step("node: the best of 8, and its place given back", move || {
            let wish = Wish { model: Some("m"), ..Wish::ANY };
            black_box(nodes.upstreams[0].pick(&wish).is_ok());
        }),
        step("id: a new one, and that of a try", || {
            black_box(RequestId::of(None).of_try());
        }),
        step("metrics: an answer", move || {
            let took = black_box(Duration::from_millis(20));
            upstream.upstreams[0].metrics.answered(black_box(200), took);
        }),
    ]
}

/// A chat of about so many bytes, the model at its end: the worst place.
fn body(bytes: usize) -> Vec<Step> {
    let text = "The quick brown fox jumps over. ".repeat(bytes / 32);
    let body = Bytes::from(format!(
        r#"{{"messages":[{{"role":"user","content":"{text}"}}],"stream":true,"model":"m"}}"#
    ));
    let at = head::read(&body).unwrap().asked.model_at.unwrap();
    let [read, skipped, spliced] = std::array::from_fn(|_| body.clone());
    let size = format!("{} KB", bytes >> 10);
    vec![
        step(format!("body: head, {size}"), move || {
            black_box(head::read(black_box(&read)).unwrap().stream);
        }),
        step(format!("body: serde_json's skip, {size}"), move || {
            serde_json::from_slice::<IgnoredAny>(black_box(&skipped)).unwrap();
        }),
        step(format!("body: splice, {size}"), move || {
            let edit = Edit { at: at.clone(), new: b"\"another\"".to_vec() };
            let pieces = Pieces::edited(&spliced, &edit);
            black_box(pieces.map(|piece| piece.len()).sum::<usize>());
        }),
    ]
}

/// The choice among 64 nodes for a prompt of 128 KB that all of them hold, beside the bare hash of its bytes.
fn prompt() -> Vec<Step> {
    let text = "The quick brown fox jumps over. ".repeat((128 << 10) / 32);
    let url = |port| NodeUrl { tls: false, host: "node".to_owned(), port, base: String::new() };
    let nodes = Nodes::Listed((1..=64).map(url).collect());
    let config = with_defaults("u".into(), Kind::Vllm, nodes);
    let config = UpstreamConfig { balance: Balance::PrefixAware, ..config };
    let registry = Arc::new(Registry::new(Arc::new(SystemResolver), 64 << 20));
    let upstream = Upstream::new(&config, None, &registry, &Metrics::new().unwrap());
    let pick = move |text: &str| {
        let chain = Chain::new("m", [text.as_bytes()]);
        let affinity = Affinity::Prompt(&chain);
        let wish = Wish { affinity, bytes: text.len(), ..Wish::ANY };
        upstream.pick(&wish).unwrap()
    };
    let places: Vec<_> = (0..640).map(|_| pick(&text)).collect();
    drop(places);
    let [hashed, chained, picked] = std::array::from_fn(|_| text.clone());
    vec![
        step("prompt: xxh3 of 128 KB", move || {
            black_box(xxhash_rust::xxh3::xxh3_64(black_box(hashed.as_bytes())));
        }),
        step("prompt: its blocks, 128 KB", move || {
            black_box(Chain::new("m", [black_box(chained.as_bytes())]).bytes());
        }),
        step("prompt: the best of 64 nodes, 128 KB, all of it", move || {
            black_box(pick(black_box(&picked)).is_trial());
        }),
    ]
}

/// A key with every limit, asked for again and again.
fn limits() -> Step {
    const BEGAN: u64 = 1_800_000_000_000;
    let some = Some(1_000_000_000);
    let day = Day::Rolling;
    let limits = KeyLimits { rpm: some, rpd: some, tpm: some, tpd: some, concurrent: some, day };
    let (account, mut now) = (Arc::<Account>::default(), BEGAN);
    step("limits: a decision, settled, and the place given back", move || {
        now += 1;
        let (admitted, standing) = account.take(black_box(&limits), Part::All(7), now);
        // As where an answer was shorter than it might have been.
        admitted.unwrap().settle(5, now);
        black_box(standing);
    })
}

fn events() -> Step {
    let event = format!(
        "data: {{\"id\":\"chatcmpl-1\",\"choices\":[{{\"delta\":{{\"content\":\"{}\"}}}}]}}\n\n",
        "x".repeat(120)
    );
    let mut tail = Tail::default();
    step("stream: where an event ends", move || {
        tail.push(black_box(event.as_bytes()));
        black_box(tail.between_events());
    })
}

/// A chunk of vLLM's with its usage, as it comes from a socket: the copy alone, and with the usage noted and cut out.
fn usage() -> Vec<Step> {
    const CHUNK: &str = "data: {\"id\":\"chatcmpl-98a4e02810e0d685\",\"object\":\"chat.completion.chunk\",\"created\":1795201551,\"model\":\"tiny-llama\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"quick\"},\"logprobs\":null,\"finish_reason\":null,\"token_ids\":null}],\"usage\":{\"prompt_tokens\":12,\"total_tokens\":13,\"completion_tokens\":1,\"completion_tokens_details\":null}}\n\n";
    let piece = || Bytes::copy_from_slice(black_box(CHUNK.as_bytes()));
    let (mut chunks, mut tally) = (Chunks::new(Hidden::All), Tally::default());
    vec![
        step("usage: a chunk, copied", move || drop(black_box(piece()))),
        step("usage: a chunk, copied, noted and cut out", move || {
            drop(black_box(chunks.push(piece(), &mut tally)));
        }),
    ]
}

/// A line of Ollama's as a chunk, and chats as its requests: of a few words, and with an image of a megabyte.
fn ollama() -> Vec<Step> {
    const LINE: &[u8] = b"{\"model\":\"qwen3:8b\",\"created_at\":\"2026-11-20T18:00:00.123456789Z\",\"message\":{\"role\":\"assistant\",\"content\":\" quick\"},\"done\":false}\n";
    let asked = |body: &str| ollama::request(ollama::Call::Chat, body.as_bytes(), &[]).unwrap();
    let words = r#"{"model":"qwen3:8b","messages":[{"role":"system","content":"Be brief."},{"role":"user","content":"The quick brown fox?"}],"temperature":0.7,"max_tokens":64,"stream":true}"#;
    let image = format!(
        r#"{{"model":"qwen3:8b","messages":[{{"role":"user","content":[{{"type":"text","text":"What is it?"}},{{"type":"image_url","image_url":{{"url":"data:image/png;base64,{}"}}}}]}}]}}"#,
        "iVBORw0KGgo/".repeat((1 << 20) / 12)
    );
    let mut answer = asked(words).answer.begin("1", 200, 1_795_201_551);
    vec![
        step("ollama chunk: of a chat", move || {
            black_box(answer.push(black_box(LINE)));
        }),
        step("ollama request: a chat of a few words", move || {
            black_box(asked(black_box(words)).body.len());
        }),
        step("ollama request: an image of 1 MB", move || {
            black_box(asked(black_box(&image)).body.len());
        }),
    ]
}

fn access_log(snapshot: &Snapshot) -> Step {
    let headers = headers();
    let presented = keys::presented(&headers).unwrap().unwrap();
    let key = snapshot.keys.find(presented, SystemTime::now()).unwrap();
    let mut finish = Finish::of_path("/v1/chat/completions").unwrap();
    finish.push(b"\"finish_reason\":\"stop\"");
    let finish = finish.reason();
    let line = Line {
        time: SystemTime::now(),
        id: RequestId::of(None),
        trace: None,
        who: Some(Who::Known(key.clone())),
        asked: Asked {
            client: Some("192.0.2.1:40000".parse().unwrap()),
            method: "POST".into(),
            path: "/v1/chat/completions".into(),
            client_retry: None,
        },
        status: 200,
        error: None,
        model: Some("m".into()),
        upstream: Some(snapshot.upstreams[0].clone()),
        node: Some("192.0.2.2:8000".parse().unwrap()),
        tries: 1,
        stream: true,
        bytes: Some((1_024, 65_536)),
        finish,
        spent: None,
        first_byte: Some(Duration::from_millis(19)),
        first_token: Some(Duration::from_millis(20)),
        duration: Duration::from_millis(1_500),
        client_left: false,
        prompt: None,
    };
    let mut out = Vec::with_capacity(1_024);
    step("access log: a line of JSON", move || {
        out.clear();
        black_box(&line).write_json(&mut out);
        black_box(out.len());
    })
}

/// A history of 128 K tokens in 400 messages, counted by a session that is new, and by one that knows all but the last two. Other
/// models than the tests' have more tokens, so `BENCH_MODEL` may be a folder with one.
fn tokens() -> Vec<Step> {
    const TOKENS: u64 = 128 << 10;
    let own = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/chat/model").into();
    let folder = std::env::var_os("BENCH_MODEL").unwrap_or(own);
    let counter = Arc::new(Counter::load(folder.as_ref()).unwrap());
    let russian = "Шлюз передаёт запросы на узлы, а узлы отвечают токенами. Сколько их будет, заранее не знает никто. ";
    let text = include_str!("../../README.md").to_owned() + &russian.repeat(200);
    let text: Vec<char> = text.chars().collect();
    let message = |at: usize, length: usize| {
        let begin = at * length % (text.len() - length);
        let text: String = text[begin..begin + length].iter().collect();
        Message { role: [Role::User, Role::Assistant][at % 2], text: text.into() }
    };
    let none = serde_json::Map::new();
    let history = |length: usize| (0..400).map(|at| message(at, length)).collect::<Vec<_>>();
    let count = move |messages: &[Message], kept: &mut Kept| {
        counter.count(&Conversation { messages, extra: &none }, kept).unwrap()
    };
    let of_1000 = count(&history(1_000), &mut Kept::default());
    let length = usize::try_from(1_000 * TOKENS / of_1000).unwrap();
    let messages = history(length);
    let mut kept = Kept::default();
    println!("tokens: {} in {} messages", count(&messages, &mut kept), messages.len());
    let longer: Vec<_> =
        messages.iter().cloned().chain([message(0, 90), message(1, 100)]).collect();
    let next = count.clone();
    vec![
        step("tokens: first 128 K", move || {
            black_box(count(black_box(&messages), &mut Kept::default()));
        }),
        step("tokens: next of 128 K", move || {
            black_box(next(black_box(&longer), &mut kept.clone()));
        }),
    ]
}
