//! What a request cost, for limits, the ledger and the log.

use std::time::SystemTime;

use super::access_log::{self, CLIENT_LEFT, cut, short};
use super::context::RequestContext;
use crate::ledger::Row;
use crate::refusal::Refusal;
use crate::upstream::pace::Told;
use crate::wire::paths;
use crate::wire::usage::spent::{Source, Spent};

impl Drop for RequestContext {
    /// A request that is cut when the gateway stops has a row and a line as well: its task ends where it waits.
    fn drop(&mut self) {
        if !self.closed {
            self.refused.get_or_insert(Refusal::Draining);
            close(self);
            access_log::write(self, None);
        }
    }
}

/// The row of a request that was let through.
fn note(ctx: &RequestContext, spent: Spent) {
    let (true, Some(forward)) = (ctx.ledger.is_on(), &ctx.forward) else { return };
    let asked = ctx.model.as_ref().filter(|asked| Some(*asked) != forward.model.as_ref());
    ctx.ledger.write(Row {
        time: SystemTime::now(),
        id: ctx.id.clone(),
        key: ctx.key.as_ref().map(|key| key.name.clone()),
        model: forward.model.as_ref().map(short),
        asked_model: asked.map(short),
        upstream: forward.route.upstream.name.clone(),
        path: cut(forward.asked.path()).into(),
        status: status(ctx),
        stream: ctx.stream,
        spent,
        duration: ctx.started.elapsed(),
        client_left: ctx.client_left,
    });
}

/// The status of its answer, or what it would have been.
pub(super) fn status(ctx: &RequestContext) -> u16 {
    match (ctx.answer.status, &ctx.refused) {
        (0, Some(refusal)) => refusal.status().as_u16(),
        (0, None) => CLIENT_LEFT,
        (status, _) => status,
    }
}

/// Tokens of the prompt, and of the answer as far as it came.
pub(super) fn spent(ctx: &RequestContext) -> Spent {
    let answer = &ctx.answer;
    if came_to_nothing(ctx) || answer.status >= 400 {
        // A node that refuses makes nothing.
        return Spent::nothing();
    }
    let whole = is_whole(ctx);
    let stream = answer.tail.is_some();
    let prompt = ctx.quota.prompt();
    let told = answer.tally.as_ref().map(|tally| match early_response(ctx, whole) {
        true => Spent::counted(tally, prompt),
        false => Spent::of(tally, prompt, stream, whole),
    });
    if let Some(told) = told.filter(|told| told.source != Source::Estimated) {
        return told;
    }
    let Some(place) = &ctx.place else { return Spent::estimated(prompt, 0) };
    let pace = &place.node().pace;
    // Its client left before the node told: that has made some of the answer.
    let made = if whole { 0 } else { pace.answer(place.held()) };
    Spent::estimated(pace.prompt(prompt), made.min(ctx.max_tokens.unwrap_or(u64::MAX)))
}

/// The client has all of the answer.
fn is_whole(ctx: &RequestContext) -> bool {
    !ctx.client_left && ctx.refused.is_none()
}

/// A stream of `/v1/responses` tells of usage in its last event alone: what is told before that is what its client wrote, and
/// was sent back.
fn early_response(ctx: &RequestContext, whole: bool) -> bool {
    let path = ctx.forward.as_ref().map(|forward| forward.asked.path());
    !whole && ctx.answer.tail.is_some() && path.is_some_and(paths::makes_response)
}

/// The request is over: what it cost, where somebody needs to know, and what its node has told by it.
pub(super) fn close(ctx: &mut RequestContext) {
    ctx.closed = true;
    if ctx.forward.is_none() || (!ctx.is_metered && ctx.answer.tally.is_none()) {
        return;
    }
    let spent = spent(ctx);
    if !ctx.is_metered && spent.source != Source::Reported {
        // Nobody asked for it, and nothing was told.
        return;
    }
    ctx.spent = Some(spent);
    note(ctx, spent);
    let is_typical = is_whole(ctx) && ctx.is_metered && spent.answer > 0;
    if let (true, Source::Reported, Some(place)) = (is_typical, spent.source, &ctx.place) {
        let estimated = ctx.quota.prompt();
        let (prompt, answer, took) = (spent.prompt, spent.answer, place.held());
        place.node().pace.note(Told { prompt, estimated, answer, took });
    }
}

/// It failed before its first byte, or its client left before a node was asked.
pub(super) fn came_to_nothing(ctx: &RequestContext) -> bool {
    let failed = ctx.refused.is_some() || (ctx.client_left && ctx.counted_tries() == 0);
    failed && ctx.answer.first_byte.is_none()
}
