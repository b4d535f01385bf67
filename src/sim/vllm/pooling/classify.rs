//! `POST /classify`, as vLLM 0.32 answers it.

use super::tensor::{CLASSES, Tensor, classes};
use super::{Pooled, forms, inputs, model};
use crate::sim::call::Call;
use crate::sim::reply::Reply;
use crate::sim::vllm::refusal::Refusal;
use crate::sim::vllm::schema::form_of;

/// The likeliest class of each input, and how likely all of them are.
///
/// # Errors
/// The request is refused.
pub(in crate::sim::vllm) async fn answer(call: &Call) -> Result<Reply, Refusal> {
    let body = call.json()?;
    form_of(&body, &forms::CLASSIFY)?;
    let model = model(call, &body)?;
    let prompts = inputs::prompts(call, &body)?;
    let pooled = Pooled::new(call, &body, "classify", (model, prompts));
    let item = |(index, ids): (usize, &Vec<u32>)| {
        let probabilities = classes(ids);
        let label = CLASSES[usize::from(probabilities[1] > probabilities[0])];
        let (probabilities, count) = (Tensor::Row(probabilities).json(), CLASSES.len());
        format!(
            r#"{{"index":{index},"label":"{label}","probs":{probabilities},"num_classes":{count}}}"#
        )
    };
    let items = || pooled.prompts.iter().enumerate().map(item).collect::<Vec<_>>();
    Ok(pooled.whole(call, || pooled.list(&items())).await?)
}
