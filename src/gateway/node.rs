//! The node of each try: which one, and what is told of it when the try is over.

use std::time::{Duration, Instant};

use http::StatusCode;
use pingora::{Error, ErrorType};
use pingora_proxy::Session;

use super::affinity::Common;
use super::context::RequestContext;
use super::queued;
use crate::names::ModelName;
use crate::refusal::Refusal;
use crate::upstream::balance::{NoNode, Wish};
use crate::upstream::breaker::Fault;
use crate::upstream::load::Place;

/// Takes a place at the node of this try: the same as before where only its pooled connection was bad, else another where
/// there is one, and of another model where no node of the first will do. Where all have as much as they may, it waits.
pub(super) async fn take(session: &mut Session, ctx: &mut RequestContext) -> pingora::Result<()> {
    if std::mem::take(&mut ctx.same_node) && ctx.place.is_some() {
        return Ok(());
    }
    if let Some(place) = ctx.place.take() {
        ctx.tried.push(place.node().clone());
    }
    let Some(until) = ctx.forward.as_ref().map(|forward| forward.first_byte_until) else {
        return Ok(());
    };
    if let Some(forward) = &ctx.forward
        && forward.route.upstream.members().is_empty()
    {
        // The name of the nodes was not found yet: what comes of looking for it is seen below.
        let look_up = forward.route.upstream.look_up();
        let _found = tokio::time::timeout_at(until.into(), look_up).await;
    }
    let picked = match queued::must_wait(ctx) {
        true => Err(NoNode::Full),
        false => pick(session, ctx),
    };
    let found = match picked {
        Ok(place) => Ok(place),
        Err(NoNode::Full) => match in_line(session, ctx).await {
            Ok(found) => found,
            Err(error) => {
                ctx.tries -= 1;
                return Err(error);
            }
        },
        Err(why) => Err(why),
    };
    match found {
        Ok(place) => {
            let queue = ctx.forward.as_ref().map(|forward| &forward.route.upstream.queue);
            let queue = queue.filter(|queue| queue.limit().is_some());
            ctx.place = Some(place.in_line(queue));
            Ok(())
        }
        Err(why) => {
            // There was none.
            ctx.tries -= 1;
            Err(none_found(why, &mut ctx.failure))
        }
    }
}

/// Waits for a place: that is no work of ours.
async fn in_line(
    session: &mut Session,
    ctx: &mut RequestContext,
) -> pingora::Result<Result<Place, NoNode>> {
    ctx.own_time.stop();
    let found = Box::pin(queued::wait(session, ctx)).await;
    ctx.own_time.go();
    found
}

/// A place at the best node of the request's way, or of the first of its other ways on which one works.
pub(super) fn pick(session: &Session, ctx: &mut RequestContext) -> Result<Place, NoNode> {
    let bytes = ctx.body.as_ref().map_or(0, |body| body.bytes.len());
    loop {
        let spare = ctx.may_send_again();
        let common = Common::of(session, ctx);
        let Some(forward) = &mut ctx.forward else { return Err(NoNode::Unknown) };
        let upstream = &forward.route.upstream;
        // The one node that will do judges the model.
        let model = forward.model.as_ref().filter(|_| forward.only.is_none());
        let model = model.map(ModelName::as_str);
        let works = forward.fallbacks.is_empty() || upstream.is_up_for(model, Instant::now());
        let wish = Wish {
            model,
            only: forward.only.as_ref(),
            any_state: !forward.repeatable || ctx.stored.is_asked(),
            tried: &ctx.tried,
            spare,
            affinity: common.affinity(),
            bytes,
        };
        let picked = upstream.pick(&wish);
        let good =
            |place: &Place| works && !wish.tried_at(place.node()) && (spare || !place.is_trial());
        let waits = works && matches!(picked, Err(NoNode::Full));
        if waits || picked.as_ref().is_ok_and(good) || !forward.fall_back() {
            return picked;
        }
        if queued::must_wait(ctx) {
            return Err(NoNode::Full);
        }
    }
}

/// Nobody waits for so long.
pub(super) fn busy(wait: Duration, failure: &mut Option<Refusal>) -> Box<Error> {
    *failure = Some(Refusal::Busy { wait });
    Error::explain(ErrorType::HTTPStatus(503), "every node is busy").into_up()
}

/// No node: what the client is told of it is noted in `failure`.
fn none_found(why: NoNode, failure: &mut Option<Refusal>) -> Box<Error> {
    let refusal = match why {
        NoNode::Away(wait) => Refusal::NoHealthyNode { wait },
        NoNode::Full => Refusal::Busy { wait: Duration::ZERO },
        NoNode::Unknown => Refusal::UpstreamUnreachable,
    };
    let status = refusal.status().as_u16();
    *failure = Some(refusal);
    Error::explain(ErrorType::HTTPStatus(status), "no node").into_up()
}

impl RequestContext {
    /// This try met a fault of its node's.
    pub(super) fn node_failed(&mut self, fault: Fault) {
        self.node_told = true;
        if let Some(place) = &mut self.place {
            place.node().reached(fault != Fault::Connect);
            if fault == Fault::Connect {
                // Whether it is gone is known before the next request comes.
                place.node().schedule.hurry();
            }
            place.failed(fault);
        }
    }

    /// The head of a node's answer tells how the node is.
    pub(super) fn node_answered(&mut self, status: StatusCode, rest: Option<Duration>) {
        let Some(place) = &self.place else { return };
        place.node().reached(true);
        if let Some(rest) = rest {
            place.node().health.rest(rest, Instant::now());
        }
        if status.is_server_error() && !matches!(status.as_u16(), 501 | 505) {
            self.node_failed(Fault::Status);
        }
    }

    /// The first byte of an answer is there: a node that was on trial is back.
    pub(super) fn node_began(&mut self) {
        let Some(place) = &mut self.place else { return };
        place.began(self.answer.tail.is_some(), Instant::now());
        if place.is_trial() && !self.node_told {
            place.succeeded();
        }
    }

    /// True where another try finds a node that works.
    pub(super) fn another_try_may_work(&self) -> bool {
        let Some(forward) = &self.forward else { return false };
        let (upstream, now) = (&forward.route.upstream, Instant::now());
        let model = forward.model.as_ref().map(ModelName::as_str);
        match &forward.only {
            Some(only) => upstream.members().iter().any(|member| {
                member.node.id == *only && member.node.health.standing(now).takes_work()
            }),
            None => {
                upstream.is_up_for(model, now)
                    || forward.fallbacks.iter().any(|way| way.chosen.is_up(None))
            }
        }
    }

    /// The request is over: where its node met no fault, that is told.
    pub(super) fn leave_node(&mut self) {
        let answered = self.answer.status != 0 && self.refused.is_none() && !self.node_told;
        let operated = self.forward.as_ref().is_some_and(|forward| !forward.repeatable);
        let Some(mut place) = self.place.take() else { return };
        if answered {
            place.succeeded();
        }
        if operated {
            // It may be paused now.
            place.node().schedule.hurry();
        }
    }
}
