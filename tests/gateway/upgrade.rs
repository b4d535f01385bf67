//! One process takes the place of another: no stream is cut, no connection refused, and nothing happens where it cannot start.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{SocketAddr as UnixAddress, UnixDatagram};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::process::Child;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::support::gateway::preset;
use crate::support::http::{raw, read_until, status};
use crate::support::process::{Serving, folder, rest_of, run, slow, sluice, text};
use crate::support::scripted::Scripted;
use crate::support::{DEADLINE, KEY, eventually, within};

/// What all processes here are started with. An old one ends a second after its last stream at the latest.
const FLAGS: [&str; 4] = ["--upgrade-socket", "up.sock", "--keepalive-timeout", "1s"];

/// Connections that are idle live longer than the test.
const KEPT: [&str; 6] =
    ["--upgrade-socket", "up.sock", "--keepalive-timeout", "1h", "--drain-delay", "0s"];

/// Streams under way while the processes change.
const STREAMS: usize = 50;

/// A process that this test has not started itself: it ends with the test.
struct Other(u32);

impl Other {
    /// The successor that the log names.
    fn of(line: &str) -> Self {
        let number = line.split("process ").nth(1).unwrap().split(' ').next().unwrap();
        Self(number.parse().unwrap())
    }

    fn signal(&self, name: &str) {
        let id = self.0.to_string();
        let _gone_already = std::process::Command::new("/bin/kill")
            .args([&format!("-{name}"), &id])
            .stderr(Stdio::null())
            .status();
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        self.signal("KILL");
    }
}

