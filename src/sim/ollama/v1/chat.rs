//! `POST /v1/chat/completions`.

use serde_json::{Map, Value};

use super::messages::turns;
use super::voice::{Path, Voice};
use super::{after, before, options, usage_asked};
use crate::sim::call::Call;
use crate::sim::ollama::asked::{Asked, Think};
use crate::sim::ollama::body::{self, Fields};
use crate::sim::ollama::chat::{check_others, written};
use crate::sim::ollama::names::{self, Missing};
use crate::sim::ollama::refusal::{Refusal, Stop};
use crate::sim::ollama::{go, run};
use crate::sim::reply::{Broken, Reply};

/// Answers a chat.
///
/// # Errors
/// The connection is to end before the first line.
pub(in crate::sim::ollama) async fn answer(call: &Call) -> Result<Reply, Broken> {
    match read(call) {
        Ok(read) => after(handle(call, read).await),
        Err(refusal) => Ok(before(refusal)),
    }
}

/// What was asked, not yet looked at by Ollama's own API.
struct Read {
    asked: Asked,
    /// Whether a stream tells of usage.
    usage: bool,
    /// `top_logprobs`
    others: i64,
}

async fn handle(call: &Call, Read { asked, usage, others }: Read) -> Result<Reply, Stop> {
    check_others(others)?;
    let model = names::find(call, &asked.model, Missing::Chat)?;
    asked.check(&model, "chat")?;
    let voice = Voice::new(call, Path::Chat, usage);
    run::answer(call, (&asked, &model), |options| written(&asked, options), voice).await
}

/// The request as one of Ollama's own.
fn read(call: &Call) -> Result<Read, Refusal> {
    let map = body::object(call, "ChatCompletionRequest")?;
    let fields = Fields::new(&map, "ChatCompletionRequest");
    let model = fields.text("model")?.to_owned();
    let messages = fields.list("messages", "[]openai.Message")?;
    let usage = usage_asked(&fields)?;
    let options = options(&fields, "float64")?;
    let tools = fields.list("tools", "[]api.Tool")?.to_vec();
    let others = fields.whole("top_logprobs")?.unwrap_or_default();
    let logprobs = fields.flag("logprobs")?.unwrap_or(false);
    let stream = fields.flag("stream")?.unwrap_or(false);
    if messages.is_empty() {
        return Err(Refusal::bad("[] is too short - 'messages'"));
    }
    let asked = Asked {
        model,
        turns: turns(messages)?,
        tools,
        format: format(&fields)?,
        options,
        think: think(&fields)?,
        logprobs: logprobs.then(|| usize::try_from(others).unwrap_or_default()),
        stream,
        ..Asked::default()
    };
    Ok(Read { asked, usage, others })
}

/// `"json"`, or the schema alone.
fn format(fields: &Fields<'_>) -> Result<Option<Value>, Refusal> {
    let Some(format) = fields.fields("response_format", "openai.ResponseFormat")? else {
        return Ok(None);
    };
    let format = Fields::new(format, "ResponseFormat");
    Ok(match format.text("type")?.trim().to_ascii_lowercase().as_str() {
        "json_object" => Some("json".into()),
        "json_schema" => {
            let schema: Option<&Map<String, Value>> =
                format.fields("json_schema", "openai.JsonSchema")?;
            schema.and_then(|schema| schema.get("schema")).filter(|of| !of.is_null()).cloned()
        }
        _ => None,
    })
}

/// How much the model is to think: levels that Ollama does not have are the nearest that it has.
fn think(fields: &Fields<'_>) -> Result<Option<Think>, Refusal> {
    let effort = match fields.fields("reasoning", "openai.Reasoning")? {
        Some(reasoning) => Fields::new(reasoning, "Reasoning").text("effort")?,
        None => fields.text("reasoning_effort")?,
    };
    Ok(Some(match effort {
        "" => return Ok(None),
        "none" => Think::Off,
        "minimal" => Think::Low,
        "xhigh" | "ultra" => Think::Max,
        other => Think::level(other).ok_or_else(|| {
            Refusal::bad(format!(
                r#"invalid reasoning value: {} (must be "minimal", "low", "medium", "high", "xhigh", "ultra", "max", or "none")"#,
                go::quote(other)
            ))
        })?,
    }))
}
