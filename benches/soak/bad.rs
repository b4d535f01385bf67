//! A node that is never quite well: each request meets a fate of its own.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::answers::MARK;
use super::broken::SMUGGLED;
use super::dice::Dice;
use super::echo::Chat;
use super::seen::Seen;

/// Of a hundred requests, those that are answered well.
const WELL: usize = 50;

/// Longer than the gateway waits for anything.
const STALL: Duration = Duration::from_secs(10);

/// The mark of an answer that nobody asked for is nobody's.
const STRAY: &str = "mk-5714ee";

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Well,
    /// And the connection closes at once, without a word of it before.
    WellAndGone,
    /// And in the same packet comes an answer that nobody asked for. One that came later could not be told from the answer to
    /// the next request.
    WellAndStray,
    Slow,
    /// TCP RST before any byte.
    Reset,
    /// The end before any byte.
    Close,
    Stall,
    Garbage,
    Status(u16),
    /// Ends between two events, without the last chunk.
    Cut,
    /// TCP RST between two events.
    ResetAfter,
    /// Ends in the midst of an event.
    Tear,
    StallAfter,
    /// vLLM's own words of a dead engine, and an end that looks good.
    Die,
}

const FATES: [Fate; 15] = [
    Fate::WellAndGone,
    Fate::WellAndStray,
    Fate::Slow,
    Fate::Reset,
    Fate::Close,
    Fate::Stall,
    Fate::Garbage,
    Fate::Status(500),
    Fate::Status(502),
    Fate::Status(503),
    Fate::Cut,
    Fate::ResetAfter,
    Fate::Tear,
    Fate::StallAfter,
    Fate::Die,
];

/// One connection.
struct Peer {
    stream: TcpStream,
    held: Vec<u8>,
    dice: Dice,
    seen: Arc<Seen>,
}

/// Whether the connection goes on.
type GoesOn = std::io::Result<bool>;

pub(crate) async fn serve(mut dice: Dice, seen: Arc<Seen>) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let mut peer =
                Peer { stream, held: Vec::new(), dice: dice.child(), seen: seen.clone() };
            // A connection that ends as it is accepted.
            if peer.dice.of_hundred(3) {
                let _gone = peer.stream.set_zero_linger();
                continue;
            }
            tokio::spawn(async move { while matches!(peer.one().await, Ok(true)) {} });
        }
    });
    Ok(address)
}

