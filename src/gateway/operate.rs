//! Requests that operate nodes, where an upstream has several: to all of them, or to the one that is named.

use std::borrow::Cow;
use std::time::Duration;

use http::Method;

use super::Gateway;
use super::context::RequestContext;
use super::reply::Stop;
use crate::answers::nodes::Order;
use crate::names::NodeId;
use crate::refusal::Refusal;
use crate::routing::table::{Route, with_query};
use crate::wire::{paths, query};

/// The parameter that names a node.
const NODE: &str = "node=";

/// Acts on one node at a time, by what it says of that node's size.
const OF_ONE_NODE: &str = "/scale_elastic_ep";

/// What there is of a request's target.
pub(super) struct Asked<'a> {
    pub(super) uri: &'a http::Uri,
    pub(super) query: Option<Cow<'a, str>>,
    pub(super) timeout: Duration,
}

impl Gateway {
    /// The node that a request operates, and the query without its name; none of both where it is an ordinary one, or the
    /// upstream has but one. Answers the request where it is for all of them.
    pub(super) async fn operate<'a>(
        &self,
        ctx: &RequestContext,
        method: &Method,
        route: &Route,
        asked: Asked<'a>,
    ) -> Result<(Option<NodeId>, Option<Cow<'a, str>>), Stop> {
        let Asked { uri, query, timeout } = asked;
        if !paths::operates(uri.path()) {
            return Ok((None, query));
        }
        let members = route.upstream.found_members().await;
        if members.len() < 2 {
            return Ok((None, query));
        }
        let named = query::take(query.as_deref(), NODE);
        let twice = |query::Twice| invalid("The parameter `node` is there twice.".to_owned());
        let (rest, named) = named.map_err(twice)?;
        let ids = || members.iter().map(|member| member.node.id.as_str()).collect::<Vec<_>>();
        if let Some(named) = named {
            let named = query::decoded(named).unwrap_or_default();
            let node = members.iter().find(|member| member.node.is_called(&named));
            let unknown = || format!("There is no such node. There are: {}.", ids().join(", "));
            let node = node.ok_or_else(|| invalid(unknown()))?.node.id.clone();
            return Ok((Some(node), rest.map(|rest| Cow::Owned(rest.into_owned()))));
        }
        if uri.path() == OF_ONE_NODE {
            let nodes = ids().join(", ");
            return Err(invalid(format!("Name one of the nodes with `?node=`: {nodes}.")).into());
        }
        let order = Order {
            route,
            method,
            asked: &with_query(uri, query.as_deref())?,
            body: ctx.body.as_ref().map(|body| body.bytes.clone()),
            limit: timeout,
        };
        Err(Stop::Answer(order.answer(&members, &self.client).await?))
    }
}

fn invalid(message: String) -> Refusal {
    Refusal::Malformed { code: "node_required", message: message.into(), param: Some("node") }
}
