//! How Ollama's own API writes an answer: JSON, one object a line.

use std::fmt::Write;

use bytes::{BufMut, Bytes, BytesMut};

use super::answer::{Answer, Call, Line, Sums, Voice};
use super::clock::Clock;
use super::refusal::JSON;
use super::{go, logprobs};
use crate::sim::text::quoted;

/// What a stream says when the model's process dies: then it ends, without a line that is `done`.
const LAST_WORDS: [&str; 1] =
    ["{\"error\":\"an error was encountered while running the model: unexpected EOF\"}\n"];

/// Which of its paths is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Path {
    /// `/api/chat`
    Chat,
    /// `/api/generate`
    Generate,
}

/// Writes for one of its paths.
pub(super) struct Native {
    path: Path,
    /// What all lines begin with; empty before the first.
    head: String,
    clock: Clock,
}

impl Native {
    /// A voice for this path.
    pub(super) fn new(path: Path) -> Self {
        Self { path, head: String::new(), clock: Clock::default() }
    }

    /// Up to the content, which is within quotes.
    fn open(&mut self, model: &str, out: &mut BytesMut) {
        if self.head.is_empty() {
            self.head = format!(r#"{{"model":{model},"created_at":""#);
        }
        out.put_slice(self.head.as_bytes());
        self.clock.put_now(out);
        out.put_slice(match self.path {
            Path::Chat => br#"","message":{"role":"assistant","content":""#,
            Path::Generate => br#"","response":""#,
        });
    }

    /// From the end of the content up to `done`.
    fn close(&self, thinking: &str, called: Option<&Call>, out: &mut BytesMut) {
        out.put_u8(b'"');
        if !thinking.is_empty() {
            out.put_slice(br#","thinking":""#);
            go::put(thinking, out);
            out.put_u8(b'"');
        }
        if self.path == Path::Generate {
            return;
        }
        if let Some(Call { id, name, arguments }) = called {
            let arguments = go::json(arguments);
            // Memory grows as needed, so writing cannot fail; the same holds below.
            let _ = write!(
                out,
                r#","tool_calls":[{{"id":"{id}","function":{{"index":0,"name":{name},"arguments":{arguments}}}}}]"#
            );
        }
        out.put_u8(b'}');
    }

    /// The last line, or all of it.
    fn end(&self, answer: &Answer, sums: &Sums, logprobs: &str, out: &mut BytesMut) {
        let _ = write!(out, r#","done":true,"done_reason":"{}""#, answer.reason);
        if self.path == Path::Chat {
            out.put_slice(logprobs.as_bytes());
        } else if answer.prompt.told {
            out.put_slice(br#","context":["#);
            let ids = answer.prompt.ids.iter().copied().chain(answer.ids());
            for (place, id) in ids.enumerate() {
                let _ = write!(out, "{}{id}", if place == 0 { "" } else { "," });
            }
            out.put_u8(b']');
        }
        let (prompt, eval) = (sums.prompt_tokens as u128, sums.tokens as u128);
        for (name, sum) in [
            ("total_duration", sums.total.as_nanos()),
            ("load_duration", sums.load.as_nanos()),
            ("prompt_eval_count", prompt),
            ("prompt_eval_duration", sums.prompt.as_nanos()),
            ("eval_count", eval),
            ("eval_duration", sums.eval.as_nanos()),
        ] {
            if sum > 0 {
                let _ = write!(out, r#","{name}":{sum}"#);
            }
        }
        if self.path == Path::Generate {
            out.put_slice(logprobs.as_bytes());
        }
        out.put_u8(b'}');
    }

    /// What is told when a model was only loaded or let go.
    pub(super) fn nothing(mut self, model: &str, reason: &str) -> String {
        let mut out = BytesMut::new();
        self.open(&go::string(model), &mut out);
        self.close("", None, &mut out);
        let _ = write!(out, r#","done":true,"done_reason":{}}}"#, quoted(reason));
        String::from_utf8_lossy(&out).into_owned()
    }
}

impl Voice for Native {
    const STREAM: &'static str = "application/x-ndjson";
    const WHOLE: &'static str = JSON;

    fn line(&mut self, answer: &Answer, line: &Line<'_>, out: &mut BytesMut) {
        self.open(&answer.model, out);
        go::put(line.content, out);
        self.close(line.thinking, line.called, out);
        out.put_slice(br#","done":false"#);
        if let Some(token) = line.logprob {
            out.put_slice(br#","logprobs":"#);
            out.put_slice(logprobs::list(&[token]).as_bytes());
        }
        out.put_slice(b"}\n");
    }

    fn done(&mut self, answer: &Answer, sums: &Sums, out: &mut BytesMut) {
        self.open(&answer.model, out);
        self.close("", answer.called.as_ref().filter(|_| answer.called_last), out);
        self.end(answer, sums, "", out);
        out.put_u8(b'\n');
    }

    fn whole(&mut self, answer: &Answer, sums: &Sums) -> String {
        let mut out = BytesMut::new();
        self.open(&answer.model, &mut out);
        go::put(&answer.content(), &mut out);
        self.close(&answer.thinking(), answer.called.as_ref(), &mut out);
        let tokens = answer.logprobs();
        let logprobs = if tokens.is_empty() {
            String::new()
        } else {
            format!(r#","logprobs":{}"#, logprobs::list(&tokens))
        };
        self.end(answer, sums, &logprobs, &mut out);
        String::from_utf8_lossy(&out).into_owned()
    }

    fn last_words(&self) -> &'static [&'static str] {
        &LAST_WORDS
    }

    fn last_event(&self) -> Option<Bytes> {
        None
    }
}
