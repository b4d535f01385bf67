//! A chat or a completion as OpenAI's API writes it: as the events of a stream, or as one object.

use std::fmt::Write;

use bytes::{BufMut, BytesMut};

use super::line::{Line, Text, ToolCall};
use super::{Call, Shape, logprobs, quoted};

/// Begins each event.
const DATA: &[u8] = b"data: ";

/// Ends a stream that has come to a good end.
const DONE: &[u8] = b"data: [DONE]\n\n";

/// What Ollama calls all of its builds.
const FINGERPRINT: &str = "fp_ollama";

/// Writes one answer.
pub(super) struct Writer {
    shape: Shape,
    /// Without prefix.
    id: String,
    /// Seconds since 1970.
    created: u64,
    /// What each event begins with, up to its choices; empty before the first.
    head: Vec<u8>,
    /// A choice was written.
    begun: bool,
    /// Calls of tools so far.
    calls: usize,
    /// Characters of a completion whose probabilities were told.
    offset: usize,
}

/// What a choice says.
#[derive(Default)]
struct Said<'a> {
    content: Option<Text<'a>>,
    thinking: Option<Text<'a>>,
    calls: &'a [ToolCall<'a>],
}

impl Writer {
    pub(super) fn new(shape: &Shape, id: &str, created: u64) -> Self {
        let (shape, id) = (shape.clone(), id.to_owned());
        Self { shape, id, created, head: Vec::new(), begun: false, calls: 0, offset: 0 }
    }

    fn is_chat(&self) -> bool {
        self.shape.call == Call::Chat
    }

    /// Appends the events of one line; all that are still to come, if it is the last.
    pub(super) fn line(&mut self, line: &Line<'_>, out: &mut BytesMut) {
        if self.head.is_empty() {
            self.head = self.stream_head(line);
        }
        if self.is_chat() {
            self.deltas(line, out);
        } else {
            self.text(line, out);
        }
        if line.done {
            self.end(line, out);
        }
    }

    /// The parts of a chunk of a chat: what is thought comes before what is said.
    fn deltas(&mut self, line: &Line<'_>, out: &mut BytesMut) {
        let (content, calls) = (line.content(), line.tool_calls());
        let thinking = line.thinking();
        let says = content.is_some() || !calls.is_empty();
        if thinking.is_some() && says {
            self.delta(&Said { thinking, ..Said::default() }, None, out);
        }
        // A line that says nothing is one, too: its client sees that the answer has begun.
        if says || thinking.is_some() || line.logprobs.is_some() || !line.done {
            let thinking = thinking.filter(|_| !says);
            self.delta(&Said { content, thinking, calls }, Some(line), out);
        }
    }

    /// One chunk of a chat, with the probabilities of `line`.
    fn delta(&mut self, said: &Said<'_>, line: Option<&Line<'_>>, out: &mut BytesMut) {
        self.open(out);
        out.put_slice(b"{\"index\":0,\"delta\":{");
        if !std::mem::replace(&mut self.begun, true) {
            out.put_slice(b"\"role\":\"assistant\",");
        }
        self.message(said, out);
        out.put_slice(b"}");
        if let Some(line) = line {
            put_logprobs(line, out);
        }
        out.put_slice(b",\"finish_reason\":null}");
        self.close(out);
    }

    /// One chunk of a completion.
    fn text(&mut self, line: &Line<'_>, out: &mut BytesMut) {
        let (content, thinking) = (line.content(), line.thinking());
        let says = content.is_some() || thinking.is_some() || line.logprobs.is_some();
        if says || !line.done {
            self.open(out);
            self.choice(line, out);
            out.put_slice(b",\"finish_reason\":null}");
            self.close(out);
        }
    }