/// A node whose streams are over when the test says so.
async fn node() -> (Scripted, watch::Sender<bool>) {
    let (release, released) = watch::channel(false);
    let node = Scripted::start(move |_, mut peer| {
        let mut released = released.clone();
        async move {
            while peer.request().await.is_some() {
                peer.send(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n").await;
                peer.send(b"f\r\ndata: {\"n\":1}\n\n\r\n").await;
                drop(released.wait_for(|yes| *yes).await);
                peer.send(b"f\r\ndata: {\"n\":2}\n\n\r\ne\r\ndata: [DONE]\n\n\r\n0\r\n\r\n").await;
            }
        }
    })
    .await;
    (node, release)
}

/// A process that may be replaced, before `node`.
async fn serving(node: SocketAddr) -> Serving {
    let dir = folder(&[("routes.yaml", &preset(node))]);
    Serving::start(dir, &FLAGS, Stdio::null()).await
}

/// `serve --upgrade`, as an operator types it: it ends, or its log tells that it answers.
fn upgrade(serving: &Serving, listen: &str) -> Child {
    let mut command = sluice(&serving.dir);
    command.args(["serve", "--upgrade", "--listen", listen, "--admin-listen"]);
    command.arg("127.0.0.1:0").args(FLAGS).env("PROXY_SECRET_KEY", KEY);
    command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Clients that connect again and again, and ask whether the gateway is ready.
struct Callers {
    done: Arc<AtomicBool>,
    tasks: JoinSet<usize>,
}

impl Callers {
    fn of(addr: SocketAddr) -> Self {
        let (done, mut tasks) = (Arc::new(AtomicBool::new(false)), JoinSet::new());
        for _ in 0..4 {
            let done = done.clone();
            tasks.spawn(async move {
                let mut answered = 0;
                while !done.load(SeqCst) {
                    let request = b"GET /readyz HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n";
                    let answer = raw(addr, request).await;
                    assert_eq!(status(&answer), 200, "after {answered}: {answer}");
                    answered += 1;
                }
                answered
            });
        }
        Self { done, tasks }
    }

    /// How often they were answered: always.
    async fn answered(self) -> usize {
        self.done.store(true, SeqCst);
        within(self.tasks.join_all()).await.into_iter().sum()
    }
}

const READY: &[u8] = b"GET /readyz HTTP/1.1\r\nhost: h\r\n\r\n";

/// A connection that has asked once.
async fn was_ready(addr: SocketAddr) -> TcpStream {
    let mut idle = TcpStream::connect(addr).await.unwrap();
    idle.write_all(READY).await.unwrap();
    read_until(&mut idle, "ok").await;
    idle
}

async fn is_ready_and_told_to_go(mut idle: TcpStream) {
    idle.write_all(READY).await.unwrap();
    let last = rest_of(idle).await;
    assert_eq!(status(&last), 200, "{last}");
    assert!(last.to_lowercase().contains("\r\nconnection: close\r\n"), "{last}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sigquit_starts_a_successor_and_no_stream_is_cut_nor_connection_refused() {
    let (node, release) = node().await;
    let dir = folder(&[("routes.yaml", &preset(node.addr))]);
    let mut serving = Serving::start(dir, &KEPT, Stdio::null()).await;
    let mut streams = Vec::new();
    for _ in 0..STREAMS {
        streams.push(serving.stream().await);
    }
    let idle = [(); 2].map(|()| serving.addr);
    let mut idle = futures_util::future::join_all(idle.map(was_ready)).await;
    let callers = Callers::of(serving.addr);
    serving.signal("QUIT").await;
    let successor = Other::of(&serving.line("starts as successor").await);
    serving.line("has taken over").await;
    // What was connected before is as ready, and is told to go: even by a process that ends.
    is_ready_and_told_to_go(idle.remove(0)).await;
    serving.signal("TERM").await;
    serving.line("stopping").await;
    is_ready_and_told_to_go(idle.remove(0)).await;
    release.send_replace(true);
    for mut stream in streams {
        let rest = read_until(&mut stream, "\r\n0\r\n\r\n").await;
        assert!(rest.contains("\"n\":2") && rest.contains("[DONE]"), "{rest}");
    }
    assert_eq!(serving.exit_code().await, Some(0));
    drop(serving.stream().await);
    assert!(callers.answered().await > 0);
    // The successor can be replaced as well, and ends as any other.
    successor.signal("QUIT");
    let next = Other::of(&serving.line("starts as successor").await);
    serving.line("has taken over").await;
    next.signal("TERM");
    eventually(|| async { TcpStream::connect(serving.addr).await.is_err() }).await;
    eventually(|| async { !serving.dir.path().join("up.sock").exists() }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn serve_upgrade_takes_the_place_of_the_process_that_runs() {
    let node = slow(1).await;
    let mut first = serving(node.addr()).await;
    let mode = std::fs::metadata(first.dir.path().join("up.sock")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let callers = Callers::of(first.addr);
    let mut second = upgrade(&first, "127.0.0.1:0");
    assert_eq!(first.exit_code().await, Some(0));
    // One that is first of its kind does not take what another has.
    let arguments = ["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];
    let refused = run(&first.dir, &[&arguments[..], &FLAGS].concat(), None).await;
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("another gateway"), "{}", text(&refused.stderr));
    let third = upgrade(&first, "127.0.0.1:0");
    assert_eq!(within(second.wait()).await.unwrap().code(), Some(0));
    assert!(callers.answered().await > 0);
    drop(third);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_that_fails_leaves_the_old_process_serving() {
    let node = slow(1).await;
    let mut serving = serving(node.addr()).await;
    // Somebody who asks, and goes.
    let mut asker = UnixStream::connect(serving.dir.path().join("up.sock")).await.unwrap();
    assert!(within(asker.read_u8()).await.is_ok());
    drop(asker);
    serving.line("no hand-over, this process serves on").await;
    // A configuration that a start would refuse, and a reload does.
    let routes = serving.dir.path().join("config/routes.yaml");
    std::fs::write(&routes, "routes: [").unwrap();
    serving.signal("QUIT").await;
    let told = serving.line("the successor ended: ").await;
    assert!(told.contains("78"), "{told}");
    let failed = within(upgrade(&serving, "127.0.0.2:0").wait_with_output()).await;
    let failed = failed.unwrap();
    assert_eq!(failed.status.code(), Some(78));
    assert!(text(&failed.stderr).contains("`listen` is 127.0.0.2:0"), "{}", text(&failed.stderr));
    assert_eq!(serving.readyz().await, 200);
    std::fs::write(&routes, preset(node.addr())).unwrap();
    serving.signal("QUIT").await;
    let _successor = Other::of(&serving.line("starts as successor").await);
    assert_eq!(serving.exit_code().await, Some(0));
    assert_eq!(serving.readyz().await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_of_nobody_says_so_and_a_socket_that_was_left_is_replaced() {
    let node = slow(1).await;
    let dir = folder(&[("routes.yaml", &preset(node.addr()))]);
    let none = run(&dir, &[&["serve", "--upgrade"][..], &FLAGS].concat(), None).await;
    assert_eq!(none.status.code(), Some(1));
    assert!(text(&none.stderr).contains("no gateway at up.sock"), "{}", text(&none.stderr));
    let unset = run(&dir, &["serve", "--upgrade"], None).await;
    assert_eq!(unset.status.code(), Some(78));
    assert!(text(&unset.stderr).contains("`upgrade_socket`"), "{}", text(&unset.stderr));
    let mut killed = Serving::start(dir, &FLAGS, Stdio::null()).await;
    killed.child.kill().await.unwrap();
    let dir = std::mem::replace(&mut killed.dir, folder(&[]));
    assert!(dir.path().join("up.sock").exists());
    let next = Serving::start(dir, &FLAGS, Stdio::null()).await;
    assert_eq!(next.readyz().await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn sigquit_without_a_socket_changes_nothing() {
    let node = slow(1).await;
    let mut serving = Serving::before(&node, &[]).await;
    serving.signal("QUIT").await;
    serving.line("an upgrade needs `upgrade_socket`").await;
    assert_eq!(serving.readyz().await, 200);
}

/// Both processes write the account while the streams of the old one end, and put it aside again and again.
#[tokio::test(flavor = "multi_thread")]
async fn the_account_of_two_processes_is_whole() {
    let (node, release) = node().await;
    let dir = folder(&[("routes.yaml", &preset(node.addr))]);
    let flags = [&FLAGS[..], &["--ledger", "account", "--ledger-file-bytes", "2000"]].concat();
    let mut serving = Serving::start(dir, &flags, Stdio::null()).await;
    let mut streams = Vec::new();
    for _ in 0..STREAMS {
        streams.push(serving.stream().await);
    }
    serving.signal("QUIT").await;
    let _successor = Other::of(&serving.line("starts as successor").await);
    serving.line("has taken over").await;
    for _ in 0..STREAMS {
        streams.push(serving.stream().await);
    }
    release.send_replace(true);
    for stream in streams {
        assert!(rest_of(stream).await.contains("[DONE]"));
    }
    assert_eq!(serving.exit_code().await, Some(0));
    let rows = || -> Vec<serde_json::Value> {
        let files =
            std::fs::read_dir(serving.dir.path()).unwrap().map(|entry| entry.unwrap().path());
        let files = files.filter(|path| path.to_string_lossy().contains("account"));
        let texts = files.map(|path| std::fs::read_to_string(path).unwrap());
        let lines: String = texts.collect();
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    eventually(|| async { rows().len() >= 2 * STREAMS }).await;
    let ids: BTreeSet<String> = rows().iter().map(|row| row["id"].to_string()).collect();
    assert_eq!((rows().len(), ids.len()), (2 * STREAMS, 2 * STREAMS));
}

/// What a supervisor hears, one message after another.
struct Supervisor(UnixDatagram);

impl Supervisor {
    fn at(address: &UnixAddress) -> Self {
        let socket = UnixDatagram::bind_addr(address).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        Self(socket)
    }

    /// The next message.
    fn next(&self) -> String {
        let mut message = [0; 4096];
        loop {
            match self.0.recv(&mut message) {
                // A process has ended.
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                came => return text(&message[..came.unwrap()]),
            }
        }
    }

    /// The next message with `words`.
    fn hears(&self, words: &str) -> String {
        loop {
            let message = self.next();
            if message.contains(words) {
                return message;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_supervisor_is_told_of_start_reload_hand_over_and_end() {
    let node = slow(1).await;
    let dir = folder(&[("routes.yaml", &preset(node.addr()))]);
    let path = dir.path().join("notify");
    let supervisor = Supervisor::at(&UnixAddress::from_pathname(&path).unwrap());
    let path = path.to_str().unwrap().to_owned();
    let variables = [("NOTIFY_SOCKET", path.as_str()), ("WATCHDOG_USEC", "100000")];
    let mut serving = Serving::start_with(dir, &FLAGS, Stdio::null(), &variables).await;
    let ready = supervisor.hears("READY=1");
    assert!(ready.contains(&format!("\nSTATUS=answers on http://{}", serving.addr)), "{ready}");
    supervisor.hears("WATCHDOG=1");
    serving.signal("HUP").await;
    let reloading = supervisor.hears("RELOADING=1");
    let micros = reloading.split("MONOTONIC_USEC=").nth(1).unwrap();
    assert!(micros.parse::<u64>().unwrap() > 0);
    supervisor.hears("READY=1");
    serving.signal("QUIT").await;
    let successor = Other::of(&serving.line("starts as successor").await);
    // The old one names the new one, which says that it is ready, in any order.
    let mut said = BTreeSet::new();
    while said.len() < 2 {
        said.extend(Some(supervisor.next()).filter(|message| message != "WATCHDOG=1"));
    }
    assert!(said.contains(&format!("MAINPID={}", successor.0)), "{said:?}");
    assert!(said.iter().any(|message| message.starts_with("READY=1\nSTATUS=")), "{said:?}");
    assert_eq!(serving.exit_code().await, Some(0));
    supervisor.hears("WATCHDOG=1");
    successor.signal("TERM");
    supervisor.hears("STOPPING=1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_supervisor_may_have_no_file_and_watch_another_process() {
    let node = slow(1).await;
    let name = format!("sluice-test-{}", std::process::id());
    let supervisor = Supervisor::at(&UnixAddress::from_abstract_name(&name).unwrap());
    let dir = folder(&[("routes.yaml", &preset(node.addr()))]);
    let named = format!("@{name}");
    let variables =
        [("NOTIFY_SOCKET", named.as_str()), ("WATCHDOG_USEC", "1000"), ("WATCHDOG_PID", "1")];
    let serving = Serving::start_with(dir, &[], Stdio::null(), &variables).await;
    supervisor.hears("READY=1");
    serving.signal("TERM").await;
    assert!(supervisor.next().starts_with("STOPPING=1"));
}
