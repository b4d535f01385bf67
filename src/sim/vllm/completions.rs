//! `POST /v1/completions`, as vLLM 0.32 answers it (samples `completion*.http`).

use std::fmt::Write;

use bytes::{BufMut, BytesMut};
use serde_json::Value;

use super::openai::{self, Answer, FINGERPRINT, LAST_WORDS, StreamUsage};
use super::refusal::Refusal;
use super::request::{integer, streamed};
use crate::sim::call::Call;
use crate::sim::engine::{Finish, Flight, Job};
use crate::sim::events::{Part, Pause, Script, Step};
use crate::sim::node::unix_seconds;
use crate::sim::reply::Reply;
use crate::sim::text::{Text, quoted};
use crate::sim::tokens;

/// Prompts of one request at most: the largest batches that benchmarks send. vLLM has no bound.
const PROMPTS_MAX: usize = 1_024;

/// Answers a prompt, or several.
///
/// # Errors
/// The request is refused.
pub(super) async fn answer(call: &Call) -> Result<Reply, Refusal> {
    let body = call.json()?;
    let model = call.model(&body)?;
    let usage = openai::stream_usage(&body)?;
    let choices = openai::choices(&body)?;
    openai::check_sampling(&body)?;
    let prompts = prompts(call, &body)?;
    let ids: Vec<_> = prompts.iter().map(|prompt| tokens::ids(tokens::split(prompt))).collect();
    let longest = ids.iter().map(Vec::len).max().unwrap_or_default();
    let length = call.length(integer(&body, "max_tokens")?, longest)?;
    let texts: Vec<_> =
        prompts.iter().map(|prompt| Text::answering(prompt, length.tokens)).collect();
    let answers = texts.iter().flat_map(|text| text.ids(length.tokens)).collect();
    let job = Job { prompt: ids.concat(), answer: answers };
    let answer = Answer { texts, choices, length, prompt_tokens: job.prompt.len() };
    let flight = call.begin(&job);
    let (id, created, model) = (call.id(), unix_seconds(), quoted(model.as_str()));
    let head = format!(
        r#"{{"id":"cmpl-{id}","object":"text_completion","created":{created},"model":{model},"choices":["#
    );
    if streamed(&body) {
        let script = CompletionScript { head: format!("data: {head}"), answer, usage, place: 0 };
        return Ok(call.stream(flight, script));
    }
    Ok(call.whole(flight, length, answer.tokens(), |flight| whole(head, &answer, flight)).await?)
}

/// The prompts: a text, token ids, or a list of either.
///
/// # Errors
/// There is none, or there are too many.
fn prompts(call: &Call, body: &Value) -> Result<Vec<String>, Refusal> {
    let ids = |ids: &[Value]| call.node.vocabulary.text(ids.iter().filter_map(Value::as_u64));
    let prompts = match body.get("prompt") {
        Some(Value::String(prompt)) => vec![prompt.clone()],
        Some(Value::Array(items)) if items.first().is_some_and(Value::is_u64) => vec![ids(items)],
        Some(Value::Array(items)) => items
            .iter()
            .filter_map(|item| match item {
                Value::String(prompt) => Some(prompt.clone()),
                Value::Array(items) => Some(ids(items)),
                _ => None,
            })
            .collect(),
        _ => Vec::new(),
    };
    if prompts.is_empty() {
        let says =
            "Either prompt or prompt_embeds must be provided and non-empty. (parameter=prompt)";
        return Err(Refusal::value("prompt", says.to_owned()));
    }
    if prompts.len() > PROMPTS_MAX {
        let says =
            format!("at most {PROMPTS_MAX} prompts, got {}. (parameter=prompt)", prompts.len());
        return Err(Refusal::value("prompt", says));
    }
    Ok(prompts)
}

/// The answer in one piece.
fn whole(mut out: String, answer: &Answer, flight: &Flight) -> String {
    for choice in 0..answer.width() {
        let comma = if choice == 0 { "" } else { "," };
        let (text, reason) = (answer.text(choice), answer.length.finish.reason());
        let _ = write!(
            out,
            r#"{comma}{{"index":{choice},"text":"{text}","logprobs":null,"finish_reason":"{reason}","stop_reason":null,"token_ids":null,"prompt_logprobs":null,"prompt_token_ids":null,"routed_experts":null}}"#
        );
    }
    let usage = answer.usage(flight);
    let _ = write!(
        out,
        r#"],"service_tier":null,"system_fingerprint":"{FINGERPRINT}","usage":{usage},"kv_transfer_params":null,"ec_transfer_params":null,"metrics":null}}"#
    );
    out
}

/// The answer as events: the tokens of all choices in turn, usage, `[DONE]`.
struct CompletionScript {
    /// What all events but the last begin with.
    head: String,
    answer: Answer,
    usage: StreamUsage,
    /// Of the next event.
    place: usize,
}

impl CompletionScript {
    fn write_token(&self, choice: usize, place: usize, out: &mut BytesMut) -> Step {
        out.put_slice(self.head.as_bytes());
        let _ = write!(out, r#"{{"index":{choice},"text":""#);
        out.put_slice(self.answer.token(choice, place).as_bytes());
        let reason = self.answer.finish_reason(place);
        out.put_slice(br#"","logprobs":null,"finish_reason":"#);
        out.put_slice(reason.as_bytes());
        out.put_slice(br#","stop_reason":null,"prompt_token_ids":null,"token_ids":null}]"#);
        if self.usage == StreamUsage::Each {
            out.put_u8(b',');
            self.answer.write_usage(place + 1, "", out);
        }
        if reason != "null" && self.usage == StreamUsage::Never {
            let _ = write!(out, r#","system_fingerprint":"{FINGERPRINT}""#);
        }
        out.put_slice(b"}\n\n");
        let pause = match (choice, place) {
            (0, 0) => Pause::FirstToken,
            (0, _) => Pause::Token,
            _ => Pause::None,
        };
        Step { pause, tokens: 1 }
    }
}

impl Script for CompletionScript {
    fn next(&mut self, flight: &Flight, out: &mut BytesMut) -> Option<Step> {
        let (width, tokens) = (self.answer.width(), self.answer.tokens());
        let part = Part::at(self.place, 0, tokens);
        self.place += 1;
        match part {
            Part::Opening(_) => None,
            Part::Token(place) => Some(self.write_token(place % width, place / width, out)),
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
