//! The process: how it starts, what it says when it cannot, and how it ends.

use std::process::{Output, Stdio};
use std::time::Duration;

use sluice::sim::{Settings, Simulator};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStderr, Command};

use crate::support::gateway::{chat, preset};
use crate::support::http::{raw, read_until, status};
use crate::support::{KEY, eventually, node_with, within};

/// Who waits so long for a token is a stream that the test ends.
const LONG: Duration = Duration::from_millis(100);

/// A process in a folder of its own, which knows nothing of the environment of the tests.
fn sluice(dir: &tempfile::TempDir) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
    command.env_clear().current_dir(dir.path()).kill_on_drop(true).stdin(Stdio::null());
    command
}

/// A folder with these files in `config/`.
fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("config")).unwrap();
    for (name, text) in files {
        std::fs::write(dir.path().join("config").join(name), text).unwrap();
    }
    dir
}

/// What a command says that ends by itself.
async fn run(dir: &tempfile::TempDir, arguments: &[&str], input: Option<&str>) -> Output {
    let mut command = sluice(dir);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.unwrap_or_default().as_bytes()).await.unwrap();
    drop(stdin);
    within(child.wait_with_output()).await.unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// `sluice serve` that answers.
struct Serving {
    child: Child,
    addr: std::net::SocketAddr,
    log: Lines<BufReader<ChildStderr>>,
    _dir: tempfile::TempDir,
}

