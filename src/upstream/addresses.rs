//! The addresses that a node's name has at the moment.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use arc_swap::ArcSwap;

use super::resolve::{LOOKUP_TIMEOUT, Resolve};
use crate::config::NodeUrl;

/// Where one node is.
pub struct Addresses {
    /// Looked up, where the host is a name.
    name: Option<Name>,
    found: ArcSwap<Vec<SocketAddr>>,
    /// Which of the addresses is in use; moved on when one does not take connections.
    cursor: AtomicUsize,
    /// The name must be looked up before the next connection.
    stale: AtomicBool,
}

struct Name {
    host: String,
    port: u16,
    resolver: Arc<dyn Resolve>,
}

impl Addresses {
    /// Those of the host in `url`, looked up when they are first needed.
    pub fn of(url: &NodeUrl, resolver: Arc<dyn Resolve>) -> Self {
        match url.host.parse::<IpAddr>() {
            Ok(ip) => Self::fixed(SocketAddr::new(ip, url.port)),
            Err(_) => Self {
                name: Some(Name { host: url.host.clone(), port: url.port, resolver }),
                found: ArcSwap::default(),
                cursor: AtomicUsize::new(0),
                stale: AtomicBool::new(true),
            },
        }
    }

    /// This one, always.
    pub fn fixed(address: SocketAddr) -> Self {
        Self {
            name: None,
            found: ArcSwap::from_pointee(vec![address]),
            cursor: AtomicUsize::new(0),
            stale: AtomicBool::new(false),
        }
    }

    /// The address for the next connection.
    ///
    /// # Errors
    /// The name was never found. Once it was, its last addresses are used until others are found.
    pub async fn current(&self) -> io::Result<SocketAddr> {
        if self.stale.load(Ordering::Relaxed) {
            self.look_up()
                .await
                .or_else(|error| if self.found.load().is_empty() { Err(error) } else { Ok(()) })?;
        }
        let found = self.found.load();
        let turn = self.cursor.load(Ordering::Relaxed);
        match found.get(turn % found.len().max(1)) {
            Some(address) => Ok(*address),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// Looks the name up again, where there is one. What it finds is used from the next connection on.
    ///
    /// # Errors
    /// The lookup failed or found nothing; the addresses stay as they are.
    pub async fn look_up(&self) -> io::Result<()> {
        let Some(name) = &self.name else { return Ok(()) };
        let found = look_up(&*name.resolver, &name.host, name.port).await?;
        self.stale.store(false, Ordering::Relaxed);
        if **self.found.load() != found {
            self.found.store(Arc::new(found));
            self.cursor.store(0, Ordering::Relaxed);
        }
        Ok(())
    }

    /// This address takes no connections: another one next time, where it is the one in use, and a new look at the name.
    pub fn connect_failed(&self, failed: SocketAddr) {
        if self.name.is_none() {
            return;
        }
        let found = self.found.load();
        let turn = self.cursor.load(Ordering::Relaxed);
        // Of several who met the same one, the first turns the page.
        if found.get(turn % found.len().max(1)) == Some(&failed) {
            let next = turn.wrapping_add(1);
            let order = Ordering::Relaxed;
            let _turned_already = self.cursor.compare_exchange(turn, next, order, order);
        }
        self.stale.store(true, Ordering::Relaxed);
    }

    /// True where the name must be followed: it has been looked up, and may come to mean another address.
    pub fn are_followed(&self) -> bool {
        self.name.is_some() && !self.found.load().is_empty()
    }
}

/// Every address of `host`, each once, at least one.
///
/// # Errors
/// The lookup failed, took too long, or found nothing.
pub(super) async fn look_up(
    resolver: &dyn Resolve,
    host: &str,
    port: u16,
) -> io::Result<Vec<SocketAddr>> {
    let lookup = resolver.lookup(host, port);
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
    Ok(found)
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

    fn addresses(host: &str, table: Arc<Table>) -> Addresses {
        let (host, base) = (host.to_owned(), String::new());
        Addresses::of(&NodeUrl { tls: false, host, port: 8000, base }, table)
    }

    #[tokio::test]
    async fn a_name_is_followed_and_its_last_address_kept() {
        let (one, two) = ("10.0.0.1:8000".parse().unwrap(), "10.0.0.2:8000".parse().unwrap());
        let table = Arc::new(Table(Mutex::new(vec![one])));
        let node = addresses("gpu", table.clone());
        assert_eq!(node.current().await.unwrap(), one);
        *table.0.lock().unwrap() = vec![two];
        node.look_up().await.unwrap();
        assert_eq!(node.current().await.unwrap(), two);
        table.0.lock().unwrap().clear();
        node.connect_failed(two);
        assert_eq!(node.current().await.unwrap(), two);
    }

    #[tokio::test]
    async fn an_address_that_refuses_makes_room_for_the_next() {
        let (six, four) = ("[::1]:8000".parse().unwrap(), "127.0.0.1:8000".parse().unwrap());
        let node = addresses("localhost", Arc::new(Table(Mutex::new(vec![six, four]))));
        assert_eq!(node.current().await.unwrap(), four);
        node.connect_failed(four);
        node.connect_failed(four);
        assert_eq!(node.current().await.unwrap(), six);
    }
}
