//! What a request cost, for limits, the ledger and the log.

use std::time::SystemTime;

use pingora_proxy::Session;

use super::Gateway;
use super::access_log::{CLIENT_LEFT, cut, short};
use super::context::RequestContext;
use crate::ledger::Row;
use crate::wire::usage::spent::Spent;

impl Gateway {
    /// Notes a request that was let through in the ledger.
    pub(super) fn note_in_ledger(&self, session: &Session, ctx: &RequestContext) {
        let (true, Some(forward)) = (self.ledger.is_on() && ctx.is_metered, &ctx.forward) else {
            return;
        };
        let asked = ctx.model.clone().filter(|asked| Some(asked) != forward.model.as_ref());
        self.ledger.write(Row {
            time: SystemTime::now(),
            id: ctx.id.clone(),
            key: ctx.key.as_ref().map(|key| key.name.clone()),
            model: forward.model.as_ref().map(short),
            asked_model: asked.as_ref().map(short),
            upstream: forward.route.upstream.name.clone(),
            path: cut(session.req_header().uri.path()).into(),
            status: if ctx.answer.status == 0 { CLIENT_LEFT } else { ctx.answer.status },
            stream: ctx.stream,
            spent: spent(ctx),
            duration: ctx.started.elapsed(),
            client_left: ctx.client_left,
        });
    }
}

/// Tokens of the prompt, and of the answer as far as it came.
pub(super) fn spent(ctx: &RequestContext) -> Spent {
    let answer = &ctx.answer;
    if came_to_nothing(ctx) || answer.status >= 400 {
        // A node that refuses makes nothing.
        return Spent::nothing();
    }
    let whole = !ctx.client_left && ctx.refused.is_none();
    let stream = answer.tail.is_some();
    match &answer.tally {
        Some(tally) => Spent::of(tally, ctx.quota.prompt(), stream, whole),
        // Its client left before there was an answer: the node may have made all of it, or nothing.
        None => Spent::of_prompt(ctx.quota.prompt()),
    }
}

/// It failed before its first byte, or its client left before a node was asked.
pub(super) fn came_to_nothing(ctx: &RequestContext) -> bool {
    let failed = ctx.refused.is_some() || (ctx.client_left && ctx.counted_tries() == 0);
    failed && ctx.answer.first_byte.is_none()
}
