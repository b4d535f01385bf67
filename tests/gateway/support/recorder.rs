//! A node that keeps every byte that reaches it, also what is no request, and answers with what it understood.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// What came on a connection up to the end of a request; or, not `whole`, up to where it stopped being one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) head: Vec<u8>,
    pub(crate) body: Vec<u8>,
    pub(crate) whole: bool,
}

impl Record {
    /// Its head as text.
    pub(crate) fn head(&self) -> String {
        String::from_utf8_lossy(&self.head).into_owned()
    }

    /// The values of every line with that name.
    pub(crate) fn values(&self, name: &str) -> Vec<String> {
        let head = self.head();
        let lines = head.lines().skip(1).filter_map(|line| line.split_once(':'));
        lines
            .filter(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim().to_owned())
            .collect()
    }

    /// `METHOD TARGET BODY`.
    pub(crate) fn summary(&self) -> String {
        let head = self.head();
        let mut words = head.split(' ');
        let mut word = || words.next().unwrap_or_default().to_owned();
        let (method, target) = (word(), word());
        let body = String::from_utf8_lossy(&self.body);
        format!("{method} {target} {body}").trim_end_matches(' ').to_owned()
    }

    /// What is answered to it: no other request has the same.
    pub(crate) fn answer(&self) -> String {
        json!({ "heard": self.summary() }).to_string()
    }

    /// The length that it tells, if that is one that nobody could misread.
    fn length(&self) -> Option<usize> {
        if !self.values("transfer-encoding").is_empty() {
            return None;
        }
        match self.values("content-length").as_slice() {
            [] => Some(0),
            [one] if one.bytes().all(|byte| byte.is_ascii_digit()) => one.parse().ok(),
            _ => None,
        }
    }
}

/// A listening recorder.
pub(crate) struct Recorder {
    pub(crate) addr: SocketAddr,
    records: Arc<Mutex<Vec<Record>>>,
    _task: JoinSet<()>,
}

impl Recorder {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let records = Arc::new(Mutex::new(Vec::new()));
        let (mut task, kept) = (JoinSet::new(), records.clone());
        task.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                connections.spawn(serve(stream, kept.clone()));
            }
        });
        Self { addr, records, _task: task }
    }

    /// Every request so far, and forgets them.
    pub(crate) fn take(&self) -> Vec<Record> {
        std::mem::take(&mut self.records.lock().unwrap())
    }
}

/// Reads requests until one is none.
async fn serve(mut stream: TcpStream, records: Arc<Mutex<Vec<Record>>>) {
    loop {
        let mut record = Record::default();
        record.whole = read(&mut stream, &mut record).await.is_some();
        if record.head.is_empty() {
            return;
        }
        records.lock().unwrap().push(record.clone());
        let (status, body) = match record.whole {
            true => ("200 OK", record.answer()),
            false => ("400 Bad Request", String::new()),
        };
        let shown = if record.head.starts_with(b"HEAD ") { "" } else { &body };
        let length = body.len();
        let head = format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
        );
        if stream.write_all(format!("{head}{shown}").as_bytes()).await.is_err() || !record.whole {
            return;
        }
    }
}

/// Reads one request, byte by byte, so that nothing of the next is taken; none where there is no whole one.
async fn read(stream: &mut TcpStream, record: &mut Record) -> Option<()> {
    while !record.head.ends_with(b"\r\n\r\n") {
        record.head.push(stream.read_u8().await.ok()?);
    }
    for _ in 0..record.length()? {
        record.body.push(stream.read_u8().await.ok()?);
    }
    Some(())
}
