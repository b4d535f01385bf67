//! A node that streams at a pace, and writes into each chunk when it was sent: what a gateway adds is seen to the
//! microsecond.
//!
//! One thread writes all chunks, each at its own moment. A task a stream with a timer each would not do: timers of a
//! runtime fire once a millisecond, twenty streams at once, and a gateway would be measured by its backlog.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::{ErrorKind, Write as _};
use std::net::{SocketAddr, TcpStream as Socket};
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

use super::http::find;

/// What a chunk begins with; behind it are nanoseconds.
pub(crate) const STAMP: &str = "data: {\"sent\":";

/// How long the writer sleeps at most while it has streams: a new one waits no longer for its first chunk.
const LOOK: Duration = Duration::from_micros(200);

static BEGAN: OnceLock<Instant> = OnceLock::new();

/// Nanoseconds since the first question.
pub(crate) fn now_ns() -> u64 {
    let began = BEGAN.get_or_init(Instant::now);
    u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// The node.
pub(crate) struct Node(SocketAddr);

impl Node {
    /// # Errors
    /// There is no port.
    pub(crate) fn start(runtime: &Runtime) -> Result<Self, String> {
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"));
        let listener = listener.map_err(|error| error.to_string())?;
        let address = listener.local_addr().map_err(|error| error.to_string())?;
        let (streams, asked) = channel();
        let _detached = std::thread::spawn(move || write_all(&asked));
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let streams = streams.clone();
                // A gateway that closes its connection ends it.
                tokio::spawn(async move { drop(serve(stream, streams).await) });
            }
        });
        Ok(Self(address))
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.0
    }
}

/// A stream that was asked for.
struct Paced {
    socket: Socket,
    begin: Instant,
    sent: u32,
    chunks: u32,
    pace: Duration,
    /// Where the socket goes when all is sent.
    done: oneshot::Sender<Socket>,
}

/// Answers one request after the other: `max_tokens` chunks, one each `pace_ms`.
async fn serve(mut stream: TcpStream, streams: Sender<Paced>) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut request = Vec::new();
    loop {
        let head = loop {
            if let Some(end) = find(&request, b"\r\n\r\n") {
                break end + 4;
            }
            if stream.read_buf(&mut request).await? == 0 {
                return Ok(());
            }
        };
        let text = String::from_utf8_lossy(&request[..head]).to_ascii_lowercase();
        let length = text.split("\r\n").find_map(|line| line.strip_prefix("content-length: "));
        let end = head + length.and_then(|length| length.parse().ok()).unwrap_or(0);
        while request.len() < end {
            if stream.read_buf(&mut request).await? == 0 {
                return Ok(());
            }
        }
        let body = String::from_utf8_lossy(&request[head..end]).into_owned();
        request.drain(..end);
        let number = |name: &str| -> u32 {
            let rest = body.split_once(name).map_or("", |(_, rest)| rest);
            let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
            digits.parse().unwrap_or(0)
        };
        let (done, socket) = oneshot::channel();
        let asked = Paced {
            socket: stream.into_std()?,
            begin: Instant::now(),
            sent: 0,
            chunks: number("\"max_tokens\":"),
            pace: Duration::from_millis(number("\"pace_ms\":").into()),
            done,
        };
        if streams.send(asked).is_err() {
            return Ok(());
        }
        let Ok(socket) = socket.await else { return Ok(()) };
        stream = TcpStream::from_std(socket)?;
    }
}

/// Writes the chunks of all streams, each when it is due.
fn write_all(asked: &Receiver<Paced>) {
    let mut streams: Vec<Option<Paced>> = Vec::new();
    let mut due = BinaryHeap::new();
    loop {
        if due.is_empty() {
            // While other work is measured, it sleeps.
            streams.clear();
            let Ok(stream) = asked.recv() else { return };
            due.push(Reverse((stream.begin, 0)));
            streams.push(Some(stream));
        }
        for stream in asked.try_iter() {
            due.push(Reverse((stream.begin, streams.len())));
            streams.push(Some(stream));
        }
        let Some(Reverse((at, place))) = due.pop() else { continue };
        let wait = at.saturating_duration_since(Instant::now());
        if !wait.is_zero() {
            due.push(Reverse((at, place)));
            std::thread::sleep(wait.min(LOOK));
            continue;
        }
        // A gateway that closed its connection has no use for the rest.
        if let Some(mut stream) = streams[place].take()
            && stream.write_next().is_ok()
        {
            if stream.sent > stream.chunks {
                let _gone = stream.done.send(stream.socket);
            } else {
                due.push(Reverse((stream.begin + stream.pace * stream.sent, place)));
                streams[place] = Some(stream);
            }
        }
    }
}

impl Paced {
    /// The next chunk, the first one behind the head; after the last one, the end.
    fn write_next(&mut self) -> std::io::Result<()> {
        const HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n\
            transfer-encoding: chunked\r\n\r\n";
        const END: &str = "e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n";
        let head = if self.sent == 0 { HEAD } else { "" };
        let text = if self.sent == self.chunks {
            END.to_owned()
        } else {
            let event = format!(
                "{STAMP}{:020},\"id\":\"cmpl-0123456789abcdef\",\"object\":\"text_completion\",\"created\":1795201475,\"model\":\"m\",\
                 \"choices\":[{{\"index\":0,\"text\":\" word\",\"logprobs\":null,\"finish_reason\":null}}]}}\n\n",
                now_ns()
            );
            format!("{head}{:x}\r\n{event}\r\n", event.len())
        };
        self.sent += 1;
        let mut rest = text.as_bytes();
        while !rest.is_empty() {
            match self.socket.write(rest) {
                Ok(written) => rest = &rest[written..],
                // A gateway that does not read for so long is not measured here.
                Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::sleep(LOOK),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
