//! Chat sessions: made of their settings, and what must run for them.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::Method;

use super::{CannotStart, redis_client};
use crate::access::attempts::Attempts;
use crate::chat::counting::Counting;
use crate::chat::memory::{Bounds, Memory};
use crate::chat::sessions::Sessions;
use crate::chat::shared::{self, Shared};
use crate::chat::store::Store;
use crate::chat::tokens::Counter;
use crate::config::{Settings, StoreKind};
use crate::gateway::Snapshot;
use crate::metrics::Metrics;
use crate::names::ModelName;
use crate::wire::paths::CHAT;

/// From one look for sessions that nobody uses to the next, at most. One that is over is not found before that either.
const SWEEP_MAX: Duration = Duration::from_secs(60);

/// What must run for sessions.
pub(super) enum Work {
    Memory(Arc<Memory>),
    Shared(shared::Work),
}

/// Sessions, where the settings want them.
pub(super) fn start(
    settings: &Settings,
    metrics: &Metrics,
    snapshot: &Snapshot,
) -> Result<Option<(Arc<Sessions>, Work)>, CannotStart> {
    if !settings.sessions {
        return Ok(None);
    }
    if snapshot.table.candidates(&Method::POST, CHAT).is_err() {
        log::warn!(
            "chat sessions: no route takes their questions, as there is none for POST {CHAT}"
        );
    }
    let of_sessions = metrics.of_sessions()?;
    let (store, work) = match (settings.session_store, &settings.redis_url) {
        (StoreKind::Redis, Some(url)) => {
            let client = redis_client(settings, url)?;
            let (shared, work) =
                Shared::new(client, settings.session_ttl, metrics.of_session_store()?)?;
            (Store::Shared(shared), Work::Shared(work))
        }
        _ => {
            let bounds = Bounds {
                sessions: settings.max_sessions,
                bytes: settings.max_session_bytes,
                idle: settings.session_ttl,
            };
            let memory = Memory::new(bounds, of_sessions.clone());
            (Store::Memory(memory.clone()), Work::Memory(memory))
        }
    };
    let sessions = Sessions {
        store,
        counting: Counting::new(tokenizer(settings)?),
        attempts: Attempts::default(),
        model: settings.session_model.as_deref().map(ModelName::from),
        context: settings.max_context_tokens as u64,
        idle: settings.session_ttl,
        system: settings.session_system_prompt.as_str().into(),
        metrics: of_sessions,
    };
    Ok(Some((Arc::new(sessions), work)))
}

/// That of the folder by which the model is called, if it is one.
fn tokenizer(settings: &Settings) -> Result<Option<Counter>, CannotStart> {
    let folder = settings.session_model.as_deref().map(Path::new).filter(|path| path.is_dir());
    let Some(folder) = folder else {
        log::info!(
            "chat sessions: prompts are counted by the nodes, as `session_model` is no folder here"
        );
        return Ok(None);
    };
    let counter = Counter::load(folder)?;
    log::info!("chat sessions: prompts are counted by the tokenizer in {}", folder.display());
    Ok(Some(counter))
}

impl Work {
    /// Until the task is dropped.
    pub(super) async fn run(self) {
        match self {
            Self::Shared(work) => work.run().await,
            Self::Memory(memory) => loop {
                tokio::time::sleep(memory.idle().min(SWEEP_MAX)).await;
                memory.sweep(Instant::now());
            },
        }
    }
}
