//! A line for each request, written by a thread of its own: JSON for machines, words for a terminal. Never a prompt,
//! never a key.

mod json;
mod line;

use std::io::{self, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use pingora_proxy::Session;

pub(super) use self::line::{CLIENT_LEFT, cut, short};
pub use self::line::{Line, Who};
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
}

/// The end of the queue where lines go in. Off: nothing happens.
#[derive(Clone)]
pub struct AccessLog {
    lines: Option<SyncSender<Message>>,
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

    /// Queues the line of a request that ended. Never waits.
    pub(super) fn write(&self, session: &Session, ctx: &RequestContext, metrics: &Metrics) {
        let Some(lines) = &self.lines else { return };
        if lines.try_send(Message::Line(Box::new(Line::of(session, ctx)))).is_err() {
            metrics.access_log_dropped.inc();
        }
    }

    /// Nothing comes any more: the writer ends when it has written what waits. Blocks while the queue is full.
    pub fn close(&self) {
        if let Some(lines) = &self.lines {
            let _writer_is_gone = lines.send(Message::End);
        }
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
        Format::Text => drop(line.write_text(text)),
    }
    text.push(b'\n');
}
