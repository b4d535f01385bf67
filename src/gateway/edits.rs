//! What of a request's body is written anew for its upstream: the model's name, that the usage of a stream is to be told, or all
//! of it, for nodes of another dialect.

use http::Method;
use pingora_proxy::Session;

use super::Gateway;
use super::context::RequestContext;
use super::dialect::Translated;
use super::model::Named;
use crate::config::{Balance, Kind};
use crate::refusal::Refusal;
use crate::routing::choice::Chosen;
use crate::upstream::Upstream;
use crate::wire::paths;
use crate::wire::splice::Edit;
use crate::wire::usage::ask::Hidden;

/// How a body goes to one upstream.
#[derive(Default)]
pub(super) struct Edits {
    /// All that is changed in it.
    pub(super) edit: Option<Edit>,
    /// What of the usage that the answer tells its client did not ask for.
    pub(super) hidden: Option<Hidden>,
    /// The request with that edit in the dialect of its nodes, where that is another one.
    pub(super) translated: Option<Translated>,
}

impl Gateway {
    /// For the way that was chosen.
    ///
    /// # Errors
    /// Its nodes speak another dialect, in which there is no such request.
    pub(super) fn edits(
        &self,
        session: &Session,
        ctx: &RequestContext,
        chosen: &Chosen,
        named: &Named,
    ) -> Result<Edits, Refusal> {
        let mut edits = Edits { edit: rename(chosen, named)?, ..Edits::default() };
        if let (Some((ask, hidden)), Some(body)) = (ask(session, ctx, chosen, named), &ctx.body) {
            edits.edit = match (edits.edit, ask) {
                (Some(rename), Some(ask)) => Some(Edit::joined(&body.bytes, rename, ask)),
                (rename, ask) => rename.or(ask),
            };
            edits.hidden = Some(hidden);
        }
        let (request, upstream) = (session.req_header(), &chosen.route.upstream);
        if let Some(call) = upstream.call(&request.method, request.uri.path()) {
            let translated = self.translate(ctx, (upstream, call), edits.edit.as_ref())?;
            edits.translated = Some(translated);
        }
        Ok(edits)
    }
}

/// The new name of the model, as it is written into the body.
fn rename(chosen: &Chosen, named: &Named) -> Result<Option<Edit>, Refusal> {
    let Some(name) = &chosen.renamed else { return Ok(None) };
    Ok(match named {
        Named::Form(at) => at.clone().map(|at| Edit { at, new: name.as_str().as_bytes().to_vec() }),
        Named::Json(asked) => {
            let new = serde_json::to_vec(name.as_str()).map_err(|_| Refusal::Internal)?;
            asked.model_at.clone().map(|at| Edit { at, new })
        }
        Named::Nowhere => None,
    })
}

/// That the usage of a stream is to be told, where somebody needs it, and its upstream is of a kind that tells it.
fn ask(
    session: &Session,
    ctx: &RequestContext,
    chosen: &Chosen,
    named: &Named,
) -> Option<(Option<Edit>, Hidden)> {
    let (Named::Json(asked), Some(body)) = (named, &ctx.body) else { return None };
    let upstream = &chosen.route.upstream;
    let request = session.req_header();
    let may_tell = ctx.stream
        && request.method == Method::POST
        && paths::streams_choices(request.uri.path())
        && is_needed(ctx, upstream);
    let each = match upstream.kind {
        Kind::Vllm => true,
        Kind::OpenAi | Kind::Ollama => false,
        Kind::Generic => return None,
    };
    may_tell.then(|| asked.for_usage(&body.bytes, each))?
}

/// Somebody needs to know the answer's tokens: limits, the ledger, or what is thought of the nodes' caches.
pub(super) fn is_needed(ctx: &RequestContext, upstream: &Upstream) -> bool {
    ctx.is_metered || upstream.balance == Balance::PrefixAware
}
