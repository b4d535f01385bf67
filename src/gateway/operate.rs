//! Requests that operate nodes: those for all of an upstream's are answered here, from what each node says.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use pingora_proxy::Session;

use super::Gateway;
use super::context::RequestContext;
use super::gone::unless_gone;
use super::reply::Stop;
use crate::answers::nodes::Order;
use crate::names::NodeId;
use crate::routing::operating::{Operated, operated};
use crate::routing::table::{Route, with_query};
use crate::wire::paths;

/// What there is of a request's target.
pub(super) struct Asked<'a> {
    pub(super) uri: &'a http::Uri,
    pub(super) query: Option<Cow<'a, str>>,
    pub(super) timeout: Duration,
}

/// The node that a request names, with the route to it, and the query without the name.
pub(super) type Named = (Option<(Arc<Route>, NodeId)>, Option<String>);

impl Gateway {
    /// The node that a request which operates nodes names; none where it is an ordinary one, or there is but one. Answers the
    /// request where it is for all of them.
    pub(super) async fn operate(
        &self,
        session: &mut Session,
        ctx: &RequestContext,
        candidates: &[Arc<Route>],
        asked: Asked<'_>,
    ) -> Result<Named, Stop> {
        let Asked { uri, query, timeout } = asked;
        if !paths::operates(uri.path()) {
            return Ok((None, query.map(Cow::into_owned)));
        }
        let (which, rest) = operated(candidates, uri.path(), query.as_deref()).await?;
        let rest = rest.map(Cow::into_owned);
        let route = match (which, candidates.first()) {
            (Operated::Named(route, node), _) => return Ok((Some((route, node)), rest)),
            (Operated::All, Some(route)) => route,
            _ => return Ok((None, rest)),
        };
        let method = session.req_header().method.clone();
        let order = Order {
            route,
            method: &method,
            asked: &with_query(uri, rest.as_deref())?,
            body: ctx.body.as_ref().map(|body| body.bytes.clone()),
            limit: timeout,
        };
        let members = route.upstream.found_members().await;
        let answer = unless_gone(session, order.answer(&members, &self.client)).await?;
        Err(Stop::Answer(answer?))
    }
}
