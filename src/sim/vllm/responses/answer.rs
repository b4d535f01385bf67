//! From a request for `/v1/responses` to the answer that it shall have.

use http::StatusCode;
use serde_json::{Value, json};

use super::echo::Echo;
use super::input;
use super::script::Keep;
use super::shape::{Ids, Response};
use crate::sim::call::{Call, Length};
use crate::sim::engine::Finish;
use crate::sim::node::unix_seconds;
use crate::sim::text::quoted;
use crate::sim::vllm::instance::{instance_of, python_json};
use crate::sim::vllm::prompt::{asked, called, conversation, text_field};
use crate::sim::vllm::refusal::Refusal;
use crate::sim::vllm::request::integer;
use crate::sim::vllm::said::Said;
use crate::sim::vllm::sampling::{self, Stops};

/// The value of `include` that asks how likely the tokens were.
const LOGPROBS: &str = "message.output_text.logprobs";

/// Other tokens told of beside each at most: as many as OpenAI's API allows.
const LOGPROBS_MAX: usize = 20;

/// What vLLM says of background work when it keeps nothing.
const NO_STORE: &str = "This vLLM engine does not support `store=True` and therefore does not support the background \
     mode. To enable these features, set the environment variable `VLLM_ENABLE_RESPONSES_API_STORE=1` when launching \
     the vLLM server.";

/// What is answered, and with what it is kept.
pub(super) struct Answer {
    pub(super) response: Response,
    /// Where it is kept, if it is: always where it is made in the background.
    pub(super) keep: Option<Keep>,
    pub(super) prompt: Vec<u32>,
}

/// The answer to a body; nothing is done for it yet.
///
/// # Errors
/// The request is refused.
pub(super) fn answer(call: &Call, body: &Value) -> Result<Answer, Refusal> {
    check(body)?;
    let (tools, choice) = input::offered(body)?;
    let model = call.model(body)?;
    let store = call.node.responses.as_ref();
    if is_on(body, "background", false) && store.is_none() {
        return Err(invalid(NO_STORE, "background"));
    }
    let before = match text_field(body, "previous_response_id") {
        Some(id) => store.and_then(|store| store.turns(id)).ok_or_else(|| unknown(id))?,
        None => Vec::new(),
    };
    let turns = input::turns(body, before)?;
    if turns.is_empty() {
        let says =
            "Cannot apply chat template to an empty conversation. Provide at least one message.";
        return Err(Refusal::Value { says: says.to_owned(), param: None });
    }
    let chat = conversation(body.get("tools"), &turns);
    let named = integer(body, "max_output_tokens")?;
    let prompt = fitted(call, body, chat.ids());
    if prompt.len() == call.node.max_model_len {
        let (length, max) = (prompt.len(), call.node.max_model_len);
        let says = format!(
            "The engine prompt length {length} exceeds the max_model_len {max}. Please reduce prompt."
        );
        return Err(invalid(&says, "input"));
    }
    let room = call.room(("max_output_tokens", named), prompt.len())?;
    sampling::check(body)?;
    let said = match called(choice, &tools, &turns) {
        Some(tool) => Said::call(tool, asked(&turns), room),
        None => in_words(call, body, asked(&turns), (room, named.is_some()))?,
    };
    let logprobs = logprobs(body)?;
    let id = match text_field(body, "request_id") {
        Some(id) => id.to_owned(),
        None => format!("resp_{}", call.node.fresh_id()),
    };
    let shows = is_on(body, "enable_response_messages", false);
    let response = Response {
        echo: Echo::of(body, (&id, unix_seconds()), model.as_str(), (room, logprobs)),
        said,
        prompt_tokens: prompt.len(),
        logprobs,
        messages: shows.then(|| (quoted(&chat.tokens(true).collect::<String>()), prompt.clone())),
        ids: Ids::fresh(&call.node),
    };
    let kept = store.filter(|_| is_on(body, "store", true));
    let keep = kept.map(|store| Keep { store: store.clone(), id, turns });
    Ok(Answer { response, keep, prompt })
}

/// The answer in words, or in JSON where this is asked for.
///
/// # Errors
/// It is to end with nothing.
fn in_words(
    call: &Call,
    body: &Value,
    said: &str,
    (room, named): (usize, bool),
) -> Result<Said, Refusal> {
    let format = body.get("text").and_then(|text| text.get("format"));
    let kind = format.and_then(|format| text_field(format, "type"));
    let answer = match (kind, format.and_then(|format| format.get("schema"))) {
        (Some("json_schema"), Some(schema)) => {
            Said::whole(&python_json(&instance_of(schema, said)), room)
        }
        (Some("json_object"), _) => Said::whole(&python_json(&json!({"said": said})), room),
        _ if named => Said::echo(said, Length { tokens: room, finish: Finish::Length }),
        _ => Said::echo(said, call.own_length(room)),
    };
    Ok(answer.until(&Stops::of(body)?))
}

/// A prompt that fits, where it may be cut: one token is kept back for the answer, if its length was named.
fn fitted(call: &Call, body: &Value, mut prompt: Vec<u32>) -> Vec<u32> {
    if text_field(body, "truncation") == Some("auto") {
        let named = body.get("max_output_tokens").is_some_and(|tokens| !tokens.is_null());
        prompt.truncate(call.node.max_model_len - usize::from(named));
    }
    prompt
}

/// For how many other tokens beside each it is to be told how likely they were.
fn logprobs(body: &Value) -> Result<Option<usize>, Refusal> {
    let included = body.get("include").and_then(Value::as_array);
    if !included.is_some_and(|names| names.iter().any(|name| name == LOGPROBS)) {
        return Ok(None);
    }
    let count = integer(body, "top_logprobs")?.unwrap_or_default();
    Ok(Some(usize::try_from(count).unwrap_or_default().min(LOGPROBS_MAX)))
}

/// What vLLM checks before it looks at the model.
fn check(body: &Value) -> Result<(), Refusal> {
    let given = |name: &str| body.get(name).is_some_and(|value| !value.is_null());
    if is_on(body, "background", false) && !is_on(body, "store", true) {
        let says = "background can only be used when `store` is true (parameter=background)";
        return Err(Refusal::value("background", says.to_owned()));
    }
    if given("prompt") {
        let says = "prompt template is not supported (parameter=prompt)";
        return Err(Refusal::value("prompt", says.to_owned()));
    }
    if body.get("input").is_none() {
        return Err(Refusal::missing("input", body));
    }
    if given("previous_input_messages") && given("previous_response_id") {
        let says = "Only one of `previous_input_messages` and `previous_response_id` can be set.";
        return Err(invalid(says, "previous_response_id"));
    }
    Ok(())
}

/// A switch of the body; one that is null is off.
pub(super) fn is_on(body: &Value, name: &str, usual: bool) -> bool {
    body.get(name).map_or(usual, |value| value.as_bool().unwrap_or_default())
}

/// There is no such answer.
pub(super) fn unknown(id: &str) -> Refusal {
    Refusal::Other {
        status: StatusCode::NOT_FOUND,
        kind: "invalid_request_error",
        says: format!("Response with id '{id}' not found."),
        param: Some("response_id".to_owned()),
    }
}

/// A wish that vLLM itself turns down.
pub(super) fn invalid(says: &str, param: &str) -> Refusal {
    Refusal::Other {
        status: StatusCode::BAD_REQUEST,
        kind: "invalid_request_error",
        says: says.to_owned(),
        param: Some(param.to_owned()),
    }
}
