//! One request, and how it is answered: at once, piece by piece, or as its fault wants it.

use std::future::poll_fn;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::request::Parts;
use http::{StatusCode, Version};

use super::engine::{Finish, Flight, Health, Job, PAUSE_MAX, Start};
use super::events::{Events, Script};
use super::faults::Fault;
use super::node::{Live, Node};
use super::reply::{self, Break, Reply};
use super::vllm::{Refusal, Shape};
use super::wire::{Ending, Line};

/// What Python says of a pool of threads that is gone, and so vLLM 0.32 of a chat that comes while it shuts down.
const SHUT_DOWN: &str = "cannot schedule new futures after shutdown";

/// The engine died before there was an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct EngineDied;

/// The tokens of an answer in one piece: made one after the other, though nobody sees it, up to the moment when this is
/// dropped. Whoever leaves before the end has had some.
struct Making<'f> {
    flight: &'f Flight,
    tokens: usize,
    /// With the first token.
    begun: Instant,
    takes: Duration,
}

impl Drop for Making<'_> {
    fn drop(&mut self) {
        let passed = self.begun.elapsed();
        let made = match passed < self.takes {
            true => passed.as_secs_f64() / self.takes.as_secs_f64() * self.tokens as f64,
            false => self.tokens as f64,
        };
        self.flight.made((made as usize).clamp(self.tokens.min(1), self.tokens));
    }
}

/// One request that arrived whole.
pub(super) struct Call {
    /// Who answers.
    pub(super) node: Arc<Node>,
    /// As of its arrival.
    pub(super) live: Arc<Live>,
    /// Its connection.
    pub(super) line: Arc<Line>,
    /// Its head.
    pub(super) head: Parts,
    /// Its body.
    pub(super) body: Bytes,
    /// What goes wrong with it.
    pub(super) fault: Option<Fault>,
    /// With whom it shares blocks of the cache, once its model is known.
    pub(super) salt: OnceLock<u64>,
}

/// How long an answer is, and why it ends there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Length {
    /// In tokens, at least 1.
    pub(super) tokens: usize,
    /// Never [`Finish::Error`].
    pub(super) finish: Finish,
}

impl Call {
    /// Hands the request to the engine.
    pub(super) fn begin(&self, job: &Job) -> Flight {
        self.begin_when(job, Instant::now())
    }

    /// The same for a model that is there at `ready`.
    pub(super) fn begin_when(&self, job: &Job, ready: Instant) -> Flight {
        let slower = match self.fault {
            Some(Fault::Slow(slower)) => slower.min(PAUSE_MAX),
            _ => Duration::ZERO,
        };
        let salt = self.salt.get().copied().unwrap_or_default();
        let first_token = self.live.first_token.saturating_add(slower);
        Flight::begin(&self.node, job, Start { salt, ready, first_token })
    }

    /// The answer in one piece, when its time has come; `body` writes it then. `tokens` is what all its choices have.
    ///
    /// # Errors
    /// The fault of this request is that the engine dies.
    pub(super) async fn whole(
        &self,
        mut flight: Flight,
        length: Length,
        tokens: usize,
        body: impl FnOnce(&Flight) -> String,
    ) -> Result<Reply, EngineDied> {
        if let Some(why) = flight.refused() {
            return Ok(Refusal::from(why).reply(Shape::OpenAi));
        }
        poll_fn(|cx| flight.poll_first_token(cx)).await;
        let rest = self.time_after_first(length.tokens);
        let making = Making { flight: &flight, tokens, begun: Instant::now(), takes: rest };
        if !rest.is_zero() {
            tokio::select! {
                () = poll_fn(|cx| flight.poll_stopped(cx)) => {}
                () = tokio::time::sleep(rest) => {}
            }
        }
        drop(making);
        if let Some(Fault::KillAfter { exit, .. }) = self.fault {
            self.node.die(exit);
        }
        if flight.stopped() || matches!(self.fault, Some(Fault::DieAfter(_))) {
            flight.finish(Finish::Error);
            return Err(EngineDied);
        }
        match self.broken_off() {
            None => {
                let body = body(&flight);
                flight.finish(length.finish);
                Ok(reply::json(StatusCode::OK, body))
            }
            Some(then) => {
                if matches!(then, Break::End(..)) {
                    flight.finish(Finish::Error);
                }
                Ok(reply::torn(body(&flight).into(), then, flight))
            }
        }
    }

    /// The answer as a stream of events.
    pub(super) fn stream(&self, flight: Flight, script: impl Script + 'static) -> Reply {
        if let Some(why) = flight.refused() {
            return Refusal::from(why).reply(Shape::OpenAi);
        }
        reply::stream(self.broken_events(flight, script))
    }

    /// The events of an answer, broken off as the fault of this request wants it.
    pub(super) fn broken_events(&self, flight: Flight, script: impl Script + 'static) -> Events {
        let events = Events::new(Box::new(script), self.live.token_delay, flight);
        match (&self.fault, self.broken_off()) {
            (Some(Fault::DieAfter(after)), _) => events.dying_after(*after),
            (Some(Fault::KillAfter { events: after, exit }), _) => {
                events.killing_after(*after, *exit)
            }
            (
                Some(Fault::StallAfter(after) | Fault::CutAfter(after) | Fault::ResetAfter(after)),
                Some(then),
            ) => events.breaking_after(*after, then),
            _ => events,
        }
    }

    /// The events of an answer that outlives its connection: only the engine's death can break it off.
    pub(super) fn events(&self, flight: Flight, script: impl Script + 'static) -> Events {
        let events = Events::new(Box::new(script), self.live.token_delay, flight);
        match self.fault {
            Some(Fault::DieAfter(after)) => events.dying_after(after),
            Some(Fault::KillAfter { events: after, exit }) => events.killing_after(after, exit),
            _ => events,
        }
    }

    /// How the connection ends on this request.
    pub(super) fn ends(&self, ending: Ending) {
        // Over HTTP/2 other requests share the connection: only the stream is reset.
        if self.head.version != Version::HTTP_2 {
            self.line.will_end(ending);
        }
    }

    fn broken_off(&self) -> Option<Break> {
        let line =
            if self.head.version == Version::HTTP_2 { Line::new() } else { self.line.clone() };
        match self.fault {
            Some(Fault::StallAfter(_)) => Some(Break::Stall),
            Some(Fault::CutAfter(_)) => Some(Break::End(line, Ending::Close)),
            Some(Fault::ResetAfter(_)) => Some(Break::End(line, Ending::Reset)),
            _ => None,
        }
    }

    fn time_after_first(&self, tokens: usize) -> Duration {
        let steps = u32::try_from(tokens.saturating_sub(1)).unwrap_or(u32::MAX);
        self.live.token_delay.saturating_mul(steps)
    }
}

/// What is told to a request that the engine does not take: also one for a stream is told so before any event.
impl From<Health> for Refusal {
    fn from(why: Health) -> Self {
        match why {
            Health::Drains => Self::Fault(StatusCode::INTERNAL_SERVER_ERROR, SHUT_DOWN.to_owned()),
            // Nobody is refused for a full queue by vLLM.
            Health::Serves | Health::Full | Health::Dead => Self::from(EngineDied),
        }
    }
}
