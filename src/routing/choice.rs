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
            return Ok(Chosen { route: only.clone(), renamed: None });
        };
        let alias = self.aliases.get(asked);
        let model = alias.map_or(asked, ModelName::as_str);
        let certain = |alias: Option<&ModelName>| {
            candidates
                .iter()
                .find(|route| route.upstream.models.serves(model))
                .map(|route| Chosen { route: route.clone(), renamed: alias.cloned() })
        };
        if let Some(chosen) = certain(alias) {
            return Ok(chosen);
        }
        if candidates.len() > 1 {
            learn(candidates, client).await;
            if let Some(chosen) = certain(alias) {
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
            return Ok(Chosen { route: named.clone(), renamed: Some(rest.into()) });
        }
        let default = |route: &&Arc<Route>| {
            self.default.as_ref().is_some_and(|default| Arc::ptr_eq(default, &route.upstream))
        };
        let one = if candidates.len() == 1 { candidates.first() } else { None };
        one.or_else(|| candidates.iter().find(default))
            .or_else(|| candidates.iter().find(|route| !route.upstream.models.is_known()))
            .map(|route| Chosen { route: route.clone(), renamed: alias.cloned() })
            .ok_or(NoSuchModel)
    }
}

/// Every candidate's list is known, and none has the model.
#[derive(Debug, PartialEq, Eq)]
pub struct NoSuchModel;

/// Asks those candidates that may have something new to tell, all at the same time.
async fn learn(candidates: &[Arc<Route>], client: &Client) {
    let now = Instant::now();
    let asked = candidates.iter().map(|route| &route.upstream);
    let asked = asked.filter(|upstream| upstream.models.may_learn(now));
    join_all(asked.map(|upstream| upstream.learn_models(client))).await;
}
