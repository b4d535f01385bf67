//! A message of the assistant, whole or as events (samples `messages*.http`).

use std::fmt::Write;

use bytes::{BufMut, BytesMut};
use serde_json::Value;

use crate::sim::engine::{Finish, Flight};
use crate::sim::events::{Pause, Script, Step};
use crate::sim::text::quoted;
use crate::sim::vllm::said::{Said, cache_written};

/// What a stream says when the engine dies: vLLM 0.32 takes the chat's error for a part of its answer, and tells what it
/// misses in it.
const LAST_WORDS: [&str; 1] = [
    "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"internal_error\",\
     \"message\":\"2 validation errors for ChatCompletionStreamResponse\\nmodel\\n  Field required [type=missing, \
     input_value={'error': {'message': 'En...am': None, 'code': 500}}, input_type=dict]\\n    For further information \
     visit https://errors.pydantic.dev/2.14/v/missing\\nchoices\\n  Field required [type=missing, input_value={'error': \
     {'message': 'En...am': None, 'code': 500}}, input_type=dict]\\n    For further information visit \
     https://errors.pydantic.dev/2.14/v/missing\"}}\n\n",
];

/// One message of the assistant.
pub(super) struct Message {
    /// Without what it begins with.
    pub(super) id: String,
    /// As JSON.
    pub(super) model: String,
    /// What it says.
    pub(super) said: Said,
    /// Of the call, if it is one.
    pub(super) tool_id: String,
    /// Of the prompt.
    pub(super) prompt_tokens: usize,
}

