//! What is told of one request: a handful of handles and short copies, spelled out by the writer. Nothing here holds on to
//! the request itself, whose head may be a megabyte: thousands of lines may wait.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use http::Method;
use pingora_proxy::Session;

use super::json::{Object, field};
use crate::access::keys::Key;
use crate::gateway::context::RequestContext;
use crate::names::ModelName;
use crate::refusal::Refusal;
use crate::upstream::Upstream;
use crate::upstream::prefix::chain::Chain;
use crate::wire::ids::RequestId;
use crate::wire::usage::spent::Spent;

/// Longest text of a caller's in a line, in bytes: a model's name, a path.
const TEXT_BYTES_MAX: usize = 256;

/// The status of a request whose client left before there was one: nginx's, which log readers know.
pub(in crate::gateway) const CLIENT_LEFT: u16 = 499;

/// What is told of a request.
pub struct Line {
    /// When it ended.
    pub time: SystemTime,
    /// What it is called.
    pub id: RequestId,
    /// Its trace, 32 hex digits.
    pub trace: Option<String>,
    /// Who asked.
    pub who: Option<Who>,
    /// Where they are.
    pub client: Option<SocketAddr>,
    /// Its method.
    pub method: Cow<'static, str>,
    /// Its path, cut to 256 bytes.
    pub path: Box<str>,
    /// The status of the answer; 499 where the client left before there was one.
    pub status: u16,
    /// The code of the refusal.
    pub error: Option<&'static str>,
    /// The model that it names, cut to 256 bytes.
    pub model: Option<ModelName>,
    /// Where it went.
    pub upstream: Option<Arc<Upstream>>,
    /// The node that was asked last.
    pub node: Option<SocketAddr>,
    /// How many were asked.
    pub tries: usize,
    /// Whether an event stream was asked for.
    pub stream: bool,
    /// Bytes of its body.
    pub bytes_in: usize,
    /// Bytes of the answer's.
    pub bytes_out: usize,
    /// Its tokens, where somebody needs to know them.
    pub spent: Option<Spent>,
    /// From its first byte to the answer's.
    pub first_byte: Option<Duration>,
    /// From its first byte to its end.
    pub duration: Duration,
    /// Whether the client left.
    pub client_left: bool,
    /// The prompt, where that is asked for: hashes of its blocks.
    pub prompt: Option<Box<Chain>>,
}

/// Who asked.
pub enum Who {
    /// The bearer of this key.
    Known(Arc<Key>),
    /// 8 hex digits of what was presented.
    Unknown(String),
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Known(key) => f.write_str(key.name.as_str()),
            Self::Unknown(print) => write!(f, "unknown:{print}"),
        }
    }
}

impl Line {
    /// The line of a request that ended.
    pub(super) fn of(session: &Session, ctx: &RequestContext) -> Self {
        let request = session.req_header();
        let unknown = || ctx.unknown_key.clone().map(Who::Unknown);
        let since = |at: Instant| at.duration_since(ctx.started);
        Self {
            time: SystemTime::now(),
            id: ctx.id.clone(),
            trace: ctx.trace.as_ref().map(|trace| trace.trace_id().to_owned()),
            who: ctx.key.clone().map(Who::Known).or_else(unknown),
            client: session.client_addr().and_then(|address| address.as_inet().copied()),
            method: method(&request.method),
            path: match ctx.in_session {
                true => "/chat".into(),
                false => cut(request.uri.path()).into(),
            },
            status: if ctx.answer.status == 0 { CLIENT_LEFT } else { ctx.answer.status },
            error: ctx.refused.as_ref().map(Refusal::code),
            model: ctx.model.as_ref().map(short),
            upstream: ctx.forward.as_ref().map(|forward| forward.route.upstream.clone()),
            node: ctx.node_address,
            tries: ctx.counted_tries(),
            stream: ctx.stream,
            bytes_in: session.body_bytes_read(),
            bytes_out: session.body_bytes_sent(),
            spent: ctx.spent,
            first_byte: ctx.answer.first_byte.map(since),
            duration: ctx.started.elapsed(),
            client_left: ctx.client_left,
            prompt: ctx.logged_prompt.clone(),
        }
    }

    /// For machines.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        let mut line = Object::open(out);
        line.plain(field!("time"), &humantime::format_rfc3339_micros(self.time));
        line.text(field!("id"), self.id.as_str());
        line.text_if(field!("trace"), self.trace.as_deref());
        match &self.who {
            Some(Who::Known(key)) => line.text(field!("key"), key.name.as_str()),
            Some(unknown) => line.plain(field!("key"), unknown),
            None => {}
        }
        line.address(field!("client"), self.client);
        line.text(field!("method"), &self.method);
        line.text(field!("path"), &self.path);
        line.number(field!("status"), self.status.into());
        line.text_if(field!("error"), self.error);
        line.text_if(field!("model"), self.model.as_ref().map(ModelName::as_str));
        line.text_if(
            field!("upstream"),
            self.upstream.as_ref().map(|upstream| upstream.name.as_str()),
        );
        line.address(field!("node"), self.node);
        line.number(field!("tries"), self.tries as u64);
        line.switch(field!("stream"), self.stream);
        line.number(field!("bytes_in"), self.bytes_in as u64);
        line.number(field!("bytes_out"), self.bytes_out as u64);
        if let Some(spent) = &self.spent {
            line.number(field!("prompt_tokens"), spent.prompt);
            if let Some(cached) = spent.cached {
                line.number(field!("cached_tokens"), cached);
            }
            line.number(field!("completion_tokens"), spent.answer);
            line.text(field!("usage_source"), spent.source.as_str());
        }
        if let Some(first_byte) = self.first_byte {
            line.millis(field!("first_byte_ms"), first_byte);
        }
        line.millis(field!("duration_ms"), self.duration);
        line.switch(field!("client_left"), self.client_left);
        if let Some(prompt) = &self.prompt {
            line.prompt(field!("prompt"), prompt);
        }
        line.close();
    }

    /// For people.
    pub(super) fn write_text(&self, out: &mut Vec<u8>) -> io::Result<()> {
        let time = humantime::format_rfc3339_millis(self.time);
        let client = self.client.map_or_else(|| "-".to_owned(), |client| client.to_string());
        let key = self.who.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string);
        write!(
            out,
            "{time} {client} {} {} {} {:.1} ms key={key} model={} upstream={} id={}",
            self.method,
            self.path.escape_debug(),
            self.status,
            self.duration.as_secs_f64() * 1e3,
            self.model.as_ref().map_or("-", ModelName::as_str).escape_debug(),
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

/// The methods that have a name of their own; others are as long as their client likes.
fn method(method: &Method) -> Cow<'static, str> {
    const KNOWN: [&str; 9] =
        ["POST", "GET", "HEAD", "OPTIONS", "PUT", "DELETE", "PATCH", "TRACE", "CONNECT"];
    let known = KNOWN.into_iter().find(|known| *known == method.as_str());
    known.map_or_else(|| cut(method.as_str()).to_owned().into(), Cow::Borrowed)
}

/// The name itself, unless it is too long for a line.
pub(in crate::gateway) fn short(model: &ModelName) -> ModelName {
    if model.as_str().len() <= TEXT_BYTES_MAX { model.clone() } else { cut(model.as_str()).into() }
}

pub(in crate::gateway) fn cut(text: &str) -> &str {
    let mut end = text.len().min(TEXT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
