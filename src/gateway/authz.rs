//! `/internal/authz`: what nginx's `auth_request` asks before it sends a request (SPEC 5.4).

use std::sync::Arc;

use http::Method;
use pingora_proxy::Session;

use super::Gateway;
use super::context::RequestContext;
use crate::access::keys::Key;
use crate::access::limits::Part;
use crate::access::permission;
use crate::answers::{Answer, authz};
use crate::refusal::Refusal;
use crate::routing::table::{Found, Route};
use crate::upstream::Upstream;
use crate::wire::paths;

/// Path and query, and method, as nginx was asked.
const ORIGINAL_URI: &str = "x-original-uri";
const ORIGINAL_METHOD: &str = "x-original-method";

/// The model, where nginx knows it.
const MODEL: &str = "x-model";

/// What nginx asks about.
struct Asked<'r> {
    method: Option<Method>,
    path: Option<&'r str>,
    model: Option<&'r str>,
}

impl Gateway {
    /// Whether nginx may let the request in, in the few words that it understands.
    pub(super) async fn answer_authz(
        &self,
        session: &Session,
        ctx: &mut RequestContext,
        key: &Key,
    ) -> Answer {
        match self.let_in(session, ctx, key).await {
            Ok(answer) => answer,
            Err(refusal) => {
                let status = refusal.status();
                let answer = self.refuse(ctx, refusal);
                authz::refused(answer, status, self.limits.authz_limit_status)
            }
        }
    }

    async fn let_in(
        &self,
        session: &Session,
        ctx: &mut RequestContext,
        key: &Key,
    ) -> Result<Answer, Refusal> {
        let asked = Asked::of(session)?;
        if let Some(path) = asked.path {
            permission::demand_scope(key, path)?;
        }
        let backend = self.backend(ctx, &asked, key).await?;
        let pass = match asked.path {
            Some(path) if asked.is_counted() => {
                let moment = self.take_part(ctx, key, Part::Ahead).await?;
                // The request that brings the pass gives back what is to be given back.
                ctx.quota.keep();
                self.passes.issue(&key.name, path, moment)
            }
            // What comes of it is not known: it is counted when it comes.
            _ => None,
        };
        Ok(authz::let_in(&key.name, backend.as_deref().map(|one| &one.name), pass.as_deref()))
    }

    /// Where the request would go: by its model, else by its path.
    async fn backend(
        &self,
        ctx: &RequestContext,
        asked: &Asked<'_>,
        key: &Key,
    ) -> Result<Option<Arc<Upstream>>, Refusal> {
        let (table, choices) = (&ctx.snapshot.table, &ctx.snapshot.choices);
        // Nobody infers by another method.
        let method = asked.method.as_ref().unwrap_or(&Method::POST);
        let routes = match asked.path.map(|path| table.find(method, path)) {
            Some(Found::Routes(routes)) => routes,
            _ => &[],
        };
        if asked.model.is_none() || routes.is_empty() {
            return Ok(only(routes).or_else(|| choices.default.clone()));
        }
        let chosen = choices.choose(routes, asked.model, &self.client).await;
        let chosen = permission::permit(key, asked.model, choices, chosen)?;
        Ok(Some(chosen.route.upstream.clone()))
    }
}

/// The upstream of all `routes`, where it is one.
fn only(routes: &[Arc<Route>]) -> Option<Arc<Upstream>> {
    let first = &routes.first()?.upstream;
    let same = routes.iter().all(|route| Arc::ptr_eq(&route.upstream, first));
    same.then(|| first.clone())
}

impl<'r> Asked<'r> {
    /// # Errors
    /// A path that two programs may read differently, or what is no text.
    fn of(session: &'r Session) -> Result<Self, Refusal> {
        let of_header = |name: &'static str| -> Result<Option<&'r str>, Refusal> {
            let mut values = session.req_header().headers.get_all(name).iter();
            let value = values.next().map(|value| value.to_str());
            let value = value.transpose().map_err(|_| unreadable(name))?;
            if values.next().is_some() {
                return Err(unreadable(name));
            }
            Ok(value.filter(|text| !text.is_empty()))
        };
        let method = of_header(ORIGINAL_METHOD)?.map(|text| Method::from_bytes(text.as_bytes()));
        let method = method.transpose().map_err(|_| unreadable(ORIGINAL_METHOD))?;
        let path = of_header(ORIGINAL_URI)?;
        let path = path.map(|uri| uri.split_once('?').map_or(uri, |(path, _)| path));
        if let Some(path) = path {
            let method = method.as_ref().unwrap_or(&Method::POST);
            paths::refuse_ambiguous(method, path.as_bytes())?;
        }
        Ok(Self { method, path, model: of_header(MODEL)? })
    }

    /// The gateway counts it when it comes.
    fn is_counted(&self) -> bool {
        let get = self.method.as_ref().is_none_or(|method| *method == Method::GET);
        let here = |path: &str| get && paths::answered_here(path);
        self.path.is_some_and(|path| !here(path) && !paths::operates(path))
    }
}

fn unreadable(header: &'static str) -> Refusal {
    Refusal::malformed("invalid_target", format!("The header `{header}` cannot be read."))
}
