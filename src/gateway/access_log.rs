//! A line for each request, written by a thread of its own: JSON for machines, words for a terminal. Never a prompt,
//! never a key.

use std::fmt;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use http::{Method, Uri};
use pingora_proxy::Session;
use serde::{Serialize, Serializer};

use super::context::RequestContext;
use crate::access::keys::Key;
use crate::metrics::Metrics;
use crate::names::ModelName;
use crate::upstream::Upstream;
use crate::wire::ids::RequestId;

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

/// What is told of a request: handles on what is there already, written out by the writer's thread.
#[derive(Serialize)]
struct Line {
    time: DateTime<Utc>,
    #[serde(serialize_with = "id")]
    id: RequestId,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<Who>,
    client: Option<SocketAddr>,
    #[serde(serialize_with = "method")]
    method: Method,
    #[serde(rename = "path", serialize_with = "path")]
    uri: Uri,
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "model")]
    model: Option<ModelName>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "upstream")]
    upstream: Option<Arc<Upstream>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<SocketAddr>,
    tries: usize,
    stream: bool,
    bytes_in: usize,
    bytes_out: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_byte_ms: Option<f64>,
    duration_ms: f64,
    client_left: bool,
}

/// Who asked.
enum Who {
    Known(Arc<Key>),
    /// 8 hex digits of what was presented.
    Unknown(String),
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Known(key) => key.name.fmt(f),
            Self::Unknown(print) => write!(f, "unknown:{print}"),
        }
    }
}

impl Serialize for Who {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

fn id<S: Serializer>(id: &RequestId, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(id.as_str())
}

fn method<S: Serializer>(method: &Method, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(method.as_str())
}

fn path<S: Serializer>(uri: &Uri, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(cut(uri.path()))
}

fn model<S: Serializer>(model: &Option<ModelName>, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(model.as_ref().map_or("", |model| cut(model.as_str())))
}

fn upstream<S: Serializer>(upstream: &Option<Arc<Upstream>>, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(upstream.as_ref().map_or("", |upstream| upstream.name.as_str()))
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
        let unknown = || ctx.unknown_key.clone().map(Who::Unknown);
        Self {
            time: Utc::now(),
            id: ctx.id.clone(),
            trace: ctx.trace.as_ref().map(|trace| trace.trace_id().to_owned()),
            key: ctx.key.clone().map(Who::Known).or_else(unknown),
            client: session.client_addr().and_then(|address| address.as_inet().copied()),
            method: request.method.clone(),
            uri: request.uri.clone(),
            status: if ctx.answer.status == 0 { CLIENT_LEFT } else { ctx.answer.status },
            error: ctx.refused.as_ref().map(crate::refusal::Refusal::code),
            model: ctx.model.clone(),
            upstream: ctx.forward.as_ref().map(|forward| forward.route.upstream.clone()),
            node: ctx.node_address,
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
        let client = self.client.map_or_else(|| "-".to_owned(), |client| client.to_string());
        let key = self.key.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string);
        write!(
            out,
            "{time} {client} {} {} {} {:.1} ms key={key} model={} upstream={} id={}",
            self.method,
            cut(self.uri.path()).escape_debug(),
            self.status,
            self.duration_ms,
            self.model.as_ref().map_or("-", |model| cut(model.as_str())).escape_debug(),
            self.upstream.as_ref().map_or("-", |upstream| upstream.name.as_str()),
            self.id.as_str()
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

fn cut(text: &str) -> &str {
    let mut end = text.len().min(TEXT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
