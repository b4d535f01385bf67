//! `sluice sim`: one simulated node, until a signal or its own end.

use std::io::ErrorKind;

use super::serve::{Order, Signals};
use super::{Failed, bind, runtime, say};
use crate::sim::{Settings, Simulator};

pub(super) fn run(settings: Settings) -> Result<(), Failed> {
    runtime(0)?.block_on(simulate(settings))
}

/// Where Linux tells the machine's name.
const HOST_NAME: &str = "/proc/sys/kernel/hostname";

async fn simulate(mut settings: Settings) -> Result<(), Failed> {
    let failed = |error: std::io::Error| Failed::Runtime(error.to_string());
    let mut signals = Signals::new().map_err(failed)?;
    let listener = bind(settings.listen)?;
    let (kind, timeout) = (settings.kind.name(), settings.shutdown_timeout);
    // Without a name it has none.
    settings.host_name = std::fs::read_to_string(HOST_NAME).ok().map(|name| name.trim().to_owned());
    let started = Simulator::start(listener, settings).await;
    let simulator = started.map_err(|error| match error.kind() {
        ErrorKind::InvalidInput => Failed::Usage(error.to_string()),
        _ => failed(error),
    })?;
    say(&format!("a simulated {kind} node answers on http://{}", simulator.addr()));
    let order = loop {
        tokio::select! {
            () = simulator.gone() => {
                return Err(Failed::Runtime("the engine died, as it was told to".to_owned()));
            }
            order = signals.next() => match order {
                Order::Reload | Order::Upgrade => {}
                order => break order,
            }
        }
    };
    match order {
        Order::Stop => tokio::select! {
            () = simulator.terminate(timeout) => {}
            // A second signal ends the waiting.
            _ = signals.next_stop() => {}
        },
        Order::Reload | Order::Upgrade | Order::StopNow => simulator.kill().await,
    }
    Ok(())
}
