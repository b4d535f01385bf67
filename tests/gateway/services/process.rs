//! The `sluice` command itself, run as an operator runs it, with an environment of its own.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use tokio::net::TcpSocket;

use crate::support::eventually;

/// A running command. Dropped, it is killed.
pub(crate) struct Process {
    child: Child,
    out: Arc<Mutex<String>>,
    err: Arc<Mutex<String>>,
    readers: Vec<JoinHandle<()>>,
}

/// How a command ended.
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// A port that nobody else is given while this is held: bound, but not listened on.
pub(crate) struct Port {
    _socket: TcpSocket,
    pub(crate) addr: SocketAddr,
}

impl Port {
    /// A free port of this machine's address `ip`.
    pub(crate) fn of(ip: [u8; 4]) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(SocketAddr::from((ip, 0))).unwrap();
        Self { addr: socket.local_addr().unwrap(), _socket: socket }
    }

    pub(crate) fn number(&self) -> String {
        self.addr.port().to_string()
    }
}

impl Process {
    /// Starts `sluice` with these arguments in the folder `dir`, and with these variables alone.
    pub(crate) fn start(dir: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_sluice"))
            .args(arguments)
            .env_clear()
            .envs(variables.iter().copied())
            .current_dir(dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (out, first) = follow(child.stdout.take().unwrap());
        let (err, second) = follow(child.stderr.take().unwrap());
        Self { child, out, err, readers: vec![first, second] }
    }

    /// Starts `sluice serve` on ports of its own, and waits until it answers at `addr`.
    pub(crate) async fn serve(
        dir: &Path,
        arguments: &[&str],
        variables: &[(&str, &str)],
        addr: SocketAddr,
    ) -> Self {
        let own = ["serve", "--admin-listen", "127.0.0.1:0", "--drain-delay", "0s"];
        let process = Self::start(dir, &[&own, arguments].concat(), variables);
        process.until_it_lives(addr).await;
        process
    }

    async fn until_it_lives(&self, addr: SocketAddr) {
        let client = reqwest::Client::new();
        eventually(|| async {
            let asked = client.get(format!("http://{addr}/livez")).send().await;
            asked.is_ok_and(|reply| reply.status() == 200)
        })
        .await;
    }

    /// What it has written to standard output, once that holds `text`.
    pub(crate) async fn said(&self, text: &str) -> String {
        eventually(|| async { self.out.lock().unwrap().contains(text) }).await;
        self.out.lock().unwrap().clone()
    }

    /// The same for standard error.
    pub(crate) async fn complained(&self, text: &str) -> String {
        eventually(|| async { self.err.lock().unwrap().contains(text) }).await;
        self.err.lock().unwrap().clone()
    }

    /// Its number, by which the system knows what it holds.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal: `TERM`, `HUP`.
    pub(crate) fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    }

    /// Asks it to stop and waits until it has.
    pub(crate) async fn stop(self) -> Ended {
        self.signal("TERM");
        self.ended().await
    }

    /// Waits until it has ended by itself.
    pub(crate) async fn ended(mut self) -> Ended {
        let child = Mutex::new(&mut self.child);
        eventually(|| async { child.lock().unwrap().try_wait().unwrap().is_some() }).await;
        let code = self.child.wait().unwrap().code();
        self.readers.drain(..).for_each(|reader| reader.join().unwrap());
        let text = |text: &Mutex<String>| text.lock().unwrap().clone();
        Ended { code, out: text(&self.out), err: text(&self.err) }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ended_already = self.child.kill();
        let _gone = self.child.wait();
    }
}

/// Collects what comes, line by line.
fn follow(from: impl Read + Send + 'static) -> (Arc<Mutex<String>>, JoinHandle<()>) {
    let text = Arc::new(Mutex::new(String::new()));
    let kept = text.clone();
    let reader = std::thread::spawn(move || {
        for line in BufReader::new(from).lines() {
            kept.lock().unwrap().push_str(&(line.unwrap() + "\n"));
        }
    });
    (text, reader)
}
