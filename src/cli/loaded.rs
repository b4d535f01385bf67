//! What `serve` would start from, without starting it.

use std::sync::Arc;

use super::{Boot, Failed, complain};
use crate::config::{self, Config, Problems, Settings, Source};
use crate::gateway::Snapshot;
use crate::metrics::Metrics;
use crate::reload::NotTaken;
use crate::upstream::client::Client;
use crate::upstream::node::Registry;
use crate::upstream::resolve::SystemResolver;

/// A configuration that `serve` would take.
pub(super) struct Loaded {
    pub(super) settings: Settings,
    pub(super) source: Source,
    pub(super) config: Config,
    pub(super) snapshot: Snapshot,
}

impl Loaded {
    /// Reads and builds everything; warnings go to standard error. No node is asked.
    pub(super) fn of(boot: &Boot) -> Result<Self, Failed> {
        let source = boot.source()?;
        let (settings, config) = Problems::both(boot.settings(&source), config::load(&source))?;
        if config.keys.is_empty() && !settings.listen.ip().is_loopback() {
            return Err(Failed::NotTaken(NotTaken::NoKeys));
        }
        config.warnings.iter().for_each(|warning| complain(&format!("warning: {warning}")));
        let metrics = Metrics::new().map_err(|error| Failed::Runtime(error.to_string()))?;
        let registry = Arc::new(Registry::new(Arc::new(SystemResolver), 0));
        let snapshot = Snapshot::build(&config, None, &registry, &metrics);
        let snapshot = snapshot.map_err(|path| Failed::NotTaken(NotTaken::Path(path)))?;
        Ok(Self { settings, source, config, snapshot })
    }

    /// What asks nodes, with the authorities that `serve` trusts. Only on a runtime.
    pub(super) fn client(&self) -> Client {
        let file = self.settings.ca_file.as_ref();
        Client::new(file.map(|path| path.to_string_lossy().into_owned()))
    }
}
