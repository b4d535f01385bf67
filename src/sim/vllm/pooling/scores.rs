//! `POST /score` and `POST /rerank`, as vLLM 0.32 answers them: how much alike two texts are.

use serde_json::Value;

use super::tensor::{likeness, vector};
use super::{Pooled, forms, inputs, model, refused};
use crate::sim::call::Call;
use crate::sim::reply::Reply;
use crate::sim::text::quoted;
use crate::sim::vllm::refusal::Refusal;
use crate::sim::vllm::schema::{form_of, whole};

/// Texts to be compared: one with one, one with each, or each with its own.
struct Pairs<'b> {
    one: Vec<&'b str>,
    other: Vec<&'b str>,
}

impl<'b> Pairs<'b> {
    /// # Errors
    /// They make no pairs, or are not texts alone.
    fn of(one: &'b Value, other: &'b Value) -> Result<Self, Refusal> {
        let pairs = Self { one: texts(one)?, other: texts(other)? };
        let says = match (pairs.one.len(), pairs.other.len()) {
            (2.., other) if other != pairs.one.len() => {
                "Input lengths must be either 1:1, 1:N or N:N"
            }
            (0, _) => "At least one text element must be given",
            (_, 0) => "At least one text_pair element must be given",
            _ => return Ok(pairs),
        };
        Err(refused(says))
    }

    /// All of them, each counted once.
    fn prompts(&self) -> Vec<Vec<u32>> {
        self.one.iter().chain(&self.other).map(|text| inputs::of_text(text)).collect()
    }

    /// The score of each pair; `prompts` are those of [`Pairs::prompts`].
    fn scores(&self, prompts: &[Vec<u32>]) -> Vec<f64> {
        let vectors: Vec<_> = prompts.iter().map(|ids| vector(ids)).collect();
        let (one, other) = vectors.split_at(self.one.len());
        one.iter().cycle().zip(other).map(|(one, other)| likeness(one, other)).collect()
    }
}

/// How much alike the texts of each pair are.
///
/// # Errors
/// The request is refused.
pub(in crate::sim::vllm) async fn score(call: &Call) -> Result<Reply, Refusal> {
    let body = call.json()?;
    let (one, other) = forms::SIDES[form_of(&body, &forms::SCORE)?];
    let model = model(call, &body)?;
    let pairs = Pairs::of(&body[one], &body[other])?;
    let prompts = inputs::checked(call, &body, pairs.prompts())?;
    let pooled = Pooled::new(call, &body, "score", (model, prompts));
    let item = |(index, score)| {
        format!(r#"{{"index":{index},"object":"score","score":{}}}"#, Value::from(score))
    };
    let items = || Vec::from_iter(pairs.scores(&pooled.prompts).into_iter().enumerate().map(item));
    Ok(pooled.whole(call, || pooled.list(&items())).await?)
}

/// The documents that are most like the query, the best first.
///
/// # Errors
/// The request is refused.
pub(in crate::sim::vllm) async fn rerank(call: &Call) -> Result<Reply, Refusal> {
    let body = call.json()?;
    form_of(&body, &forms::RERANK)?;
    let model = model(call, &body)?;
    let pairs = Pairs::of(&body["query"], &body["documents"])?;
    let prompts = inputs::checked(call, &body, pairs.prompts())?;
    let pooled = Pooled::new(call, &body, "score", (model, prompts));
    let best = body.get("top_n").and_then(whole).and_then(|n| usize::try_from(n).ok());
    Ok(pooled.whole(call, || ranking(&pooled, &pairs, best.unwrap_or(0))).await?)
}

/// The first `best` documents; all for 0.
fn ranking(pooled: &Pooled, pairs: &Pairs<'_>, best: usize) -> String {
    let mut ranked: Vec<_> = pairs.scores(&pooled.prompts).into_iter().enumerate().collect();
    // Stable: of two that are alike the one that came first stays first.
    ranked.sort_by(|(_, one), (_, other)| other.total_cmp(one));
    if best > 0 {
        ranked.truncate(best);
    }
    let result = |(index, score): (usize, f64)| {
        let (text, score) = (quoted(pairs.other[index]), Value::from(score));
        format!(
            r#"{{"index":{index},"document":{{"text":{text},"multi_modal":null}},"relevance_score":{score}}}"#
        )
    };
    let results: Vec<_> = ranked.into_iter().map(result).collect();
    let (results, tokens) = (results.join(","), pooled.tokens());
    let Pooled { id, model, .. } = pooled;
    format!(
        r#"{{"id":"{id}","model":{model},"usage":{{"prompt_tokens":{tokens},"total_tokens":{tokens}}},"results":[{results}]}}"#
    )
}

/// A text, or several.
///
/// # Errors
/// There are pictures among them.
fn texts(side: &Value) -> Result<Vec<&str>, Refusal> {
    let items = side.as_array().map_or(std::slice::from_ref(side), Vec::as_slice);
    let text = items.iter().map(Value::as_str).collect::<Option<_>>();
    text.ok_or_else(|| refused("MultiModalParam is not supported for SimulatedModel"))
}
