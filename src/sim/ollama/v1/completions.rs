//! `POST /v1/completions`.

use http::StatusCode;
use serde_json::Value;

use super::voice::{Path, Voice};
use super::{Refusal, after, before, options, usage_asked};
use crate::sim::call::Call;
use crate::sim::ollama::asked::Asked;
use crate::sim::ollama::body::{self, Fields};
use crate::sim::ollama::generate::Prompted;
use crate::sim::ollama::names::{self, Missing};
use crate::sim::ollama::refusal::Stop;
use crate::sim::ollama::run::{self, typed};
use crate::sim::reply::{self, Broken, Reply};

/// Goes on from a prompt.
///
/// # Errors
/// The connection is to end before the first line.
pub(in crate::sim::ollama) async fn answer(call: &Call) -> Result<Reply, Broken> {
    match read(call) {
        Ok((prompted, usage)) => after(handle(call, prompted, usage).await),
        Err(refusal) => Ok(before(refusal)),
    }
}

async fn handle(call: &Call, prompted: Prompted, usage: bool) -> Result<Reply, Stop> {
    let asked = &prompted.asked;
    let model = names::find(call, &asked.model, Missing::Generate)?;
    asked.check(&model, "generate")?;
    if prompted.fills {
        return Err(model.cannot("insert").into());
    }
    let voice = Voice::new(call, Path::Completions, usage);
    if asked.turns.is_empty() {
        run::load(call, asked, &model).await?;
        let (body, content_type) = voice.loaded(&asked.model, asked.stream);
        return Ok(typed(reply::json(StatusCode::OK, body), content_type));
    }
    run::answer(call, (asked, &model), |options| prompted.written(options), voice).await
}

fn read(call: &Call) -> Result<(Prompted, bool), Refusal> {
    let map = body::object(call, "CompletionRequest")?;
    let fields = Fields::new(&map, "CompletionRequest");
    let model = fields.text("model")?.to_owned();
    let prompt = fields.text("prompt")?;
    let usage = usage_asked(&fields)?;
    if let Some(Value::Array(stops)) = fields.any("stop")
        && let Some(other) = stops.iter().find(|stop| !stop.is_string())
    {
        let kind = super::messages::go_kind(Some(other));
        return Err(Refusal::bad(format!("invalid type for 'stop' field: {kind}")));
    }
    let turn = ("user".to_owned(), prompt.to_owned());
    // Probabilities are asked for in vain: the answer does not tell them.
    fields.whole("logprobs")?;
    let asked = Asked {
        model,
        turns: if prompt.is_empty() { Vec::new() } else { vec![turn] },
        options: options(&fields, "float32")?,
        stream: fields.flag("stream")?.unwrap_or(false),
        ..Asked::default()
    };
    let fills = !fields.text("suffix")?.is_empty();
    Ok((Prompted { asked, fills, ..Prompted::default() }, usage))
}
