//! Every node of an upstream by itself: those that are listed, and each address of a name.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;

use super::super::loaded::Loaded;
use crate::config::defaults::NODES_MAX;
use crate::config::{NodeUrl, Nodes, UpstreamConfig};
use crate::upstream::Upstream;
use crate::upstream::resolve::{LOOKUP_TIMEOUT, Resolve};

/// One node.
pub(super) struct One<'c> {
    /// Of the upstream that it belongs to.
    pub(super) config: &'c UpstreamConfig,
    /// That upstream, as if it had no other node.
    pub(super) upstream: Upstream,
    /// Its URL, and its address where it was found by name.
    pub(super) place: String,
}

/// The nodes of an upstream, in order. A name that is not found is one of them: it is then told to have no address.
pub(super) async fn each_of<'c>(
    config: &'c UpstreamConfig,
    models_path: Option<String>,
    loaded: &Loaded,
) -> Vec<One<'c>> {
    let alone = |url: &NodeUrl, resolver: Arc<dyn Resolve>, address: Option<SocketAddr>| {
        let nodes = Nodes::Listed(vec![url.clone()]);
        let own = UpstreamConfig { nodes, ..config.clone() };
        let upstream = Upstream::new(&own, models_path.clone(), resolver, &loaded.metrics);
        let at = address.map(|address| format!(" at {}", address.ip())).unwrap_or_default();
        One { config, place: upstream.node.shown() + &at, upstream }
    };
    match &config.nodes {
        Nodes::Listed(urls) => {
            urls.iter().map(|url| alone(url, loaded.resolver.clone(), None)).collect()
        }
        Nodes::Dns(url) => {
            let found = addresses(url, &*loaded.resolver).await;
            if found.is_empty() {
                return vec![alone(url, Arc::new(Fixed(None)), None)];
            }
            let one = |address| alone(url, Arc::new(Fixed(Some(address))), Some(address));
            found.into_iter().map(one).collect()
        }
    }
}

/// The addresses of a name, each once; none where it cannot be looked up.
async fn addresses(url: &NodeUrl, resolver: &dyn Resolve) -> Vec<SocketAddr> {
    let lookup = tokio::time::timeout(LOOKUP_TIMEOUT, resolver.lookup(&url.host, url.port));
    let mut found = lookup.await.unwrap_or_else(|_| Ok(Vec::new())).unwrap_or_default();
    found.sort_unstable_by_key(|address| (address.is_ipv6(), *address));
    found.dedup();
    found.truncate(NODES_MAX);
    found
}

/// Finds the same for every name. The name itself stays what certificates and `Host` speak of.
struct Fixed(Option<SocketAddr>);

#[async_trait]
impl Resolve for Fixed {
    async fn lookup(&self, _: &str, _: u16) -> io::Result<Vec<SocketAddr>> {
        Ok(self.0.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A name with these addresses, or a resolver that is away.
    struct Name(Option<Vec<SocketAddr>>);

    #[async_trait]
    impl Resolve for Name {
        async fn lookup(&self, _: &str, _: u16) -> io::Result<Vec<SocketAddr>> {
            self.0.clone().ok_or_else(|| io::ErrorKind::TimedOut.into())
        }
    }

    #[tokio::test]
    async fn each_address_of_a_name_counts_once() {
        let url = NodeUrl { tls: false, host: "vllm".into(), port: 8000, base: String::new() };
        let all = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        let name =
            Name(Some(all(&["[::1]:8000", "10.0.0.2:8000", "10.0.0.1:8000", "10.0.0.2:8000"])));
        let sorted: Vec<SocketAddr> = all(&["10.0.0.1:8000", "10.0.0.2:8000", "[::1]:8000"]);
        assert_eq!(addresses(&url, &name).await, sorted);
        assert!(addresses(&url, &Name(None)).await.is_empty());
    }
}
