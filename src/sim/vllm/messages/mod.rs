//! `POST /v1/messages` and `/v1/messages/count_tokens`, Anthropic's API as vLLM 0.32 speaks it (samples `messages*.http`).

mod input;
mod script;

use http::StatusCode;
use serde_json::Value;

use self::script::{Message, MessageScript};
use super::conversation::Conversation;
use super::instance::{instance_of, python_json};
use super::prompt::{Turn, asked, called, conversation};
use super::refusal::Refusal;
use super::request::{integer, list, streamed};
use super::said::Said;
use super::sampling::{self, Stops};
use crate::sim::call::Call;
use crate::sim::engine::Job;
use crate::sim::reply::{self, Reply};
use crate::sim::text::quoted;

/// Answers a chat.
///
/// `max_tokens` must be there in this API, so it is a bound and not a wish: the answer ends by itself as soon as it has
/// the node's usual length.
///
/// # Errors
/// The request is refused.
pub(super) async fn create(call: &Call) -> Result<Reply, Refusal> {
    let body = call.json()?;
    let messages = list(&body, "messages")?;
    let Some(max_tokens) = integer(&body, "max_tokens")? else {
        return Err(Refusal::missing("max_tokens", &body));
    };
    let model = call.model(&body)?;
    sampling::check(&body)?;
    let (chat, turns) = chat(&body, messages)?;
    let prompt = chat.ids();
    let room = call.room(("max_completion_tokens", Some(max_tokens)), prompt.len())?;
    let said = said(call, &body, &turns, room)?;
    let (length, prompt_tokens) = (said.length, prompt.len());
    let flight = call.begin(&Job { prompt, answer: said.ids() });
    if let Some(why) = flight.refused() {
        return Err(why.into());
    }
    let tool_id = format!("chatcmpl-tool-{}", call.node.fresh_id());
    let message =
        Message { id: call.id(), model: quoted(model.as_str()), said, tool_id, prompt_tokens };
    if streamed(&body) {
        return Ok(call.stream(flight, MessageScript::new(message)));
    }
    Ok(call.whole(flight, length, length.tokens, |flight| message.whole(flight)).await?)
}

/// Counts the tokens of a chat as its usage would.
///
/// # Errors
/// The request is refused.
pub(super) fn count_tokens(call: &Call) -> Result<Reply, Refusal> {
    let body = call.json()?;
    let messages = list(&body, "messages")?;
    call.model(&body)?;
    let (chat, _) = chat(&body, messages)?;
    let tokens = chat.ids().len();
    call.length(None, tokens)?;
    let text = format!(
        r#"{{"input_tokens":{tokens},"context_management":{{"original_input_tokens":{tokens}}}}}"#
    );
    Ok(reply::json(StatusCode::OK, text))
}

fn chat(body: &Value, messages: &[Value]) -> Result<(Conversation, Vec<Turn>), Refusal> {
    let turns = input::turns(body, messages);
    if turns.is_empty() {
        let says =
            "Cannot apply chat template to an empty conversation. Provide at least one message.";
        return Err(Refusal::Value { says: says.to_owned(), param: None });
    }
    Ok((conversation(body.get("tools"), &turns), turns))
}

/// What is answered: the call of a tool, JSON where this is asked for, or words.
fn said(call: &Call, body: &Value, turns: &[Turn], room: usize) -> Result<Said, Refusal> {
    let user = asked(turns);
    let (tools, choice) = input::offered(body)?;
    if let Some(tool) = called(choice, &tools, turns) {
        return Ok(Said::call(tool, user, room));
    }
    let format = body.get("output_config").and_then(|config| config.get("format"));
    let said = match format.and_then(|format| format.get("schema")) {
        Some(schema) => Said::whole(&python_json(&instance_of(schema, user)), room),
        None => Said::echo(user, call.own_length(room)),
    };
    let stops = body.get("stop_sequences").and_then(Value::as_array);
    let stops = stops.into_iter().flatten().filter_map(|stop| Some(stop.as_str()?.to_owned()));
    Ok(said.until(&Stops::checked(stops.collect(), false)?))
}
