//! Where an upstream's nodes are: listed one by one, or found under one name.

use std::net::IpAddr;

use serde_yaml::Value;

use super::defaults::NODES_MAX;
use super::raw::RawUpstream;
use super::report::{At, Fault, Report};
use super::typed::{Entry, texts};
use super::upstreams::url;
use super::{NodeUrl, Nodes};

/// Stands for the first of no nodes, which no configuration has: it spares every caller an error that cannot be.
static NOWHERE: NodeUrl = NodeUrl { tls: false, host: String::new(), port: 0, base: String::new() };

impl Nodes {
    /// The first of them.
    pub fn first(&self) -> &NodeUrl {
        self.urls().first().unwrap_or(&NOWHERE)
    }

    /// All that is configured: each node, or the one URL whose addresses they are.
    pub fn urls(&self) -> &[NodeUrl] {
        match self {
            Self::Listed(urls) => urls,
            Self::Dns(url) => std::slice::from_ref(url),
        }
    }
}

/// Reads `nodes` or `dns` of an upstream; what is wrong is in the report.
pub(super) fn read(
    entry: &mut Entry<RawUpstream>,
    at: &At<'_>,
    report: &mut Report,
) -> Option<Nodes> {
    match (entry.fields.nodes.take(), entry.fields.dns.take()) {
        (Some(_), Some(_)) => {
            report.problem(at, "`nodes` and `dns` exclude each other").hint("keep one of them");
            None
        }
        (Some(list), None) => listed(list, &at.key("nodes"), report),
        (None, Some(text)) => url(&text, &at.key("dns"), named(&text), report).map(Nodes::Dns),
        (None, None) => {
            if !entry.told("dns") {
                let hint = "write `nodes: [http://host:port]`, or `dns: http://name:port`";
                entry.missing("nodes", at, hint, report);
            }
            None
        }
    }
}

fn listed(list: Vec<Value>, at: &At<'_>, report: &mut Report) -> Option<Nodes> {
    if list.is_empty() {
        report.problem(at, "at least one node is needed").hint("write `nodes: [http://host:port]`");
    }
    if list.len() > NODES_MAX {
        report.problem(at, format!("an upstream has at most {NODES_MAX} nodes"));
        return None;
    }
    let mut urls = Vec::with_capacity(list.len());
    for (index, text) in texts(list, at, report) {
        let at = at.index(index);
        let Some(node) = url(&text, &at, NodeUrl::parse(&text), report) else { continue };
        if urls.contains(&node) {
            let draft = report.problem(&at, "this node stands here twice");
            draft.quote(&text).hint("keep one of them");
        }
        urls.push(node);
    }
    (!urls.is_empty()).then_some(Nodes::Listed(urls))
}

/// A URL whose host is looked up.
fn named(text: &str) -> Result<NodeUrl, Fault> {
    let url = NodeUrl::parse(text)?;
    match url.host.parse::<IpAddr>() {
        Ok(_) => Err(Fault::with_hint(
            "`dns` takes a name that is looked up, and this is an address",
            "write `nodes: [http://host:port]` for an address",
        )),
        Err(_) => Ok(url),
    }
}
