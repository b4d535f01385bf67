//! The last errors, for whoever asks what went wrong: no prompt, no key.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use parking_lot::Mutex;

use super::access_log::short;
use super::context::RequestContext;
use crate::names::{KeyName, ModelName, NodeId};
use crate::upstream::load::Place;
use crate::wire::ids::RequestId;

/// Errors that are remembered: some screens.
const ERRORS_MAX: usize = 200;

/// The last ones, the newest first.
#[derive(Default)]
pub struct RecentErrors(Mutex<VecDeque<Arc<RecentError>>>);

/// One of them.
pub struct RecentError {
    /// When.
    pub at: Instant,
    /// The same, by the wall's clock.
    pub time: SystemTime,
    /// What its request is called.
    pub id: RequestId,
    /// What its client got; none where it was a try, and another may have taken its place.
    pub status: Option<u16>,
    /// In one word.
    pub code: &'static str,
    /// In words.
    pub message: Cow<'static, str>,
    /// As its node knows it.
    pub model: Option<ModelName>,
    /// The last that was asked.
    pub node: Option<NodeId>,
    /// Who asked.
    pub key: Option<KeyName>,
    /// How many nodes were asked.
    pub tries: usize,
}

impl RecentErrors {
    /// Something went wrong with a request.
    pub(super) fn note(
        &self,
        ctx: &RequestContext,
        status: Option<u16>,
        (code, message): (&'static str, Cow<'static, str>),
    ) {
        let model = ctx.forward.as_ref().and_then(|forward| forward.model.as_ref());
        let node = ctx.place.as_ref().map(Place::node).or_else(|| ctx.tried.last());
        let error = Arc::new(RecentError {
            at: Instant::now(),
            time: SystemTime::now(),
            id: ctx.id.clone(),
            status,
            code,
            message,
            model: model.or(ctx.model.as_ref()).map(short),
            node: node.map(|node| node.id.clone()),
            key: ctx.key.as_ref().map(|key| key.name.clone()),
            tries: ctx.counted_tries(),
        });
        let mut errors = self.0.lock();
        errors.truncate(ERRORS_MAX - 1);
        errors.push_front(error);
    }

    /// All of them, the newest first.
    pub fn all(&self) -> Vec<Arc<RecentError>> {
        self.0.lock().iter().cloned().collect()
    }
}
