//! `POST /invocations`, as vLLM 0.32 answers it: any API by the fields of the body, under one path for SageMaker.

use std::sync::OnceLock;

use http::StatusCode;
use serde_json::Value;

use super::pooling;
use super::refusal::Refusal;
use super::{chat, completions};
use crate::sim::call::Call;
use crate::sim::reply::Reply;

/// Answers as the API would that the body is for. Its model is not looked at: the node's own answers.
///
/// # Errors
/// The request is refused.
pub(super) async fn answer(call: &Call) -> Result<Reply, Refusal> {
    let mut body = match call.json() {
        Err(Refusal::NoBody) => return Err(undecodable(&call.body, 0)),
        Err(Refusal::BadJson(at)) => return Err(undecodable(&call.body, at)),
        other => other?,
    };
    if let Some(fields) = body.as_object_mut() {
        fields.remove("model");
    }
    let call = Call {
        node: call.node.clone(),
        live: call.live.clone(),
        line: call.line.clone(),
        head: call.head.clone(),
        body: body.to_string().into(),
        fault: call.fault.clone(),
        salt: OnceLock::new(),
    };
    let has = |names: &[&str]| names.iter().all(|name| body.get(name).is_some());
    // The first of vLLM's types that fits.
    if body.get("messages").is_some_and(Value::is_array) {
        chat::answer(&call).await
    } else if body.get("prompt").is_some_and(|prompt| prompt.is_string() || prompt.is_array()) {
        completions::answer(&call).await
    } else if has(&["prompt"]) || !body.is_object() {
        let says = "Cannot find suitable handler for request. Expected one of: \
                    ['ChatCompletionRequest', 'CompletionRequest']";
        Err(Refusal::Value { says: says.to_owned(), param: None })
    } else if has(&["input"]) {
        pooling::embeddings(&call).await
    } else if has(&["query", "documents"]) {
        pooling::rerank(&call).await
    } else if has(&["queries"]) || has(&["data_1"]) || has(&["text_1"]) {
        pooling::score(&call).await
    } else if has(&["data"]) {
        pooling::pooling(&call).await
    } else {
        completions::answer(&call).await
    }
}

/// What Python's parser says of a body that makes no sense from `at` on.
fn undecodable(body: &[u8], at: usize) -> Refusal {
    let before = body.get(..at).unwrap_or(body);
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    let column = before.iter().rev().take_while(|byte| **byte != b'\n').count() + 1;
    Refusal::Other {
        status: StatusCode::BAD_REQUEST,
        kind: "Bad Request",
        says: format!(
            "JSON decode error: Expecting value: line {line} column {column} (char {at})"
        ),
        param: None,
    }
}
