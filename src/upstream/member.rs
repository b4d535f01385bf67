//! A node as one of an upstream's: with what it lists there, under the upstream's key.

use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwapOption;
use tokio::sync::Mutex;

use super::models::{Asked, FRESH, Names, SHOWN_WHILE_REFRESHED};
use super::node::Node;
use crate::config::Kind;
use crate::names::ModelName;

/// A node of an upstream.
pub struct Member {
    /// The node.
    pub node: Arc<Node>,
    last: ArcSwapOption<Asked>,
    /// The last list that could be had: a node that is away for a moment has not lost its models.
    names: ArcSwapOption<Names>,
    /// The same, as it was told.
    known: ArcSwapOption<Asked>,
    /// Held while the node is asked: many callers, one question.
    pub(super) asking: Mutex<()>,
}

impl Member {
    /// Nothing is known of what it serves.
    pub fn new(node: Arc<Node>) -> Self {
        Self {
            node,
            last: ArcSwapOption::empty(),
            names: ArcSwapOption::empty(),
            known: ArcSwapOption::empty(),
            asking: Mutex::new(()),
        }
    }

    /// What came of asking it for its models.
    pub fn last(&self) -> Option<Arc<Asked>> {
        self.last.load_full()
    }

    /// The last list that could be had.
    pub fn known(&self) -> Option<Arc<Asked>> {
        self.known.load_full()
    }

    /// False where what it serves is known, and `model` is not of it.
    pub fn may_serve(&self, model: &str) -> bool {
        self.names.load().as_deref().is_none_or(|names| names.contains(model))
    }

    /// True where it is known to serve `model`.
    pub fn serves(&self, model: &str) -> bool {
        self.names.load().as_deref().is_some_and(|names| names.contains(model))
    }

    /// What it is known to serve, sorted.
    pub fn models(&self) -> Option<Vec<ModelName>> {
        let mut models: Vec<_> = self.names.load().as_deref()?.iter().cloned().collect();
        models.sort_unstable();
        Some(models)
    }

    /// True where it was asked within [`FRESH`].
    pub fn is_fresh(&self, now: Instant) -> bool {
        self.last.load().as_deref().is_some_and(|last| now.duration_since(last.at) < FRESH)
    }

    /// The last answer, where it may still be shown.
    pub fn shown(&self, now: Instant) -> Option<Arc<Asked>> {
        let last = self.last.load_full()?;
        (now.duration_since(last.at) < SHOWN_WHILE_REFRESHED).then_some(last)
    }

    /// Takes note of what came of asking it, a node of `kind`.
    pub(super) fn note(&self, kind: Kind, asked: Asked) -> Arc<Asked> {
        if let Ok(models) = &asked.models {
            let names = Names::new(kind, models.iter().map(|model| model.name.clone()));
            self.names.store(Some(Arc::new(names)));
        }
        let asked = Arc::new(asked);
        if asked.models.is_ok() {
            self.known.store(Some(asked.clone()));
        }
        self.last.store(Some(asked.clone()));
        asked
    }
}