impl Peer {
    /// One request. Whoever is idle for some time is let go, as uvicorn does; the time is another each time.
    async fn one(&mut self) -> GoesOn {
        let idle = Duration::from_millis(50) + self.dice.up_to_ms(2_000);
        let Ok(came) = tokio::time::timeout(idle, self.request()).await else { return Ok(false) };
        let Some((head, body)) = came? else { return Ok(false) };
        let holds = |text: &[u8]| memchr::memmem::find(text, SMUGGLED.as_bytes()).is_some();
        if holds(head.as_bytes()) || holds(&body) {
            self.seen.wrong(format!("smuggled: {head}"));
        }
        if head.starts_with("GET /health ") {
            return self.whole("200 OK", "").await;
        }
        if head.starts_with("GET ") {
            return self.whole("200 OK", r#"{"object":"list","data":[{"id":"m"}]}"#).await;
        }
        match Chat::read(&body) {
            Some(chat) => self.answer(&chat).await,
            None => self.whole("400 Bad Request", r#"{"error":{"message":"no chat"}}"#).await,
        }
    }

    /// A head, and a body of `content-length`.
    async fn request(&mut self) -> std::io::Result<Option<(String, Vec<u8>)>> {
        loop {
            if let Some(end) = memchr::memmem::find(&self.held, b"\r\n\r\n") {
                let head = String::from_utf8_lossy(&self.held[..end + 4]).into_owned();
                let length = head.lines().find_map(|line| {
                    let (name, value) = line.split_once(':')?;
                    let named = name.eq_ignore_ascii_case("content-length");
                    named.then(|| value.trim().parse().ok())?
                });
                let whole = end + 4 + length.unwrap_or(0);
                if self.held.len() >= whole {
                    let rest = self.held.split_off(whole);
                    let body = self.held.split_off(end + 4);
                    self.held = rest;
                    return Ok(Some((head, body)));
                }
            }
            if self.stream.read_buf(&mut self.held).await? == 0 {
                return Ok(None);
            }
        }
    }

    async fn whole(&mut self, status: &str, body: &str) -> GoesOn {
        self.stream.write_all(answer(status, body).as_bytes()).await?;
        Ok(true)
    }

    async fn answer(&mut self, chat: &Chat) -> GoesOn {
        let well = self.dice.of_hundred(WELL);
        let fate = if well { Fate::Well } else { *self.dice.one_of(&FATES) };
        match fate {
            Fate::Reset => {
                self.stream.set_zero_linger()?;
                return Ok(false);
            }
            Fate::Close => return Ok(false),
            Fate::Stall => {
                self.stall().await;
                return Ok(false);
            }
            Fate::Garbage => {
                self.stream.write_all(b"\x16\x03\x01 this is not HTTP\r\n\r\n").await?;
                return Ok(false);
            }
            Fate::Status(status) => {
                let body = r#"{"error":{"message":"this node is not well","type":"server_error"}}"#;
                return self.whole(&format!("{status} Not Well"), body).await;
            }
            Fate::Slow => tokio::time::sleep(self.dice.up_to_ms(500)).await,
            _ => {}
        }
        match chat.stream {
            true => self.events(chat, fate).await?,
            false => self.body(chat, fate).await?,
        }
        match fate {
            // As long as the gateway keeps the connection.
            Fate::Well | Fate::Slow | Fate::WellAndStray => Ok(true),
            Fate::Die => Ok(chat.stream),
            _ => Ok(false),
        }
    }

    /// Whoever waits waits until it leaves, or for longer than it does.
    async fn stall(&mut self) {
        let mut rest = [0; 64];
        let _left = tokio::time::timeout(STALL, self.stream.read(&mut rest)).await;
    }

    async fn body(&mut self, chat: &Chat, fate: Fate) -> std::io::Result<()> {
        let body = match fate {
            Fate::Die => r#"{"error":{"message":"EngineCore died","type":"server_error"}}"#.into(),
            _ => chat.whole(),
        };
        let status = if fate == Fate::Die { "500 Internal Server Error" } else { "200 OK" };
        let breaks = matches!(fate, Fate::Cut | Fate::ResetAfter | Fate::Tear | Fate::StallAfter);
        let whole = answer(status, &body);
        if !breaks {
            return self.last(whole, chat, fate).await;
        }
        self.seen.tear(&chat.mark);
        self.stream.write_all(&whole.as_bytes()[..whole.len() - body.len() / 2]).await?;
        self.break_off(fate).await
    }

    /// The last bytes of an answer, and what comes with them.
    async fn last(&mut self, mut bytes: String, chat: &Chat, fate: Fate) -> std::io::Result<()> {
        if fate == Fate::WellAndStray {
            bytes += &answer("200 OK", &chat.whole().replace(MARK, STRAY));
        }
        self.stream.write_all(bytes.as_bytes()).await
    }

    async fn break_off(&mut self, fate: Fate) -> std::io::Result<()> {
        match fate {
            Fate::StallAfter => self.stall().await,
            Fate::ResetAfter => self.stream.set_zero_linger()?,
            _ => {}
        }
        Ok(())
    }

    async fn events(&mut self, chat: &Chat, fate: Fate) -> std::io::Result<()> {
        let events = chat.events();
        // Somewhere, but before what ends the stream; sometimes before any event.
        let at = self.dice.below(chat.pieces.len());
        let breaks = matches!(
            fate,
            Fate::Cut | Fate::ResetAfter | Fate::Tear | Fate::StallAfter | Fate::Die
        );
        if matches!(fate, Fate::ResetAfter | Fate::Tear) {
            self.seen.tear(&chat.mark);
        }
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n\
                    transfer-encoding: chunked\r\n\r\n";
        self.stream.write_all(head.as_bytes()).await?;
        for (number, event) in events.iter().enumerate() {
            if breaks && number == at {
                if fate == Fate::Die {
                    let last = r#"data: {"error":{"message":"EngineCore encountered an issue.","type":"InternalServerError","param":null,"code":500}}"#;
                    self.chunk(&format!("{last}\n\n")).await?;
                    self.chunk("data: [DONE]\n\n").await?;
                    break;
                }
                if fate == Fate::Tear {
                    self.chunk(&event[..event.len() / 2]).await?;
                }
                return self.break_off(fate).await;
            }
            self.chunk(event).await?;
            if self.dice.of_hundred(30) {
                tokio::time::sleep(self.dice.up_to_ms(3)).await;
            }
        }
        self.last("0\r\n\r\n".to_owned(), chat, fate).await
    }

    async fn chunk(&mut self, text: &str) -> std::io::Result<()> {
        self.stream.write_all(format!("{:x}\r\n{text}\r\n", text.len()).as_bytes()).await
    }
}

/// With a length.
fn answer(status: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}
