//! An answer of `/v1/chat/completions` as events: a role for each choice, the tokens of all choices in turn, usage,
//! `[DONE]`.

use std::fmt::Write;

use bytes::{BufMut, BytesMut};

use super::answer::Chat;
use crate::sim::engine::{Finish, Flight};
use crate::sim::events::{Pause, Script, Step};
use crate::sim::text::quoted;
use crate::sim::vllm::openai::{FINGERPRINT, LAST_WORDS, StreamUsage, stop_reason};
use crate::sim::vllm::said::Said;
use crate::sim::vllm::turns::{Turn, Turns};

/// The answer as events.
pub(super) struct ChatScript {
    chat: Chat,
    usage: StreamUsage,
    /// Roles that were told.
    roles: usize,
    turns: Turns,
    /// Events after the last token.
    closing: usize,
}

impl ChatScript {
    /// All events of `chat`.
    pub(super) fn new(chat: Chat, usage: StreamUsage) -> Self {
        let turns = chat.answer.turns();
        Self { chat, usage, roles: 0, turns, closing: 0 }
    }

    fn write_role(&self, choice: usize, out: &mut BytesMut) -> Step {
        out.put_slice(self.chat.head.as_bytes());
        let _ = write!(
            out,
            r#"{{"index":{choice},"delta":{{"role":"assistant","content":""}},"logprobs":null,"finish_reason":null}}]"#
        );
        self.write_continuous(0, out);
        let prompt = &self.chat.prompt;
        let _ = write!(
            out,
            ",\"prompt_token_ids\":{},\"prompt_text\":{}}}\n\n",
            prompt.ids, prompt.text
        );
        Step { pause: if choice == 0 { Pause::FirstToken } else { Pause::None }, tokens: 0 }
    }

    fn write_tokens(&self, turn: Turn, out: &mut BytesMut) -> Step {
        let Turn { choice, places, opens } = turn;
        let said = self.chat.answer.said(choice);
        out.put_slice(self.chat.head.as_bytes());
        let _ = write!(out, r#"{{"index":{choice},"delta":{{"#);
        self.write_delta(choice, places.end - 1, out);
        out.put_slice(br#"},"logprobs":"#);
        self.chat.write_logprobs(said, places.clone(), out);
        let reason = self.chat.finish_reason(said, places.end);
        out.put_slice(br#","finish_reason":"#);
        out.put_slice(reason.as_bytes());
        let last = places.end == said.length.tokens;
        if last {
            let _ = write!(out, r#","stop_reason":{}"#, stop_reason(said));
        }
        out.put_slice(br#","token_ids":"#);
        self.chat.write_ids(said, places.clone(), out);
        out.put_slice(b"}]");
        self.write_continuous(places.end, out);
        if last && self.usage == StreamUsage::Never {
            let _ = write!(out, r#","system_fingerprint":"{FINGERPRINT}""#);
        }
        out.put_slice(b"}\n\n");
        let paced = opens && places.start > 0;
        Step { pause: if paced { Pause::Token } else { Pause::None }, tokens: places.len() }
    }

    /// What the token at `place` adds to the message: a text, the name of a tool or a part of its arguments; or nothing.
    fn write_delta(&self, choice: usize, place: usize, out: &mut BytesMut) {
        let said = self.chat.answer.said(choice);
        if names(said, place) {
            let (id, tool) = (&self.chat.tool_ids[choice], said.tool().unwrap_or_default());
            let _ = write!(
                out,
                r#""content":null,"tool_calls":[{{"id":"{id}","type":"function","index":0,"function":{{"name":{}}}}}]"#,
                quoted(tool)
            );
        } else if let Some(delta) = said.made_delta(place) {
            let (before, after): (&[u8], &[u8]) = if said.is_call() {
                (br#""content":null,"tool_calls":[{"index":0,"function":{"arguments":""#, br#""}}]"#)
            } else {
                (br#""content":""#, b"\"")
            };
            out.put_slice(before);
            out.put_slice(delta.as_bytes());
            out.put_slice(after);
        }
    }

    fn write_continuous(&self, tokens: usize, out: &mut BytesMut) {
        if self.usage == StreamUsage::Each {
            out.put_u8(b',');
            self.chat.answer.write_usage(tokens, r#","completion_tokens_details":null"#, out);
        }
    }
}

/// Whether the token at `place` completes the name of the tool that is called.
fn names(said: &Said, place: usize) -> bool {
    said.tool().is_some() && place + 1 == said.before()
}

/// Where an event ends that begins with the token at `from`: with the next that adds to the message or ends it, or at once
/// where each token is told of.
fn end_of_event(said: &Said, from: usize, each: bool) -> usize {
    let last = said.length.tokens - 1;
    let shows = |place: &usize| each || said.made_delta(*place).is_some() || names(said, *place);
    (from..last).find(shows).unwrap_or(last) + 1
}

impl Script for ChatScript {
    fn next(&mut self, flight: &Flight, out: &mut BytesMut) -> Option<Step> {
        let answer = &self.chat.answer;
        if self.roles < answer.width() {
            self.roles += 1;
            return Some(self.write_role(self.roles - 1, out));
        }
        let each = self.chat.told.ids || self.chat.told.logprobs.is_some();
        let end_of = |choice, from| end_of_event(answer.said(choice), from, each);
        if let Some(turn) = self.turns.next(end_of) {
            return Some(self.write_tokens(turn, out));
        }
        self.closing += 1;
        answer.close(self.closing - 1, (self.usage, flight), &self.chat.head, out)
    }

    fn finish(&self) -> Finish {
        self.chat.answer.longest().finish
    }

    fn last_words(&self) -> &'static [&'static str] {
        &LAST_WORDS
    }
}
