//! Requests that wait for a place at a node: in the order in which they came, as long as they can still be answered in time,
//! and as long as their clients are there.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

use pingora::{Error, ErrorType, Result};
use pingora_proxy::Session;

use super::context::RequestContext;
use super::node::{self, pick};
use crate::names::ModelName;
use crate::upstream::Upstream;
use crate::upstream::balance::NoNode;
use crate::upstream::load::Place;
use crate::upstream::queue::{Patience, TooLong};

/// True where others wait for one of the same nodes: whoever came first is first. Who has lost a node came before them.
pub(super) fn must_wait(ctx: &RequestContext) -> bool {
    let Some(forward) = &ctx.forward else { return false };
    let queue = &forward.route.upstream.queue;
    let is_work = forward.repeatable && !ctx.stored.is_asked();
    is_work && ctx.tried.is_empty() && queue.limit().is_some() && queue.waits_for(kind(ctx))
}

/// Which nodes will do: those of a model, or one.
fn kind(ctx: &RequestContext) -> u64 {
    let mut hasher = DefaultHasher::new();
    if let Some(forward) = &ctx.forward {
        forward.model.as_ref().map(|model| model.as_str()).hash(&mut hasher);
        forward.only.as_ref().map(|node| node.as_str()).hash(&mut hasher);
    }
    hasher.finish()
}

fn patience(ctx: &RequestContext, upstream: &Upstream) -> Patience {
    let now = Instant::now();
    let forward = ctx.forward.as_ref();
    let model = forward.and_then(|forward| forward.model.as_ref()).map(ModelName::as_str);
    let only = forward.and_then(|forward| forward.only.as_ref());
    let until = forward.map_or(now, |forward| forward.first_byte_until);
    Patience {
        left: until.saturating_duration_since(now),
        stream: ctx.stream,
        most: upstream.max_queue,
        kind: kind(ctx),
        places: upstream.places(model, only, now),
        again: !ctx.tried.is_empty(),
    }
}

/// Waits for a place; what came of it, or the error that ends the request.
pub(super) async fn wait(
    session: &mut Session,
    ctx: &mut RequestContext,
) -> Result<Result<Place, NoNode>> {
    loop {
        let Some(forward) = &ctx.forward else { return Ok(Err(NoNode::Unknown)) };
        let upstream = forward.route.upstream.clone();
        let found = in_line(session, ctx, &upstream).await?;
        // Where the nodes of its model have died, it waits for those of another.
        if !matches!(found, Err(NoNode::Full)) {
            return Ok(found);
        }
    }
}

/// Waits in the line of one upstream. [`NoNode::Full`] where the request's way leads to another now.
async fn in_line(
    session: &mut Session,
    ctx: &mut RequestContext,
    upstream: &Arc<Upstream>,
) -> Result<Result<Place, NoNode>> {
    let Some(until) = ctx.forward.as_ref().map(|forward| forward.first_byte_until) else {
        return Ok(Err(NoNode::Unknown));
    };
    let waiting = upstream.queue.join(&patience(ctx, upstream));
    let waiting = waiting.map_err(|TooLong(wait)| node::busy(wait, &mut ctx.failure))?;
    let _shown = upstream.metrics.queued();
    loop {
        tokio::select! {
            () = waiting.turn() => {}
            () = tokio::time::sleep_until(until.into()) => {}
            // Whoever has left is waited for by nobody.
            gone = session.downstream_session.read_body_or_idle(true) => {
                let closed = || Error::new(ErrorType::ConnectionClosed);
                return Err(gone.err().unwrap_or_else(closed).into_down());
            }
        }
        // What cannot be there in time any more is not begun.
        let patience = patience(ctx, upstream);
        if patience.left.is_zero() || !upstream.queue.is_in_time(Duration::ZERO, &patience) {
            return Err(node::busy(Duration::ZERO, &mut ctx.failure));
        }
        let picked = pick(session, ctx);
        let here = ctx
            .forward
            .as_ref()
            .is_some_and(|forward| Arc::ptr_eq(&forward.route.upstream, upstream));
        if !(here && matches!(picked, Err(NoNode::Full))) {
            return Ok(picked);
        }
    }
}
