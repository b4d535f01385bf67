//! `POST /inference/v1/generate`, as vLLM 0.32 answers it with `--enable-scale-out`: token ids in, token ids out.

use std::fmt::Write;

use bytes::{BufMut, BytesMut};
use http::StatusCode;
use serde_json::Value;

use super::openai::{self, Answer, LAST_WORDS, StreamUsage};
use super::refusal::Refusal;
use super::request::streamed;
use super::said::Said;
use super::sampling;
use super::schema::{Field, Kind, form_of, whole};
use super::turns::{Turn, Turns};
use crate::sim::call::{Call, Length};
use crate::sim::engine::{Finish, Flight, Job};
use crate::sim::events::{Pause, Script, Step};
use crate::sim::node::unix_seconds;
use crate::sim::reply::Reply;
use crate::sim::text::quoted;

const FORM: [&[Field]; 1] = [&[
    Field::needed("token_ids", Kind::TokenIds),
    Field::needed("sampling_params", Kind::Sampling),
    Field::nullable("model", Kind::Text),
    Field::given("output_mode", Kind::OneOf(&[&["tokens", "text"]])),
]];

/// Choices of one request at most: vLLM's default for requests at a time.
const CHOICES_MAX: i64 = 256;

/// Answers token ids.
///
/// # Errors
/// The request is refused, always so where the node was not told to scale out.
pub(super) async fn answer(call: &Call) -> Result<Reply, Refusal> {
    if !call.node.enable_scale_out {
        return Err(Refusal::Other {
            status: StatusCode::FORBIDDEN,
            kind: "PermissionDeniedError",
            says: "Scale-out endpoints are disabled. Restart vllm serve with --enable-scale-out to enable them.".to_owned(),
            param: None,
        });
    }
    let body = call.json()?;
    form_of(&body, &FORM)?;
    let sampling_params = &body["sampling_params"];
    sampling::check(sampling_params)?;
    let choices = choices(sampling_params)?;
    let prompt: Vec<u32> =
        list(&body, "token_ids").filter_map(|id| u32::try_from(whole(id)?).ok()).collect();
    let length = length(call, sampling_params, prompt.len())?;
    let model = call.model(&body)?;
    let said = call.node.vocabulary.text(prompt.iter().copied().map(u64::from));
    let said = Said::echo(&said, length);
    let ids = said.ids();
    let job = Job { prompt, answer: ids.repeat(choices) };
    let prompt_tokens = job.prompt.len();
    let shown = body.get("return_token_ids").and_then(Value::as_bool).unwrap_or(false);
    let generated = Generated {
        id: format!("generate-tokens-{}", call.id_in(&body)),
        prompt: shown.then(|| Value::from(job.prompt.clone()).to_string()),
        text_mode: body.get("output_mode").and_then(Value::as_str) == Some("text"),
        logprobs: sampling_params.get("logprobs").is_some_and(|count| !count.is_null()),
        answer: Answer { said: vec![said], choices, prompt_tokens },
        ids,
    };
    let flight = call.begin(&job);
    if streamed(&body) {
        // Options without a stream mean nothing here.
        let usage = openai::stream_usage(&body)?;
        let turns = generated.answer.turns();
        return Ok(call.stream(flight, GenerateScript { generated, usage, turns, closing: 0 }));
    }
    let model = quoted(model.as_str());
    let tokens = generated.answer.tokens();
    Ok(call.whole(flight, length, tokens, |flight| generated.whole(&model, flight)).await?)
}

fn list<'b>(body: &'b Value, field: &str) -> impl Iterator<Item = &'b Value> {
    body.get(field).and_then(Value::as_array).into_iter().flatten()
}

/// The number of choices asked for.
fn choices(sampling: &Value) -> Result<usize, Refusal> {
    let n = sampling.get("n").and_then(whole).unwrap_or(1);
    let says = match usize::try_from(n) {
        Ok(choices @ 1..) if n <= CHOICES_MAX => return Ok(choices),
        Ok(1..) => format!(
            "sampling_params.n must be at most the server's max_num_seqs ({CHOICES_MAX}), got {n}."
        ),
        _ => format!("n must be at least 1, got {n}."),
    };
    Err(Refusal::Value { says, param: None })
}

/// The length of an answer. More tokens than there is room for are no error here.
fn length(call: &Call, sampling: &Value, prompt: usize) -> Result<Length, Refusal> {
    let max = call.node.max_model_len;
    if prompt >= max {
        let (more, unit) = match prompt {
            _ if prompt > max => ("", "text tokens"),
            _ => (
                " plus the number of requested output tokens (at least 1)",
                "text tokens (prompt + requested output tokens)",
            ),
        };
        let says = format!(
            "The decoder prompt (length {prompt}){more} is longer than the maximum model length of {max}. Make sure \
             that `max_model_len` is no smaller than the number of {unit}."
        );
        return Err(Refusal::Value { says, param: None });
    }
    let room = max - prompt;
    match sampling.get("max_tokens").and_then(whole) {
        None => Ok(call.own_length(room)),
        Some(named) => match usize::try_from(named) {
            Ok(tokens @ 1..) => Ok(Length { tokens: tokens.min(room), finish: Finish::Length }),
            _ => {
                let says = format!(
                    "max_tokens must be at least 1, got {named}. (parameter=max_tokens, value={named})"
                );
                Err(Refusal::value("max_tokens", says))
            }
        },
    }
}

/// One answer with all its choices.
struct Generated {
    /// With its prefix, as JSON within quotes.
    id: String,
    /// The prompt's token ids as JSON, where they were asked for.
    prompt: Option<String>,
    /// Whether the text is told beside the ids.
    text_mode: bool,
    logprobs: bool,
    answer: Answer,
    /// Token ids of each choice.
    ids: Vec<u32>,
}

