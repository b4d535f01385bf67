//! Texts, token ids and chats as prompts.

use serde_json::Value;

use super::refused;
use crate::sim::call::Call;
use crate::sim::tokens;
use crate::sim::vllm::chat;
use crate::sim::vllm::prompt::conversation;
use crate::sim::vllm::refusal::Refusal;
use crate::sim::vllm::schema::whole;

/// Prompts of one request at most: OpenAI's bound. vLLM has none, and an answer of any size.
const PROMPTS_MAX: usize = 2_048;

/// The prompts of a body that has `messages` or `input`.
///
/// # Errors
/// There is none, there are too many, or one is empty or too long.
pub(super) fn prompts(call: &Call, body: &Value) -> Result<Vec<Vec<u32>>, Refusal> {
    let prompts = match (body.get("messages"), body.get("input")) {
        (Some(Value::Array(messages)), _) => chats(body, messages)?,
        (_, Some(Value::Array(items)))
            if items.first().is_some_and(|item| whole_id(item).is_some()) =>
        {
            vec![ids(items)]
        }
        (_, Some(Value::Array(items))) => items.iter().map(prompt).collect(),
        (_, Some(input)) => vec![prompt(input)],
        _ => Vec::new(),
    };
    checked(call, body, prompts)
}

/// `prompts`, cut to what the body asks for.
///
/// # Errors
/// There is none, there are too many, or one is empty or too long.
pub(super) fn checked(
    call: &Call,
    body: &Value,
    mut prompts: Vec<Vec<u32>>,
) -> Result<Vec<Vec<u32>>, Refusal> {
    let max = call.node.max_model_len;
    if let Some(named) = body.get("truncate_prompt_tokens").and_then(whole) {
        // -1: to the longest that fits.
        let length = usize::try_from(named).unwrap_or(max);
        if length > max {
            return Err(refused(
                "truncate_prompt_tokens value is greater than max_model_len. Please request a smaller truncation size.",
            ));
        }
        prompts.iter_mut().for_each(|prompt| prompt.truncate(length));
    }
    if prompts.is_empty() {
        return Err(refused("You must pass at least one prompt"));
    }
    if prompts.len() > PROMPTS_MAX {
        return Err(refused(format!("at most {PROMPTS_MAX} prompts, got {}.", prompts.len())));
    }
    for prompt in &prompts {
        call.length(None, prompt.len())?;
        if prompt.is_empty() {
            return Err(refused("The decoder prompt cannot be empty"));
        }
    }
    Ok(prompts)
}

/// The token ids of a text.
pub(super) fn of_text(text: &str) -> Vec<u32> {
    tokens::ids(tokens::split(text))
}

/// Whether `input` is a chat, or a list of chats: messages are objects that have a role.
pub(super) fn is_conversation(input: &Value) -> bool {
    let is_chat = |items: &[Value]| {
        let mut roles = items.iter().map(|item| item.get("role"));
        !items.is_empty() && roles.all(|role| role.is_some_and(Value::is_string))
    };
    let is_batch = |items: &[Value]| {
        let mut chats = items.iter().map(Value::as_array);
        !items.is_empty() && chats.all(|chat| chat.is_some_and(|items| is_chat(items)))
    };
    input.as_array().is_some_and(|items| is_chat(items) || is_batch(items))
}

/// One prompt of a chat, or one for each of several. Nothing opens an answer, unless the body says so.
fn chats(body: &Value, messages: &[Value]) -> Result<Vec<Vec<u32>>, Refusal> {
    if messages.is_empty() {
        return Err(refused(
            "Cannot apply chat template to an empty conversation. Provide at least one message.",
        ));
    }
    let open_answer = body.get("add_generation_prompt").and_then(Value::as_bool).unwrap_or(false);
    let ids = |messages: &[Value]| {
        tokens::ids(conversation(None, &chat::turns(messages)).tokens(open_answer))
    };
    let conversations: Option<Vec<_>> = messages.iter().map(Value::as_array).collect();
    Ok(match conversations {
        Some(conversations) => conversations.into_iter().map(|messages| ids(messages)).collect(),
        None => vec![ids(messages)],
    })
}

fn prompt(input: &Value) -> Vec<u32> {
    match input {
        Value::String(text) => of_text(text),
        Value::Array(items) => ids(items),
        _ => Vec::new(),
    }
}

fn ids(items: &[Value]) -> Vec<u32> {
    items.iter().filter_map(whole_id).collect()
}

fn whole_id(item: &Value) -> Option<u32> {
    item.as_u64().and_then(|id| u32::try_from(id).ok())
}
