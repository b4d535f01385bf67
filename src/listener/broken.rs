//! What a client is told that sends no request which could be served: its head is broken, too large or too slow, or there
//! is no place for its connection.

use std::fmt::Write as _;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use crate::refusal::{Dialect, Refusal};
use crate::wire::ids::RequestId;

/// How long the end of a connection may take. What such a client still sends is read after the answer: closed at once, its
/// kernel might throw the answer away (RFC 9112, 9.6).
const LINGER: Duration = Duration::from_secs(2);

/// Bytes that are read so, at most: a few heads.
const LINGER_BYTES_MAX: usize = 256 * 1024;

/// Bytes of that that are read at once.
const READ_BYTES: usize = 4 * 1024;

/// The whole answer, after which the connection is closed.
fn answer(refusal: &Refusal) -> Vec<u8> {
    let id = RequestId::of(None);
    let body = refusal.body(Dialect::OpenAi, id.as_str());
    let status = refusal.status();
    let mut head = format!(
        "HTTP/1.1 {} {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nx-request-id: {}\r\n",
        status.as_str(),
        status.canonical_reason().unwrap_or_default(),
        body.len(),
        id.as_str(),
    );
    if let Some(seconds) = refusal.retry_after_seconds() {
        // Nothing is written that could fail.
        let _written = write!(head, "retry-after: {seconds}\r\n");
    }
    if let Some(allow) = refusal.allow() {
        let _written = write!(head, "allow: {allow}\r\n");
    }
    head.push_str("connection: close\r\n\r\n");
    head.push_str(&body);
    head.into_bytes()
}

/// The end of a connection: what is still to be told, that nothing more will come, and what is still read.
pub(super) struct Farewell {
    step: Step,
    /// A client that does not read, or is gone, is not waited for.
    alarm: Pin<Box<Sleep>>,
}

enum Step {
    /// So many bytes of the answer are sent.
    Tell(Vec<u8>, usize),
    /// Whether something is read afterwards.
    Shut(bool),
    /// So many bytes may still come.
    Read(usize),
    Done,
}

impl Farewell {
    /// Of a client that is told `refusal`, or that has all it asked for.
    pub(super) fn new(refusal: Option<&Refusal>) -> Self {
        let step = match refusal {
            Some(refusal) => Step::Tell(answer(refusal), 0),
            None => Step::Shut(false),
        };
        Self { step, alarm: Box::pin(tokio::time::sleep(LINGER)) }
    }

    /// Of a client that was told already, and may still send.
    pub(super) fn of_told() -> Self {
        Self { step: Step::Shut(true), ..Self::new(None) }
    }

    pub(super) fn poll<S>(&mut self, stream: &mut S, cx: &mut Context<'_>) -> Poll<io::Result<()>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        if self.alarm.as_mut().poll(cx).is_ready() {
            self.step = Step::Done;
        }
        loop {
            match &mut self.step {
                Step::Tell(answer, sent) if *sent < answer.len() => {
                    match ready!(Pin::new(&mut *stream).poll_write(cx, &answer[*sent..]))? {
                        0 => self.step = Step::Done,
                        written => *sent += written,
                    }
                }
                Step::Tell(..) => {
                    ready!(Pin::new(&mut *stream).poll_flush(cx))?;
                    self.step = Step::Shut(true);
                }
                Step::Shut(read) => {
                    ready!(Pin::new(&mut *stream).poll_shutdown(cx))?;
                    self.step = if *read { Step::Read(LINGER_BYTES_MAX) } else { Step::Done };
                }
                Step::Read(left) => {
                    let (mut bytes, left) = ([0; READ_BYTES], *left);
                    let mut buffer = ReadBuf::new(&mut bytes);
                    ready!(Pin::new(&mut *stream).poll_read(cx, &mut buffer))?;
                    self.step = match left.checked_sub(buffer.filled().len()) {
                        Some(left) if !buffer.filled().is_empty() => Step::Read(left),
                        _ => Step::Done,
                    };
                }
                Step::Done => return Poll::Ready(Ok(())),
            }
        }
    }
}

/// The refusal of a head that Pingora answers with `status`.
pub(super) fn of_status(status: Option<u16>) -> Refusal {
    match status {
        Some(405) => crate::wire::paths::upgrade_refused(),
        _ => Refusal::malformed("invalid_request", "The head of the request is not as HTTP says."),
    }
}

/// The status in the first bytes of an answer of HTTP/1.
pub(super) fn status_of(answer: &[u8]) -> Option<u16> {
    std::str::from_utf8(answer.get(9..12)?).ok()?.parse().ok()
}
