//! How soon a node hears of a client's leaving, as the node itself sees it: from the moment when the client's socket is
//! closed to the one when the node reads its end.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use super::Done;
use super::gateway::{Gateway, KEY, chat};

const TIMES: usize = 200;

/// SPEC: at once. The bar is 100 ms.
const MAX: Duration = Duration::from_millis(100);

/// What the client waits for when it leaves.
#[derive(Clone, Copy, Debug)]
enum Phase {
    /// The first event of a stream.
    Waiting,
    /// A later one.
    Streaming,
    /// An answer that is no stream.
    NonStreaming,
}

pub(crate) async fn run() -> Done {
    let (asked, mut requests) = mpsc::channel(1);
    let (ended, mut ends) = mpsc::channel(1);
    let node = serve(asked, ended).await.map_err(|error| error.to_string())?;
    let gateway = Gateway::before(&[node], "health: off").await?;
    let mut figures = Vec::new();
    let mut slow = false;
    for phase in [Phase::Waiting, Phase::Streaming, Phase::NonStreaming] {
        let mut took = Vec::new();
        for _ in 0..TIMES {
            let mut client =
                ask(gateway.address, phase).await.map_err(|error| error.to_string())?;
            requests.recv().await.ok_or("the node is gone")?;
            if matches!(phase, Phase::Streaming) {
                let mut seen = Vec::new();
                while memchr::memmem::find(&seen, b"data: ").is_none() {
                    client.read_buf(&mut seen).await.map_err(|error| error.to_string())?;
                }
            }
            drop(client);
            let left = Instant::now();
            let end: Instant = ends.recv().await.ok_or("the node is gone")?;
            took.push(end.saturating_duration_since(left));
        }
        took.sort_unstable();
        let longest = took.last().copied().unwrap_or_default();
        slow |= longest > MAX;
        figures.push(format!("{phase:?} median {:?}, longest {longest:?}", took[TIMES / 2]));
    }
    let figures = format!("{TIMES} times each: {}", figures.join("; "));
    if slow { Err(figures) } else { Ok(figures) }
}

async fn ask(gateway: SocketAddr, phase: Phase) -> std::io::Result<TcpStream> {
    let body = chat(!matches!(phase, Phase::NonStreaming), 20).to_string();
    // Which phase it is, the node hears as the client's name.
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: h\r\nauthorization: Bearer {KEY}\r\nuser-agent: {phase:?}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut client = TcpStream::connect(gateway).await?;
    client.write_all(request.as_bytes()).await?;
    Ok(client)
}

/// Says when a request is there, and when its connection ends; answers one of [`Phase::Streaming`] with an event.
async fn serve(
    asked: mpsc::Sender<()>,
    ended: mpsc::Sender<Instant>,
) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (asked, ended) = (asked.clone(), ended.clone());
            tokio::spawn(async move {
                let mut held = Vec::new();
                let told = loop {
                    match stream.read_buf(&mut held).await {
                        Ok(1..) if !held.ends_with(b"}") => {}
                        Ok(1..) => {
                            if memchr::memmem::find(&held, b"Streaming\r\n").is_some()
                                && memchr::memmem::find(&held, b"NonStreaming\r\n").is_none()
                            {
                                let answer =
                                    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\
                                    transfer-encoding: chunked\r\n\r\na\r\ndata: {}\n\n\r\n";
                                let _left_already = stream.write_all(answer).await;
                            }
                            let _nobody_waits = asked.send(()).await;
                        }
                        _ => break Instant::now(),
                    }
                };
                let _nobody_waits = ended.send(told).await;
            });
        }
    });
    Ok(address)
}
