//! How `/v1` writes what Ollama's own API answers: as chunks of a stream of events, or as one object.

use std::fmt::Write;

use bytes::{BufMut, Bytes, BytesMut};

use crate::sim::call::Call as Request;
use crate::sim::node::unix_seconds;
use crate::sim::ollama::answer::{self, Answer, Call, Line, Sums};
use crate::sim::ollama::refusal::PLAIN_JSON;
use crate::sim::ollama::{go, logprobs};
use crate::sim::text::quoted;

const DONE: &[u8] = b"data: [DONE]\n\n";

/// Ids are below this, so they come again and again.
const IDS: u64 = 999;

/// Which path is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Path {
    /// `/v1/chat/completions`
    Chat,
    /// `/v1/completions`
    Completions,
}

/// Writes one answer.
pub(super) struct Voice {
    path: Path,
    /// With its prefix.
    id: String,
    /// Whether a stream tells of usage.
    usage: bool,
    /// Seconds since 1970 when it began.
    created: u64,
    /// What all chunks of a chat begin with; empty before the first.
    head: String,
    /// Whether a chunk was written.
    begun: bool,
    /// Whether a call was.
    called: bool,
}

impl Voice {
    /// A voice with an id.
    pub(super) fn new(call: &Request, path: Path, usage: bool) -> Self {
        let prefix = if path == Path::Chat { "chatcmpl" } else { "cmpl" };
        let id = format!("{prefix}-{}", call.node.fresh_number() % IDS);
        Self { path, id, usage, created: 0, head: String::new(), begun: false, called: false }
    }

    /// A chunk of a chat; `choices` is what stands between the brackets.
    fn open_chat(&mut self, model: &str, out: &mut BytesMut) {
        if self.head.is_empty() {
            self.created = unix_seconds();
            self.head = self.chat_head(model);
        }
        out.put_slice(self.head.as_bytes());
    }

    fn chat_head(&self, model: &str) -> String {
        let Self { id, created, .. } = self;
        format!(
            r#"data: {{"id":"{id}","object":"chat.completion.chunk","created":{created},"model":{model},"system_fingerprint":"fp_ollama","choices":["#
        )
    }

