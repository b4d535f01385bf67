//! The prompts of a completion: a text, token ids, or a list of either.

use serde_json::Value;

use crate::sim::call::Call;
use crate::sim::tokens;
use crate::sim::vllm::refusal::Refusal;

/// Prompts of one request at most: the largest batches that benchmarks send. vLLM has no bound.
const PROMPTS_MAX: usize = 1_024;

/// One prompt.
pub(super) struct Prompt {
    pub(super) text: String,
    /// Their texts; joined they are the prompt.
    pub(super) tokens: Vec<String>,
}

impl Prompt {
    fn new(text: String) -> Self {
        let tokens = tokens::split(&text).map(str::to_owned).collect();
        Self { text, tokens }
    }

    /// The ids of its tokens.
    pub(super) fn ids(&self) -> impl Iterator<Item = u32> {
        self.tokens.iter().map(|token| tokens::id(token))
    }
}

/// Refuses a body without a prompt.
///
/// # Errors
/// There is none, or it is empty.
pub(super) fn check(body: &Value) -> Result<(), Refusal> {
    match body.get("prompt") {
        Some(Value::Array(_)) => Ok(()),
        Some(Value::String(prompt)) if !prompt.is_empty() => Ok(()),
        _ => {
            let says =
                "Either prompt or prompt_embeds must be provided and non-empty. (parameter=prompt)";
            Err(Refusal::value("prompt", says.to_owned()))
        }
    }
}

/// The prompts of a body.
///
/// # Errors
/// There is none, or there are too many.
pub(super) fn prompts(call: &Call, body: &Value) -> Result<Vec<Prompt>, Refusal> {
    let ids = |ids: &[Value]| call.node.vocabulary.text(ids.iter().filter_map(Value::as_u64));
    let prompts = match body.get("prompt") {
        Some(Value::String(prompt)) => vec![prompt.clone()],
        Some(Value::Array(items)) if items.first().is_some_and(Value::is_u64) => vec![ids(items)],
        Some(Value::Array(items)) => items
            .iter()
            .filter_map(|item| match item {
                Value::String(prompt) => Some(prompt.clone()),
                Value::Array(items) => Some(ids(items)),
                _ => None,
            })
            .collect(),
        _ => Vec::new(),
    };
    let says = match prompts.len() {
        0 => "You must pass at least one prompt".to_owned(),
        1..=PROMPTS_MAX => return Ok(prompts.into_iter().map(Prompt::new).collect()),
        many => format!("at most {PROMPTS_MAX} prompts, got {many}."),
    };
    Err(Refusal::Value { says, param: None })
}
