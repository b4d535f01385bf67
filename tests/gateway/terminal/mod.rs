//! `sluice chat` as it is used: at a real terminal (a pseudo-terminal of the kernel's), and in pipes.

mod files;
mod pipes;
mod talking;
mod trimming;
mod typing;

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::pty::{Winsize, openpty};
use serde_json::Value;
use sluice::sim::{Seen, Settings, Simulator};

use crate::support::{KEY, TestGateway, eventually, node_with};

/// Who waits so long for a token has missed the deadline.
const NEVER: Duration = Duration::from_secs(3_600);

/// Large enough that no line of a test is broken.
const SIZE: Winsize = Winsize { ws_row: 50, ws_col: 500, ws_xpixel: 0, ws_ypixel: 0 };

/// What a terminal is told when a line is read from it; the prompt itself is drawn again with keys, too.
const READING: &str = "\x1b[?2004h";
const CTRL_C: &str = "\x03";
const CTRL_D: &str = "\x04";

/// A chat at a terminal. Dropped, it is killed.
pub(crate) struct Terminal {
    child: Child,
    keys: File,
    shown: Arc<Mutex<Vec<u8>>>,
    /// What was waited for so far ends here.
    read: usize,
    reader: Option<JoinHandle<()>>,
}

impl Terminal {
    /// Runs `sluice chat` with these arguments and variables, its home in `dir`.
    pub(crate) fn start(dir: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let ends = openpty(&SIZE, None).unwrap();
        let end = || Stdio::from(ends.slave.try_clone().unwrap());
        // Only the terminal of a session turns Ctrl-C into a signal.
        let child = Command::new("setsid")
            .args(["--ctty", env!("CARGO_BIN_EXE_sluice"), "chat"])
            .args(arguments)
            .env_clear()
            .env("TERM", "xterm")
            .env("HOME", dir)
            .envs(variables.iter().copied())
            .current_dir(dir)
            .stdin(end())
            .stdout(end())
            .stderr(end())
            .spawn()
            .unwrap();
        let keys = File::from(ends.master);
        let (mut screen, shown) = (keys.try_clone().unwrap(), Arc::new(Mutex::new(Vec::new())));
        let kept = shown.clone();
        let reader = std::thread::spawn(move || {
            let mut piece = [0; 4096];
            // It ends with an error when the other end is closed.
            while let Ok(read @ 1..) = screen.read(&mut piece) {
                kept.lock().unwrap().extend_from_slice(&piece[..read]);
            }
        });
        Self { child, keys, shown, read: 0, reader: Some(reader) }
    }

    /// The same with a gateway's URL and key.
    pub(crate) fn at(gateway: &TestGateway, dir: &Path, arguments: &[&str]) -> Self {
        let url = gateway.url("/v1");
        Self::start(dir, &[&["--url", &url][..], arguments].concat(), &[("SLUICE_API_KEY", KEY)])
    }

    /// Types keys.
    pub(crate) fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    /// Types a line when it is asked for.
    pub(crate) async fn say(&mut self, line: &str) {
        self.asks().await;
        self.press(&format!("{line}\r"));
    }

    /// Waits until it asks for a line.
    pub(crate) async fn asks(&mut self) {
        self.shows(READING).await;
        self.shows(">>> ").await;
    }

    /// Waits for `text` after what was waited for before; gives what was shown up to it.
    pub(crate) async fn shows(&mut self, text: &str) -> String {
        let all = || String::from_utf8_lossy(&self.shown.lock().unwrap()).into_owned();
        eventually(|| async { all()[self.read..].contains(text) }).await;
        let shown = all();
        let begin = self.read;
        self.read = begin + shown[begin..].find(text).unwrap() + text.len();
        shown[begin..self.read].to_owned()
    }

    /// Waits until it has left; gives its exit code and everything that was shown.
    pub(crate) async fn left(mut self) -> (Option<i32>, String) {
        let child = Mutex::new(&mut self.child);
        eventually(|| async { child.lock().unwrap().try_wait().unwrap().is_some() }).await;
        let code = self.child.wait().unwrap().code();
        self.reader.take().unwrap().join().unwrap();
        (code, String::from_utf8_lossy(&self.shown.lock().unwrap()).into_owned())
    }
}

impl Drop for Terminal {
    #[expect(clippy::print_stderr, reason = "a test that failed is understood by what was shown")]
    fn drop(&mut self) {
        let _left_already = self.child.kill();
        let _gone = self.child.wait();
        if std::thread::panicking() {
            let shown = self.shown.lock().unwrap();
            eprintln!("shown: {:?}", String::from_utf8_lossy(&shown));
        }
    }
}

/// A node with the model `m` that answers at once with eight tokens.
async fn quick() -> Simulator {
    node_with(Settings { models: vec!["m".into()], tokens: 8, ..Settings::default() }).await
}

/// The chats that came to a node.
pub(crate) fn chats(node: &Simulator) -> Vec<Value> {
    let chat = |seen: &Seen| seen.target == "/v1/chat/completions";
    let seen = node.requests().into_iter().filter(chat);
    seen.map(|seen| serde_json::from_slice(&seen.body).unwrap()).collect()
}

/// The texts of the messages of a chat, in order.
fn texts(chat: &Value) -> Vec<&str> {
    let messages = chat["messages"].as_array().unwrap();
    messages.iter().map(|message| message["content"].as_str().unwrap()).collect()
}
