//! A line for each request, written by a thread of its own: JSON for machines, words for a terminal. Never a prompt,
//! never a key.

mod json;
mod line;

use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};
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

/// Bytes that are gathered before they are written, about.
const WRITE_BYTES: usize = 64 * 1024;

/// Bytes that a pipe takes at once, whoever else writes into it: `PIPE_BUF` of Linux. While one gateway takes the place of
/// another, both write.
const PIPE_BYTES: usize = 4_096;

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
    dropped: Dropped,
}

/// Counts lines that are lost; the writer begins before there is anything to count with.
type Dropped = Arc<OnceLock<IntCounter>>;

/// The line of a request that is under way.
pub(super) struct Begun {
    asked: Asked,
    lines: SyncSender<Message>,
    dropped: Dropped,
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
        Self { lines: None, dropped: Dropped::default() }
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
        let dropped = Dropped::default();
        let out = Output { out, dropped: dropped.clone(), failed: false };
        let named = std::thread::Builder::new().name("access-log".into());
        let writer = named.spawn(move || write_all(&queue, format, out))?;
        Ok((Self { lines: Some(lines), dropped }, writer))
    }

    /// Lines that are lost are counted there. Only the first call counts.
    pub fn count_dropped(&self, metrics: &Metrics) {
        let _already_set = self.dropped.set(metrics.access_log_dropped.clone());
    }

    /// Notes what the head of a request tells, and where its line will go: it may end where there is no session any more.
    pub(super) fn begin(&self, session: &Session, client: Option<SocketAddr>) -> Option<Begun> {
        let lines = self.lines.clone()?;
        let dropped = self.dropped.clone();
        Some(Begun { asked: Asked::of(session, client), lines, dropped })
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
        count(&dropped, 1);
    }
}

#[expect(clippy::disallowed_methods, reason = "the writer has a thread of its own")]
fn write_all(queue: &Receiver<Message>, format: Format, mut out: Output<impl Write>) {
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
                out.flush(&mut text);
            }
        }
        out.flush(&mut text);
        if ended {
            return;
        }
    }
}

fn count(dropped: &Dropped, lines: usize) {
    if let Some(dropped) = dropped.get() {
        dropped.inc_by(lines as u64);
    }
}

/// Where lines go.
struct Output<W> {
    out: W,
    dropped: Dropped,
    /// The last write did.
    failed: bool,
}

impl<W: Write> Output<W> {
    /// A full disk or a closed pipe loses lines, not requests; that is told once.
    fn flush(&mut self, text: &mut Vec<u8>) {
        if text.is_empty() {
            return;
        }
        let mut rest = text.as_slice();
        let mut written = Ok(());
        while !rest.is_empty() && written.is_ok() {
            let (lines, more) = rest.split_at(whole_lines(rest));
            written = self.out.write_all(lines).and_then(|()| self.out.flush());
            if written.is_ok() {
                rest = more;
            }
        }
        if let Err(error) = &written {
            count(&self.dropped, memchr::memchr_iter(b'\n', rest).count());
            if !self.failed {
                log::error!("the access log cannot be written, its lines are lost: {error}");
            }
        }
        self.failed = written.is_err();
        text.clear();
    }
}

/// How much of `text` may go at once: as many whole lines as a pipe takes, and one at least.
fn whole_lines(text: &[u8]) -> usize {
    let (first, rest) = text.split_at(text.len().min(PIPE_BYTES));
    if rest.is_empty() {
        return text.len();
    }
    let end = memchr::memrchr(b'\n', first)
        .or_else(|| memchr::memchr(b'\n', rest).map(|more| first.len() + more));
    end.map_or(text.len(), |end| end + 1)
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A disk without room.
    struct Full;

    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_pipe_gets_whole_lines_as_many_as_it_takes_at_once() {
        let line = |bytes: usize| format!("{}\n", "x".repeat(bytes - 1));
        assert_eq!(whole_lines(b"one\ntwo\n"), 8);
        assert_eq!(whole_lines(line(1_000).repeat(5).as_bytes()), 4_000);
        assert_eq!(whole_lines(line(1_024).repeat(5).as_bytes()), 4_096);
        assert_eq!(whole_lines((line(5_000) + "more\n").as_bytes()), 5_000);
    }

    #[test]
    fn lines_that_a_full_disk_loses_are_counted() {
        let metrics = Metrics::new().unwrap();
        let dropped = Dropped::default();
        dropped.set(metrics.access_log_dropped.clone()).unwrap();
        let mut output = Output { out: Full, dropped, failed: false };
        output.flush(&mut b"one\ntwo\n".to_vec());
        output.flush(&mut b"three\n".to_vec());
        output.flush(&mut Vec::new());
        assert_eq!(metrics.access_log_dropped.get(), 3);
    }
}