    /// A delta of a chat.
    fn delta(&mut self, answer: &Answer, line: &Line<'_>, out: &mut BytesMut) {
        self.open_chat(&answer.model, out);
        out.put_slice(br#"{"index":0,"delta":{"#);
        if !std::mem::replace(&mut self.begun, true) {
            out.put_slice(br#""role":"assistant","#);
        }
        out.put_slice(br#""content":""#);
        go::put(line.content, out);
        out.put_u8(b'"');
        if !line.thinking.is_empty() {
            out.put_slice(br#","reasoning":""#);
            go::put(line.thinking, out);
            out.put_u8(b'"');
        }
        if let Some(call) = line.called {
            self.called = true;
            // Memory grows as needed, so writing cannot fail; the same holds below.
            let _ = write!(out, r#","tool_calls":[{}]"#, called(call));
        }
        out.put_slice(br#"},"finish_reason":null"#);
        if let Some(token) = line.logprob {
            let _ = write!(out, r#","logprobs":{{"content":{}}}"#, logprobs::list(&[token]));
        }
        out.put_slice(b"}]}\n\n");
    }

    /// The end of a chat: its reason, and usage where it was asked for.
    fn end(&mut self, answer: &Answer, sums: &Sums, out: &mut BytesMut) {
        let reason = if self.called { "tool_calls" } else { answer.reason };
        self.open_chat(&answer.model, out);
        let _ = write!(out, r#"{{"index":0,"delta":{{}},"finish_reason":"{reason}"}}]}}"#);
        out.put_slice(b"\n\n");
        if self.usage {
            self.open_chat(&answer.model, out);
            let _ = write!(out, r#"],"usage":{}}}"#, usage(sums));
            out.put_slice(b"\n\n");
        }
        out.put_slice(DONE);
    }

    /// A chunk of a text: without a reason while it goes on, and without a choice if it tells of usage alone.
    fn chunk(
        &self,
        model: &str,
        choice: Option<(&str, Option<&str>)>,
        sums: &Sums,
        out: &mut BytesMut,
    ) {
        let (id, created) = (&self.id, unix_seconds());
        let _ = write!(
            out,
            r#"data: {{"id":"{id}","object":"text_completion","created":{created},"choices":["#
        );
        if let Some((text, reason)) = choice {
            out.put_slice(br#"{"text":""#);
            go::put(text, out);
            let reason = reason.map_or_else(|| "null".to_owned(), quoted);
            let _ = write!(out, r#"","index":0,"finish_reason":{reason}}}"#);
        }
        let _ = write!(out, r#"],"model":{model},"system_fingerprint":"fp_ollama""#);
        if self.usage {
            let _ = write!(out, r#","usage":{}"#, usage(sums));
        }
        out.put_slice(b"}\n\n");
    }

    /// What is told, and as what, when a model was only loaded.
    pub(super) fn loaded(&self, model: &str, stream: bool) -> (Bytes, &'static str) {
        let (mut out, model) = (BytesMut::new(), go::string(model));
        if stream {
            self.chunk(&model, Some(("", Some("load"))), &Sums::default(), &mut out);
            if self.usage {
                self.chunk(&model, None, &Sums::default(), &mut out);
            }
            out.put_slice(DONE);
            return (out.freeze(), <Self as answer::Voice>::STREAM);
        }
        (self.text(&model, ("", "load"), &Sums::default()).into(), PLAIN_JSON)
    }

    /// A text in one piece.
    fn text(&self, model: &str, (text, reason): (&str, &str), sums: &Sums) -> String {
        let (id, created, usage) = (&self.id, unix_seconds(), usage(sums));
        format!(
            r#"{{"id":"{id}","object":"text_completion","created":{created},"model":{model},"system_fingerprint":"fp_ollama","choices":[{{"text":"{text}","index":0,"finish_reason":"{reason}"}}],"usage":{usage}}}"#
        ) + "\n"
    }

    /// What becomes of an error in a stream: it is taken for a line that says nothing, of no model.
    fn swallowed(&self) -> Bytes {
        let mut out = BytesMut::new();
        if self.path == Path::Completions {
            self.chunk("\"\"", Some(("", None)), &Sums::default(), &mut out);
            return out.freeze();
        }
        out.put_slice(self.chat_head("\"\"").as_bytes());
        let role = if self.begun { "" } else { r#""role":"assistant","# };
        let _ =
            write!(out, r#"{{"index":0,"delta":{{{role}"content":""}},"finish_reason":null}}]}}"#);
        out.put_slice(b"\n\n");
        out.freeze()
    }
}

impl answer::Voice for Voice {
    const STREAM: &'static str = "text/event-stream";
    const WHOLE: &'static str = PLAIN_JSON;

    fn line(&mut self, answer: &Answer, line: &Line<'_>, out: &mut BytesMut) {
        match self.path {
            Path::Chat => self.delta(answer, line, out),
            Path::Completions => {
                let choice = Some((line.content, None));
                self.chunk(&answer.model, choice, &Sums::default(), out);
            }
        }
    }

    fn done(&mut self, answer: &Answer, sums: &Sums, out: &mut BytesMut) {
        match self.path {
            Path::Chat => {
                let last = answer.called.as_ref().filter(|_| answer.called_last);
                // What has nothing to say goes without saying, unless nothing was said at all.
                if last.is_some() || !self.begun {
                    self.delta(answer, &Line { called: last, ..Line::default() }, out);
                }
                self.end(answer, sums, out);
            }
            Path::Completions => {
                let choice = Some(("", Some(answer.reason)));
                self.chunk(&answer.model, choice, &Sums::default(), out);
                if self.usage {
                    self.chunk(&answer.model, None, sums, out);
                }
                out.put_slice(DONE);
            }
        }
    }

    fn whole(&mut self, answer: &Answer, sums: &Sums) -> String {
        let (id, created, model) = (&self.id, unix_seconds(), &answer.model);
        let content = answer.content();
        let (content, usage, reason) = (go::escaped(&content), usage(sums), answer.reason);
        if self.path == Path::Completions {
            return self.text(model, (&content, reason), sums);
        }
        let mut message = format!(r#"{{"role":"assistant","content":"{content}""#);
        let thinking = answer.thinking();
        if !thinking.is_empty() {
            let _ = write!(message, r#","reasoning":"{}""#, go::escaped(&thinking));
        }
        if let Some(call) = &answer.called {
            let _ = write!(message, r#","tool_calls":[{}]"#, called(call));
        }
        let reason = if answer.called.is_some() { "tool_calls" } else { reason };
        let tokens = answer.logprobs();
        let logprobs = match tokens.is_empty() {
            true => String::new(),
            false => format!(r#","logprobs":{{"content":{}}}"#, logprobs::list(&tokens)),
        };
        format!(
            r#"{{"id":"{id}","object":"chat.completion","created":{created},"model":{model},"system_fingerprint":"fp_ollama","choices":[{{"index":0,"message":{message}}},"finish_reason":"{reason}"{logprobs}}}],"usage":{usage}}}"#
        ) + "\n"
    }

    fn last_words(&self) -> &'static [&'static str] {
        &[]
    }

    fn last_event(&self) -> Option<Bytes> {
        Some(self.swallowed())
    }
}

/// A call as OpenAI's API has it: its arguments are JSON in a text.
fn called(Call { id, name, arguments }: &Call) -> String {
    let arguments = go::string(&go::json(arguments));
    format!(
        r#"{{"id":"{id}","index":0,"type":"function","function":{{"name":{name},"arguments":{arguments}}}}}"#
    )
}

fn usage(sums: &Sums) -> String {
    let (prompt, answer) = (sums.prompt_tokens, sums.tokens);
    let total = prompt + answer;
    format!(r#"{{"prompt_tokens":{prompt},"completion_tokens":{answer},"total_tokens":{total}}}"#)
}
