//! Which of the routes of one path a model goes to (SPEC 2.2, "Which upstream").

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use futures_util::future::join_all;

use super::table::Route;
use crate::names::ModelName;
use crate::upstream::Upstream;
use crate::upstream::client::Client;

/// What decides beside the routes themselves.
pub struct Choices {
    /// What a caller may write → the model that is asked.
    pub aliases: HashMap<ModelName, ModelName>,
    /// Model → models that answer in its place while none of its nodes works.
    pub fallbacks: HashMap<ModelName, Vec<ModelName>>,
    /// `DEFAULT_BACKEND`.
    pub default: Option<Arc<Upstream>>,
}

/// Where a request goes, and as which model.
#[derive(Clone)]
pub struct Chosen {
    /// The route.
    pub route: Arc<Route>,
    /// The model that the node is asked for, where it is not what the caller wrote.
    pub renamed: Option<ModelName>,
    /// Why this one.
    pub why: Why,
}

impl Chosen {
    /// The model as its nodes know it, where `asked` was asked for.
    pub fn model<'m>(&'m self, asked: Option<&'m str>) -> Option<&'m str> {
        self.renamed.as_ref().map(ModelName::as_str).or(asked)
    }

    /// True where some node of it works, where `asked` was asked for.
    pub fn is_up(&self, asked: Option<&str>) -> bool {
        self.route.upstream.is_up_for(self.model(asked), Instant::now())
    }
}

/// Why a route was chosen among those of its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// No model is named: the first one.
    NoModel,
    /// Its upstream is known to serve the model.
    Serves,
    /// The text before the model's first `:` is the upstream's name.
    Prefix,
    /// There is no other: the node judges the model.
    Only,
    /// `DEFAULT_BACKEND`.
    Default,
    /// The first one whose models are not known.
    Unknown,
    /// No node of the model that was asked for works.
    Fallback,
}

impl Choices {
    /// Chooses among `candidates`, at least one; asks nodes for their models where the choice needs that.
    ///
    /// # Errors
    /// Nothing serves `model`: every candidate's list is known, and none has it.
    pub async fn choose(
        &self,
        candidates: &[Arc<Route>],
        model: Option<&str>,
        client: &Client,
    ) -> Result<Chosen, NoSuchModel> {
        let ([only] | [only, ..]) = candidates else { return Err(NoSuchModel) };
        let Some(asked) = model else {
            return Ok(Chosen { route: only.clone(), renamed: None, why: Why::NoModel });
        };
        let alias = self.aliases.get(asked);
        let model = alias.map_or(asked, ModelName::as_str);
        let certain = || known(candidates, model, alias);
        if let Some(chosen) = certain() {
            return Ok(chosen);
        }
        // Of one node alone it is known without asking where the request goes: it judges the model.
        if candidates.len() > 1 || only.upstream.may_differ() {
            learn(candidates, client).await;
            if let Some(chosen) = certain() {
                return Ok(chosen);
            }
        }
        self.guess(candidates, model, alias)
    }

    /// Chooses where no other node will do: among routes that lead `there`, at least one.
    ///
    /// # Errors
    /// It is known what is served there, and `model` is not.
    pub async fn choose_there(
        &self,
        there: &[Arc<Route>],
        model: Option<&str>,
        client: &Client,
    ) -> Result<Chosen, NoSuchModel> {
        let chosen = self.choose(there, model, client).await?;
        let Some(asked) = model else { return Ok(chosen) };
        let model = chosen.renamed.as_ref().map_or(asked, ModelName::as_str);
        let models = &chosen.route.upstream.models;
        if !models.serves(model) {
            learn(there, client).await;
        }
        if models.is_known() && !models.serves(model) { Err(NoSuchModel) } else { Ok(chosen) }
    }

    /// Where a request that goes to `chosen` may go while none of its nodes works, in the order of the configuration.
    pub async fn fallbacks_of(
        &self,
        candidates: &[Arc<Route>],
        (chosen, model): (&Chosen, Option<&str>),
        client: &Client,
    ) -> Vec<Chosen> {
        let model = chosen.model(model);
        let fallbacks = model.and_then(|model| self.fallbacks.get(model));
        let Some(fallbacks) = fallbacks else { return Vec::new() };
        let needed = !chosen.route.upstream.is_up_for(model, Instant::now());
        let mut found = Vec::new();
        for fallback in fallbacks {
            let other = match known(candidates, fallback.as_str(), None) {
                // Nobody is to wait for what may not be needed.
                None if needed => {
                    self.choose(candidates, Some(fallback.as_str()), client).await.ok()
                }
                other => other,
            };
            if let Some(other) = other {
                let renamed = other.renamed.or_else(|| Some(fallback.clone()));
                found.push(Chosen { renamed, why: Why::Fallback, ..other });
            }
        }
        found
    }

    /// No candidate is known to serve `model`.
    fn guess(
        &self,
        candidates: &[Arc<Route>],
        model: &str,
        alias: Option<&ModelName>,
    ) -> Result<Chosen, NoSuchModel> {
        if let Some((name, rest)) = model.split_once(':')
            && let Some(named) =
                candidates.iter().find(|route| route.upstream.name.as_str() == name)
        {
            let renamed = Some(rest.into());
            return Ok(Chosen { route: named.clone(), renamed, why: Why::Prefix });
        }
        let default = |route: &&Arc<Route>| {
            self.default.as_ref().is_some_and(|default| Arc::ptr_eq(default, &route.upstream))
        };
        let unknown = |route: &&Arc<Route>| !route.upstream.models.is_known();
        let (route, why) = if let [only] = candidates {
            (only, Why::Only)
        } else if let Some(route) = candidates.iter().find(default) {
            (route, Why::Default)
        } else {
            (candidates.iter().find(unknown).ok_or(NoSuchModel)?, Why::Unknown)
        };
        Ok(Chosen { route: route.clone(), renamed: alias.cloned(), why })
    }
}

/// Every candidate's list is known, and none has the model.
#[derive(Debug, PartialEq, Eq)]
pub struct NoSuchModel;

/// The first route that is known to serve `model`.
fn known(candidates: &[Arc<Route>], model: &str, alias: Option<&ModelName>) -> Option<Chosen> {
    let route = candidates.iter().find(|route| route.upstream.models.serves(model))?;
    Some(Chosen { route: route.clone(), renamed: alias.cloned(), why: Why::Serves })
}

/// Asks those candidates that may have something new to tell, all at the same time.
async fn learn(candidates: &[Arc<Route>], client: &Client) {
    let now = Instant::now();
    let asked = candidates.iter().map(|route| &route.upstream);
    let asked = asked.filter(|upstream| upstream.may_learn(now));
    join_all(asked.map(|upstream| upstream.learn_models(client))).await;
}