    /// The reason to finish, usage where it was asked for, and the end.
    fn end(&mut self, line: &Line<'_>, out: &mut BytesMut) {
        let reason = line.finish_reason(self.calls > 0);
        self.open(out);
        let nothing: &[u8] = match (self.is_chat(), self.begun) {
            (true, true) => br#"{"index":0,"delta":{}"#,
            (true, false) => br#"{"index":0,"delta":{"role":"assistant","content":""}"#,
            (false, _) => br#"{"index":0,"text":"","logprobs":null"#,
        };
        out.put_slice(nothing);
        // Memory grows as needed, so writing cannot fail; the same holds below.
        let _ = write!(out, r#","finish_reason":"{reason}"}}"#);
        self.close(out);
        if self.shape.usage {
            self.open(out);
            let _ = write!(out, r#"],"usage":{}}}"#, line.usage());
            out.put_slice(b"\n\n");
        }
        out.put_slice(DONE);
    }

    fn open(&self, out: &mut BytesMut) {
        out.put_slice(&self.head);
    }

    /// Ends a chunk with choices.
    fn close(&self, out: &mut BytesMut) {
        let end: &[u8] = if self.shape.usage { b"],\"usage\":null}\n\n" } else { b"]}\n\n" };
        out.put_slice(end);
    }

    /// An answer in one piece.
    pub(super) fn whole(&mut self, line: &Line<'_>, out: &mut BytesMut) {
        let head = self.object_head(line, false);
        out.put_slice(head.as_bytes());
        if self.is_chat() {
            out.put_slice(b"{\"index\":0,\"message\":{\"role\":\"assistant\",");
            let (content, thinking) = (line.content(), line.thinking());
            self.message(&Said { content, thinking, calls: line.tool_calls() }, out);
            out.put_slice(b"}");
            put_logprobs(line, out);
        } else {
            self.choice(line, out);
        }
        let (reason, usage) = (line.finish_reason(self.calls > 0), line.usage());
        let _ = write!(out, r#","finish_reason":"{reason}"}}],"usage":{usage}}}"#);
    }

    /// What is said, within the braces of a message or a delta.
    fn message(&mut self, said: &Said<'_>, out: &mut BytesMut) {
        out.put_slice(b"\"content\":");
        out.put_slice(said.content.map_or("\"\"", Text::json).as_bytes());
        if let Some(thinking) = said.thinking {
            out.put_slice(b",\"reasoning\":");
            out.put_slice(thinking.json().as_bytes());
        }
        for (place, call) in said.calls.iter().enumerate() {
            out.put_slice(if place == 0 { b",\"tool_calls\":[" } else { b"," });
            self.call(call, out);
        }
        if !said.calls.is_empty() {
            out.put_slice(b"]");
        }
    }

    /// A call of a tool, whose arguments are JSON in a text. Before Ollama gave calls an id they had none.
    fn call(&mut self, ToolCall { id, function }: &ToolCall<'_>, out: &mut BytesMut) {
        let index = self.calls;
        self.calls += 1;
        let made = || quoted(&format!("call_{}_{index}", self.id));
        let id = id.map_or_else(made, |id| id.json().to_owned());
        let name = function.name.json();
        let arguments = quoted(function.arguments.map_or("{}", |arguments| arguments.get()));
        let _ = write!(
            out,
            r#"{{"index":{index},"id":{id},"type":"function","function":{{"name":{name},"arguments":{arguments}}}}}"#
        );
    }

    /// A choice of a completion, up to its reason to finish.
    fn choice(&mut self, line: &Line<'_>, out: &mut BytesMut) {
        out.put_slice(b"{\"index\":0,\"text\":");
        out.put_slice(line.content().map_or("\"\"", Text::json).as_bytes());
        if let Some(thinking) = line.thinking() {
            out.put_slice(b",\"reasoning\":");
            out.put_slice(thinking.json().as_bytes());
        }
        out.put_slice(b",\"logprobs\":");
        match line.logprobs {
            Some(told) => logprobs::put(told, &mut self.offset, out),
            None => out.put_slice(b"null"),
        }
    }

    fn stream_head(&self, line: &Line<'_>) -> Vec<u8> {
        [DATA, self.object_head(line, true).as_bytes()].concat()
    }

    /// An object up to its choices. The model is called as the node calls it.
    fn object_head(&self, line: &Line<'_>, chunk: bool) -> String {
        let (prefix, object) = match (self.is_chat(), chunk) {
            (true, true) => ("chatcmpl", "chat.completion.chunk"),
            (true, false) => ("chatcmpl", "chat.completion"),
            (false, _) => ("cmpl", "text_completion"),
        };
        let (id, created) = (quoted(&format!("{prefix}-{}", self.id)), self.created);
        let model = line.model.map_or(&*self.shape.model, Text::json);
        format!(
            r#"{{"id":{id},"object":"{object}","created":{created},"model":{model},"system_fingerprint":"{FINGERPRINT}","choices":["#
        )
    }
}

/// The probabilities of what a chat says, which both APIs write alike.
fn put_logprobs(line: &Line<'_>, out: &mut BytesMut) {
    if let Some(told) = line.logprobs {
        let _ = write!(out, r#","logprobs":{{"content":{told}}}"#);
    }
}

/// An event that ends a stream badly: no other follows it.
pub(super) fn put_error(error: &str, out: &mut BytesMut) {
    out.put_slice(DATA);
    out.put_slice(error.as_bytes());
    out.put_slice(b"\n\n");
}
