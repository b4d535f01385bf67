//! The harness: gateways, nodes and clients that are there when a line returns, and gone when the test is.

pub(crate) mod fields;
pub(crate) mod frames;
pub(crate) mod gateway;
pub(crate) mod heads;
pub(crate) mod http;
pub(crate) mod nginx;
pub(crate) mod process;
pub(crate) mod recorder;
pub(crate) mod redis;
pub(crate) mod scripted;
pub(crate) mod tls;

use std::future::Future;
use std::time::Duration;

pub(crate) use gateway::TestGateway;
use sluice::sim::{Settings, Simulator};

/// Far longer than anything here takes, also on a machine that does something else: who waits so long has failed.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// The key of every test gateway that has one.
pub(crate) const KEY: &str = "sk-test-key-of-the-tests";

/// `future`, or a failed test.
pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future).await.expect("nothing happened before the deadline")
}

/// Asks again and again until `condition` holds.
pub(crate) async fn eventually<F: Future<Output = bool>>(condition: impl Fn() -> F) {
    within(async {
        while !condition().await {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// A simulated node that remembers what came, with these models.
pub(crate) async fn node(models: &[&str]) -> Simulator {
    node_with(Settings {
        models: models.iter().map(|model| (*model).into()).collect(),
        ..Settings::default()
    })
    .await
}

/// A simulated node that remembers what came.
pub(crate) async fn node_with(settings: Settings) -> Simulator {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    Simulator::start(listener, Settings { record: true, ..settings }).await.unwrap()
}

/// An address where nobody listens, nor will while the tests run: its socket is bound, and kept so.
pub(crate) fn nowhere() -> std::net::SocketAddr {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap();
    std::mem::forget(socket);
    address
}
