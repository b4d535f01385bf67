//! A node that does what a test says, connection by connection, and remembers every byte.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// A request as it came, whole.
#[derive(Clone, Debug, Default)]
pub(crate) struct Came {
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Came {
    /// The value of a header; names in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (known, value) = line.split_once(':')?;
            known.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

/// A listening script.
pub(crate) struct Scripted {
    pub(crate) addr: SocketAddr,
    seen: Arc<Mutex<Vec<Came>>>,
    _task: JoinSet<()>,
}

impl Scripted {
    /// Runs `script` for each connection, with its number from 0.
    pub(crate) async fn start<F, S>(script: S) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
        S: Fn(usize, Peer) -> F + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let mut task = JoinSet::new();
        let log = seen.clone();
        task.spawn(async move {
            let mut connections = JoinSet::new();
            for number in 0.. {
                let (stream, _) = listener.accept().await.unwrap();
                connections.spawn(script(number, Peer { stream, seen: log.clone() }));
            }
        });
        Self { addr, seen, _task: task }
    }

    /// A node that answers every request with `body` and 200.
    pub(crate) async fn replying(body: &'static str) -> Self {
        Self::start(move |_, mut peer| async move {
            while peer.request().await.is_some() {
                peer.answer("200 OK", body).await;
            }
        })
        .await
    }

    /// Every request that was read, in order.
    pub(crate) fn seen(&self) -> Vec<Came> {
        self.seen.lock().unwrap().clone()
    }
}

/// One connection to a script.
pub(crate) struct Peer {
    pub(crate) stream: TcpStream,
    seen: Arc<Mutex<Vec<Came>>>,
}

impl Peer {
    /// Reads a head, and a body of `Content-Length`; none where the other side closed.
    pub(crate) async fn request(&mut self) -> Option<Came> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(self.stream.read_u8().await.ok()?);
        }
        let mut came = Came { head: String::from_utf8(head).unwrap(), body: Vec::new() };
        let length = came.header("content-length").map_or(0, |value| value.parse().unwrap());
        came.body.resize(length, 0);
        self.stream.read_exact(&mut came.body).await.ok()?;
        self.seen.lock().unwrap().push(came.clone());
        Some(came)
    }

    /// Writes an answer with a length.
    pub(crate) async fn answer(&mut self, status: &str, body: &str) {
        let head = format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        self.send(head.as_bytes()).await;
    }

    /// Writes bytes; a peer that left is none of the script's business.
    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        let _left = self.stream.write_all(bytes).await;
    }

    /// Waits until the other side closes or resets.
    pub(crate) async fn closed(&mut self) {
        let mut rest = [0; 1024];
        while self.stream.read(&mut rest).await.is_ok_and(|read| read > 0) {}
    }
}
