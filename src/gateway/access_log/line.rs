//! What is told of one request: a handful of handles and short copies, spelled out by the writer. Nothing here holds on to
//! the request itself, whose head may be a megabyte: thousands of lines may wait.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use http::{HeaderName, Method};
use pingora_proxy::Session;

use super::json::{Object, field};
use crate::access::keys::Key;
use crate::gateway::account;
use crate::gateway::context::RequestContext;
use crate::gateway::flow::Flow;
use crate::names::ModelName;
use crate::refusal::Refusal;
use crate::upstream::Upstream;
use crate::upstream::prefix::chain::Chain;
use crate::wire::finish::Reason;
use crate::wire::ids::RequestId;
use crate::wire::usage::spent::Spent;

/// Longest text of a caller's in a line, in bytes: a model's name, a path.
const TEXT_BYTES_MAX: usize = 256;

/// How often a client of OpenAI's or Anthropic's has asked before, in vain.
const RETRY_COUNT: HeaderName = HeaderName::from_static("x-stainless-retry-count");

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
    /// What they asked for.
    pub asked: Asked,
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
    /// Bytes of its body, and of the answer's; none where it was cut.
    pub bytes: Option<(usize, usize)>,
    /// Why the answer ended, in its own words.
    pub finish: Option<Reason>,
    /// Its tokens, where somebody needs to know them.
    pub spent: Option<Spent>,
    /// From its first byte to that of the answer's body.
    pub first_byte: Option<Duration>,
    /// To the first token of its stream.
    pub first_token: Option<Duration>,
    /// From its first byte to its end.
    pub duration: Duration,
    /// Whether the client left.
    pub client_left: bool,
    /// The prompt, where that is asked for: hashes of its blocks.
    pub prompt: Option<Box<Chain>>,
}

/// What the head of a request tells.
pub struct Asked {
    /// Where it came from; with port 0 where a proxy says so, which knows no port.
    pub client: Option<SocketAddr>,
    /// Its method.
    pub method: Cow<'static, str>,
    /// Its path, cut to 256 bytes.
    pub path: Box<str>,
    /// How often its client has asked before, where that says so.
    pub client_retry: Option<u16>,
}

