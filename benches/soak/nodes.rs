//! Six nodes: three that are well but for the weather, two that are never quite well, and one that is not there.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};

use sluice::sim::{Fault, Settings, Simulator};

use super::bad;
use super::broken::SMUGGLED;
use super::dice::Dice;
use super::seen::Seen;

/// Simulated nodes. One at a time is in trouble.
const SIMULATED: usize = 3;

/// Scripted nodes, which fail every few requests in every way.
const BAD: usize = 2;

/// What goes wrong with a simulated node; nothing that breaks off in the midst of an event, which the scripted ones do and tell.
const FAULTS: [&str; 9] = [
    "status=503",
    "status=500",
    "status=503,retry-after=1",
    "reset",
    "close",
    "garbage",
    "stall",
    "slow=300ms",
    "die-after=3",
];

/// All nodes.
pub(crate) struct Nodes {
    simulated: Vec<Simulator>,
    bad: Vec<SocketAddr>,
    /// Bound and not listening, so that it stays nobody's.
    nobody: tokio::net::TcpSocket,
}

impl Nodes {
    pub(crate) async fn start(dice: &mut Dice, seen: &Arc<Seen>) -> Result<Self, String> {
        let told = |error: std::io::Error| error.to_string();
        let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut simulated = Vec::new();
        for _ in 0..SIMULATED {
            let listener = TcpListener::bind(loopback).map_err(told)?;
            simulated.push(Simulator::start(listener, settings()).await.map_err(told)?);
        }
        let mut bad = Vec::new();
        for _ in 0..BAD {
            bad.push(bad::serve(dice.child(), seen.clone()).await.map_err(told)?);
        }
        let nobody = tokio::net::TcpSocket::new_v4().map_err(told)?;
        nobody.bind(loopback).map_err(told)?;
        Ok(Self { simulated, bad, nobody })
    }

    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        let simulated = self.simulated.iter().map(Simulator::addr);
        simulated.chain(self.bad.iter().copied()).chain(self.nobody.local_addr().ok()).collect()
    }

    /// Until then one simulated node after the other is in trouble for a while: it fails in some way, or its port is closed
    /// as when its process has crashed.
    pub(crate) async fn misbehave(&self, mut dice: Dice, until: Instant) {
        while Instant::now() < until {
            let node = dice.one_of(&self.simulated);
            let crash = dice.of_hundred(30);
            if crash {
                node.refuse().await;
            } else {
                node.set_fault(dice.one_of(&FAULTS).parse::<Fault>().ok());
            }
            tokio::time::sleep(Duration::from_millis(300) + dice.up_to_ms(2_000)).await;
            node.set_fault(None);
            if crash {
                node.accept().await;
            }
            tokio::time::sleep(dice.up_to_ms(1_500)).await;
        }
    }

    /// What was hidden in another request must not be among those that came.
    pub(crate) fn smuggled(&self, seen: &Seen) {
        let holds = |text: &[u8]| memchr::memmem::find(text, SMUGGLED.as_bytes()).is_some();
        for came in self.simulated.iter().flat_map(Simulator::requests) {
            if holds(came.target.as_bytes()) || holds(&came.body) {
                seen.wrong(format!("smuggled: {}", came.target));
            }
        }
    }
}

/// So fast that there are many requests, so slow that they overlap.
fn settings() -> Settings {
    Settings {
        models: vec!["m".into()],
        first_token: Duration::from_millis(5),
        token_delay: Duration::from_millis(1),
        record: true,
        ..Settings::default()
    }
}
