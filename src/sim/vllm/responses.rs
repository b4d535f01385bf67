//! `POST /v1/responses`, as vLLM 0.32 answers it without a store (samples `responses*.http`).

use std::fmt::Write;

use bytes::BytesMut;
use serde_json::Value;

use super::conversation::{Conversation, text_of};
use super::openai;
use super::refusal::Refusal;
use super::request::{integer, streamed};
use crate::sim::call::{Call, Length};
use crate::sim::engine::{Finish, Flight, Job};
use crate::sim::events::{Part, Pause, Script, Step};
use crate::sim::node::unix_seconds;
use crate::sim::reply::Reply;
use crate::sim::text::{Text, quoted};

/// Events before the first token.
const OPENING: usize = 4;

/// What a stream says when the engine dies. vLLM was not seen doing so on this path; it has no `[DONE]`.
const LAST_WORDS: [&str; 1] = [openai::LAST_WORDS[0]];

/// Answers an input.
///
/// # Errors
/// The request is refused.
pub(super) async fn answer(call: &Call) -> Result<Reply, Refusal> {
    let body = call.json()?;
    let chat = conversation(&body)?;
    let model = call.model(&body)?;
    openai::check_sampling(&body)?;
    let prompt = chat.ids();
    let prompt_tokens = prompt.len();
    let named = integer(&body, "max_output_tokens")?;
    let length = call.length(named, prompt_tokens)?;
    let text = Text::answering(chat.last_user(), length.tokens);
    let job = Job { prompt, answer: text.ids(length.tokens) };
    let limit = named.unwrap_or_else(|| (call.node.max_model_len - prompt_tokens) as i64);
    let response = Response {
        before: format!(
            r#"{{"id":"resp_{}","created_at":{}"#,
            call.node.fresh_id(),
            unix_seconds()
        ),
        between: echoed(&body, &quoted(model.as_str())),
        after: echoed_after(&body, limit),
        item: format!("msg_{}", call.node.fresh_id()),
        text,
        length,
        prompt_tokens,
    };
    let flight = call.begin(&job);
    if streamed(&body) {
        return Ok(call.stream(flight, ResponseScript { response, place: 0 }));
    }
    Ok(call.whole(flight, length, length.tokens, |flight| response.completed(flight)).await?)
}

/// The chat behind `instructions` and `input`: a text, or a list of messages.
///
/// # Errors
/// There is no input.
fn conversation(body: &Value) -> Result<Conversation, Refusal> {
    let input = body.get("input").ok_or_else(|| Refusal::missing("input", body))?;
    let mut chat = Conversation::default();
    if let Some(instructions) = body.get("instructions").and_then(Value::as_str) {
        chat.say("system", instructions.to_owned());
    }
    let Value::Array(messages) = input else {
        chat.say("user", text_of(Some(input)));
        return Ok(chat);
    };
    chat.say_all(messages);
    Ok(chat)
}

/// Fields that repeat the request, up to `output`.
fn echoed(body: &Value, model: &str) -> String {
    let (instructions, metadata) = (field(body, "instructions"), field(body, "metadata"));
    format!(
        r#""instructions":{instructions},"metadata":{metadata},"model":{model},"object":"response","output":"#
    )
}

/// Fields that repeat the request, between `output` and `status`.
fn echoed_after(body: &Value, limit: i64) -> String {
    let number = |name: &str| body.get(name).and_then(Value::as_f64).unwrap_or(1.0);
    let (temperature, top_p) = (number("temperature"), number("top_p"));
    format!(
        r#","parallel_tool_calls":true,"temperature":{temperature:?},"tool_choice":"none","tools":[],"top_p":{top_p:?},"background":false,"max_output_tokens":{limit},"max_tool_calls":null,"previous_response_id":null,"prompt":null,"reasoning":null,"service_tier":"auto","status":"#
    )
}

fn field(body: &Value, name: &str) -> String {
    body.get(name).map_or_else(|| "null".to_owned(), Value::to_string)
}

/// One response.
struct Response {
    before: String,
    between: String,
    after: String,
    /// The id of its one message.
    item: String,
    text: Text,
    length: Length,
    prompt_tokens: usize,
}

impl Response {
    /// As it is while it is made.
    fn in_progress(&self) -> String {
        self.render("null", "", "in_progress", "null")
    }

