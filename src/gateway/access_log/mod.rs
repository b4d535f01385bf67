//! A line for each request, written by a thread of its own: JSON for machines, words for a terminal. Never a prompt,
//! never a key.

mod json;
mod line;

use std::io::{self, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use pingora_proxy::Session;
use prometheus::IntCounter;

pub use self::line::{Asked, Line, Who};
pub(super) use self::line::{CLIENT_LEFT, cut, short};
use super::context::RequestContext;
use crate::metrics::Metrics;

/// Lines that wait for the writer: about a second at full speed. More are dropped and counted.
const QUEUE: usize = 16 * 1024;

/// How long the writer waits for more lines when one has come: far less than a second of [`QUEUE`], and than anyone who
/// reads along would see.
const GATHERING: Duration = Duration::from_millis(10);

/// Bytes written at once, about.
const WRITE_BYTES: usize = 64 * 1024;

/// How lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
    /// For people, on a terminal that shows colours.
    Colour,
}

/// The end of the queue where lines go in. Off: nothing happens.
#[derive(Clone)]
pub struct AccessLog {
    lines: Option<SyncSender<Message>>,
}

/// The line of a request that is under way.
pub(super) struct Begun {
    asked: Asked,
    lines: SyncSender<Message>,
    /// Counts lines that do not fit.
    dropped: IntCounter,
}

/// What the writer is told.
enum Message {
    /// Write this.
    Line(Box<Line>),
    /// All that came before is written; end.
    End,
}

impl AccessLog {
    /// No lines at all.
    pub fn off() -> Self {
        Self { lines: None }
    }

    /// Lines in `format` to `out`, by a thread that ends when all is written after [`AccessLog::close`].
    ///
    /// # Errors
    /// No thread can be started.
    pub fn start(
        format: Format,
        out: impl Write + Send + 'static,
    ) -> io::Result<(Self, JoinHandle<()>)> {
        let (lines, queue) = sync_channel(QUEUE);
        let named = std::thread::Builder::new().name("access-log".into());
        let writer = named.spawn(move || write_all(&queue, format, out))?;
        Ok((Self { lines: Some(lines) }, writer))
    }

    /// Notes what the head of a request tells, and where its line will go: it may end where there is no session any more.
    pub(super) fn begin(&self, session: &Session, metrics: &Metrics) -> Option<Begun> {
        let lines = self.lines.clone()?;
        let dropped = metrics.access_log_dropped.clone();
        Some(Begun { asked: Asked::of(session), lines, dropped })
    }

    /// Nothing comes any more: the writer ends when it has written what waits. Blocks while the queue is full.
    pub fn close(&self) {
        if let Some(lines) = &self.lines {
            let _writer_is_gone = lines.send(Message::End);
        }
    }
}

/// Queues the line of a request that ended, or was cut: then there is no session. Never waits.
pub(super) fn write(ctx: &mut RequestContext, session: Option<&Session>) {
    let Some(Begun { asked, lines, dropped }) = ctx.line.take() else { return };
    let bytes = session.map(|session| (session.body_bytes_read(), session.body_bytes_sent()));
    let line = Box::new(Line::of(asked, ctx, bytes));
    if lines.try_send(Message::Line(line)).is_err() {
        dropped.inc();
    }
}

#[expect(clippy::disallowed_methods, reason = "the writer has a thread of its own")]
fn write_all(queue: &Receiver<Message>, format: Format, mut out: impl Write) {
    let mut text = Vec::with_capacity(WRITE_BYTES);
    while let Ok(first) = queue.recv() {
        // While it sleeps nobody wakes it: a wake-up costs a request more than its line.
        std::thread::sleep(GATHERING);
        let mut ended = false;
        // What has come meanwhile goes out in few writes; then nothing is kept back.
        for message in std::iter::once(first).chain(queue.try_iter().take(QUEUE)) {
            match message {
                Message::Line(line) => write_one(&line, format, &mut text),
                Message::End => ended = true,
            }
            if ended || text.len() >= WRITE_BYTES {
                flush(&mut text, &mut out);
            }
        }
        flush(&mut text, &mut out);
        if ended {
            return;
        }
    }
}

/// A full disk or a closed pipe loses lines, not requests.
fn flush(text: &mut Vec<u8>, out: &mut impl Write) {
    let _lost = out.write_all(text).and_then(|()| out.flush());
    text.clear();
}

fn write_one(line: &Line, format: Format, text: &mut Vec<u8>) {
    match format {
        Format::Json => line.write_json(text),
        // Memory grows as needed, so writing cannot fail.
        Format::Text | Format::Colour => {
            drop(line.write_text(text, format == Format::Colour));
        }
    }
    text.push(b'\n');
}
