//! What takes texts apart instead of going on with them: vectors, scores, classes (vLLM 0.32, `entrypoints/pooling`).

mod classify;
mod embeddings;
mod encoding;
mod forms;
mod inputs;
mod scores;

use http::StatusCode;
use serde_json::Value;

pub(super) use self::classify::answer as classify;
pub(super) use self::embeddings::{embeddings, pooling};
pub(super) use self::scores::{rerank, score};
use super::refusal::Refusal;
use crate::sim::call::{Call, EngineDied, Length};
use crate::sim::engine::{Finish, Flight, Job};
use crate::sim::node::unix_seconds;
use crate::sim::reply::Reply;
use crate::sim::tensor;
use crate::sim::text::quoted;

/// A request with a model and prompts, ready for the engine.
struct Pooled {
    /// With its prefix, as JSON within quotes.
    id: String,
    /// Seconds since 1970.
    created: u64,
    /// As JSON.
    model: String,
    /// Token ids of each prompt.
    prompts: Vec<Vec<u32>>,
}

impl Pooled {
    /// Takes the id of the call and the time of the moment.
    fn new(
        call: &Call,
        body: &Value,
        prefix: &str,
        (model, prompts): (String, Vec<Vec<u32>>),
    ) -> Self {
        let id = format!("{prefix}-{}", call.id_in(body));
        Self { id, created: unix_seconds(), model, prompts }
    }

    /// Hands the prompts to the engine.
    fn begin(&self, call: &Call) -> Flight {
        call.begin(&Job { prompt: self.prompts.concat(), answer: Vec::new() })
    }

    /// The answer in one piece, when the engine is done.
    async fn whole(&self, call: &Call, body: impl FnOnce() -> String) -> Result<Reply, EngineDied> {
        let length = Length { tokens: 1, finish: Finish::Stop };
        call.whole(self.begin(call), length, 0, |_| body()).await
    }

    /// An answer that lists `items`.
    fn list(&self, items: &[String]) -> String {
        let Self { id, created, model, .. } = self;
        let (items, tokens) = (items.join(","), self.tokens());
        format!(
            r#"{{"id":"{id}","object":"list","created":{created},"model":{model},"data":[{items}],"usage":{{"prompt_tokens":{tokens},"total_tokens":{tokens},"completion_tokens":0,"prompt_tokens_details":null,"completion_tokens_details":null}}}}"#
        )
    }

    /// Of all prompts.
    fn tokens(&self) -> usize {
        self.prompts.iter().map(Vec::len).sum()
    }
}

/// The model that answers, as JSON.
///
/// # Errors
/// The node does not serve it: these APIs say less of it than those that generate.
fn model(call: &Call, body: &Value) -> Result<String, Refusal> {
    match call.model(body) {
        Ok(model) => Ok(quoted(model.as_str())),
        Err(Refusal::UnknownModel { asked, .. }) => Err(Refusal::Other {
            status: StatusCode::NOT_FOUND,
            kind: "NotFoundError",
            says: format!("The model `{asked}` does not exist."),
            param: None,
        }),
        Err(other) => Err(other),
    }
}

/// A request that vLLM's handler refuses, without a parameter's name.
fn refused(says: impl Into<String>) -> Refusal {
    Refusal::Value { says: says.into(), param: None }
}
