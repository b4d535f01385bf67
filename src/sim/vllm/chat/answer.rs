//! One answer of `/v1/chat/completions`, whole and in part.

use std::fmt::Write;
use std::ops::Range;

use serde_json::Value;

use crate::sim::engine::{Finish, Flight};
use crate::sim::text::quoted;
use crate::sim::vllm::conversation::Conversation;
use crate::sim::vllm::logprobs;
use crate::sim::vllm::openai::{Answer, FINGERPRINT, stop_reason};
use crate::sim::vllm::said::Said;
use crate::sim::vllm::sampling::Told;

/// One answer.
pub(super) struct Chat {
    /// What it, or each of its events, begins with, up to the choices.
    pub(super) head: String,
    /// What it says.
    pub(super) answer: Answer,
    /// What it tells beside that.
    pub(super) told: Told,
    /// What it tells of the prompt.
    pub(super) prompt: Prompt,
    /// Of the call that each choice makes, if it does.
    pub(super) tool_ids: Vec<String>,
    /// Whether the caller named the tool: then a call ends as words do.
    pub(super) named: bool,
}

/// What an answer tells of its prompt, each as JSON.
pub(super) struct Prompt {
    pub(super) ids: String,
    pub(super) text: String,
    pub(super) logprobs: String,
}

impl Prompt {
    /// What `told` says of this conversation, and its text if that is `shown`.
    pub(super) fn of(chat: &Conversation, ids: &[u32], (told, shown): (Told, bool)) -> Self {
        let null = || "null".to_owned();
        let tokens = || chat.tokens(true).map(str::to_owned).collect::<Vec<_>>();
        Self {
            ids: if told.ids { Value::from(ids).to_string() } else { null() },
            text: if shown { quoted(&tokens().concat()) } else { null() },
            logprobs: told
                .prompt_logprobs
                .map_or_else(null, |top| logprobs::of_prompt(&tokens(), top)),
        }
    }
}

impl Chat {
    /// The answer in one piece.
    pub(super) fn whole(&self, flight: &Flight) -> String {
        let mut out = self.head.clone();
        for choice in 0..self.answer.width() {
            let said = self.answer.said(choice);
            let all = 0..said.length.tokens;
            let comma = if choice == 0 { "" } else { "," };
            // Memory grows as needed, so writing cannot fail; the same holds for every `write!` to a buffer here.
            let _ = write!(out, r#"{comma}{{"index":{choice},"message":{{"role":"assistant","#);
            self.write_message(choice, &mut out);
            out += r#","reasoning":null},"logprobs":"#;
            self.write_logprobs(said, all.clone(), &mut out);
            let _ = write!(
                out,
                r#","finish_reason":{},"stop_reason":{},"token_ids":"#,
                self.finish_reason(said, all.end),
                stop_reason(said)
            );
            self.write_ids(said, all, &mut out);
            out += r#","routed_experts":null}"#;
        }
        let (usage, prompt) = (self.answer.usage(flight), &self.prompt);
        let _ = write!(
            out,
            r#"],"service_tier":null,"system_fingerprint":"{FINGERPRINT}","usage":{usage},"prompt_logprobs":{},"prompt_token_ids":{},"prompt_text":{},"kv_transfer_params":null,"ec_transfer_params":null,"metrics":null}}"#,
            prompt.logprobs, prompt.ids, prompt.text
        );
        out
    }

    /// What the message says; a call that was cut short is text.
    fn write_message(&self, choice: usize, out: &mut String) {
        let said = self.answer.said(choice);
        let (text, calls) = match said.whole_call() {
            Some(tool) => {
                let (id, tool, arguments) = (&self.tool_ids[choice], quoted(tool), said.shown());
                let call = format!(
                    r#","tool_calls":[{{"id":"{id}","type":"function","function":{{"name":{tool},"arguments":"{arguments}"}}}}]"#
                );
                (String::new(), call)
            }
            None if said.is_call() => (said.made(), String::new()),
            None => (said.shown(), String::new()),
        };
        let _ = write!(
            out,
            r#""content":"{text}","refusal":null,"annotations":null,"audio":null,"function_call":null{calls}"#
        );
    }

    /// How likely the tokens at `places` were, if that was asked for.
    pub(super) fn write_logprobs(&self, said: &Said, places: Range<usize>, out: &mut impl Write) {
        let _ = match self.told.logprobs {
            Some(top) => return logprobs::write_chat(said, places, top, out),
            None => out.write_str("null"),
        };
    }

    /// The ids of the tokens at `places`, if they were asked for.
    pub(super) fn write_ids(&self, said: &Said, places: Range<usize>, out: &mut impl Write) {
        let _ = match self.told.ids {
            true => write!(out, "{}", Value::from_iter(places.map(|place| said.made_id(place)))),
            false => out.write_str("null"),
        };
    }

    /// Why a choice ends when so many of its tokens are told, as JSON.
    pub(super) fn finish_reason(&self, said: &Said, told: usize) -> &'static str {
        match said.length.finish {
            _ if told < said.length.tokens => "null",
            Finish::Stop if said.is_call() && !self.named => r#""tool_calls""#,
            Finish::Stop => r#""stop""#,
            Finish::Length => r#""length""#,
            Finish::Error => r#""error""#,
        }
    }
}
