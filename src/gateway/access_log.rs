//! A line for each request, written by a thread of its own: JSON for machines, words for a terminal. Never a prompt,
//! never a key.

use std::io::{self, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use pingora_proxy::Session;
use serde::Serialize;

use super::context::RequestContext;
use crate::metrics::Metrics;

/// Lines that wait for the writer: about a second at full speed. More are dropped and counted.
const QUEUE: usize = 16 * 1024;

/// Longest text of a caller's in a line, in bytes: a model's name, a path.
const TEXT_BYTES_MAX: usize = 256;

/// The status of a request whose client left before there was one: nginx's, which log readers know.
const CLIENT_LEFT: u16 = 499;

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

/// What is told of a request.
#[derive(Serialize)]
struct Line {
    time: DateTime<Utc>,
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace: Option<String>,
    /// The name of the key, or `unknown:` and the fingerprint of what was presented.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    client: String,
    method: String,
    path: String,
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<String>,
    tries: usize,
    stream: bool,
    bytes_in: usize,
    bytes_out: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_byte_ms: Option<f64>,
    duration_ms: f64,
    client_left: bool,
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

impl Line {
    fn of(session: &Session, ctx: &RequestContext) -> Self {
        let request = session.req_header();
        let key = ctx.key.as_ref().map(|key| key.name.to_string());
        let unknown = || ctx.unknown_key.as_ref().map(|print| format!("unknown:{print}"));
        let client = session.client_addr().map(ToString::to_string).unwrap_or_default();
        let upstream = ctx.forward.as_ref().map(|forward| &forward.route.upstream);
        Self {
            time: Utc::now(),
            id: ctx.id.clone(),
            trace: ctx.trace.as_ref().map(|trace| trace.trace_id().to_owned()),
            key: key.or_else(unknown),
            client,
            method: request.method.to_string(),
            path: cut(request.uri.path()),
            status: if ctx.answer.status == 0 { CLIENT_LEFT } else { ctx.answer.status },
            error: ctx.refused.as_ref().map(crate::refusal::Refusal::code),
            model: ctx.model.as_ref().map(|model| cut(model.as_str())),
            upstream: upstream.map(|upstream| upstream.name.to_string()),
            node: ctx.node_address.map(|address| address.to_string()),
            tries: ctx.tries,
            stream: ctx.stream,
            bytes_in: session.body_bytes_read(),
            bytes_out: session.body_bytes_sent(),
            first_byte_ms: ctx.answer.first_byte.map(|at| millis(at.duration_since(ctx.started))),
            duration_ms: millis(ctx.started.elapsed()),
            client_left: ctx.client_left,
        }
    }

    fn write_text(&self, out: &mut impl Write) -> io::Result<()> {
        let time = self.time.to_rfc3339_opts(SecondsFormat::Millis, true);
        let dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
        write!(
            out,
            "{time} {} {} {} {} {:.1} ms key={} model={} upstream={} id={}",
            self.client,
            self.method,
            self.path.escape_debug(),
            self.status,
            self.duration_ms,
            dash(&self.key),
            dash(&self.model).escape_debug(),
            dash(&self.upstream),
            self.id
        )?;
        if let Some(error) = self.error {
            write!(out, " error={error}")?;
        }
        if self.tries > 1 {
            write!(out, " tries={}", self.tries)?;
        }
        if self.client_left {
            out.write_all(b" client-left")?;
        }
        Ok(())
    }
}

fn write_all(queue: &Receiver<Message>, format: Format, out: impl Write) {
    let mut out = io::BufWriter::with_capacity(64 * 1024, out);
    while let Ok(first) = queue.recv() {
        // What has come meanwhile goes out in the same write; then nothing is kept back.
        for message in std::iter::once(first).chain(queue.try_iter().take(QUEUE)) {
            match message {
                // A full disk or a closed pipe loses lines, not requests.
                Message::Line(line) => drop(write_one(&line, format, &mut out)),
                Message::End => return drop(out.flush()),
            }
        }
        drop(out.flush());
    }
}

fn write_one(line: &Line, format: Format, out: &mut impl Write) -> io::Result<()> {
    match format {
        Format::Json => serde_json::to_writer(&mut *out, line)?,
        Format::Text => line.write_text(out)?,
    }
    out.write_all(b"\n")
}

/// Milliseconds with three digits after the point.
fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

fn cut(text: &str) -> String {
    let mut end = text.len().min(TEXT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}