impl Asked {
    pub(super) fn of(session: &Session, client: Option<SocketAddr>) -> Self {
        let request = session.req_header();
        let count = request.headers.get(RETRY_COUNT);
        Self {
            client,
            method: method(&request.method),
            path: cut(request.uri.path()).into(),
            client_retry: count.and_then(|count| count.to_str().ok()?.parse().ok()),
        }
    }
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
    pub(super) fn of(asked: Asked, ctx: &RequestContext, bytes: Option<(usize, usize)>) -> Self {
        let unknown = || ctx.unknown_key.clone().map(Who::Unknown);
        let since = |at: Instant| at.duration_since(ctx.started);
        Self {
            time: SystemTime::now(),
            id: ctx.id.clone(),
            trace: ctx.trace.as_ref().map(|trace| trace.trace_id().to_owned()),
            who: ctx.key.clone().map(Who::Known).or_else(unknown),
            asked,
            status: account::status(ctx),
            error: ctx.refused.as_ref().map(Refusal::code),
            model: ctx.model.as_ref().map(short),
            upstream: ctx.forward.as_ref().map(|forward| forward.route.upstream.clone()),
            node: ctx.node_address,
            tries: ctx.counted_tries(),
            stream: ctx.stream,
            bytes,
            finish: ctx.answer.reason(),
            spent: ctx.spent,
            first_byte: ctx.answer.first_byte.map(since),
            first_token: ctx.flow.as_deref().and_then(Flow::first_token),
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
        line.address(field!("client"), self.asked.client);
        line.text(field!("method"), &self.asked.method);
        line.text(field!("path"), &self.asked.path);
        if let Some(count) = self.asked.client_retry {
            line.number(field!("client_retry"), count.into());
        }
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
        if let Some((bytes_in, bytes_out)) = self.bytes {
            line.number(field!("bytes_in"), bytes_in as u64);
            line.number(field!("bytes_out"), bytes_out as u64);
        }
        line.text_if(field!("finish_reason"), self.finish.as_ref().map(Reason::as_str));
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
        if let Some(first_token) = self.first_token {
            line.millis(field!("ttft_ms"), first_token);
        }
        line.millis(field!("duration_ms"), self.duration);
        line.switch(field!("client_left"), self.client_left);
        if let Some(prompt) = &self.prompt {
            line.prompt(field!("prompt"), prompt);
        }
        line.close();
    }

    /// For people: what is told of nearly every request first.
    pub(super) fn write_text(&self, out: &mut Vec<u8>, colour: bool) -> io::Result<()> {
        let time = humantime::format_rfc3339_millis(self.time);
        let Asked { client, method, path, .. } = &self.asked;
        let client = match client {
            None => "-".to_owned(),
            Some(client) if client.port() == 0 => client.ip().to_string(),
            Some(client) => client.to_string(),
        };
        let key = self.who.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string);
        let (paint, plain) = if colour { (paint(self.status), PLAIN) } else { ("", "") };
        write!(
            out,
            "{time} {client} {method} {} {paint}{}{plain} {:.1} ms key={key} model={} upstream={} id={}",
            path.escape_debug(),
            self.status,
            self.duration.as_secs_f64() * 1e3,
            self.model.as_ref().map_or("-", ModelName::as_str).escape_debug(),
            self.upstream.as_ref().map_or("-", |upstream| upstream.name.as_str()),
            self.id.as_str()
        )?;
        if let Some(first_token) = self.first_token {
            write!(out, " ttft={:.1} ms", first_token.as_secs_f64() * 1e3)?;
        }
        if let Some(spent) = &self.spent {
            write!(out, " tokens={}+{}", spent.prompt, spent.answer)?;
        }
        if let Some(finish) = &self.finish {
            write!(out, " finish={}", finish.as_str())?;
        }
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

/// Ends a colour.
const PLAIN: &str = "\x1b[0m";

/// The colour of a status: green, yellow for what the client did wrong, red.
fn paint(status: u16) -> &'static str {
    match status {
        ..400 => "\x1b[32m",
        400..500 => "\x1b[33m",
        500.. => "\x1b[31m",
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

#[cfg(test)]
mod tests {
    use super::*;

    fn line(status: u16) -> Line {
        let path = "/v1/chat/\u{1b}[2J".into();
        Line {
            time: SystemTime::UNIX_EPOCH,
            id: RequestId::of(Some(&http::HeaderValue::from_static("r1"))),
            trace: None,
            who: Some(Who::Unknown("0123abcd".to_owned())),
            asked: Asked { client: None, method: "POST".into(), path, client_retry: None },
            status,
            error: None,
            model: Some("m".into()),
            upstream: None,
            node: None,
            tries: 1,
            stream: true,
            bytes: None,
            finish: None,
            spent: Some(Spent::estimated(12, 34)),
            first_byte: Some(Duration::from_millis(19)),
            first_token: Some(Duration::from_millis(20)),
            duration: Duration::from_millis(1_500),
            client_left: false,
            prompt: None,
        }
    }

    fn text(line: &Line, colour: bool) -> String {
        let mut out = Vec::new();
        line.write_text(&mut out, colour).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_line_for_people_is_one_line_and_holds_nothing_that_controls_a_terminal() {
        let wanted = "1970-01-01T00:00:00.000Z - POST /v1/chat/\\u{1b}[2J 200 1500.0 ms key=unknown:0123abcd model=m \
                      upstream=- id=r1 ttft=20.0 ms tokens=12+34";
        assert_eq!(text(&line(200), false), wanted);
        let failed =
            Line { error: Some("upstream_error"), tries: 2, client_left: true, ..line(502) };
        assert!(text(&failed, false).ends_with(" error=upstream_error tries=2 client-left"));
    }

    #[test]
    fn where_there_are_colours_only_the_status_has_one() {
        for (status, colour) in [(200, 32), (404, 33), (499, 33), (500, 31)] {
            let painted = format!("\u{1b}[{colour}m{status}\u{1b}[0m");
            let plain = text(&line(status), false);
            let at = plain.replacen(&format!(" {status} "), &format!(" {painted} "), 1);
            assert_eq!(text(&line(status), true), at);
        }
    }
}
