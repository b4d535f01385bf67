//! Which model a request names, whether its key may use it, and where it goes.

use std::ops::Range;
use std::sync::Arc;

use http::{Method, header};
use pingora_proxy::Session;

use super::Gateway;
use super::context::RequestContext;
use super::reply::Stop;
use crate::access::keys::Key;
use crate::access::permission;
use crate::names::{MODEL_BYTES_MAX, ModelName};
use crate::refusal::Refusal;
use crate::routing::choice::Chosen;
use crate::routing::table::Route;
use crate::wire::head::Unreadable;
use crate::wire::paths::{self, BodyKind};
use crate::wire::usage::ask::Asked;
use crate::wire::{form, head};

/// Where in the body something may be changed, and how a new name of the model is written there.
pub(super) enum Named {
    Json(Asked),
    Form(Option<Range<usize>>),
    /// The gateway does not understand it.
    Nowhere,
}

/// Reads the model's name out of the body.
pub(super) async fn read_named(
    session: &Session,
    ctx: &mut RequestContext,
    (path, key): (&str, &Key),
) -> Result<Named, Stop> {
    let body = ctx.body.as_ref().map(|held| held.bytes.clone()).unwrap_or_default();
    let kind = paths::body_kind(path);
    let has_body = session.req_header().method == Method::POST || !body.is_empty();
    let mut named = Named::Nowhere;
    if kind == BodyKind::Form {
        let mut types = session.req_header().headers.get_all(header::CONTENT_TYPE).iter();
        let content_type = types.next().and_then(|value| value.to_str().ok()).unwrap_or_default();
        if types.next().is_some() {
            return Err(form_refusal(form::Unreadable::Malformed).into());
        }
        let head = form::read(content_type, &body).await.map_err(form_refusal)?;
        ctx.model = head.model.map(ModelName::from);
        named = Named::Form(head.model_at);
    } else if has_body {
        match head::read(&body) {
            Ok(head) => {
                ctx.model = head.model.as_deref().map(ModelName::from);
                ctx.stream = head.stream;
                ctx.stored.read(&head)?;
                named = Named::Json(head.asked);
                ctx.prompt = head.prompt;
                ctx.max_tokens = head.max_tokens;
                ctx.has_choices = head.has_choices;
            }
            // Bytes of another kind may have any number of brackets.
            Err(Unreadable::Malformed(_) | Unreadable::TooDeep) if kind == BodyKind::Opaque => {}
            Err(why) => return Err(json_refusal(&why).into()),
        }
    }
    if ctx.model.as_ref().is_some_and(|model| !model.is_sound()) {
        ctx.model = None;
        return Err(unsound_model().into());
    }
    let asks = (path, ctx.stored.is_asked(), !body.is_empty());
    permission::demand_model(key, ctx.model.as_ref(), asks)?;
    Ok(named)
}

fn json_refusal(why: &Unreadable) -> Refusal {
    let code = match why {
        Unreadable::Duplicate(_) => "duplicate_field",
        _ => "invalid_json",
    };
    let param = matches!(why, Unreadable::ModelNotText).then_some("model");
    Refusal::Malformed { code, message: why.to_string().into(), param }
}

fn unsound_model() -> Refusal {
    Refusal::Malformed {
        code: "invalid_model",
        message: format!(
            "The field `model` must have at most {MODEL_BYTES_MAX} bytes, and no control characters."
        )
        .into(),
        param: Some("model"),
    }
}

fn form_refusal(why: form::Unreadable) -> Refusal {
    match why {
        form::Unreadable::Malformed => {
            Refusal::malformed("invalid_form", "The request body is no multipart form.")
        }
        form::Unreadable::Duplicate => {
            Refusal::malformed("duplicate_field", "The field `model` is in the form twice.")
        }
    }
}

impl Gateway {
    /// Which upstream, and those that may take its place; whether the key may use the model there. Only those routes that lead `there`, where the request
    /// is about a stored response.
    pub(super) async fn choose(
        &self,
        ctx: &RequestContext,
        (candidates, there): (&[Arc<Route>], Option<&[Arc<Route>]>),
        key: &Key,
    ) -> Result<(Chosen, Vec<Chosen>), Stop> {
        let asked = ctx.model.as_ref().map(ModelName::as_str);
        let choices = &ctx.snapshot.choices;
        let chosen = match there {
            Some(there) if candidates.len() > 1 => {
                choices.choose_there(there, asked, &self.client).await
            }
            // With one candidate the node judges the model.
            _ => choices.choose(candidates, asked, &self.client).await,
        };
        let chosen = permission::permit(key, asked, choices, chosen);
        let chosen = chosen.map_err(|refusal| match refusal {
            Refusal::ModelNotFound(model) if there.is_some() => Refusal::ModelElsewhere(model),
            other => other,
        })?;
        if there.is_some() {
            return Ok((chosen, Vec::new()));
        }
        let fallbacks = choices.fallbacks_of(candidates, (&chosen, asked), &self.client).await;
        let fallbacks = permission::permit_fallbacks(key, (&chosen, asked), fallbacks)?;
        Ok((chosen, fallbacks))
    }
}
