//! `POST /v1/chat/completions`, as vLLM 0.32 answers it (samples `chat*.http`).

use std::fmt::Write;

use bytes::{BufMut, BytesMut};

use super::conversation::Conversation;
use super::openai::{self, Answer, FINGERPRINT, LAST_WORDS, StreamUsage};
use super::refusal::Refusal;
use super::request::{integer, list, streamed};
use crate::sim::call::Call;
use crate::sim::engine::{Finish, Flight, Job};
use crate::sim::events::{Part, Pause, Script, Step};
use crate::sim::node::unix_seconds;
use crate::sim::reply::Reply;
use crate::sim::text::{Text, quoted};

/// Answers a chat.
///
/// # Errors
/// The request is refused.
pub(super) async fn answer(call: &Call) -> Result<Reply, Refusal> {
    let body = call.json()?;
    let messages = list(&body, "messages")?;
    let model = call.model(&body)?;
    let usage = openai::stream_usage(&body)?;
    let choices = openai::choices(&body)?;
    openai::check_sampling(&body)?;
    if messages.is_empty() {
        let says =
            "Cannot apply chat template to an empty conversation. Provide at least one message.";
        return Err(Refusal::Value { says: says.to_owned(), param: None });
    }
    let chat = Conversation::of(messages);
    let prompt = chat.ids();
    let named = integer(&body, "max_completion_tokens")?.or(integer(&body, "max_tokens")?);
    let length = call.length(named, prompt.len())?;
    let text = Text::answering(chat.last_user(), length.tokens);
    let job = Job { prompt, answer: text.ids(length.tokens) };
    let answer = Answer { texts: vec![text], choices, length, prompt_tokens: job.prompt.len() };
    let flight = call.begin(&job);
    let (id, created, model) = (call.id(), unix_seconds(), quoted(model.as_str()));
    if streamed(&body) {
        let head = format!(
            r#"data: {{"id":"chatcmpl-{id}","object":"chat.completion.chunk","created":{created},"model":{model},"choices":["#
        );
        return Ok(call.stream(flight, ChatScript { head, answer, usage, place: 0 }));
    }
    let head = format!(
        r#"{{"id":"chatcmpl-{id}","object":"chat.completion","created":{created},"model":{model},"choices":["#
    );
    Ok(call.whole(flight, length, answer.tokens(), |flight| whole(head, &answer, flight)).await?)
}

/// The answer in one piece.
fn whole(mut out: String, answer: &Answer, flight: &Flight) -> String {
    for choice in 0..answer.width() {
        let comma = if choice == 0 { "" } else { "," };
        let (text, reason) = (answer.text(choice), answer.length.finish.reason());
        let _ = write!(
            out,
            r#"{comma}{{"index":{choice},"message":{{"role":"assistant","content":"{text}","refusal":null,"annotations":null,"audio":null,"function_call":null,"reasoning":null}},"logprobs":null,"finish_reason":"{reason}","stop_reason":null,"token_ids":null,"routed_experts":null}}"#
        );
    }
    let usage = answer.usage(flight);
    let _ = write!(
        out,
        r#"],"service_tier":null,"system_fingerprint":"{FINGERPRINT}","usage":{usage},"prompt_logprobs":null,"prompt_token_ids":null,"prompt_text":null,"kv_transfer_params":null,"ec_transfer_params":null,"metrics":null}}"#
    );
    out
}

/// The answer as events: a role for each choice, the tokens of all choices in turn, usage, `[DONE]`.
struct ChatScript {
    /// What all events but the last begin with.
    head: String,
    answer: Answer,
    usage: StreamUsage,
    /// Of the next event.
    place: usize,
}

impl ChatScript {
    fn write_role(&self, choice: usize, out: &mut BytesMut) -> Step {
        out.put_slice(self.head.as_bytes());
        let _ = write!(
            out,
            r#"{{"index":{choice},"delta":{{"role":"assistant","content":""}},"logprobs":null,"finish_reason":null}}]"#
        );
        self.write_continuous(0, out);
        out.put_slice(b",\"prompt_token_ids\":null,\"prompt_text\":null}\n\n");
        Step { pause: if choice == 0 { Pause::FirstToken } else { Pause::None }, tokens: 0 }
    }

    fn write_token(&self, choice: usize, place: usize, out: &mut BytesMut) -> Step {
        out.put_slice(self.head.as_bytes());
        let _ = write!(out, r#"{{"index":{choice},"delta":{{"content":""#);
        out.put_slice(self.answer.token(choice, place).as_bytes());
        let reason = self.answer.finish_reason(place);
        out.put_slice(br#""},"logprobs":null,"finish_reason":"#);
        out.put_slice(reason.as_bytes());
        let last = reason != "null";
        out.put_slice(if last { br#","stop_reason":null"# } else { b"" });
        out.put_slice(br#","token_ids":null}]"#);
        self.write_continuous(place + 1, out);
        if last && self.usage == StreamUsage::Never {
            let _ = write!(out, r#","system_fingerprint":"{FINGERPRINT}""#);
        }
        out.put_slice(b"}\n\n");
        Step { pause: if choice == 0 && place > 0 { Pause::Token } else { Pause::None }, tokens: 1 }
    }

    fn write_continuous(&self, tokens: usize, out: &mut BytesMut) {
        if self.usage == StreamUsage::Each {
            out.put_u8(b',');
            self.answer.write_usage(tokens, r#","completion_tokens_details":null"#, out);
        }
    }
}

impl Script for ChatScript {
    fn next(&mut self, flight: &Flight, out: &mut BytesMut) -> Option<Step> {
        let (roles, tokens) = (self.answer.width(), self.answer.tokens());
        let part = Part::at(self.place, roles, tokens);
        self.place += 1;
        match part {
            Part::Opening(choice) => Some(self.write_role(choice, out)),
            Part::Token(place) => Some(self.write_token(place % roles, place / roles, out)),
            Part::End(place) => self.answer.close(place, (self.usage, flight), &self.head, out),
        }
    }

    fn finish(&self) -> Finish {
        self.answer.length.finish
    }

    fn last_words(&self) -> &'static [&'static str] {
        &LAST_WORDS
    }
}
