//! The API like OpenAI's, which Ollama answers through its own: each request is turned into one of those, and its answer
//! back.

mod chat;
mod completions;
mod embeddings;
mod messages;
mod models;
mod voice;

use serde_json::{Map, Value};

pub(super) use self::chat::answer as chat;
pub(super) use self::completions::answer as completions;
pub(super) use self::embeddings::answer as embeddings;
pub(super) use self::models::{list, retrieve};
use super::body::Fields;
use super::refusal::{Refusal, Shape, Stop};
use crate::sim::reply::{Broken, Reply};

/// A refusal of what reads a request: no handler has seen it.
fn before(refusal: Refusal) -> Reply {
    refusal.reply(Shape::Before)
}

/// What a handler answered, a refusal among it.
fn after(answered: Result<Reply, Stop>) -> Result<Reply, Broken> {
    match answered {
        Ok(reply) => Ok(reply),
        Err(Stop::Refuse(refusal)) => Ok(refusal.reply(Shape::After)),
        Err(Stop::Break) => Err(Broken),
    }
}

/// `include_usage` of `stream_options`.
fn usage_asked(fields: &Fields<'_>) -> Result<bool, Refusal> {
    let options = fields.fields("stream_options", "openai.StreamOptions")?;
    let asked = options.map(|map| Fields::new(map, "StreamOptions").flag("include_usage"));
    Ok(asked.transpose()?.flatten().unwrap_or(false))
}

/// `options` for what a request says of sampling. What it does not say is 1, and not what the model has.
fn options(fields: &Fields<'_>, float: &str) -> Result<Map<String, Value>, Refusal> {
    let mut options = Map::new();
    let mut set = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            options.insert(name.to_owned(), value);
        }
    };
    set("num_predict", fields.whole("max_tokens")?.map(Value::from));
    set("seed", fields.whole("seed")?.map(Value::from));
    for name in ["temperature", "top_p"] {
        set(name, Some(fields.number(name, float)?.unwrap_or(1.0).into()));
    }
    for name in ["frequency_penalty", "presence_penalty"] {
        set(name, fields.number(name, float)?.map(Value::from));
    }
    let stop = match fields.any("stop") {
        Some(Value::String(stop)) => Some(vec![Value::from(stop.as_str())]),
        Some(Value::Array(stops)) => {
            Some(stops.iter().filter(|stop| stop.is_string()).cloned().collect())
        }
        _ => None,
    };
    set("stop", stop.map(Value::from));
    Ok(options)
}
