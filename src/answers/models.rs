//! `GET /v1/models`: what all upstreams serve, in one list.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

use futures_util::future::join_all;
use http::{HeaderName, HeaderValue, StatusCode};

use super::{Answer, NAME_TIMEOUT};
use crate::access::keys::Key;
use crate::names::{ModelName, UpstreamName};
use crate::refusal::Refusal;
use crate::upstream::Upstream;
use crate::upstream::client::Client;
use crate::upstream::member::Member;
use crate::upstream::models::{Asked, Model};
use crate::upstream::node::Node;
use crate::upstream::refresh::Refresher;

/// Names the upstreams that are missing in the list.
pub(super) const PARTIAL: HeaderName = HeaderName::from_static("x-sluice-partial");

/// The union of what the upstreams list.
pub struct Union {
    /// In the upstreams' order; the first object of an id wins.
    models: Vec<Model>,
    /// Upstreams that did not answer.
    missing: Vec<String>,
    /// At least one answered.
    answered: bool,
}

/// Asks every node of every distinct upstream (host and key), all at the same time; what was asked a moment ago is taken
/// as it was.
pub async fn ask(upstreams: &[Arc<Upstream>], client: &Client, refresher: &Refresher) -> Union {
    let found = join_all(upstreams.iter().map(|upstream| async move {
        let members = upstream.found_members_within(NAME_TIMEOUT).await;
        members.iter().map(|member| (upstream, member.clone())).collect::<Vec<_>>()
    }))
    .await
    .concat();
    let distinct = distinct(&found);
    let asked = join_all(distinct.iter().map(|(upstream, member)| async move {
        let now = Instant::now();
        match member.shown(now) {
            Some(shown) => {
                if !member.is_fresh(now) {
                    refresher.soon(upstream, member);
                }
                Some(shown)
            }
            None => upstream.learn_of(member, client).await,
        }
    }))
    .await;
    let mut union = Union { models: Vec::new(), missing: Vec::new(), answered: false };
    let mut seen: HashSet<ModelName> = HashSet::new();
    let mut heard: HashSet<&UpstreamName> = HashSet::new();
    for ((upstream, _), asked) in distinct.iter().zip(asked) {
        if let Some(Asked { models: Ok(models), .. }) = asked.as_deref() {
            union.answered = true;
            heard.insert(&upstream.name);
            let listed = models.iter().filter(|m| !upstream.models.excludes(m.name.as_str()));
            union.models.extend(listed.filter(|m| seen.insert(m.name.clone())).cloned());
        }
    }
    // Of an upstream one node is enough. One that shares all its nodes with another is told by that one.
    let asked = distinct.iter().map(|(upstream, _)| &upstream.name);
    let no_address = upstreams.iter().filter(|upstream| upstream.members().is_empty());
    for name in asked.chain(no_address.map(|upstream| &upstream.name)) {
        if heard.insert(name) {
            union.missing.push(name.to_string());
        }
    }
    union
}

/// Each pair of host and key once: two upstreams on one node list the same.
fn distinct<'u>(
    found: &[(&'u Arc<Upstream>, Arc<Member>)],
) -> Vec<(&'u Arc<Upstream>, Arc<Member>)> {
    let mut seen = HashSet::new();
    let place = |upstream: &Upstream, node: &Node| {
        let key = upstream.credential.as_ref().map(|credential| credential.key.clone());
        (node.id.clone(), upstream.models_path_of(node).into_owned(), key)
    };
    let new = |(upstream, member): &&(&Arc<Upstream>, Arc<Member>)| {
        seen.insert(place(upstream, &member.node))
    };
    found.iter().filter(new).cloned().collect()
}

impl Union {
    /// The list, as far as `key` may use it.
    ///
    /// # Errors
    /// [`Refusal::UpstreamUnreachable`] where no upstream answered.
    pub fn list(&self, key: &Key) -> Result<Answer, Refusal> {
        if !self.answered {
            return Err(Refusal::UpstreamUnreachable);
        }
        let allowed = self.models.iter().filter(|model| key.allows(model.name.as_str()));
        let objects: Vec<&str> = allowed.map(|model| model.object.get()).collect();
        let body = format!(r#"{{"object":"list","data":[{}]}}"#, objects.join(","));
        Ok(self.with_partial(Answer::json(StatusCode::OK, body)))
    }

    /// One model's object.
    ///
    /// # Errors
    /// [`Refusal::ModelNotFound`], also for a model that `key` may not use.
    pub fn one(&self, id: &str, key: &Key) -> Result<Answer, Refusal> {
        let found = self.models.iter().find(|model| model.name.as_str() == id && key.allows(id));
        match found {
            Some(model) => {
                let object = model.object.get().to_owned();
                Ok(self.with_partial(Answer::json(StatusCode::OK, object)))
            }
            None if !self.answered => Err(Refusal::UpstreamUnreachable),
            None => Err(Refusal::ModelNotFound(id.into())),
        }
    }

    fn with_partial(&self, mut answer: Answer) -> Answer {
        if !self.missing.is_empty()
            && let Ok(value) = HeaderValue::from_str(&self.missing.join(", "))
        {
            answer.headers.push((PARTIAL, value));
        }
        answer
    }
}
