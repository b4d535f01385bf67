//! `POST /api/embed`, and `POST /api/embeddings`, which was there before.

use std::time::{Duration, Instant};

use http::StatusCode;
use serde_json::Value;

use super::asked::Asked;
use super::body::{self, Fields};
use super::context;
use super::duration::keep_alive;
use super::go;
use super::names::{self, Missing};
use super::options::Options;
use super::refusal::{JSON, Refusal};
use super::run::{self, typed};
use crate::sim::call::{Call, Length};
use crate::sim::engine::{Finish, Flight, Job};
use crate::sim::reply::{self, Reply};
use crate::sim::tensor::{DIMENSIONS, shortened, vector};

/// Texts that are to become vectors.
pub(super) struct Texts {
    /// The model, its options and how long it stays.
    pub(super) asked: Asked,
    /// The texts.
    pub(super) input: Vec<String>,
    /// Numbers of a vector.
    pub(super) dimensions: usize,
}

/// Vectors, and what they took.
#[derive(Default)]
pub(super) struct Vectors {
    /// One for each text.
    pub(super) vectors: Vec<Vec<f32>>,
    /// Tokens of all texts.
    pub(super) tokens: usize,
    total: Duration,
    load: Duration,
}

/// `POST /api/embed`.
///
/// # Errors
/// It is refused.
pub(super) async fn embed(call: &Call) -> Result<Reply, Refusal> {
    let texts = read(call)?;
    let model = go::string(&texts.asked.model);
    let body = |all: &Vectors| {
        let vectors: Vec<_> = all.vectors.iter().map(|vector| numbers(vector)).collect();
        let mut body = format!(r#"{{"model":{model},"embeddings":[{}]"#, vectors.join(","));
        for (name, sum) in [
            ("total_duration", all.total.as_nanos()),
            ("load_duration", all.load.as_nanos()),
            ("prompt_eval_count", all.tokens as u128),
        ] {
            body += &sum_of(name, sum);
        }
        body + "}"
    };
    Ok(typed(texts.reply(call, Missing::Embed, body).await?, JSON))
}

/// `POST /api/embeddings`: one text, and numbers of 64 bits.
///
/// # Errors
/// It is refused.
pub(super) async fn embeddings(call: &Call) -> Result<Reply, Refusal> {
    let map = body::object(call, "EmbeddingRequest")?;
    let fields = Fields::new(&map, "EmbeddingRequest");
    let mut texts = model(&fields)?;
    let prompt = fields.text("prompt")?;
    texts.input.extend((!prompt.is_empty()).then(|| prompt.to_owned()));
    let body = |all: &Vectors| {
        let vector = all.vectors.first().map_or(&[][..], Vec::as_slice);
        let numbers: Vec<f64> = vector.iter().map(|number| f64::from(*number)).collect();
        format!(r#"{{"embedding":{}}}"#, Value::from(numbers))
    };
    Ok(typed(texts.reply(call, Missing::Embeddings, body).await?, JSON))
}

/// A vector as Go writes numbers of 32 bits: no digit more than needed.
pub(super) fn numbers(vector: &[f32]) -> String {
    let numbers: Vec<_> = vector.iter().map(ToString::to_string).collect();
    format!("[{}]", numbers.join(","))
}

/// The body of `/api/embed`.
fn read(call: &Call) -> Result<Texts, Refusal> {
    let map = body::object(call, "EmbedRequest")?;
    let fields = Fields::new(&map, "EmbedRequest");
    let texts = model(&fields)?;
    let dimensions = fields.whole("dimensions")?.unwrap_or_default();
    let no_truncate = fields.flag("truncate")? == Some(false);
    let input = input(fields.any("input"))?;
    let asked = Asked { no_truncate, ..texts.asked };
    Ok(Texts { asked, input, dimensions: dimensions_of(dimensions) })
}

/// The fields that both have.
fn model(fields: &Fields<'_>) -> Result<Texts, Refusal> {
    let model = fields.text("model")?.to_owned();
    let keep_alive = fields.any("keep_alive").map(keep_alive).transpose().map_err(Refusal::bad)?;
    let options = fields.fields("options", "map[string]interface {}")?;
    let options = options.cloned().unwrap_or_default();
    let asked = Asked { model, keep_alive, options, ..Asked::default() };
    Ok(Texts { asked, input: Vec::new(), dimensions: DIMENSIONS })
}

/// One text, or several.
///
/// # Errors
/// It is something else.
pub(super) fn input(input: Option<&Value>) -> Result<Vec<String>, Refusal> {
    let wrong = || Refusal::bad("invalid input type");
    match input {
        None => Ok(Vec::new()),
        Some(Value::String(text)) if text.is_empty() => Ok(Vec::new()),
        Some(Value::String(text)) => Ok(vec![text.clone()]),
        Some(Value::Array(items)) => {
            items.iter().map(|item| item.as_str().map(str::to_owned).ok_or_else(wrong)).collect()
        }
        Some(_) => Err(wrong()),
    }
}

/// How many numbers a vector has of which so many are asked for: never more than there are.
pub(super) fn dimensions_of(asked: i64) -> usize {
    usize::try_from(asked)
        .ok()
        .filter(|asked| (1..DIMENSIONS).contains(asked))
        .unwrap_or(DIMENSIONS)
}

impl Texts {
    /// The answer, which `body` writes of the vectors; without texts the model is only loaded.
    ///
    /// # Errors
    /// There is no such model, or a text is too long and must not be cut.
    pub(super) async fn reply(
        &self,
        call: &Call,
        missing: Missing,
        body: impl FnOnce(&Vectors) -> String,
    ) -> Result<Reply, Refusal> {
        let arrived = Instant::now();
        let model = names::find(call, &self.asked.model, missing)?;
        if self.input.is_empty() {
            run::load(call, &self.asked, &model).await?;
            return Ok(reply::json(StatusCode::OK, body(&Vectors::default())));
        }
        let options = Options::read(&self.asked.options, call.node.max_model_len, true)?;
        let mut prompts: Vec<_> = self.input.iter().map(|text| context::ids(text)).collect();
        let num_ctx = options.shape.num_ctx;
        if self.asked.no_truncate && prompts.iter().any(|ids| ids.len() > num_ctx) {
            return Err(Refusal::bad("the input length exceeds the context length"));
        }
        prompts.iter_mut().for_each(|ids| ids.truncate(num_ctx));
        let (name, keep_alive) = (model.name.full(), self.asked.keep_alive);
        let lease = call.node.loaded.take(name, options.shape, keep_alive);
        let job = Job { prompt: prompts.concat(), answer: Vec::new() };
        let flight = run::begin(call, &job, lease.ready)?;
        let body = |_: &Flight| {
            let of = |ids: &Vec<u32>| shortened(vector(ids), self.dimensions);
            let load = lease.ready.saturating_duration_since(arrived);
            body(&Vectors {
                vectors: prompts.iter().map(of).collect(),
                tokens: job.prompt.len(),
                total: arrived.elapsed(),
                load: load.max(Duration::from_nanos(1)),
            })
        };
        Ok(call.whole(flight, Length { tokens: 1, finish: Finish::Stop }, 0, body).await?)
    }
}

fn sum_of(name: &str, sum: u128) -> String {
    if sum == 0 { String::new() } else { format!(r#","{name}":{sum}"#) }
}
