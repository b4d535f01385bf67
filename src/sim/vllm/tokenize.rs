//! `POST /tokenize` and `POST /detokenize`, as vLLM 0.32 answers them (samples `*tokenize*.http`).

use http::StatusCode;
use serde_json::Value;

use super::chat;
use super::prompt::conversation;
use super::refusal::Refusal;
use super::request::list;
use crate::sim::call::Call;
use crate::sim::reply::{self, Reply};
use crate::sim::text::quoted;
use crate::sim::tokens;

/// The ids of a prompt or a chat, the same tokens that `usage` counts.
///
/// # Errors
/// The request is refused.
pub(super) fn tokenize(call: &Call) -> Result<Reply, Refusal> {
    let body = call.json()?;
    call.model(&body)?;
    let messages;
    let tokens: Vec<&str> = match body.get("prompt").and_then(Value::as_str) {
        Some(prompt) => tokens::split(prompt).collect(),
        None if body.get("messages").is_none() => return Err(Refusal::missing("prompt", &body)),
        None => {
            messages = conversation(body.get("tools"), &chat::turns(list(&body, "messages")?));
            let open_answer = body.get("add_generation_prompt").and_then(Value::as_bool);
            messages.tokens(open_answer.unwrap_or(true)).collect()
        }
    };
    let ids = call.node.vocabulary.ids(tokens.iter().copied());
    let texts = match body.get("return_token_strs").and_then(Value::as_bool) {
        Some(true) => Value::from(tokens).to_string(),
        _ => "null".to_owned(),
    };
    let (count, max) = (ids.len(), call.node.max_model_len);
    let ids = Value::from(ids);
    let text =
        format!(r#"{{"count":{count},"max_model_len":{max},"tokens":{ids},"token_strs":{texts}}}"#);
    Ok(reply::json(StatusCode::OK, text))
}

/// The text of ids that this node gave out.
///
/// # Errors
/// The request is refused.
pub(super) fn detokenize(call: &Call) -> Result<Reply, Refusal> {
    let body = call.json()?;
    call.model(&body)?;
    let ids = list(&body, "tokens")?.iter().filter_map(Value::as_u64);
    let text = call.node.vocabulary.text(ids);
    Ok(reply::json(StatusCode::OK, format!(r#"{{"prompt":{}}}"#, quoted(&text))))
}