impl Message {
    /// The answer in one piece. A call that was cut short is text.
    pub(super) fn whole(&self, flight: &Flight) -> String {
        let Self { id, model, said, tool_id, .. } = self;
        let content = match said.whole_call() {
            Some(tool) => {
                let input: Value = serde_json::from_str(&said.plain()).unwrap_or_default();
                let tool = quoted(tool);
                format!(r#"{{"type":"tool_use","id":"{tool_id}","name":{tool},"input":{input}}}"#)
            }
            None => {
                let text = if said.is_call() { said.made() } else { said.shown() };
                format!(r#"{{"type":"text","text":"{text}"}}"#)
            }
        };
        let (reason, usage) = (self.stop_reason(), self.usage(flight));
        let stop = match &said.stopped_by {
            Some(stop) => format!(r#","stop_sequence":{}"#, quoted(stop)),
            None => String::new(),
        };
        format!(
            r#"{{"id":"chatcmpl-{id}","type":"message","role":"assistant","content":[{content}],"model":{model},"stop_reason":"{reason}"{stop},"usage":{usage}}}"#
        )
    }

    fn stop_reason(&self) -> &'static str {
        match self.said.length.finish {
            Finish::Stop if self.said.stopped_by.is_some() => "stop_sequence",
            Finish::Stop if self.said.is_call() => "tool_use",
            Finish::Stop => "end_turn",
            Finish::Length | Finish::Error => "max_tokens",
        }
    }

    /// Tokens of prompt and answer; those that were found in the cache, or are new in it, apart where the node tells them.
    fn usage(&self, flight: &Flight) -> String {
        let (prompt, answer) = (self.prompt_tokens, self.said.length.tokens);
        if !flight.node().prompt_tokens_details {
            return format!(r#"{{"input_tokens":{prompt},"output_tokens":{answer}}}"#);
        }
        let (read, created) = (flight.cached_tokens(), cache_written(flight, prompt));
        let rest = prompt.saturating_sub(read + created);
        format!(
            r#"{{"input_tokens":{rest},"output_tokens":{answer},"cache_creation_input_tokens":{created},"cache_read_input_tokens":{read}}}"#
        )
    }
}

/// The message as events.
pub(super) struct MessageScript {
    message: Message,
    next: Next,
}

/// What comes next: the message, its block, the tokens of this, and the ends of all three.
#[derive(Clone, Copy)]
enum Next {
    MessageStart,
    BlockStart,
    Delta(usize),
    BlockStop,
    MessageDelta,
    MessageStop,
    Nothing,
}

impl MessageScript {
    /// All events of `message`.
    pub(super) fn new(message: Message) -> Self {
        Self { message, next: Next::MessageStart }
    }

    fn write_message_start(&self, out: &mut BytesMut) -> Step {
        let Message { id, model, prompt_tokens, .. } = &self.message;
        // Memory grows as needed, so writing cannot fail.
        let _ = write!(
            out,
            "event: message_start\ndata: {{\"type\":\"message_start\",\"message\":{{\"id\":\"chatcmpl-{id}\",\"type\":\"message\",\"role\":\"assistant\",\"content\":[],\"model\":{model},\"stop_reason\":null,\"stop_sequence\":null,\"usage\":{{\"input_tokens\":{prompt_tokens},\"output_tokens\":0}}}}}}\n\n"
        );
        Step { pause: Pause::FirstToken, tokens: 0 }
    }

    fn write_block_start(&self, out: &mut BytesMut) -> Step {
        let Message { said, tool_id, .. } = &self.message;
        let block = match said.tool() {
            Some(tool) => {
                let tool = quoted(tool);
                format!(r#"{{"type":"tool_use","id":"{tool_id}","name":{tool},"input":{{}}}}"#)
            }
            None => r#"{"type":"text","text":""}"#.to_owned(),
        };
        let _ = write!(
            out,
            "event: content_block_start\ndata: {{\"type\":\"content_block_start\",\"content_block\":{block},\"index\":0}}\n\n"
        );
        Step { pause: Pause::None, tokens: said.before() }
    }

    fn write_delta(&self, place: usize, out: &mut BytesMut) -> Step {
        let said = &self.message.said;
        out.put_slice(b"event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"delta\":{\"type\":\"");
        out.put_slice(if said.is_call() {
            b"input_json_delta\",\"partial_json\":\""
        } else {
            b"text_delta\",\"text\":\""
        });
        out.put_slice(said.delta(place).as_bytes());
        out.put_slice(b"\"},\"index\":0}\n\n");
        let first = place == 0 && said.before() == 0;
        Step { pause: if first { Pause::None } else { Pause::Token }, tokens: 1 }
    }

    fn write_message_delta(&self, flight: &Flight, out: &mut BytesMut) -> Step {
        let (message, said) = (&self.message, &self.message.said);
        let (reason, usage) = (message.stop_reason(), message.usage(flight));
        let stop = said.stopped_by.as_deref().map_or_else(|| "null".to_owned(), quoted);
        let _ = write!(
            out,
            "event: message_delta\ndata: {{\"type\":\"message_delta\",\"delta\":{{\"stop_reason\":\"{reason}\",\"stop_sequence\":{stop}}},\"usage\":{usage}}}\n\n"
        );
        let shows = self.first_block().is_some();
        Step { pause: Pause::None, tokens: if shows { said.after() } else { said.length.tokens } }
    }

    /// The block, if there is anything to show.
    fn first_block(&self) -> Option<Next> {
        let said = &self.message.said;
        let shows = said.tool().is_some() || (!said.is_call() && said.deltas() > 0);
        shows.then_some(Next::BlockStart)
    }

    /// The token at `place`, or the end of the block.
    fn delta_or_stop(&self, place: usize) -> Next {
        if place < self.message.said.deltas() { Next::Delta(place) } else { Next::BlockStop }
    }
}

impl Script for MessageScript {
    fn next(&mut self, flight: &Flight, out: &mut BytesMut) -> Option<Step> {
        let (step, next) = match self.next {
            Next::MessageStart => {
                (self.write_message_start(out), self.first_block().unwrap_or(Next::MessageDelta))
            }
            Next::BlockStart => (self.write_block_start(out), self.delta_or_stop(0)),
            Next::Delta(place) => (self.write_delta(place, out), self.delta_or_stop(place + 1)),
            Next::BlockStop => {
                out.put_slice(b"event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\n");
                (Step { pause: Pause::None, tokens: 0 }, Next::MessageDelta)
            }
            Next::MessageDelta => (self.write_message_delta(flight, out), Next::MessageStop),
            Next::MessageStop => {
                out.put_slice(b"event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n");
                (Step { pause: Pause::None, tokens: 0 }, Next::Nothing)
            }
            Next::Nothing => return None,
        };
        self.next = next;
        Some(step)
    }

    fn finish(&self) -> Finish {
        self.message.said.length.finish
    }

    fn last_words(&self) -> &'static [&'static str] {
        &LAST_WORDS
    }
}
