//! What was heard in a sound, told at once or word for word.

use std::fmt::Write;

use bytes::{BufMut, BytesMut};
use serde_json::Value;

use super::Task;
use crate::sim::call::Length;
use crate::sim::engine::{Finish, Flight};
use crate::sim::events::{Pause, Script, Step};
use crate::sim::node::unix_seconds;
use crate::sim::text::{Text, quoted};
use crate::sim::vllm::openai::{LAST_WORDS, StreamUsage};

/// What was heard.
pub(super) struct Heard {
    pub(super) task: Task,
    /// With its prefix, as JSON within quotes.
    pub(super) id: String,
    /// As JSON.
    pub(super) model: String,
    pub(super) language: String,
    pub(super) temperature: f64,
    pub(super) seconds: f64,
    pub(super) text: Text,
    pub(super) length: Length,
    /// Of the prompt, the steps of sound among them.
    pub(super) prompt_tokens: usize,
}

impl Heard {
    /// The answer in one piece.
    pub(super) fn whole(&self, verbose: bool, ids: &[u32]) -> String {
        let text = self.text.first(self.length.tokens);
        let seconds = Value::from(self.seconds);
        match (verbose, self.task) {
            (true, _) => {
                let (language, ids) = (quoted(&self.language), Value::from(ids));
                let temperature = Value::from(self.temperature);
                format!(
                    r#"{{"duration":{seconds},"language":{language},"text":"{text}","segments":[{{"id":0,"avg_logprob":0.0,"compression_ratio":1.0,"end":{seconds},"no_speech_prob":null,"seek":0,"start":0.0,"temperature":{temperature},"text":"{text}","tokens":{ids}}}],"words":null}}"#
                )
            }
            (false, Task::Transcribe) => {
                let seconds = self.seconds.ceil();
                format!(r#"{{"text":"{text}","usage":{{"type":"duration","seconds":{seconds}}}}}"#)
            }
            (false, Task::Translate) => format!(r#"{{"text":"{text}"}}"#),
        }
    }
}

/// The answer as events: its tokens, usage, `[DONE]`.
pub(super) struct AudioScript {
    heard: Heard,
    /// Seconds since 1970.
    created: u64,
    usage: StreamUsage,
    /// Of the next event.
    place: usize,
}

impl AudioScript {
    /// The events of what was heard just now.
    pub(super) fn new(heard: Heard, usage: StreamUsage) -> Self {
        Self { heard, created: unix_seconds(), usage, place: 0 }
    }

    fn write_head(&self, out: &mut BytesMut) {
        let Heard { task, id, model, .. } = &self.heard;
        // Memory grows as needed, so writing cannot fail; the same holds for every `write!` here.
        let _ = write!(
            out,
            r#"data: {{"id":"{id}","object":"{}","created":{},"model":{model},"choices":["#,
            task.object(),
            self.created
        );
    }

    fn write_usage(&self, answer: usize, out: &mut BytesMut) {
        let prompt = self.heard.prompt_tokens;
        let _ = write!(
            out,
            r#","usage":{{"prompt_tokens":{prompt},"total_tokens":{},"completion_tokens":{answer}}}"#,
            prompt + answer
        );
    }

    fn write_token(&self, place: usize, out: &mut BytesMut) -> Step {
        let Heard { text, length, .. } = &self.heard;
        self.write_head(out);
        let _ = write!(out, r#"{{"delta":{{"content":"{}"}}"#, text.token(place));
        if place + 1 == length.tokens {
            let reason = length.finish.reason();
            let _ = write!(out, r#","finish_reason":"{reason}","stop_reason":null"#);
        }
        out.put_slice(b"}]");
        if self.usage == StreamUsage::Each {
            self.write_usage(place + 1, out);
        }
        out.put_slice(b"}\n\n");
        Step { pause: if place == 0 { Pause::FirstToken } else { Pause::Token }, tokens: 1 }
    }

    fn write_end(&self, mut place: usize, out: &mut BytesMut) -> Option<Step> {
        if self.usage == StreamUsage::Never {
            place += 1;
        }
        match place {
            0 => {
                self.write_head(out);
                out.put_slice(b"]");
                self.write_usage(self.heard.length.tokens, out);
                out.put_slice(b"}\n\n");
            }
            1 => out.put_slice(b"data: [DONE]\n\n"),
            _ => return None,
        }
        Some(Step { pause: Pause::None, tokens: 0 })
    }
}

impl Script for AudioScript {
    fn next(&mut self, _: &Flight, out: &mut BytesMut) -> Option<Step> {
        let place = self.place;
        self.place += 1;
        match place.checked_sub(self.heard.length.tokens) {
            None => Some(self.write_token(place, out)),
            Some(after) => self.write_end(after, out),
        }
    }

    fn finish(&self) -> Finish {
        self.heard.length.finish
    }

    fn last_words(&self) -> &'static [&'static str] {
        &LAST_WORDS
    }
}
