//! `/v1/responses`, as vLLM 0.32 answers it with a store: in one piece, as a stream or in the background; and what it
//! keeps.

mod answer;
mod echo;
mod follow;
mod input;
mod query;
mod script;
mod shape;
mod store;

use std::future::poll_fn;
use std::sync::Arc;

use http::StatusCode;

use self::answer::{Answer, invalid, is_on, unknown};
use self::follow::{Follow, NoEvents};
use self::query::Query;
use self::script::{Keep, ResponseScript};
use self::shape::Response;
use self::store::Cancelled;
pub(in crate::sim) use self::store::Store;
use super::refusal::Refusal;
use super::request::streamed;
use crate::sim::call::Call;
use crate::sim::engine::{Flight, Job};
use crate::sim::events::Events;
use crate::sim::reply::{self, Reply};

/// `POST /v1/responses`.
///
/// # Errors
/// The request is refused.
pub(super) async fn create(call: &Call) -> Result<Reply, Refusal> {
    let body = call.json()?;
    let Answer { response, keep, prompt } = answer::answer(call, &body)?;
    let said = &response.said;
    let (length, job) = (said.length, Job { prompt, answer: said.ids() });
    let flight = call.begin(&job);
    if let Some(why) = flight.refused() {
        return Err(why.into());
    }
    let keep = match keep {
        Some(keep) if is_on(&body, "background", false) => {
            return Ok(in_background(call, (flight, response, keep), streamed(&body)));
        }
        keep => keep,
    };
    if streamed(&body) {
        return Ok(call.stream(flight, ResponseScript::new(response, keep, true)));
    }
    let whole = |flight: &Flight| {
        let closed = response.closed(flight, false);
        if let Some(keep) = &keep {
            keep.keep(&response, closed.clone());
        }
        closed
    };
    Ok(call.whole(flight, length, length.tokens, whole).await?)
}

/// `GET /v1/responses/{id}`: the answer as it is now or, of one that is made in the background, its events.
///
/// # Errors
/// There is none, or the query is no query.
pub(super) fn retrieve(call: &Call, id: &str) -> Result<Reply, Refusal> {
    let query = Query::of(call.head.uri.query().unwrap_or_default())?;
    let store = call.node.responses.as_ref().ok_or_else(|| unknown(id))?;
    let shown = store.get(id).ok_or_else(|| unknown(id))?;
    if !query.stream {
        return Ok(reply::json(StatusCode::OK, shown));
    }
    if !store.is_streamed(id) {
        return Ok(reply::feed(NoEvents::new()));
    }
    let next = query.starting_after.map_or(0, |after| after.saturating_add(1));
    let next = usize::try_from(next).unwrap_or_default();
    Ok(reply::feed(Follow::new(store.clone(), id, next)))
}

/// `POST /v1/responses/{id}/cancel`.
///
/// # Errors
/// There is none, or nothing to cancel.
pub(super) fn cancel(call: &Call, id: &str) -> Result<Reply, Refusal> {
    let store = call.node.responses.as_ref().ok_or_else(|| unknown(id))?;
    match store.cancel(id) {
        Cancelled::Now(shown) => Ok(reply::json(StatusCode::OK, shown)),
        Cancelled::TooLate => Err(invalid("Cannot cancel a synchronous response.", "response_id")),
        Cancelled::Unknown => Err(unknown(id)),
    }
}

/// Makes an answer that outlives its request, and answers with what there is of it now, or with its events.
fn in_background(
    call: &Call,
    (flight, response, keep): (Flight, Response, Keep),
    streamed: bool,
) -> Reply {
    let (store, id) = (keep.store.clone(), keep.id.clone());
    let queued = response.open("queued");
    let shown = (queued.clone().into(), response.open("cancelled").into());
    store.begin(&id, shown, keep.turns.clone(), streamed);
    let events = call.events(flight, ResponseScript::new(response, Some(keep), streamed));
    if let Some(task) = call.node.background.spawn(make(store.clone(), id.clone(), events)) {
        store.made_by(&id, task);
    }
    match streamed {
        true => reply::feed(Follow::new(store, &id, 0)),
        false => reply::json(StatusCode::OK, queued),
    }
}

/// Makes all events of an answer; its script keeps the answer itself.
async fn make(store: Arc<Store>, id: String, mut events: Events) {
    while let Some(Ok(event)) = poll_fn(|cx| events.poll_event(cx)).await {
        if !store.append(&id, event) {
            return;
        }
    }
}
