//! What is counted of a request that is over: for its upstream, its node, its model and its key.

use std::sync::Arc;

use super::access_log::short;
use super::context::{Forward, RequestContext};
use super::flow::Flow;
use super::{Gateway, account};
use crate::metrics::{Failure, Known, Tokens, Traffic};
use crate::names::ModelName;

/// In words, for whoever reads what a try met.
fn in_words(how: Failure) -> &'static str {
    match how {
        Failure::Connect => "The node took no connection.",
        Failure::Timeout => "The node was too slow.",
        Failure::Broken => "The node broke off, or sent what is no answer.",
        Failure::Auth => "The node refused the key that it was shown.",
        Failure::Died => "The node told of its death in its answer.",
        Failure::Status => "The node answered with an error.",
    }
}

impl Gateway {
    /// A try failed.
    pub(super) fn count_failure(&self, ctx: &RequestContext, how: Failure) {
        if let Some(forward) = &ctx.forward {
            forward.route.upstream.metrics.failed(how);
        }
        if let Some(place) = &ctx.place {
            place.node().traffic.failed(how);
        }
        self.errors.note(ctx, None, (how.label(), in_words(how).into()));
    }

    /// A request that ended.
    pub(super) fn count(&self, ctx: &RequestContext) {
        if ctx.client_left {
            self.metrics.client_aborts.inc();
        }
        let (status, tokens) = (account::status(ctx), tokens(ctx));
        self.note_error(ctx, status);
        let Some(forward) = &ctx.forward else { return };
        self.metrics.took(ctx.own_time.sum());
        let has_answer = ctx.answer.status != 0 && ctx.refused.is_none();
        if has_answer {
            forward.route.upstream.metrics.answered(status, ctx.started.elapsed());
        }
        let model = self.traffic_of(forward, status < 400);
        (1..ctx.counted_tries()).for_each(|_| model.retried());
        let node = ctx.place.as_ref().map(|place| &place.node().traffic);
        if let Some(node) = node.filter(|_| has_answer) {
            node.answered(status, tokens);
        }
        for traffic in node.into_iter().chain([&model]) {
            if ctx.client_left {
                traffic.aborted();
            }
            if ctx.flow.is_none() {
                traffic.made(tokens.completion);
            }
        }
        if let Some(key) = &ctx.key {
            key.traffic.answered(status, tokens);
        }
        match ctx.refused.is_some() && status < 400 {
            // Its client had the head: it was told in the stream, or cut off.
            true => model.failed(Failure::Broken),
            false => model.answered(status, tokens),
        }
    }

    /// What came of requests for the model of this one; `answered`: a node has answered for it.
    pub(super) fn traffic_of(&self, forward: &Forward, answered: bool) -> Arc<Traffic> {
        let name = forward.model.as_ref().map(short);
        let name = name.as_ref().map(ModelName::as_str);
        let models = &forward.route.upstream.models;
        let how = match name {
            Some(name) if models.is_known() && models.serves(name) => Known::Listed,
            _ if answered => Known::Answered,
            _ => Known::Not,
        };
        self.metrics.of_model(name, how)
    }

    /// What went wrong by no fault of the client's.
    fn note_error(&self, ctx: &RequestContext, status: u16) {
        let told = match &ctx.refused {
            Some(refusal) if !(400..500).contains(&status) => (refusal.code(), refusal.message()),
            None if status >= 500 && ctx.forward.is_some() => {
                (Failure::Status.label(), in_words(Failure::Status).into())
            }
            _ => return,
        };
        self.errors.note(ctx, Some(status), told);
    }
}

/// As far as they are known. Of a stream that did not tell, those that were seen.
fn tokens(ctx: &RequestContext) -> Tokens {
    match ctx.spent {
        Some(spent) => Tokens {
            prompt: spent.prompt,
            cached: spent.cached.unwrap_or(0),
            completion: spent.answer,
        },
        None => {
            let completion = ctx.flow.as_deref().map_or(0, Flow::tokens);
            Tokens { completion, ..Tokens::default() }
        }
    }
}
