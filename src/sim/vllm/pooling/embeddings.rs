//! `POST /v1/embeddings` and `POST /pooling`, as vLLM 0.32 answers them.

use serde_json::Value;

use super::encoding::Encoding;
use super::tensor::{DIMENSIONS, Tensor, classes, shortened, vector};
use super::{Pooled, forms, inputs, model, refused};
use crate::sim::call::Call;
use crate::sim::reply::Reply;
use crate::sim::vllm::refusal::Refusal;
use crate::sim::vllm::schema::{form_of, whole};

/// What `/pooling` can make of a prompt here.
const TASKS: &str = "('embed', 'token_embed', 'classify', 'token_classify')";

/// A vector for each input.
///
/// # Errors
/// The request is refused.
pub(in crate::sim::vllm) async fn embeddings(call: &Call) -> Result<Reply, Refusal> {
    let mut body = call.json()?;
    check_removed(&body)?;
    as_messages(&mut body);
    form_of(&body, &forms::EMBEDDINGS)?;
    let encoding = Encoding::of(&body)?;
    let model = model(call, &body)?;
    let prompts = inputs::prompts(call, &body)?;
    let dimensions = dimensions(&body, &model)?;
    let pooled = Pooled::new(call, &body, "embd", (model, prompts));
    let of_prompt = |ids: &Vec<u32>| Tensor::Row(shortened(vector(ids), dimensions));
    let tensors = pooled.prompts.iter().map(of_prompt).collect();
    Ok(encoding.reply(call, &pooled, tensors, ("embedding", "embedding")).await?)
}

/// What the pooler makes of each input: a vector, or what `task` names.
///
/// # Errors
/// The request is refused.
pub(in crate::sim::vllm) async fn pooling(call: &Call) -> Result<Reply, Refusal> {
    let body = call.json()?;
    check_removed(&body)?;
    let form = form_of(&body, &forms::POOLING)?;
    let encoding = Encoding::of(&body)?;
    if body.get("dimensions").is_some_and(|dimensions| !dimensions.is_null()) {
        let says = "dimensions is currently not supported (parameter=dimensions)";
        return Err(Refusal::value("dimensions", says.to_owned()));
    }
    let task = body.get("task").and_then(Value::as_str).unwrap_or("embed");
    let pool: fn(&[u32]) -> Tensor = match task {
        _ if form == 2 => return Err(no_plugin()),
        "plugin" => return Err(no_plugin()),
        "embed" => |ids| Tensor::Row(vector(ids)),
        "token_embed" => |ids| Tensor::Rows(ids.iter().map(|id| vector(&[*id])).collect()),
        "classify" => |ids| Tensor::Row(classes(ids)),
        "token_classify" => |ids| Tensor::Rows(ids.iter().map(|id| classes(&[*id])).collect()),
        other => {
            let says =
                format!("Unsupported task: '{other}' Supported tasks: {TASKS} (parameter=task)");
            return Err(Refusal::value("task", says));
        }
    };
    let model = model(call, &body)?;
    let prompts = inputs::prompts(call, &body)?;
    let pooled = Pooled::new(call, &body, "pooling", (model, prompts));
    let tensors = pooled.prompts.iter().map(|ids| pool(ids)).collect();
    Ok(encoding.reply(call, &pooled, tensors, ("pooling", "data")).await?)
}

fn no_plugin() -> Refusal {
    let says = "No IOProcessor plugin installed. Please refer to the documentation and to the \
                'prithvi_geospatial_mae_io_processor' offline inference example for more details. (parameter=task)";
    Refusal::value("task", says.to_owned())
}

/// A chat may be called `input`, too.
fn as_messages(body: &mut Value) {
    if let Some(fields) = body.as_object_mut()
        && !fields.contains_key("messages")
        && fields.get("input").is_some_and(inputs::is_conversation)
        && let Some(messages) = fields.remove("input")
    {
        fields.insert("messages".to_owned(), messages);
    }
}

/// How many numbers each vector is to have.
fn dimensions(body: &Value, model: &str) -> Result<usize, Refusal> {
    let Some(asked) = body.get("dimensions").and_then(whole) else { return Ok(DIMENSIONS) };
    match usize::try_from(asked) {
        Ok(dimensions @ 1..=DIMENSIONS) => Ok(dimensions),
        _ => Err(refused(format!(
            "Model '{}' only supports dimensions in range [1, {DIMENSIONS}], got {asked}.",
            model.trim_matches('"')
        ))),
    }
}

/// Refuses what older versions knew.
fn check_removed(body: &Value) -> Result<(), Refusal> {
    if body.get("normalize").is_none() {
        return Ok(());
    }
    let says =
        "Parameter `normalize` was removed; use `use_activation` instead. (parameter=normalize)";
    Err(Refusal::value("normalize", says.to_owned()))
}
