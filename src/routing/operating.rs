//! Which nodes a request is for that operates nodes (SPEC 5.3): all of an upstream's, or the one that it names.

use std::borrow::Cow;
use std::sync::Arc;

use super::table::Route;
use crate::names::NodeId;
use crate::refusal::Refusal;
use crate::wire::query;

/// The parameter that names a node.
const NODE: &str = "node=";

/// Acts on one node at a time, by what it says of that node's size.
const OF_ONE_NODE: &str = "/scale_elastic_ep";

/// Which nodes a request is for.
pub enum Operated {
    /// The only one there is.
    Only,
    /// The one that it names, on this route.
    Named(Arc<Route>, NodeId),
    /// All of the first route.
    All,
}

/// Reads which nodes a request for `path` is for, whose routes are `candidates`, at least one; and the query without that.
///
/// # Errors
/// `node_required`: it must name one, names one that is not there, or names two.
pub async fn operated<'q>(
    candidates: &[Arc<Route>],
    path: &str,
    query: Option<&'q str>,
) -> Result<(Operated, Option<Cow<'q, str>>), Refusal> {
    let taken = query::take(query, NODE);
    let (rest, named) =
        taken.map_err(|query::Twice| refusal("The parameter `node` is there twice.".into()))?;
    let mut ids = Vec::new();
    // Nodes of the first route.
    let mut first = None;
    let named = named.map(|named| query::decoded(named).unwrap_or_default());
    for route in candidates {
        for member in route.upstream.found_members().await.iter() {
            if named.as_ref().is_some_and(|name| member.node.is_called(name)) {
                return Ok((Operated::Named(route.clone(), member.node.id.clone()), rest));
            }
            ids.push(member.node.id.to_string());
        }
        first.get_or_insert(ids.len());
    }
    if named.is_some() {
        return Err(refusal(format!("There is no such node. There are: {}.", ids.join(", "))));
    }
    match first.unwrap_or_default() {
        0 | 1 => Ok((Operated::Only, rest)),
        first if path == OF_ONE_NODE => {
            let ids = ids[..first].join(", ");
            Err(refusal(format!("Name one of the nodes with `?node=`: {ids}.")))
        }
        _ => Ok((Operated::All, rest)),
    }
}

fn refusal(message: String) -> Refusal {
    Refusal::Malformed { code: "node_required", message: message.into(), param: Some("node") }
}
