//! The way of a request for an answer: the model's memory, the engine, and a head that waits for the first line.

use std::future::poll_fn;
use std::time::Instant;

use http::HeaderValue;
use http::header::CONTENT_TYPE;

use super::answer::{Answer, Lines, Prompt, Voice};
use super::asked::Asked;
use super::names::Model;
use super::options::Options;
use super::refusal::{Refusal, Stop};
use crate::sim::call::{Call, EngineDied};
use crate::sim::engine::{Flight, Health, Job};
use crate::sim::reply::{self, Reply};

/// A prompt in tokens.
pub(super) struct Written {
    /// All of them.
    pub(super) ids: Vec<u32>,
    /// Whether the answer tells them.
    pub(super) told: bool,
}

/// Answers `asked`; `write` makes its prompt.
///
/// # Errors
/// It is refused, or the connection is to end before the first line.
pub(super) async fn answer<V: Voice>(
    call: &Call,
    (asked, model): (&Asked, &Model),
    write: impl FnOnce(&Options) -> Result<Written, Refusal>,
    voice: V,
) -> Result<Reply, Stop> {
    let arrived = Instant::now();
    let options = options(call, asked)?;
    let late = |refusal: Refusal| refusal.in_stream(asked.stream);
    let Written { ids, told } = write(&options).map_err(late)?;
    let name = model.name.full();
    let lease = call.node.loaded.take(name, options.shape.clone(), asked.keep_alive);
    let ready = lease.ready;
    let prompt = Prompt { ids, told, arrived, lease };
    let mut answer = asked.answer(call, (model, &options), prompt).map_err(late)?;
    let job = Job { prompt: answer.prompt.ids.clone(), answer: answer.ids() };
    let mut flight = begin(call, &job, ready).map_err(|why| match why {
        Health::Full => why.into(),
        _ => late(why.into()),
    })?;
    poll_fn(|cx| flight.poll_first_token(cx)).await;
    answer.first_token = Instant::now();
    if asked.stream {
        stream(call, flight, Lines::new(answer, voice)).await
    } else {
        Ok(whole(call, flight, answer, voice).await?)
    }
}

/// Hands a request to the engine.
///
/// # Errors
/// The queue is full, or the engine is dead.
pub(super) fn begin(call: &Call, job: &Job, ready: Instant) -> Result<Flight, Health> {
    let flight = call.begin_when(job, ready);
    match flight.refused() {
        Some(why) => Err(why),
        None => Ok(flight),
    }
}

/// Loads the model, and returns when it is there.
///
/// # Errors
/// An option has another type.
pub(super) async fn load(call: &Call, asked: &Asked, model: &Model) -> Result<(), Refusal> {
    let shape = options(call, asked)?.shape;
    let lease = call.node.loaded.take(model.name.full(), shape, asked.keep_alive);
    tokio::time::sleep_until(lease.ready.into()).await;
    Ok(())
}

fn options(call: &Call, asked: &Asked) -> Result<Options, Refusal> {
    Options::read(&asked.options, call.node.max_model_len, !asked.no_shift)
}

/// A stream: nothing is sent of it before its first line, and an error until then has a status.
async fn stream<V: Voice>(call: &Call, flight: Flight, lines: Lines<V>) -> Result<Reply, Stop> {
    let mut events = call.broken_events(flight, lines);
    events.wait_for_first().await?;
    if events.has_died() {
        return Err(Refusal::from(EngineDied).in_stream(true).into());
    }
    Ok(reply::stream_of(V::STREAM, events))
}

async fn whole<V: Voice>(
    call: &Call,
    flight: Flight,
    answer: Answer,
    mut voice: V,
) -> Result<Reply, Refusal> {
    let length = answer.length();
    let body = |_: &Flight| voice.whole(&answer, &answer.sums());
    let reply = call.whole(flight, length, length.tokens, body).await?;
    Ok(typed(reply, V::WHOLE))
}

/// The same answer with another `content-type`.
pub(super) fn typed(mut reply: Reply, content_type: &'static str) -> Reply {
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    reply
}
