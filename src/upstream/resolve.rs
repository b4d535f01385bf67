//! Names to addresses, without a worker thread ever waiting for it.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use async_trait::async_trait;

/// Longest wait for a name: a resolver that needs longer is down.
pub const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);

/// How often names in use are looked up again: as often as a rolling update moves an address, and no burden for a
/// resolver.
pub const REFRESH: Duration = Duration::from_secs(5);

/// Names that are looked up at the same time: each takes a thread while it waits.
pub const AT_ONCE: usize = 16;

/// Looks names up. A trait, so that a test can move a name.
#[async_trait]
pub trait Resolve: Send + Sync {
    /// Every address of `host`.
    ///
    /// # Errors
    /// The name is unknown, or its resolver cannot be asked.
    async fn lookup(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>>;
}

/// The system's own resolver (`/etc/hosts`, `/etc/resolv.conf`), on a thread for blocking calls.
pub struct SystemResolver;

#[async_trait]
impl Resolve for SystemResolver {
    async fn lookup(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        Ok(tokio::net::lookup_host((host, port)).await?.collect())
    }
}
