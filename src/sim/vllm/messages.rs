//! `POST /v1/messages`, Anthropic's API as vLLM 0.32 speaks it (samples `messages*.http`).

use std::fmt::Write;

use bytes::{BufMut, BytesMut};

use super::conversation::{Conversation, text_of};
use super::openai;
use super::refusal::Refusal;
use super::request::{integer, list, streamed};
use crate::sim::call::{Call, Length};
use crate::sim::engine::{Finish, Flight, Job};
use crate::sim::events::{Part, Pause, Script, Step};
use crate::sim::reply::Reply;
use crate::sim::text::{Text, quoted};

/// Events before the first token.
const OPENING: usize = 2;

/// What a stream says when the engine dies. vLLM was not seen doing so on this path; the shape is Anthropic's.
const LAST_WORDS: [&str; 1] = [
    "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"internal_error\",\
     \"message\":\"EngineCore encountered an issue. See stack trace (above) for the root cause.\"}}\n\n",
];

/// Answers a chat.
///
/// `max_tokens` must be there in this API, so it is a bound and not a wish: the answer ends by itself as soon as it has
/// the node's usual length.
///
/// # Errors
/// The request is refused.
pub(super) async fn answer(call: &Call) -> Result<Reply, Refusal> {
    let body = call.json()?;
    let messages = list(&body, "messages")?;
    let Some(max_tokens) = integer(&body, "max_tokens")? else {
        return Err(Refusal::missing("max_tokens", &body));
    };
    let model = call.model(&body)?;
    openai::check_sampling(&body)?;
    let mut chat = Conversation::default();
    if let Some(system) = body.get("system") {
        chat.say("system", text_of(Some(system)));
    }
    chat.say_all(messages);
    let prompt = chat.ids();
    let input_tokens = prompt.len();
    let length = call.own_length(call.length(Some(max_tokens), input_tokens)?.tokens);
    let text = Text::answering(chat.last_user(), length.tokens);
    let flight = call.begin(&Job { prompt, answer: text.ids(length.tokens) });
    let message =
        Message { id: call.id(), model: quoted(model.as_str()), text, length, input_tokens };
    if streamed(&body) {
        return Ok(call.stream(flight, MessageScript { message, place: 0 }));
    }
    Ok(call.whole(flight, length, length.tokens, |_| message.whole()).await?)
}

/// One message of the assistant.
struct Message {
    id: String,
    model: String,
    text: Text,
    length: Length,
    input_tokens: usize,
}

impl Message {
    /// The answer in one piece.
    fn whole(&self) -> String {
        let Self { id, model, input_tokens, length, .. } = self;
        let (text, reason, output_tokens) =
            (self.text.first(length.tokens), self.stop_reason(), length.tokens);
        format!(
            r#"{{"id":"chatcmpl-{id}","type":"message","role":"assistant","content":[{{"type":"text","text":"{text}"}}],"model":{model},"stop_reason":"{reason}","usage":{{"input_tokens":{input_tokens},"output_tokens":{output_tokens}}}}}"#
        )
    }

    fn stop_reason(&self) -> &'static str {
        match self.length.finish {
            Finish::Stop => "end_turn",
            Finish::Length | Finish::Error => "max_tokens",
        }
    }
}

/// The message as events.
struct MessageScript {
    message: Message,
    /// Of the next event.
    place: usize,
}

impl MessageScript {
    fn write_opening(&self, out: &mut BytesMut) -> Step {
        let Message { id, model, input_tokens, .. } = &self.message;
        if self.place == 0 {
            let _ = write!(
                out,
                "event: message_start\ndata: {{\"type\":\"message_start\",\"message\":{{\"id\":\"chatcmpl-{id}\",\"type\":\"message\",\"role\":\"assistant\",\"content\":[],\"model\":{model},\"stop_reason\":null,\"stop_sequence\":null,\"usage\":{{\"input_tokens\":{input_tokens},\"output_tokens\":0}}}}}}\n\n"
            );
            return Step { pause: Pause::FirstToken, tokens: 0 };
        }
        out.put_slice(
            b"event: content_block_start\ndata: {\"type\":\"content_block_start\",\"content_block\":{\"type\":\"text\",\"text\":\"\"},\"index\":0}\n\n",
        );
        Step { pause: Pause::None, tokens: 0 }
    }

    fn write_token(&self, place: usize, out: &mut BytesMut) -> Step {
        out.put_slice(
            b"event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"delta\":{\"type\":\"text_delta\",\"text\":\"",
        );
        out.put_slice(self.message.text.token(place).as_bytes());
        out.put_slice(b"\"},\"index\":0}\n\n");
        Step { pause: if place == 0 { Pause::None } else { Pause::Token }, tokens: 1 }
    }

    fn write_end(&self, place: usize, out: &mut BytesMut) -> Option<Step> {
        let Message { input_tokens, length, .. } = &self.message;
        match place {
            0 => out.put_slice(
                b"event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\n",
            ),
            1 => {
                let (reason, output_tokens) = (self.message.stop_reason(), length.tokens);
                let _ = write!(
                    out,
                    "event: message_delta\ndata: {{\"type\":\"message_delta\",\"delta\":{{\"stop_reason\":\"{reason}\",\"stop_sequence\":null}},\"usage\":{{\"input_tokens\":{input_tokens},\"output_tokens\":{output_tokens}}}}}\n\n"
                );
            }
            2 => out.put_slice(b"event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"),
            _ => return None,
        }
        Some(Step { pause: Pause::None, tokens: 0 })
    }
}

impl Script for MessageScript {
    fn next(&mut self, _: &Flight, out: &mut BytesMut) -> Option<Step> {
        let step = match Part::at(self.place, OPENING, self.message.length.tokens) {
            Part::Opening(_) => self.write_opening(out),
            Part::Token(place) => self.write_token(place, out),
            Part::End(place) => self.write_end(place, out)?,
        };
        self.place += 1;
        Some(step)
    }

    fn finish(&self) -> Finish {
        self.message.length.finish
    }

    fn last_words(&self) -> &'static [&'static str] {
        &LAST_WORDS
    }
}
