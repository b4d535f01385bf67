//! `POST /api/generate`.

use super::asked::Asked;
use super::body::{self, Fields};
use super::chat::{common, nothing};
use super::context;
use super::names::{self, Missing};
use super::native::{Native, Path};
use super::options::Options;
use super::refusal::{Refusal, Stop};
use super::run::{self, Written};
use crate::sim::call::Call;
use crate::sim::prompt::{IMAGE, SYSTEM, conversation};
use crate::sim::reply::Reply;

/// What goes on from a prompt.
#[derive(Default)]
pub(super) struct Prompted {
    /// Its last turn is the prompt.
    pub(super) asked: Asked,
    /// The prompt is not set between marks.
    pub(super) raw: bool,
    /// Tokens before it.
    pub(super) context: Vec<u32>,
    /// The text is to fill a gap.
    pub(super) fills: bool,
}

/// Goes on from a prompt; an empty one loads the model, or lets go of it.
///
/// # Errors
/// It is refused, or the connection is to end before the first line.
pub(super) async fn answer(call: &Call) -> Result<Reply, Stop> {
    let prompted = read(call)?;
    let asked = &prompted.asked;
    let model = names::find(call, &asked.model, Missing::Generate)?;
    let empty = asked.turns.is_empty();
    if empty && asked.keep_alive.is_some_and(|time| time.is_zero()) {
        call.node.loaded.expire(&model.name.full());
        return Ok(nothing(asked, Path::Generate, "unload"));
    }
    asked.check(&model, "generate")?;
    if prompted.fills {
        return Err(model.cannot("insert").into());
    }
    if empty {
        run::load(call, asked, &model).await?;
        return Ok(nothing(asked, Path::Generate, "load"));
    }
    let voice = Native::new(Path::Generate);
    run::answer(call, (asked, &model), |options| prompted.written(options), voice).await
}

impl Prompted {
    /// The prompt in tokens.
    ///
    /// # Errors
    /// It is too long, and must not be cut.
    pub(super) fn written(&self, options: &Options) -> Result<Written, Refusal> {
        let Self { asked, raw, context, .. } = self;
        let said = match asked.turns.last() {
            Some((_, text)) if *raw => context::ids(text),
            _ => conversation(None, &asked.turns).ids(),
        };
        let ids = [context.as_slice(), &said].concat();
        Ok(Written { ids: context::fitted(ids, options, asked.no_truncate)?, told: !raw })
    }
}

fn read(call: &Call) -> Result<Prompted, Refusal> {
    let map = body::object(call, "GenerateRequest")?;
    let fields = Fields::new(&map, "GenerateRequest");
    let model = fields.text("model")?.to_owned();
    let prompt = fields.text("prompt")?;
    let (system, template) = (fields.text("system")?, fields.text("template")?);
    let raw = fields.flag("raw")?.unwrap_or(false);
    let context = fields.list("context", "[]int")?;
    let images = std::iter::repeat_n(IMAGE, fields.images("images")?);
    if raw && !(system.is_empty() && template.is_empty() && context.is_empty()) {
        return Err(Refusal::bad("raw mode does not support template, system, or context"));
    }
    let mut turns = Vec::new();
    if !prompt.is_empty() {
        if !system.is_empty() {
            turns.push((SYSTEM.to_owned(), system.to_owned()));
        }
        let text = [prompt].into_iter().chain(images).collect::<Vec<_>>().join("\n");
        turns.push(("user".to_owned(), text));
    }
    let context = context.iter().filter_map(|id| u32::try_from(id.as_u64()?).ok()).collect();
    let fills = !fields.text("suffix")?.is_empty();
    let asked = common(&fields, Asked { model, turns, ..Asked::default() })?;
    Ok(Prompted { asked, raw, context, fills })
}