impl Serving {
    async fn start(dir: tempfile::TempDir, arguments: &[&str], stdout: Stdio) -> Self {
        let mut command = sluice(&dir);
        command.args(["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]);
        command.args(arguments).env("PROXY_SECRET_KEY", KEY).stdout(stdout).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
        let addr = within(async {
            loop {
                let line = log.next_line().await.unwrap().expect("it ended");
                if let Some((_, rest)) = line.split_once("answers on http://") {
                    return rest.split([',', '"', ' ']).next().unwrap().parse().unwrap();
                }
            }
        })
        .await;
        Self { child, addr, log, _dir: dir }
    }

    /// A gateway before `node`.
    async fn before(node: &Simulator, arguments: &[&str]) -> Self {
        let dir = folder(&[("routes.yaml", &preset(node.addr()))]);
        Self::start(dir, arguments, Stdio::null()).await
    }

    async fn signal(&self, name: &str) {
        let id = self.child.id().unwrap().to_string();
        let sent = Command::new("/bin/kill").args([&format!("-{name}"), &id]).status();
        assert!(within(sent).await.unwrap().success());
    }

    async fn exit_code(&mut self) -> Option<i32> {
        within(self.child.wait()).await.unwrap().code()
    }

    async fn readyz(&self) -> u16 {
        let request = b"GET /readyz HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n";
        status(&raw(self.addr, request).await)
    }

    /// A stream that has begun.
    async fn stream(&self) -> TcpStream {
        let mut body = chat("m");
        body["stream"] = true.into();
        let body = body.to_string();
        let request = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: h\r\nauthorization: Bearer {KEY}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut stream = TcpStream::connect(self.addr).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        read_until(&mut stream, "data: ").await;
        stream
    }
}

/// A node whose answers take a while.
async fn slow(tokens: usize) -> Simulator {
    let settings = Settings {
        models: vec!["m".into()],
        tokens,
        max_model_len: 2 * tokens + 100,
        ..Settings::default()
    };
    node_with(Settings { token_delay: LONG, ..settings }).await
}

async fn rest_of(mut stream: TcpStream) -> String {
    let mut rest = Vec::new();
    within(stream.read_to_end(&mut rest)).await.unwrap();
    text(&rest)
}

#[tokio::test(flavor = "multi_thread")]
async fn r47_on_sigterm_it_says_so_and_lets_a_stream_end() {
    let node = slow(20).await;
    let mut serving = Serving::before(&node, &["--drain-delay", "300ms"]).await;
    assert_eq!(serving.readyz().await, 200);
    let stream = serving.stream().await;
    serving.signal("TERM").await;
    eventually(|| async { serving.readyz().await == 503 }).await;
    let rest = rest_of(stream).await;
    assert!(rest.contains("[DONE]") && rest.ends_with("0\r\n\r\n"), "{rest}");
    assert_eq!(serving.exit_code().await, Some(0));
    assert!(TcpStream::connect(serving.addr).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_process_ends_as_soon_as_it_may_though_connections_are_open() {
    let node = slow(1).await;
    let mut serving =
        Serving::before(&node, &["--drain-delay", "0s", "--drain-timeout", "1h"]).await;
    let mut idle = TcpStream::connect(serving.addr).await.unwrap();
    idle.write_all(b"GET /livez HTTP/1.1\r\nhost: h\r\n\r\n").await.unwrap();
    read_until(&mut idle, "ok").await;
    let _silent = TcpStream::connect(serving.addr).await.unwrap();
    serving.signal("TERM").await;
    assert_eq!(serving.exit_code().await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_it_at_once() {
    for second in ["TERM", "INT"] {
        let node = slow(1_000_000).await;
        let mut serving =
            Serving::before(&node, &["--drain-delay", "1h", "--drain-timeout", "1h"]).await;
        let stream = serving.stream().await;
        serving.signal("TERM").await;
        eventually(|| async { serving.readyz().await == 503 }).await;
        serving.signal(second).await;
        assert_eq!(serving.exit_code().await, Some(0));
        assert!(!rest_of(stream).await.contains("[DONE]"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_outlives_drain_timeout_is_cut() {
    let node = slow(1_000_000).await;
    let arguments = ["--drain-delay", "0s", "--drain-timeout", "200ms"];
    let mut serving = Serving::before(&node, &arguments).await;
    let stream = serving.stream().await;
    serving.signal("TERM").await;
    assert!(!rest_of(stream).await.contains("[DONE]"));
    assert_eq!(serving.exit_code().await, Some(0));
    within(node.wait_until(|counts| counts.running == 0)).await;
}

/// Nobody reads the access log: its pipe is full, and so is its queue. The process ends all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_nobody_reads_does_not_keep_it_alive() {
    let node = slow(1).await;
    let dir = folder(&[("routes.yaml", &preset(node.addr()))]);
    let arguments = ["--drain-delay", "0s", "--drain-timeout", "1s"];
    let mut serving = Serving::start(dir, &arguments, Stdio::piped()).await;
    let _unread = serving.child.stdout.take().unwrap();
    let path = "x".repeat(3_000);
    let client = reqwest::Client::new();
    for _ in 0..50 {
        let some = (0..20).map(|_| client.get(format!("http://{}/{path}", serving.addr)).send());
        for reply in futures_util::future::join_all(some).await {
            assert_eq!(reply.unwrap().status(), 401);
        }
    }
    serving.signal("TERM").await;
    assert_eq!(serving.exit_code().await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn sighup_reads_the_configuration_anew() {
    let node = slow(1).await;
    let mut serving = Serving::before(&node, &[]).await;
    serving.signal("HUP").await;
    within(async {
        while !serving.log.next_line().await.unwrap().expect("it ended").contains("configuration") {
        }
    })
    .await;
    assert_eq!(serving.readyz().await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_cannot_start_says_why() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let good =
        ("routes.yaml", "routes:\n  - { path: /a, methods: [POST], upstream_url: http://h/a }\n");
    let typing_error = (
        "routes.yaml",
        "routes:\n  - path: /a\n    metods: [POST]\n    upstream_url: http://h/a\n",
    );
    for (files, arguments, code, said) in [
        (vec![], vec!["serve", "--no-such-flag"], 2, vec!["--no-such-flag"]),
        (vec![typing_error], vec!["serve"], 78, vec!["routes.yaml:3:", "routes[0]", "methods"]),
        (vec![("routes.yaml", "routes: [")], vec!["serve"], 78, vec!["routes.yaml:2:1", "YAML"]),
        (vec![good], vec!["serve", "--max-timeout", "soon"], 78, vec!["--max-timeout"]),
        (
            vec![good],
            vec!["serve", "--listen", "0.0.0.0:0", "--admin-listen", "127.0.0.1:0"],
            78,
            vec!["key"],
        ),
        (vec![good], vec!["serve", "--listen", &taken], 1, vec![taken.as_str(), "in use"]),
        (
            vec![good],
            vec!["serve", "--listen", "127.0.0.1:0", "--admin-listen", &taken],
            1,
            vec![taken.as_str()],
        ),
        (vec![good], vec!["healthcheck", "--listen", "127.0.0.1:1"], 1, vec!["127.0.0.1:1"]),
    ] {
        let output = run(&folder(&files), &arguments, None).await;
        let told = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {told}");
        assert!(said.iter().all(|word| told.contains(word)), "{arguments:?}: {told}");
        assert!(!told.contains("panicked"), "{told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn check_tells_every_problem_of_every_file_at_once() {
    let dir = folder(&[
        (
            "routes.yaml",
            "routes:\n  - { path: a, methods: [POST], upstream_url: http://h/a }\n  - { path: /b, methods: [PSOT], upstream_url: ftp://h }\n",
        ),
        ("keys.yaml", "keys:\n  - { name: one, key: sk-secret-of-one, modles: [x] }\n"),
    ]);
    let output = run(&dir, &["check"], None).await;
    assert_eq!(output.status.code(), Some(78));
    let told = text(&output.stderr);
    for word in ["routes.yaml:2:", "routes.yaml:3:", "keys.yaml:2:", "routes[1].methods", "models"]
    {
        assert!(told.contains(word), "{word}: {told}");
    }
    assert!(!told.contains("sk-secret-of-one"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fresh_key_has_the_hash_that_is_told_with_it() {
    let dir = folder(&[]);
    let made = text(&run(&dir, &["keys", "new"], None).await.stdout);
    let word = |line: usize| made.lines().nth(line).unwrap().rsplit(' ').next().unwrap().to_owned();
    let hashed = run(&dir, &["keys", "hash"], Some(&format!("{}\n", word(0)))).await;
    assert_eq!(text(&hashed.stdout), format!("key_sha256: {}\n", word(1)));
    assert_eq!(run(&dir, &["keys", "hash"], None).await.status.code(), Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn healthcheck_asks_the_gateway_that_runs() {
    let node = slow(1).await;
    let serving = Serving::before(&node, &[]).await;
    let listen = serving.addr.to_string();
    let output = run(&folder(&[]), &["healthcheck", "--listen", &listen], None).await;
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
}
