//! Models in memory: loaded when they are first asked for or wanted in another shape, and let go some time after the last
//! request.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::options::Shape;
use crate::sim::engine::PAUSE_MAX;

/// How long a model stays loaded if nobody says otherwise: Ollama's own default.
const KEEP_ALIVE: Duration = Duration::from_secs(5 * 60);

/// The models that a node has in memory.
pub(in crate::sim) struct Loaded {
    load_time: Duration,
    /// By full name: no more than the node has models.
    models: Mutex<HashMap<String, Entry>>,
}

struct Entry {
    shape: Shape,
    keep_alive: Duration,
    /// When it is loaded.
    ready: Instant,
    /// Requests that use it.
    users: usize,
    /// When the last of them left.
    idle_since: Instant,
}

impl Entry {
    /// How long it stays from `now` on, if nobody asks for it; none if its time is over.
    fn left(&self, now: Instant) -> Option<Duration> {
        if self.users > 0 {
            return Some(self.keep_alive);
        }
        let left = self.keep_alive.checked_sub(now.saturating_duration_since(self.idle_since));
        left.filter(|left| !left.is_zero())
    }
}

/// A model that is in memory.
pub(super) struct Resident {
    /// Its full name.
    pub(super) name: String,
    /// Tokens of its context.
    pub(super) num_ctx: usize,
    /// How long it stays.
    pub(super) left: Duration,
}

/// Keeps a model in memory until it is dropped.
pub(super) struct Lease {
    loaded: Arc<Loaded>,
    name: String,
    /// When the model is loaded.
    pub(super) ready: Instant,
}

impl Loaded {
    /// An empty memory; to load a model takes so long.
    pub(in crate::sim) fn new(load_time: Duration) -> Self {
        Self { load_time: load_time.min(PAUSE_MAX), models: Mutex::default() }
    }

    /// Loads the model, unless it is there in this shape. What `keep_alive` does not say stays as it was.
    pub(super) fn take(
        self: &Arc<Self>,
        name: String,
        shape: Shape,
        keep_alive: Option<Duration>,
    ) -> Lease {
        let now = Instant::now();
        let fresh = |shape: Shape, users: usize| Entry {
            shape,
            keep_alive: KEEP_ALIVE,
            ready: now + self.load_time,
            users,
            idle_since: now,
        };
        let mut models = self.lock();
        let entry = models.entry(name.clone()).or_insert_with(|| fresh(shape.clone(), 0));
        if entry.left(now).is_none() || !entry.shape.serves(&shape) {
            *entry = fresh(shape, entry.users);
        }
        entry.users += 1;
        entry.keep_alive = keep_alive.unwrap_or(entry.keep_alive);
        let ready = entry.ready;
        drop(models);
        Lease { loaded: self.clone(), name, ready }
    }

    /// Lets go of a model as soon as nobody uses it.
    pub(super) fn expire(&self, name: &str) {
        if let Some(entry) = self.lock().get_mut(name) {
            entry.keep_alive = Duration::ZERO;
        }
    }

    /// What is in memory, the longest to stay first.
    pub(super) fn residents(&self) -> Vec<Resident> {
        let now = Instant::now();
        let mut models = self.lock();
        models.retain(|_, entry| entry.left(now).is_some());
        let resident = |(name, entry): (&String, &Entry)| Resident {
            name: name.clone(),
            num_ctx: entry.shape.num_ctx,
            left: entry.left(now).unwrap_or_default(),
        };
        let mut residents: Vec<_> = models.iter().map(resident).collect();
        residents.sort_by(|a, b| b.left.cmp(&a.left).then_with(|| a.name.cmp(&b.name)));
        residents
    }

    /// A panic elsewhere leaves nothing half done that is looked at here.
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Entry>> {
        self.models.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut models = self.loaded.lock();
        if let Some(entry) = models.get_mut(&self.name) {
            entry.users -= 1;
            entry.idle_since = Instant::now();
        }
    }
}