impl Generated {
    /// The answer in one piece.
    fn whole(&self, model: &str, flight: &Flight) -> String {
        let (id, usage) = (&self.id, self.answer.usage(flight));
        let (created, mode) = (unix_seconds(), self.mode());
        let prompt = self.prompt.as_deref().unwrap_or("null");
        let mut out = format!(
            r#"{{"request_id":"{id}","model":{model},"created":{created},"usage":{usage},"prompt_logprobs":null,"prompt_token_id_logprobs":null,"prompt_token_ids":{prompt},"mm_placeholders":null,"metrics":null,"kv_transfer_params":null,"ec_transfer_params":null,"output_mode":"{mode}","choices":["#
        );
        let reason = format!(r#""{}""#, self.answer.longest().finish.reason());
        for choice in 0..self.answer.width() {
            out += if choice == 0 { "" } else { "," };
            let text = self.answer.said(choice).shown();
            self.write_choice((choice, &self.ids, &text), &reason, &mut out);
        }
        out + "]}"
    }

    /// Appends a choice, or what is new of it.
    fn write_choice(
        &self,
        (choice, ids, text): (usize, &[u32], &str),
        reason: &str,
        out: &mut impl Write,
    ) {
        let versions = match reason {
            "null" => "null".to_owned(),
            _ => {
                let end = self.answer.longest().tokens;
                format!(r#"[{{"version":"default","start":0,"end":{end}}}]"#)
            }
        };
        // Memory grows as needed, so writing cannot fail.
        let _ = write!(
            out,
            r#"{{"index":{choice},"finish_reason":{reason},"stop_reason":null,"token_ids":{},"routed_experts":null,"sampling_mask":null,"weight_versions":{versions},"#,
            Value::from(ids)
        );
        if self.text_mode {
            let _ = write!(out, r#""text":"{text}","#);
        }
        let _ = write!(out, r#""logprobs":{}}}"#, self.logprobs_of(ids));
    }

    /// The model of the simulator is always sure: each token is the only one.
    fn logprobs_of(&self, ids: &[u32]) -> String {
        if !self.logprobs || self.text_mode {
            return "null".to_owned();
        }
        let entry = |id| {
            let one = format!(r#""token_id":{id},"logprob":0.0,"rank":1"#);
            format!(r#"{{{one},"top_logprobs":[{{{one}}}]}}"#)
        };
        let entries: Vec<_> = ids.iter().map(entry).collect();
        format!(r#"{{"content":[{}]}}"#, entries.join(","))
    }

    fn mode(&self) -> &'static str {
        if self.text_mode { "text" } else { "tokens" }
    }
}

/// The answer as events: the tokens of all choices in turn, usage, `[DONE]`.
struct GenerateScript {
    generated: Generated,
    usage: StreamUsage,
    turns: Turns,
    /// Events after the last token.
    closing: usize,
}

impl GenerateScript {
    fn open(&self, out: &mut BytesMut) {
        let _ = write!(out, r#"data: {{"request_id":"{}","#, self.generated.id);
    }

    fn write_token(&self, turn: &Turn, out: &mut BytesMut) -> Step {
        let (choice, place) = (turn.choice, turn.places.start);
        let Generated { answer, ids, prompt, .. } = &self.generated;
        self.open(out);
        if self.usage == StreamUsage::Each {
            let details = r#","prompt_tokens_details":null,"completion_tokens_details":null"#;
            answer.write_usage(place + 1, details, out);
        } else {
            out.put_slice(br#""usage":null"#);
        }
        if let (Some(prompt), 0, 0) = (prompt, choice, place) {
            let _ = write!(out, r#","prompt_token_ids":{prompt}"#);
        }
        let _ = write!(out, r#","output_mode":"{}","choices":["#, self.generated.mode());
        let said = answer.said(choice);
        let reason = match place + 1 == said.length.tokens {
            true => format!(r#""{}""#, said.length.finish.reason()),
            false => "null".to_owned(),
        };
        let token = (choice, &ids[place..=place], said.delta(place));
        self.generated.write_choice(token, &reason, out);
        out.put_slice(b"]}\n\n");
        let pause = match (choice, place) {
            (0, 0) => Pause::FirstToken,
            (0, _) => Pause::Token,
            _ => Pause::None,
        };
        Step { pause, tokens: 1 }
    }

    fn write_end(&self, mut place: usize, out: &mut BytesMut) -> Option<Step> {
        if self.usage == StreamUsage::Never {
            place += 1;
        }
        match place {
            0 => {
                self.open(out);
                self.generated.answer.write_usage(self.generated.answer.tokens(), "", out);
                let _ = write!(out, r#","output_mode":"{}","choices":[]}}"#, self.generated.mode());
                out.put_slice(b"\n\n");
            }
            1 => out.put_slice(b"data: [DONE]\n\n"),
            _ => return None,
        }
        Some(Step { pause: Pause::None, tokens: 0 })
    }
}

impl Script for GenerateScript {
    fn next(&mut self, _: &Flight, out: &mut BytesMut) -> Option<Step> {
        if let Some(turn) = self.turns.next(|_, from| from + 1) {
            return Some(self.write_token(&turn, out));
        }
        self.closing += 1;
        self.write_end(self.closing - 1, out)
    }

    fn finish(&self) -> Finish {
        self.generated.answer.longest().finish
    }

    fn last_words(&self) -> &'static [&'static str] {
        &LAST_WORDS
    }
}
