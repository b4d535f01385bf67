//! `sluice` as a process of its own, in a folder of its own.

use std::net::SocketAddr;
use std::process::{Output, Stdio};
use std::time::Duration;

use sluice::sim::{Settings, Simulator};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStderr, Command};

use super::gateway::{chat, preset};
use super::http::{raw, read_until, status};
use super::{KEY, node_with, within};

/// Who waits so long for a token is a stream that the test ends.
const LONG: Duration = Duration::from_millis(100);

/// A process in a folder of its own, which knows nothing of the environment of the tests.
pub(crate) fn sluice(dir: &tempfile::TempDir) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
    command.env_clear().current_dir(dir.path()).kill_on_drop(true).stdin(Stdio::null());
    command
}

/// A folder with these files in `config/`.
pub(crate) fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("config")).unwrap();
    for (name, text) in files {
        std::fs::write(dir.path().join("config").join(name), text).unwrap();
    }
    dir
}

/// What a command says that ends by itself.
pub(crate) async fn run(
    dir: &tempfile::TempDir,
    arguments: &[&str],
    input: Option<&str>,
) -> Output {
    let mut command = sluice(dir);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.unwrap_or_default().as_bytes()).await.unwrap();
    drop(stdin);
    within(child.wait_with_output()).await.unwrap()
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

async fn line_with(log: &mut Lines<BufReader<ChildStderr>>, words: &str) -> String {
    within(async {
        loop {
            let line = log.next_line().await.unwrap().expect("it ended");
            if line.contains(words) {
                return line;
            }
        }
    })
    .await
}

/// `sluice serve` that answers.
pub(crate) struct Serving {
    pub(crate) child: Child,
    pub(crate) addr: SocketAddr,
    pub(crate) operators: SocketAddr,
    pub(crate) log: Lines<BufReader<ChildStderr>>,
    pub(crate) dir: tempfile::TempDir,
}

impl Serving {
    pub(crate) async fn start(dir: tempfile::TempDir, arguments: &[&str], stdout: Stdio) -> Self {
        Self::start_with(dir, arguments, stdout, &[]).await
    }

    /// With these variables.
    pub(crate) async fn start_with(
        dir: tempfile::TempDir,
        arguments: &[&str],
        stdout: Stdio,
        variables: &[(&str, &str)],
    ) -> Self {
        let mut command = sluice(&dir);
        command.envs(variables.iter().copied());
        command.args(["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]);
        command.args(arguments).env("PROXY_SECRET_KEY", KEY).stdout(stdout).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
        let line = line_with(&mut log, "answers on http://").await;
        let mut told = line.split("http://").skip(1);
        let mut address = || told.next().unwrap().split([',', '"', ' ']).next().unwrap().parse();
        let (addr, operators) = (address().unwrap(), address().unwrap());
        Self { child, addr, operators, log, dir }
    }

    /// The next line of the log that holds `words`.
    pub(crate) async fn line(&mut self, words: &str) -> String {
        line_with(&mut self.log, words).await
    }

    /// A gateway before `node`.
    pub(crate) async fn before(node: &Simulator, arguments: &[&str]) -> Self {
        let dir = folder(&[("routes.yaml", &preset(node.addr()))]);
        Self::start(dir, arguments, Stdio::null()).await
    }

    pub(crate) async fn signal(&self, name: &str) {
        let id = self.child.id().unwrap().to_string();
        let sent = Command::new("/bin/kill").args([&format!("-{name}"), &id]).status();
        assert!(within(sent).await.unwrap().success());
    }

    pub(crate) async fn exit_code(&mut self) -> Option<i32> {
        within(self.child.wait()).await.unwrap().code()
    }

    pub(crate) async fn readyz(&self) -> u16 {
        let request = b"GET /readyz HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n";
        status(&raw(self.addr, request).await)
    }

    /// A stream that has begun.
    pub(crate) async fn stream(&self) -> TcpStream {
        self.stream_of(None).await
    }

    /// One that has begun, of so many tokens.
    pub(crate) async fn stream_of(&self, tokens: Option<u32>) -> TcpStream {
        let mut body = chat("m");
        body["stream"] = true.into();
        body["max_tokens"] = tokens.into();
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
pub(crate) async fn slow(tokens: usize) -> Simulator {
    let settings = Settings {
        models: vec!["m".into()],
        tokens,
        max_model_len: 2 * tokens + 100,
        ..Settings::default()
    };
    node_with(Settings { token_delay: LONG, ..settings }).await
}

pub(crate) async fn rest_of(mut stream: TcpStream) -> String {
    let mut rest = Vec::new();
    within(stream.read_to_end(&mut rest)).await.unwrap();
    text(&rest)
}
