//! `POST /v1/embeddings`.

use data_encoding::BASE64;
use serde_json::Value;

use super::{Refusal, after, before};
use crate::sim::call::Call;
use crate::sim::ollama::asked::Asked;
use crate::sim::ollama::body::{self, Fields};
use crate::sim::ollama::embed::{self, Texts, Vectors};
use crate::sim::ollama::go;
use crate::sim::ollama::names::Missing;
use crate::sim::ollama::refusal::{PLAIN_JSON, Stop};
use crate::sim::ollama::run::typed;
use crate::sim::reply::{Broken, Reply};

/// A vector for each text.
///
/// # Errors
/// The connection is to end without an answer.
pub(in crate::sim::ollama) async fn answer(call: &Call) -> Result<Reply, Broken> {
    match read(call) {
        Ok(read) => after(handle(call, read).await),
        Err(refusal) => Ok(before(refusal)),
    }
}

/// What was asked, not yet looked at by Ollama's own API.
struct Read {
    model: String,
    input: Value,
    dimensions: i64,
    base64: bool,
}

fn read(call: &Call) -> Result<Read, Refusal> {
    let map = body::object(call, "EmbedRequest")?;
    let fields = Fields::new(&map, "EmbedRequest");
    let (model, dimensions) = (fields.text("model")?, fields.whole("dimensions")?);
    let format = fields.text("encoding_format")?;
    let base64 = format.eq_ignore_ascii_case("base64");
    if !format.is_empty() && !base64 && !format.eq_ignore_ascii_case("float") {
        return Err(Refusal::bad(format!(
            "Invalid value for 'encoding_format' = {format}. Supported values: ['float', 'base64']."
        )));
    }
    let input = match fields.any("input") {
        Some(Value::String(text)) if text.is_empty() => Value::from(vec![""]),
        Some(Value::Array(items)) if items.is_empty() => return Err(Refusal::bad("invalid input")),
        Some(input) => input.clone(),
        None => return Err(Refusal::bad("invalid input")),
    };
    let dimensions = dimensions.unwrap_or_default();
    Ok(Read { model: model.to_owned(), input, dimensions, base64 })
}

async fn handle(call: &Call, read: Read) -> Result<Reply, Stop> {
    let Read { model, input, dimensions, base64 } = read;
    let texts = Texts {
        asked: Asked { model, ..Asked::default() },
        input: embed::input(Some(&input))?,
        dimensions: embed::dimensions_of(dimensions),
    };
    let name = go::string(&texts.asked.model);
    let body = |all: &Vectors| {
        let item = |(index, vector): (usize, &Vec<f32>)| {
            let vector = if base64 {
                let bytes: Vec<u8> = vector.iter().flat_map(|n| n.to_le_bytes()).collect();
                format!("\"{}\"", BASE64.encode(&bytes))
            } else {
                embed::numbers(vector)
            };
            format!(r#"{{"object":"embedding","embedding":{vector},"index":{index}}}"#)
        };
        let data: Vec<_> = all.vectors.iter().enumerate().map(item).collect();
        let (data, tokens) = (data.join(","), all.tokens);
        format!(
            r#"{{"object":"list","data":[{data}],"model":{name},"usage":{{"prompt_tokens":{tokens},"total_tokens":{tokens}}}}}"#
        ) + "\n"
    };
    Ok(typed(texts.reply(call, Missing::Embed, body).await?, PLAIN_JSON))
}
