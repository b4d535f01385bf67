//! `POST /v1/completions`, as vLLM 0.32 answers it (samples `completion*.http`).

mod answer;
mod prompts;
mod script;

use serde_json::Value;

use self::answer::{Completion, Echo};
use self::prompts::{Prompt, prompts};
use self::script::CompletionScript;
use super::openai::{self, Answer};
use super::refusal::Refusal;
use super::request::{integer, is_on, streamed};
use super::said::Said;
use super::sampling::Sampling;
use super::schema::{Field, Kind, form_of, whole};
use crate::sim::call::{Call, Length};
use crate::sim::engine::Job;
use crate::sim::node::unix_seconds;
use crate::sim::reply::Reply;
use crate::sim::text::quoted;

/// What a completion looks like. Prompts are not looked into.
const FORM: [&[Field]; 1] = [&[
    Field::nullable("model", Kind::Text),
    Field::nullable("echo", Kind::Switch),
    Field::nullable("frequency_penalty", Kind::Number),
    Field::nullable("logprobs", Kind::Whole(i64::MIN)),
    Field::nullable("max_tokens", Kind::Whole(i64::MIN)),
    Field::given("n", Kind::Whole(i64::MIN)),
    Field::nullable("presence_penalty", Kind::Number),
    Field::nullable("seed", Kind::Whole(i64::MIN)),
    Field::nullable("stop", Kind::TextOrList),
    Field::nullable("stream", Kind::Switch),
    Field::nullable("stream_options", Kind::StreamOptions),
    Field::nullable("suffix", Kind::Text),
    Field::nullable("temperature", Kind::Number),
    Field::nullable("top_p", Kind::Number),
    Field::nullable("prompt_logprobs", Kind::Whole(i64::MIN)),
]];

/// Answers a prompt, or several.
///
/// # Errors
/// The request is refused.
pub(super) async fn answer(call: &Call) -> Result<Reply, Refusal> {
    let body = call.json()?;
    form_of(&body, &FORM)?;
    prompts::check(&body)?;
    check_logprobs(&body)?;
    let usage = openai::stream_usage(&body)?;
    let model = call.model(&body)?;
    check_suffix(&body)?;
    let prompts = prompts(call, &body)?;
    let echo = Echo::of(&body);
    let length = length(call, &body, (&prompts, echo))?;
    let logprobs = body.get("logprobs").and_then(whole);
    let Sampling { choices, stops, mut told } = Sampling::of(&body, logprobs)?;
    if echo != Echo::Never && told.logprobs.is_some() {
        told.prompt_logprobs = told.logprobs;
    }
    let said: Vec<Said> =
        prompts.iter().map(|prompt| Said::echo(&prompt.text, length).until(&stops)).collect();
    let job = Job {
        prompt: prompts.iter().flat_map(Prompt::ids).collect(),
        answer: said.iter().flat_map(Said::ids).collect(),
    };
    let answer = Answer { said, choices, prompt_tokens: job.prompt.len() };
    told.check(answer.tokens())?;
    let flight = call.begin(&job);
    let (id, created, model) = (call.id(), unix_seconds(), quoted(model.as_str()));
    let data = if streamed(&body) { "data: " } else { "" };
    let head = format!(
        r#"{data}{{"id":"cmpl-{id}","object":"text_completion","created":{created},"model":{model},"choices":["#
    );
    let (length, tokens) = (answer.longest(), answer.tokens());
    let completion = Completion { head, answer, told, prompts, echo };
    if streamed(&body) {
        return Ok(call.stream(flight, CompletionScript::new(completion, usage)));
    }
    Ok(call.whole(flight, length, tokens, |flight| completion.whole(flight)).await?)
}

/// The length of all answers. One that is to be echoed alone has a token that is not shown.
fn length(
    call: &Call,
    body: &Value,
    (prompts, echo): (&[Prompt], Echo),
) -> Result<Length, Refusal> {
    let longest = prompts.iter().map(|prompt| prompt.tokens.len()).max().unwrap_or_default();
    let named = integer(body, "max_tokens")?;
    call.length(if echo == Echo::Alone { Some(1) } else { named }, longest)
}

fn check_logprobs(body: &Value) -> Result<(), Refusal> {
    if streamed(body) && body.get("prompt_logprobs").and_then(whole).is_some() {
        let says =
            "`prompt_logprobs` are not available when `stream=True`. (parameter=prompt_logprobs)";
        return Err(Refusal::value("prompt_logprobs", says.to_owned()));
    }
    match body.get("logprobs").and_then(whole) {
        Some(count) if count < -1 => {
            let says = format!(
                "`logprobs` must be a positive value or -1. (parameter=logprobs, value={count})"
            );
            Err(Refusal::value("logprobs", says))
        }
        _ => Ok(()),
    }
}

fn check_suffix(body: &Value) -> Result<(), Refusal> {
    let says = match body.get("suffix").is_some_and(Value::is_string) {
        true if is_on(body, "echo") => "Echo is unsupported with suffix.",
        true => "suffix is only supported for models with FIM completion rendering",
        false => return Ok(()),
    };
    Err(Refusal::value("suffix", says.to_owned()))
}
