//! Responses that nodes keep (SPEC 5.5): each is asked for, and gone on from, where it was made, and by the key that
//! made it.

use std::sync::Arc;

use bytes::Bytes;
use http::Method;

use super::Gateway;
use super::context::RequestContext;
use crate::access::keys::Key;
use crate::names::NodeId;
use crate::refusal::Refusal;
use crate::routing::responses::{Home, Noted};
use crate::routing::table::Route;
use crate::wire::field::Look;
use crate::wire::head::{Field, Head};
use crate::wire::paths;
use crate::wire::response_id::ID_BYTES_MAX;

/// What a request has to do with stored responses.
#[derive(Default)]
pub(super) struct Stored {
    /// The one that it is about.
    about: Option<About>,
    /// It makes one.
    makes: bool,
    /// The id that its client chose for that; empty where what it chose is no text.
    chosen: Option<String>,
}

/// Where a stored response is.
pub(super) struct There {
    /// The routes that lead there, at least one.
    pub(super) routes: Vec<Arc<Route>>,
    /// The node.
    pub(super) node: NodeId,
}

enum About {
    /// Named in the path.
    Asked(String),
    /// Gone on from.
    Previous(String),
}

impl Stored {
    /// What the method and the path say.
    pub(super) fn of_target(candidates: &[Arc<Route>], method: &Method, path: &str) -> Self {
        let pattern = candidates.first().map_or("", |route| route.path.as_str());
        let about = paths::response_id(pattern, path).map(|id| About::Asked(short(id)));
        let makes = *method == Method::POST && paths::makes_response(path);
        Self { about, makes, chosen: None }
    }

    /// Adds what the body says.
    ///
    /// # Errors
    /// `previous_response_id` is no text.
    pub(super) fn read(&mut self, head: &Head<'_>) -> Result<(), Refusal> {
        if !self.makes {
            return Ok(());
        }
        self.about = match &head.previous_response_id {
            Field::Absent => None,
            Field::Text(id) => Some(About::Previous(short(id))),
            Field::NotText => {
                return Err(Refusal::Malformed {
                    code: "invalid_json",
                    message: "The field `previous_response_id` must be a string.".into(),
                    param: Some("previous_response_id"),
                });
            }
        };
        self.chosen = match &head.request_id {
            Field::Absent => None,
            Field::Text(id) => Some(short(id)),
            Field::NotText => Some(String::new()),
        };
        Ok(())
    }

    /// The request asks for a response that is there: no model is used for it.
    pub(super) fn is_asked(&self) -> bool {
        matches!(self.about, Some(About::Asked(_)))
    }

    /// The answer's id is to be remembered. Not one that the client chose: after a restart, whoever chose the id of
    /// another's old response would be taken for its maker, and could read it.
    pub(super) fn is_noted(&self) -> bool {
        self.makes && self.chosen.is_none()
    }
}

/// An id, or so much of a longer text that it is none that is known.
fn short(id: &str) -> String {
    match id.char_indices().nth(ID_BYTES_MAX) {
        None => id.to_owned(),
        Some((end, _)) => format!("{}\u{2026}", &id[..end]),
    }
}

impl Gateway {
    /// The routes to the node that keeps the response which the request is about; none where it is about none.
    ///
    /// # Errors
    /// This key has made none of that id, or its node is not there any more. Both are told in the same words.
    pub(super) fn routes_to_stored(
        &self,
        ctx: &RequestContext,
        candidates: &[Arc<Route>],
        key: &Key,
    ) -> Result<Option<There>, Refusal> {
        let stored = &ctx.stored;
        if let Some(chosen) = &stored.chosen
            && self.responses.is_anothers(chosen, &key.name)
        {
            // The node would put it in the other's place.
            return Err(Refusal::Malformed {
                code: "request_id_taken",
                message: "There is a response of this `request_id` already.".into(),
                param: Some("request_id"),
            });
        }
        let (id, previous) = match &stored.about {
            None => return Ok(None),
            Some(About::Asked(id)) => (id, false),
            Some(About::Previous(id)) => (id, true),
        };
        let home = self.responses.home_of(id, &key.name);
        let there = home
            .map(|home| There { routes: home.routes_in(candidates), node: home.node().clone() });
        match there {
            Some(there) if !there.routes.is_empty() => Ok(Some(there)),
            _ => Err(Refusal::ResponseNotFound { id: id.clone(), previous }),
        }
    }

    /// Looks for the id in a piece of the answer that makes a response; remembers it before the client can know it.
    pub(super) fn note_response(&self, ctx: &mut RequestContext, piece: Option<&Bytes>) {
        let (Some(search), Some(piece)) = (&mut ctx.answer.response_id, piece) else { return };
        let look = search.push(piece);
        if look != Look::On {
            ctx.answer.response_id = None;
        }
        let (Look::Found(id), Some(forward), Some(key), Some(place)) =
            (look, &ctx.forward, &ctx.key, &ctx.place)
        else {
            return;
        };
        let upstream = &forward.route.upstream;
        let home = Home::of(upstream, place.node());
        if self.responses.note(id, &key.name, home) == Noted::Taken {
            log::warn!("upstream `{}` gave an id that another key's response has", upstream.name);
        }
    }
}
