//! `sluice sim`: one simulated node, until a signal.

use super::serve::Signals;
use super::{Failed, bind, runtime, say};
use crate::sim::{Settings, Simulator};

pub(super) fn run(settings: Settings) -> Result<(), Failed> {
    runtime(0)?.block_on(async {
        let failed = |error: std::io::Error| Failed::Runtime(error.to_string());
        let mut signals = Signals::new().map_err(failed)?;
        let listener = bind(settings.listen)?;
        let simulator = Simulator::start(listener, settings).await.map_err(failed)?;
        say(&format!("a simulated vLLM node answers on http://{}", simulator.addr()));
        signals.next_stop().await;
        simulator.kill().await;
        Ok(())
    })
}
