//! `POST /api/chat`.

use http::StatusCode;
use serde_json::{Map, Value};

use super::asked::{Asked, Think};
use super::body::{self, Fields};
use super::context;
use super::duration::keep_alive;
use super::names::{self, Missing};
use super::native::{Native, Path};
use super::options::Options;
use super::refusal::{JSON, Refusal, Stop};
use super::run::{self, Written, typed};
use crate::sim::call::Call;
use crate::sim::instance::python_json;
use crate::sim::prompt::{IMAGE, Turn};
use crate::sim::reply::{self, Reply};
use crate::sim::tools::Called;

/// Tokens beside each at most.
const TOP_LOGPROBS_MAX: i64 = 20;

/// Answers a chat; one without messages loads the model, or lets go of it.
///
/// # Errors
/// It is refused, or the connection is to end before the first line.
pub(super) async fn answer(call: &Call) -> Result<Reply, Stop> {
    let map = body::object(call, "ChatRequest")?;
    let asked = read(&map)?;
    let model = names::find(call, &asked.model, Missing::Chat)?;
    let unload = asked.turns.is_empty() && asked.keep_alive.is_some_and(|time| time.is_zero());
    if unload {
        call.node.loaded.expire(&model.name.full());
        return Ok(nothing(&asked, Path::Chat, "unload"));
    }
    asked.check(&model, "chat")?;
    if asked.turns.is_empty() {
        run::load(call, &asked, &model).await?;
        return Ok(nothing(&asked, Path::Chat, "load"));
    }
    run::answer(call, (&asked, &model), |options| written(&asked, options), Native::new(Path::Chat))
        .await
}

/// The prompt of a chat.
///
/// # Errors
/// It is too long, and must not be cut.
pub(super) fn written(asked: &Asked, options: &Options) -> Result<Written, Refusal> {
    let num_ctx = if asked.no_truncate { usize::MAX } else { options.shape.num_ctx };
    let ids = context::chat(&asked.tools, &asked.turns, num_ctx);
    Ok(Written { ids: context::fitted(ids, options, asked.no_truncate)?, told: false })
}

/// What is told when a model was only loaded or let go: never a stream.
pub(super) fn nothing(asked: &Asked, path: Path, reason: &str) -> Reply {
    let body = Native::new(path).nothing(&asked.model, reason);
    typed(reply::json(StatusCode::OK, body), JSON)
}

fn read(map: &Map<String, Value>) -> Result<Asked, Refusal> {
    let fields = Fields::new(map, "ChatRequest");
    let model = fields.text("model")?.to_owned();
    let messages = fields.list("messages", "[]api.Message")?;
    let turns = messages.iter().map(turn).collect::<Result<_, _>>()?;
    let tools = fields.list("tools", "api.Tools")?.to_vec();
    common(&fields, Asked { model, turns: context::joined(turns), tools, ..Asked::default() })
}

/// What `/api/chat` and `/api/generate` have in common.
///
/// # Errors
/// A field has another type, or makes no sense.
pub(super) fn common(fields: &Fields<'_>, asked: Asked) -> Result<Asked, Refusal> {
    let others = fields.whole("top_logprobs")?.unwrap_or_default();
    check_others(others)?;
    let keep_alive = fields.any("keep_alive").map(keep_alive).transpose().map_err(Refusal::bad)?;
    let options = fields.fields("options", "map[string]interface {}")?;
    let logprobs = fields.flag("logprobs")?.unwrap_or(false);
    Ok(Asked {
        format: fields.any("format").cloned(),
        options: options.cloned().unwrap_or_default(),
        keep_alive,
        think: Think::read(fields.any("think"))?,
        no_truncate: fields.flag("truncate")? == Some(false),
        no_shift: fields.flag("shift")? == Some(false),
        logprobs: logprobs.then(|| usize::try_from(others).unwrap_or_default()),
        // Streams are what Ollama's own API does unless it is told not to.
        stream: fields.flag("stream")?.unwrap_or(true),
        ..asked
    })
}

/// Checks `top_logprobs`, whether probabilities are asked for or not.
///
/// # Errors
/// It is less than none, or too many.
pub(super) fn check_others(others: i64) -> Result<(), Refusal> {
    if (0..=TOP_LOGPROBS_MAX).contains(&others) {
        return Ok(());
    }
    Err(Refusal::bad("top_logprobs must be between 0 and 20"))
}

/// Role and text of a message: its content, its images, its calls, one a line.
fn turn(message: &Value) -> Result<Turn, Refusal> {
    let fields = Fields::of(message, "Alias")?;
    let content = fields.text("content")?;
    let mut parts = vec![content.to_owned()];
    fields.text("thinking")?;
    parts.extend(std::iter::repeat_n(IMAGE.to_owned(), fields.images("images")?));
    for call in fields.list("tool_calls", "[]api.ToolCall")? {
        let call = Fields::of(call, "ToolCall")?;
        let Some(function) = call.fields("function", "api.ToolCallFunction")? else { continue };
        let function = Fields::new(function, "ToolCallFunction");
        let arguments = function.fields("arguments", "api.ToolCallFunctionArguments")?;
        let arguments = Value::from(arguments.cloned().unwrap_or_default());
        parts.push(Called::with(function.text("name")?, &python_json(&arguments)).text());
    }
    parts.retain(|part| !part.is_empty());
    Ok((fields.text("role")?.to_ascii_lowercase(), parts.join("\n")))
}
