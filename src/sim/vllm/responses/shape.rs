//! One answer of `/v1/responses` (samples `responses*.http`), whole and in part.

use serde_json::Value;

use super::echo::Echo;
use crate::sim::engine::{Finish, Flight};
use crate::sim::node::Node;
use crate::sim::text::quoted;
use crate::sim::vllm::logprobs::likely;
use crate::sim::vllm::said::{Said, cache_written};

/// One answer.
pub(super) struct Response {
    /// What it repeats of its request.
    pub(super) echo: Echo,
    /// What it says.
    pub(super) said: Said,
    /// Of the prompt.
    pub(super) prompt_tokens: usize,
    /// For how many other tokens beside each it tells how likely they were; none: not even for the token itself.
    pub(super) logprobs: Option<usize>,
    /// The prompt as JSON and its ids, where they are to be shown.
    pub(super) messages: Option<(String, Vec<u32>)>,
    /// Ids of its one item: as a message, as a call, and of the call itself.
    pub(super) ids: Ids,
}

/// Ids of an item.
pub(super) struct Ids {
    pub(super) message: String,
    pub(super) call: String,
    pub(super) tool: String,
}

impl Ids {
    /// Those of a new item.
    pub(super) fn fresh(node: &Node) -> Self {
        Self {
            message: format!("msg_{}", node.fresh_id()),
            call: format!("fc_{}", node.fresh_id()),
            tool: format!("chatcmpl-tool-{}", node.fresh_id()),
        }
    }
}

impl Response {
    /// As it is before its end, with this status.
    pub(super) fn open(&self, status: &str) -> String {
        self.render(("null", status), "", "null")
    }

    /// As it is at the end. Streams tell a call that was cut short as far as it came, others as text.
    pub(super) fn closed(&self, flight: &Flight, streamed: bool) -> String {
        let (details, status) = match self.said.length.finish {
            Finish::Stop => ("null", "completed"),
            Finish::Length | Finish::Error => (r#"{"reason":"max_output_tokens"}"#, "incomplete"),
        };
        let call = if streamed { self.said.tool() } else { self.said.whole_call() };
        let item = match call {
            Some(tool) => self.call(tool, &self.said.shown(), "completed"),
            None if self.said.is_call() && !streamed => self.message(&self.said.made()),
            None if self.said.deltas() > 0 => self.message(&self.said.shown()),
            None => String::new(),
        };
        self.render((details, status), &item, &self.usage(flight))
    }

    fn usage(&self, flight: &Flight) -> String {
        let (input, output) = (self.prompt_tokens, self.said.length.tokens);
        let (cached, written) = (flight.cached_tokens(), cache_written(flight, input));
        format!(
            r#"{{"input_tokens":{input},"input_tokens_details":{{"cached_tokens":{cached},"cache_write_tokens":{written},"input_tokens_per_turn":[],"cached_tokens_per_turn":[]}},"output_tokens":{output},"output_tokens_details":{{"reasoning_tokens":0,"tool_output_tokens":0,"output_tokens_per_turn":[],"tool_output_tokens_per_turn":[]}},"total_tokens":{}}}"#,
            input + output
        )
    }

    fn render(&self, (details, status): (&str, &str), output: &str, usage: &str) -> String {
        let Echo { before_details, before_output, before_status, before_usage, before_messages } =
            &self.echo;
        let (asked, answered) = match &self.messages {
            Some((prompt, ids)) if usage != "null" => {
                let made = format!(r#""{}""#, self.said.made());
                (raw(prompt, ids), raw(&made, &self.said.ids()))
            }
            _ => ("null".to_owned(), "null".to_owned()),
        };
        format!(
            r#"{before_details}{details}{before_output}{output}{before_status}{status}{before_usage}{usage}{before_messages}{asked},"output_messages":{answered}}}"#
        )
    }

    /// Its message as an item that is complete, with this text.
    pub(super) fn message(&self, text: &str) -> String {
        let (id, part) = (&self.ids.message, self.part(text));
        format!(
            r#"{{"id":"{id}","content":[{part}],"role":"assistant","status":"completed","type":"message","phase":null}}"#
        )
    }

    /// Its message as an item that has begun.
    pub(super) fn open_message(&self) -> String {
        let id = &self.ids.message;
        format!(
            r#"{{"id":"{id}","content":[],"role":"assistant","status":"in_progress","type":"message","phase":null}}"#
        )
    }

    /// The text of its message as a part.
    pub(super) fn part(&self, text: &str) -> String {
        let logprobs = match self.logprobs {
            Some(_) => {
                let all: Vec<_> =
                    (0..self.said.deltas()).map(|place| self.logprob(place, true)).collect();
                format!("[{}]", all.join(","))
            }
            None => "null".to_owned(),
        };
        format!(
            r#"{{"annotations":[],"text":"{text}","type":"output_text","logprobs":{logprobs}}}"#
        )
    }

    /// Its call of `tool` as an item.
    pub(super) fn call(&self, tool: &str, arguments: &str, status: &str) -> String {
        let Ids { call, tool: id, .. } = &self.ids;
        let tool = quoted(tool);
        format!(
            r#"{{"arguments":"{arguments}","call_id":"{id}","name":{tool},"type":"function_call","id":"{call}","async":null,"caller":null,"namespace":null,"status":"{status}"}}"#
        )
    }

    /// How likely the token at `place` was, and others beside it, with their bytes or without.
    pub(super) fn logprob(&self, place: usize, bytes: bool) -> String {
        let top: Vec<_> = (0..self.logprobs.unwrap_or_default())
            .map(|rank| format!("{{{}}}", self.likely((place, rank), bytes)))
            .collect();
        format!(r#"{{{},"top_logprobs":[{}]}}"#, self.likely((place, 0), bytes), top.join(","))
    }

    /// The token so many places after one, and how likely it was instead.
    fn likely(&self, (place, rank): (usize, usize), bytes: bool) -> String {
        let (name, logprob) = likely(&self.said, self.said.before() + place, rank);
        let bytes = match bytes {
            true => format!(r#","bytes":{}"#, Value::from(name.as_bytes())),
            false => String::new(),
        };
        format!(r#""token":{}{bytes},"logprob":{logprob:?}"#, quoted(name))
    }
}

/// A text, as JSON, and the ids of its tokens.
fn raw(text: &str, ids: &[u32]) -> String {
    let ids = Value::from(ids);
    format!(r#"[{{"message":{text},"tokens":{ids},"type":"raw_message_tokens"}}]"#)
}
