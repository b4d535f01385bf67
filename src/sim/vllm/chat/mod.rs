//! `POST /v1/chat/completions`, as vLLM 0.32 answers it (samples `chat*.http`).

mod answer;
mod input;
mod script;

use serde_json::Value;

use self::answer::{Chat, Prompt};
use self::input::FORM;
pub(super) use self::input::turns;
use self::script::ChatScript;
use super::openai::{self, Answer};
use super::prompt::{asked, called, conversation};
use super::refusal::Refusal;
use super::request::{integer, is_on, list, streamed};
use super::said::Said;
use super::sampling::Sampling;
use super::schema::{form_of, whole};
use super::tools::Choice;
use crate::sim::call::Call;
use crate::sim::engine::Job;
use crate::sim::node::unix_seconds;
use crate::sim::reply::Reply;
use crate::sim::text::quoted;

/// Answers a chat.
///
/// # Errors
/// The request is refused.
pub(super) async fn answer(call: &Call) -> Result<Reply, Refusal> {
    let body = call.json()?;
    form_of(&body, &FORM)?;
    input::check(&body)?;
    let (tools, choice) = input::offered(&body)?;
    let usage = openai::stream_usage(&body)?;
    let model = call.model(&body)?;
    let turns = turns(list(&body, "messages")?);
    if turns.is_empty() {
        let says =
            "Cannot apply chat template to an empty conversation. Provide at least one message.";
        return Err(Refusal::Value { says: says.to_owned(), param: None });
    }
    let conversation = conversation(body.get("tools"), &turns);
    let ids = conversation.ids();
    let named = integer(&body, "max_completion_tokens")?.or(integer(&body, "max_tokens")?);
    let length = call.length(named, ids.len())?;
    let room = named.map_or(call.node.max_model_len - ids.len(), |_| length.tokens);
    let Sampling { choices, stops, told } = Sampling::of(&body, logprobs(&body))?;
    let said = match called(choice, &tools, &turns) {
        Some(tool) => Said::call(tool, asked(&turns), room),
        None => input::in_words(&body, asked(&turns), (length, room)).until(&stops),
    };
    let prompt = Prompt::of(&conversation, &ids, (told, is_on(&body, "return_prompt_text")));
    let job = Job { prompt: ids, answer: said.ids() };
    let answer = Answer { said: vec![said], choices, prompt_tokens: job.prompt.len() };
    told.check(answer.tokens())?;
    let flight = call.begin(&job);
    let (id, created, model) = (call.id(), unix_seconds(), quoted(model.as_str()));
    let (data, object) = match streamed(&body) {
        true => ("data: ", "chat.completion.chunk"),
        false => ("", "chat.completion"),
    };
    let head = format!(
        r#"{data}{{"id":"chatcmpl-{id}","object":"{object}","created":{created},"model":{model},"choices":["#
    );
    let tool_ids = (0..choices).map(|_| format!("chatcmpl-tool-{}", call.node.fresh_id()));
    let tool_ids = if answer.said[0].is_call() { tool_ids.collect() } else { Vec::new() };
    let named = matches!(choice, Choice::Named(_));
    let (length, tokens) = (answer.longest(), answer.tokens());
    let chat = Chat { head, answer, told, prompt, tool_ids, named };
    if streamed(&body) {
        return Ok(call.stream(flight, ChatScript::new(chat, usage)));
    }
    Ok(call.whole(flight, length, tokens, |flight| chat.whole(flight)).await?)
}

/// For how many tokens in the place of each it is to be told how likely they were.
fn logprobs(body: &Value) -> Option<i64> {
    let top = body.get("top_logprobs").and_then(whole).unwrap_or_default();
    is_on(body, "logprobs").then_some(top)
}
