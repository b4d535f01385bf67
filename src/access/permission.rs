//! What a key may do with a request: its scope, and its models.

use super::keys::Key;
use crate::names::ModelName;
use crate::refusal::Refusal;
use crate::routing::choice::{Choices, Chosen, NoSuchModel};
use crate::wire::paths;

/// The scope of the operating endpoints.
const ADMIN: &str = "admin";

/// The scope of everything else.
const INFERENCE: &str = "inference";

/// The scope that requests of `path` need.
pub fn scope_of(path: &str) -> &'static str {
    if paths::operates(path) { ADMIN } else { INFERENCE }
}

/// Refuses a path that the scopes of `key` do not reach.
///
/// # Errors
/// [`Refusal::ScopeNotAllowed`].
pub fn demand_scope(key: &Key, path: &str) -> Result<(), Refusal> {
    let scope = scope_of(path);
    let held = if scope == ADMIN { key.admin } else { key.inference };
    if held { Ok(()) } else { Err(Refusal::ScopeNotAllowed(scope)) }
}

/// Refuses a request without a model where `key` is limited to models and one could be meant: by the path, unless what
/// is asked for is stored already, or by a body.
///
/// # Errors
/// `model_required`.
pub fn demand_model(
    key: &Key,
    model: Option<&ModelName>,
    (path, asks_stored, has_body): (&str, bool, bool),
) -> Result<(), Refusal> {
    let asks_no_model = asks_stored || paths::operates(path);
    let may_use_a_model = !asks_no_model && (paths::infers(path) || has_body);
    if key.is_limited() && model.is_none() && may_use_a_model {
        return Err(Refusal::Malformed {
            code: "model_required",
            message: "This API key is limited to models: the request must name one.".into(),
            param: Some("model"),
        });
    }
    Ok(())
}

/// The choice for the model `asked`, if `key` may use it. Who may not learns nothing of what there is.
///
/// # Errors
/// [`Refusal::ModelNotAllowed`], [`Refusal::ModelNotFound`]; without a model [`Refusal::RouteNotFound`].
pub fn permit(
    key: &Key,
    asked: Option<&str>,
    choices: &Choices,
    chosen: Result<Chosen, NoSuchModel>,
) -> Result<Chosen, Refusal> {
    let Some(asked) = asked else {
        return chosen.map_err(|NoSuchModel| Refusal::RouteNotFound);
    };
    let alias = choices.aliases.get(asked);
    let final_name = match &chosen {
        Ok(Chosen { renamed: Some(name), .. }) => name.as_str(),
        _ => alias.map_or(asked, ModelName::as_str),
    };
    // An alias is the operator's own word: a key may be given it. What a prefix leaves is the caller's.
    let allowed = key.allows(final_name) || (alias.is_some() && key.allows(asked));
    if !allowed {
        return Err(Refusal::ModelNotAllowed(asked.into()));
    }
    chosen.map_err(|NoSuchModel| Refusal::ModelNotFound(asked.into()))
}

/// Those of `fallbacks` whose models `key` may use.
///
/// # Errors
/// [`Refusal::ModelNotAllowed`]: where no node of `chosen` works, there are fallbacks that do, and it may use none of them.
pub fn permit_fallbacks(
    key: &Key,
    (chosen, asked): (&Chosen, Option<&str>),
    fallbacks: Vec<Chosen>,
) -> Result<Vec<Chosen>, Refusal> {
    let allowed = |one: &Chosen| one.renamed.as_ref().is_some_and(|name| key.allows(name.as_str()));
    let (allowed, denied): (Vec<_>, Vec<_>) = fallbacks.into_iter().partition(allowed);
    let up = |one: &&Chosen| one.is_up(asked);
    let needed = !denied.is_empty() && !chosen.is_up(asked) && allowed.iter().find(up).is_none();
    match denied.iter().find(up).and_then(|one| one.renamed.clone()) {
        Some(model) if needed => Err(Refusal::ModelNotAllowed(model)),
        _ => Ok(allowed),
    }
}
