//! Which node keeps a response, and whose it is (SPEC 5.5): noted when the answer that makes it passes by.
//!
//! It lives through reloads, and is lost with the process: what is not known here is found for nobody. A node whose own
//! memory is lost says itself that it does not have a response.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use prometheus::IntGauge;

use super::table::Route;
use crate::names::{KeyName, NodeId, UpstreamName};
use crate::upstream::Upstream;
use crate::upstream::node::Node;

/// Responses that are remembered: an hour and a half of twelve a second. With vLLM's ids they take some 12 MB, with the
/// longest ids 45.
pub const RESPONSES_MAX: usize = 65_536;

/// All responses that are remembered; past the limit the oldest are forgotten.
pub struct Responses {
    limit: usize,
    known: Mutex<Known>,
    gauge: IntGauge,
}

#[derive(Default)]
struct Known {
    entries: HashMap<Arc<str>, Entry>,
    /// The ids, oldest first.
    order: VecDeque<Arc<str>>,
}

struct Entry {
    key: KeyName,
    home: Home,
    /// Its node gave the same id to another key, too: whose response is there now, nobody can tell.
    contested: bool,
}

/// Where a response is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home {
    upstream: UpstreamName,
    node: NodeId,
}

/// What became of an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Noted {
    /// The key that made the response can ask for it, unless another one was given the same id before.
    Kept,
    /// Another key has a response of this id: it is found as before, or, where it is at the same node, for nobody.
    Taken,
}

impl Responses {
    /// Room for `limit` responses, at least one; their number is shown by `gauge`.
    pub fn new(limit: usize, gauge: IntGauge) -> Self {
        Self { limit: limit.max(1), known: Mutex::default(), gauge }
    }

    /// A response of this `id` was made by `key` and is kept at `home`.
    ///
    /// What another key has is never taken over: an id tells nothing about who may read what a node keeps under it.
    pub fn note(&self, id: String, key: &KeyName, home: Home) -> Noted {
        let mut known = self.known.lock();
        if let Some(entry) = known.entries.get_mut(id.as_str()) {
            if entry.key != *key {
                entry.contested |= entry.home.node == home.node;
                return Noted::Taken;
            }
            entry.home = home;
            return Noted::Kept;
        }
        if known.order.len() >= self.limit
            && let Some(oldest) = known.order.pop_front()
        {
            known.entries.remove(&oldest);
        }
        let id: Arc<str> = id.into();
        known.order.push_back(id.clone());
        known.entries.insert(id, Entry { key: key.clone(), home, contested: false });
        self.gauge.set(i64::try_from(known.order.len()).unwrap_or(i64::MAX));
        Noted::Kept
    }

    /// Where the response of this `id` is kept, where `key` made it.
    pub fn home_of(&self, id: &str, key: &KeyName) -> Option<Home> {
        let known = self.known.lock();
        let entry = known.entries.get(id)?;
        (entry.key == *key && !entry.contested).then(|| entry.home.clone())
    }

    /// True where another key than `key` has a response of this `id`.
    pub fn is_anothers(&self, id: &str, key: &KeyName) -> bool {
        self.known.lock().entries.get(id).is_some_and(|entry| entry.key != *key)
    }
}

impl Home {
    /// A node of `upstream`.
    pub fn of(upstream: &Upstream, node: &Node) -> Self {
        Self { upstream: upstream.name.clone(), node: node.id.clone() }
    }

    /// The node that keeps the response.
    pub fn node(&self) -> &NodeId {
        &self.node
    }

    /// Those of `candidates` that lead there: by the upstream that made the response where it is still there, as another
    /// one of the same node may present another key to it.
    pub fn routes_in(&self, candidates: &[Arc<Route>]) -> Vec<Arc<Route>> {
        let there = |route: &&Arc<Route>| {
            route.upstream.members().iter().any(|member| member.node.id == self.node)
        };
        let there: Vec<_> = candidates.iter().filter(there).cloned().collect();
        let same = |route: &&Arc<Route>| route.upstream.name == self.upstream;
        let same: Vec<_> = there.iter().filter(same).cloned().collect();
        if same.is_empty() { there } else { same }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn responses(limit: usize) -> (Responses, IntGauge) {
        let gauge = IntGauge::new("ids", "ids").unwrap();
        (Responses::new(limit, gauge.clone()), gauge)
    }

    fn at(node: &str) -> Home {
        Home { upstream: "llama".into(), node: node.into() }
    }

    #[test]
    fn a_response_is_found_by_the_key_that_made_it_alone() {
        let ((responses, _), a, b) = (responses(9), "a".into(), "b".into());
        assert_eq!(responses.note("resp_1".into(), &a, at("one")), Noted::Kept);
        assert_eq!(responses.home_of("resp_1", &a), Some(at("one")));
        assert_eq!(
            (responses.home_of("resp_1", &b), responses.home_of("resp_2", &a)),
            (None, None)
        );
        assert!(responses.is_anothers("resp_1", &b) && !responses.is_anothers("resp_1", &a));
        // Its own, made once more elsewhere, is the newer one.
        assert_eq!(responses.note("resp_1".into(), &a, at("two")), Noted::Kept);
        assert_eq!(responses.home_of("resp_1", &a), Some(at("two")));
    }

    #[test]
    fn an_id_that_two_keys_got_is_never_taken_over() {
        let ((responses, _), a, b) = (responses(9), "a".into(), "b".into());
        responses.note("resp_1".into(), &a, at("one"));
        assert_eq!(responses.note("resp_1".into(), &b, at("two")), Noted::Taken);
        assert_eq!(responses.home_of("resp_1", &a), Some(at("one")));
        // At the same node, the other's may have taken its place.
        assert_eq!(responses.note("resp_1".into(), &b, at("one")), Noted::Taken);
        assert_eq!(responses.note("resp_1".into(), &a, at("one")), Noted::Kept);
        assert_eq!(
            (responses.home_of("resp_1", &a), responses.home_of("resp_1", &b)),
            (None, None)
        );
    }

    #[test]
    fn the_oldest_are_forgotten_past_the_limit() {
        let ((responses, gauge), key) = (responses(2), "a".into());
        for id in ["resp_1", "resp_2", "resp_1", "resp_3"] {
            responses.note(id.into(), &key, at("one"));
        }
        assert_eq!(gauge.get(), 2);
        let known = ["resp_1", "resp_2", "resp_3"].map(|id| responses.home_of(id, &key).is_some());
        assert_eq!(known, [false, true, true]);
    }
}
