//! One node: its URL, and the addresses that its name has at the moment.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use arc_swap::ArcSwap;
use http::HeaderValue;

use super::resolve::{LOOKUP_TIMEOUT, Resolve};
use crate::config::NodeUrl;
use crate::names::NodeId;

/// A node and where it is.
pub struct Node {
    /// As configured.
    pub url: NodeUrl,
    /// The text of the URL.
    pub id: NodeId,
    /// `Host` of the requests that it gets.
    pub host_header: HeaderValue,
    resolver: Arc<dyn Resolve>,
    addresses: ArcSwap<Vec<SocketAddr>>,
    /// Which of the addresses is in use; moved on when one does not take connections.
    cursor: AtomicUsize,
    /// The name must be looked up before the next connection.
    stale: AtomicBool,
}

impl Node {
    /// A node whose name is looked up when it is first needed.
    pub fn new(url: NodeUrl, resolver: Arc<dyn Resolve>) -> Self {
        let literal: Option<IpAddr> = url.host.parse().ok();
        let addresses: Vec<SocketAddr> =
            literal.map(|ip| SocketAddr::new(ip, url.port)).into_iter().collect();
        // A checked URL always makes a header; a fallback spares every caller an error that cannot be.
        let host_header = HeaderValue::from_str(&authority(&url))
            .unwrap_or_else(|_| HeaderValue::from_static("localhost"));
        Self {
            id: url.to_string().into(),
            host_header,
            resolver,
            addresses: ArcSwap::from_pointee(addresses),
            cursor: AtomicUsize::new(0),
            stale: AtomicBool::new(literal.is_none()),
            url,
        }
    }

    /// Takes over what `other`, the same name before a reload, has found: a resolver that is away just now must not
    /// take the node with it.
    pub fn inherit(&self, other: &Self) {
        if self.url == other.url {
            self.addresses.store(other.addresses.load_full());
            self.cursor.store(other.cursor.load(Ordering::Relaxed), Ordering::Relaxed);
            self.stale.store(other.stale.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }

    /// The address for the next connection.
    ///
    /// # Errors
    /// The name was never found. Once it was, its last addresses are used until others are found.
    pub async fn address(&self) -> io::Result<SocketAddr> {
        if self.stale.load(Ordering::Relaxed) {
            self.look_up().await.or_else(|error| {
                if self.addresses.load().is_empty() { Err(error) } else { Ok(()) }
            })?;
        }
        let addresses = self.addresses.load();
        let turn = self.cursor.load(Ordering::Relaxed);
        match addresses.get(turn % addresses.len().max(1)) {
            Some(address) => Ok(*address),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// Looks the name up again, where there is one. What it finds is used from the next connection on.
    ///
    /// # Errors
    /// The lookup failed or found nothing; the addresses stay as they are.
    pub async fn look_up(&self) -> io::Result<()> {
        if self.is_literal() {
            return Ok(());
        }
        let lookup = self.resolver.lookup(&self.url.host, self.url.port);
        let mut found = match tokio::time::timeout(LOOKUP_TIMEOUT, lookup).await {
            Ok(found) => found?,
            Err(_) => return Err(io::ErrorKind::TimedOut.into()),
        };
        if found.is_empty() {
            return Err(io::ErrorKind::NotFound.into());
        }
        // A resolver may turn the order with each answer: sorted, so that only a change is a change.
        found.sort_unstable_by_key(|address| (address.is_ipv6(), *address));
        found.dedup();
        self.stale.store(false, Ordering::Relaxed);
        if **self.addresses.load() != found {
            self.addresses.store(Arc::new(found));
            self.cursor.store(0, Ordering::Relaxed);
        }
        Ok(())
    }

    /// The address in use does not take connections: another one next time, and a new look at the name.
    pub fn connect_failed(&self) {
        if !self.is_literal() {
            self.cursor.fetch_add(1, Ordering::Relaxed);
            self.stale.store(true, Ordering::Relaxed);
        }
    }

    /// True where the name must be followed: it has been looked up, and may come to mean another address.
    pub fn is_followed(&self) -> bool {
        !self.is_literal() && !self.addresses.load().is_empty()
    }

    /// The host is an IP address.
    fn is_literal(&self) -> bool {
        self.url.host.parse::<IpAddr>().is_ok()
    }

    /// The path that this node sees for `path` (SPEC 2.2): `/v1/x` below its base, others at its root.
    pub fn path_for(&self, path: &str) -> String {
        match path.strip_prefix("/v1/") {
            Some(rest) if !self.url.base.is_empty() => format!("{}/{rest}", self.url.base),
            _ => path.to_owned(),
        }
    }

    /// The URL without anything secret, for reports.
    pub fn shown(&self) -> String {
        let scheme = if self.url.tls { "https" } else { "http" };
        format!("{scheme}://{}{}", authority(&self.url), self.url.base)
    }
}

/// `host`, or `host:port` where the port is not the scheme's own.
fn authority(url: &NodeUrl) -> String {
    let host = if url.host.contains(':') { format!("[{}]", url.host) } else { url.host.clone() };
    let own_port = if url.tls { 443 } else { 80 };
    if url.port == own_port { host } else { format!("{host}:{}", url.port) }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use async_trait::async_trait;

    use super::*;

    struct Table(Mutex<Vec<SocketAddr>>);

    #[async_trait]
    impl Resolve for Table {
        async fn lookup(&self, _: &str, _: u16) -> io::Result<Vec<SocketAddr>> {
            Ok(self.0.lock().unwrap().clone())
        }
    }

    fn url(host: &str, port: u16, base: &str) -> NodeUrl {
        NodeUrl { tls: false, host: host.into(), port, base: base.into() }
    }

    #[tokio::test]
    async fn a_name_is_followed_and_its_last_address_kept() {
        let (one, two) = ("10.0.0.1:8000".parse().unwrap(), "10.0.0.2:8000".parse().unwrap());
        let table = Arc::new(Table(Mutex::new(vec![one])));
        let node = Node::new(url("gpu", 8000, ""), table.clone());
        assert_eq!(node.address().await.unwrap(), one);
        *table.0.lock().unwrap() = vec![two];
        node.look_up().await.unwrap();
        assert_eq!(node.address().await.unwrap(), two);
        table.0.lock().unwrap().clear();
        node.connect_failed();
        assert_eq!(node.address().await.unwrap(), two);
    }

    #[tokio::test]
    async fn an_address_that_refuses_makes_room_for_the_next() {
        let (six, four) = ("[::1]:8000".parse().unwrap(), "127.0.0.1:8000".parse().unwrap());
        let node =
            Node::new(url("localhost", 8000, ""), Arc::new(Table(Mutex::new(vec![six, four]))));
        assert_eq!(node.address().await.unwrap(), four);
        node.connect_failed();
        assert_eq!(node.address().await.unwrap(), six);
    }

    #[test]
    fn paths_below_v1_go_below_the_base() {
        let resolver: Arc<dyn Resolve> = Arc::new(Table(Mutex::new(Vec::new())));
        let node = |base| Node::new(url("h", 1, base), resolver.clone());
        assert_eq!(node("").path_for("/v1/chat/completions"), "/v1/chat/completions");
        assert_eq!(node("/v1").path_for("/v1/chat/completions"), "/v1/chat/completions");
        assert_eq!(node("/v1/openai").path_for("/v1/models"), "/v1/openai/models");
        assert_eq!(node("/v1/openai").path_for("/health"), "/health");
    }
}