    /// As it is at the end.
    fn completed(&self, flight: &Flight) -> String {
        let cached = flight.cached_tokens();
        let (details, status) = match self.length.finish {
            Finish::Stop => ("null", "completed"),
            Finish::Length | Finish::Error => (r#"{"reason":"max_output_tokens"}"#, "incomplete"),
        };
        let (input, output) = (self.prompt_tokens, self.length.tokens);
        let usage = format!(
            r#"{{"input_tokens":{input},"input_tokens_details":{{"cached_tokens":{cached},"cache_write_tokens":0,"input_tokens_per_turn":[],"cached_tokens_per_turn":[]}},"output_tokens":{output},"output_tokens_details":{{"reasoning_tokens":0,"tool_output_tokens":0,"output_tokens_per_turn":[],"tool_output_tokens_per_turn":[]}},"total_tokens":{}}}"#,
            input + output
        );
        self.render(details, &self.message("completed"), status, &usage)
    }

    fn render(&self, details: &str, output: &str, status: &str, usage: &str) -> String {
        let (before, between, after) = (&self.before, &self.between, &self.after);
        format!(
            r#"{before},"incomplete_details":{details},{between}[{output}]{after}"{status}","text":null,"top_logprobs":null,"truncation":"disabled","usage":{usage},"user":null,"presence_penalty":0.0,"frequency_penalty":0.0,"kv_transfer_params":null,"ec_transfer_params":null,"input_messages":null,"output_messages":null}}"#
        )
    }

    /// Its one message; without text until it is completed.
    fn message(&self, status: &str) -> String {
        let part = if status == "completed" { self.part() } else { String::new() };
        format!(
            r#"{{"id":"{}","content":[{part}],"role":"assistant","status":"{status}","type":"message","phase":null}}"#,
            self.item
        )
    }

    fn part(&self) -> String {
        let text = self.text.first(self.length.tokens);
        format!(r#"{{"annotations":[],"text":"{text}","type":"output_text","logprobs":null}}"#)
    }
}

/// A response as events, each with its number.
struct ResponseScript {
    response: Response,
    /// Of the next event.
    place: usize,
}

impl ResponseScript {
    /// Writes an event; `fields` come in the order of their names, with the number and the type at the end.
    fn write(&self, name: &str, fields: &str, text: Option<&str>, out: &mut BytesMut) -> Step {
        let _ = write!(
            out,
            "event: response.{name}\ndata: {{{fields},\"sequence_number\":{}",
            self.place
        );
        if let Some(text) = text {
            let _ = write!(out, r#","text":"{text}""#);
        }
        let _ = write!(out, ",\"type\":\"response.{name}\"}}\n\n");
        Step { pause: Pause::None, tokens: 0 }
    }

    fn write_token(&self, place: usize, out: &mut BytesMut) -> Step {
        let (item, token) = (&self.response.item, self.response.text.token(place));
        let fields = format!(
            r#""content_index":0,"delta":"{token}","item_id":"{item}","logprobs":[],"output_index":0"#
        );
        self.write("output_text.delta", &fields, None, out);
        Step { pause: if place == 0 { Pause::FirstToken } else { Pause::Token }, tokens: 1 }
    }

    fn write_opening(&self, out: &mut BytesMut) -> Step {
        let (response, item) = (&self.response, &self.response.item);
        match self.place {
            0 => self.write(
                "created",
                &format!(r#""response":{}"#, response.in_progress()),
                None,
                out,
            ),
            1 => self.write(
                "in_progress",
                &format!(r#""response":{}"#, response.in_progress()),
                None,
                out,
            ),
            2 => {
                let message = response.message("in_progress");
                self.write(
                    "output_item.added",
                    &format!(r#""item":{message},"output_index":0"#),
                    None,
                    out,
                )
            }
            _ => {
                let fields = format!(
                    r#""content_index":0,"item_id":"{item}","output_index":0,"part":{{"annotations":[],"text":"","type":"output_text","logprobs":[]}}"#
                );
                self.write("content_part.added", &fields, None, out)
            }
        }
    }

    fn write_end(&self, place: usize, flight: &Flight, out: &mut BytesMut) -> Option<Step> {
        let (response, item) = (&self.response, &self.response.item);
        Some(match place {
            0 => {
                let text = response.text.first(response.length.tokens);
                let fields = format!(
                    r#""content_index":0,"item_id":"{item}","logprobs":[],"output_index":0"#
                );
                self.write("output_text.done", &fields, Some(&text), out)
            }
            1 => {
                let fields = format!(
                    r#""content_index":0,"item_id":"{item}","output_index":0,"part":{}"#,
                    response.part()
                );
                self.write("content_part.done", &fields, None, out)
            }
            2 => {
                let message = response.message("completed");
                self.write(
                    "output_item.done",
                    &format!(r#""item":{message},"output_index":0"#),
                    None,
                    out,
                )
            }
            3 => self.write(
                "completed",
                &format!(r#""response":{}"#, response.completed(flight)),
                None,
                out,
            ),
            _ => return None,
        })
    }
}

impl Script for ResponseScript {
    fn next(&mut self, flight: &Flight, out: &mut BytesMut) -> Option<Step> {
        let step = match Part::at(self.place, OPENING, self.response.length.tokens) {
            Part::Opening(_) => self.write_opening(out),
            Part::Token(place) => self.write_token(place, out),
            Part::End(place) => self.write_end(place, flight, out)?,
        };
        self.place += 1;
        Some(step)
    }

    fn finish(&self) -> Finish {
        self.response.length.finish
    }

    fn last_words(&self) -> &'static [&'static str] {
        &LAST_WORDS
    }
}
