//! Requests that wait for a place at a node: in the order in which they came, as long as they can still be answered in time,
//! and as long as their clients are there.

use std::time::{Duration, Instant};

use pingora::{Error, ErrorType, Result};
use pingora_proxy::Session;

use super::context::RequestContext;
use super::node::{self, pick};
use crate::upstream::balance::NoNode;
use crate::upstream::load::Place;
use crate::upstream::queue::{Patience, TooLong};

/// Waits for one of so many `places`; what came of it, or the error that ends the request.
pub(super) async fn wait(
    session: &mut Session,
    ctx: &mut RequestContext,
    places: usize,
) -> Result<Result<Place, NoNode>> {
    let Some(forward) = &ctx.forward else { return Ok(Err(NoNode::Unknown)) };
    let (upstream, until) = (forward.route.upstream.clone(), forward.first_byte_until);
    let left = || until.saturating_duration_since(Instant::now());
    let stream = ctx.stream;
    let patience = || Patience { left: left(), stream, most: upstream.max_queue, places };
    let waiting = upstream.queue.join(&patience());
    let waiting = waiting.map_err(|TooLong(wait)| node::busy(wait, &mut ctx.failure))?;
    let _shown = upstream.metrics.queued();
    loop {
        tokio::select! {
            () = waiting.turn() => {}
            () = tokio::time::sleep_until(until.into()) => {
                return Err(node::busy(Duration::ZERO, &mut ctx.failure));
            }
            // Whoever has left is waited for by nobody.
            gone = session.downstream_session.read_body_or_idle(true) => {
                let closed = || Error::new(ErrorType::ConnectionClosed);
                return Err(gone.err().unwrap_or_else(closed).into_down());
            }
        }
        match pick(session, ctx) {
            Err(NoNode::Full(_)) => {}
            // What cannot be there in time any more is not begun.
            Ok(_) if !upstream.queue.is_in_time(Duration::ZERO, &patience()) => {
                return Err(node::busy(Duration::ZERO, &mut ctx.failure));
            }
            picked => return Ok(picked),
        }
    }
}
