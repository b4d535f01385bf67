//! A node that streams at a pace, and writes into each chunk when it was sent: what a gateway adds is seen to the
//! microsecond.

use std::net::SocketAddr;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;

use super::http::find;

/// What a chunk begins with; behind it are nanoseconds.
pub(crate) const STAMP: &str = "data: {\"sent\":";

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
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // A gateway that closes its connection ends it.
                tokio::spawn(async move { drop(serve(stream).await) });
            }
        });
        Ok(Self(address))
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.0
    }
}

/// Answers one request after the other: `max_tokens` chunks, one each `pace_ms`.
async fn serve(mut stream: TcpStream) -> std::io::Result<()> {
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
        answer(&mut stream, &body).await?;
    }
}

async fn answer(stream: &mut TcpStream, body: &str) -> std::io::Result<()> {
    let number = |name: &str| -> u64 {
        let rest = body.split_once(name).map_or("", |(_, rest)| rest);
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().unwrap_or(0)
    };
    let (chunks, pace) = (number("\"max_tokens\":"), number("\"pace_ms\":"));
    stream
        .write_all(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n",
        )
        .await?;
    let begin = tokio::time::Instant::now();
    for chunk in 0..chunks {
        tokio::time::sleep_until(begin + Duration::from_millis(pace * chunk)).await;
        let event = format!(
            "{STAMP}{:020},\"id\":\"cmpl-0123456789abcdef\",\"object\":\"text_completion\",\"created\":1795201475,\"model\":\"m\",\
             \"choices\":[{{\"index\":0,\"text\":\" word\",\"logprobs\":null,\"finish_reason\":null}}]}}\n\n",
            now_ns()
        );
        stream.write_all(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes()).await?;
    }
    stream.write_all(b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n").await
}
