//! What of a request's body is written anew for its upstream: the model's name, and that the usage of a stream is to be told.

use http::Method;
use pingora_proxy::Session;

use super::context::RequestContext;
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
}

impl Edits {
    /// For the way that was chosen.
    ///
    /// # Errors
    /// None that a request can cause.
    pub(super) fn of(
        session: &Session,
        ctx: &RequestContext,
        chosen: &Chosen,
        named: &Named,
    ) -> Result<Self, Refusal> {
        let rename = rename(chosen, named)?;
        let (Some((ask, hidden)), Some(body)) = (ask(session, ctx, chosen, named), &ctx.body)
        else {
            return Ok(Self { edit: rename, hidden: None });
        };
        let edit = match (rename, ask) {
            (Some(rename), Some(ask)) => Some(Edit::joined(&body.bytes, rename, ask)),
            (rename, ask) => rename.or(ask),
        };
        Ok(Self { edit, hidden: Some(hidden) })
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
        Kind::OpenAi => false,
        Kind::Generic => return None,
    };
    may_tell.then(|| asked.for_usage(&body.bytes, each))?
}

/// Somebody needs to know the answer's tokens: limits, the ledger, or what is thought of the nodes' caches.
pub(super) fn is_needed(ctx: &RequestContext, upstream: &Upstream) -> bool {
    ctx.is_metered || upstream.balance == Balance::PrefixAware
}
