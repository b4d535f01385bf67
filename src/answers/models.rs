//! `GET /v1/models`: what all upstreams serve, in one list.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

use futures_util::future::join_all;
use http::{HeaderName, HeaderValue, StatusCode};

use super::Answer;
use crate::access::keys::Key;
use crate::names::ModelName;
use crate::refusal::Refusal;
use crate::upstream::Upstream;
use crate::upstream::client::Client;
use crate::upstream::models::{Asked, Model};
use crate::upstream::refresh::Refresher;

/// Names the upstreams that are missing in the list.
const PARTIAL: HeaderName = HeaderName::from_static("x-sluice-partial");

/// The union of what the upstreams list.
pub struct Union {
    /// In the upstreams' order; the first object of an id wins.
    models: Vec<Model>,
    /// Upstreams that did not answer.
    missing: Vec<String>,
    /// At least one answered.
    answered: bool,
}

/// Asks every distinct upstream (host and key), all at the same time; what was asked a moment ago is taken as it was.
pub async fn ask(upstreams: &[Arc<Upstream>], client: &Client, refresher: &Refresher) -> Union {
    let now = Instant::now();
    let distinct = distinct(upstreams);
    let asked = join_all(distinct.iter().map(|upstream| async move {
        match upstream.models.shown(now) {
            Some(shown) => {
                if !upstream.models.is_fresh(now) {
                    refresher.soon(upstream);
                }
                Some(shown)
            }
            None => upstream.learn_models(client).await,
        }
    }))
    .await;
    let mut union = Union { models: Vec::new(), missing: Vec::new(), answered: false };
    let mut seen: HashSet<ModelName> = HashSet::new();
    for (upstream, asked) in distinct.iter().zip(asked) {
        match asked.as_deref() {
            Some(Asked { models: Ok(models), .. }) => {
                union.answered = true;
                let listed = models.iter().filter(|m| !upstream.models.excludes(m.name.as_str()));
                union.models.extend(listed.filter(|m| seen.insert(m.name.clone())).cloned());
            }
            _ => union.missing.push(upstream.name.to_string()),
        }
    }
    union
}

/// Each pair of host and key once: two upstreams on one node list the same.
fn distinct(upstreams: &[Arc<Upstream>]) -> Vec<&Arc<Upstream>> {
    let mut seen = HashSet::new();
    let place = |upstream: &Upstream| {
        let key = upstream.credential.as_ref().map(|credential| credential.key.clone());
        (upstream.node.url.clone(), upstream.models_path.clone(), key)
    };
    upstreams.iter().filter(|upstream| seen.insert(place(upstream))).collect()
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

/// The id in a path below `/v1/models/`, percent-decoded: it never leaves the process.
pub fn id_of(encoded: &str) -> Option<String> {
    let mut decoded = Vec::with_capacity(encoded.len());
    let mut bytes = encoded.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let high = char::from(bytes.next()?).to_digit(16)?;
            let low = char::from(bytes.next()?).to_digit(16)?;
            decoded.push(u8::try_from(high * 16 + low).ok()?);
        } else {
            decoded.push(byte);
        }
    }
    String::from_utf8(decoded).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_may_hold_slashes_encoded_or_not() {
        assert_eq!(id_of("org%2Fmodel").as_deref(), Some("org/model"));
        assert_eq!(id_of("org/model").as_deref(), Some("org/model"));
        for broken in ["%", "%2", "%zz", "%ff"] {
            assert_eq!(id_of(broken), None, "{broken}");
        }
    }
}
