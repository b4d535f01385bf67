//! What of a node's answer goes to the client, and when: the moment from which no other node can take its place.

use std::time::Instant;

use bytes::Bytes;
use http::{Method, StatusCode, header};
use pingora::Result;
use pingora::http::ResponseHeader;
use pingora_proxy::Session;

use super::context::{Forward, RequestContext};
use super::downstream::{COMMENT, has_begun, is_stream, total_is_over};
use super::guard::Guard;
use super::last_words::{LastWords, Said};
use super::{Gateway, edits, forward};
use crate::config::Kind;
use crate::refusal::Refusal;
use crate::wire::usage::Tally;

/// The head of a try's answer. That of a stream is kept back until its first byte, and so is a 500 that may say that its
/// node is shutting down; any other is passed on at once.
fn head(
    session: &mut Session,
    head: &ResponseHeader,
    ctx: &mut RequestContext,
    (events, stream): (bool, bool),
) -> Result<()> {
    let begun = has_begun(session.response_written());
    if begun && !stream {
        // Comments are out, and with them a status: this answer has another.
        let why = "The node answered with an error when the stream had begun.";
        ctx.failure = Some(Refusal::UpstreamError(why));
        return Err(forward::refused_answer(head.status.as_u16(), "no stream after comments"));
    }
    let last_words = may_be_last_words(head.status, ctx);
    // What is translated whole is there when it is over: until then another try may take its place.
    let whole = last_words || ctx.answer.is_retold();
    let waits = stream || (whole && has_body(session, head));
    ctx.answer.begin(head, ctx.forward.as_ref(), (events, waits));
    if let Some(key) = ctx.credential().map(|credential| credential.key.clone()) {
        ctx.answer.hide(&key);
    }
    ctx.answer.last_words = (last_words && waits).then(LastWords::default);
    ctx.answer.tally = wants_tally(head, ctx, events).then(Tally::default);
    let hidden = ctx.forward.as_ref().and_then(|forward| forward.edits.hidden);
    let hidden = hidden.filter(|_| head.status.is_success());
    ctx.answer.guard = if events { Guard::of(session, head, hidden) } else { None };
    if begun {
        ctx.answer.send_head();
    }
    if !waits {
        ctx.downstream.pass_at_once();
        ctx.let_body_go();
        ctx.node_began();
    }
    Ok(())
}

/// Something comes after this head, for which it could wait.
fn has_body(session: &Session, head: &ResponseHeader) -> bool {
    let length = head.headers.get(header::CONTENT_LENGTH);
    session.req_header().method != Method::HEAD && length.is_none_or(|length| length != "0")
}

/// A 500 of vLLM's that could be answered by another try.
fn may_be_last_words(status: StatusCode, ctx: &RequestContext) -> bool {
    let vllm = |ctx: &RequestContext| {
        ctx.forward.as_ref().is_some_and(|forward| forward.route.upstream.kind == Kind::Vllm)
    };
    status == StatusCode::INTERNAL_SERVER_ERROR && vllm(ctx) && ctx.may_send_again()
}

/// Writes a comment, and before it the head that waits. Not inside of a `select!`: it runs to its end.
pub(super) async fn comment(session: &mut Session, ctx: &mut RequestContext) -> Result<()> {
    let comment = Bytes::from_static(COMMENT);
    session.write_response_body(Some(comment), false).await.map_err(|error| error.into_down())?;
    ctx.answer.send_head();
    Ok(())
}

/// The answer may tell of its tokens. A stream is read for that only where somebody needs them: it would cost as much again as
/// all else that is seen of a chunk.
fn wants_tally(head: &ResponseHeader, ctx: &RequestContext, stream: bool) -> bool {
    let forward = ctx.forward.as_ref();
    let may_tell = |forward: &Forward| {
        let of_model = !stream && forward.model.is_some();
        of_model || edits::is_needed(ctx, &forward.route.upstream)
    };
    head.status.is_success() && forward.is_some_and(may_tell)
}

/// What the answer told of its prompt corrects what is thought of the node's cache.
pub(super) fn note_cache(ctx: &RequestContext) {
    let (Some(forward), Some(place)) = (&ctx.forward, &ctx.place) else { return };
    let usage = ctx.answer.tally.as_ref().and_then(|tally| tally.usage().of_prompt());
    let Some(usage) = usage else { return };
    if let (Some(thought), Some(found)) = (place.compare(usage), usage.cached) {
        forward.route.upstream.metrics.prefix(usage.prompt, thought.min(usage.prompt), found);
    }
}

impl Gateway {
    /// The head of a try's answer.
    pub(super) fn pass_head(
        &self,
        session: &mut Session,
        response: &ResponseHeader,
        ctx: &mut RequestContext,
    ) -> Result<()> {
        let events = is_stream(response);
        let stream = events && has_body(session, response);
        ctx.flow = None;
        if stream && response.status.is_success() {
            self.watch_flow(ctx);
        }
        head(session, response, ctx, (events, stream))
    }

    /// A piece of the answer goes to the client, unless the request goes to a node again.
    pub(super) fn pass(
        &self,
        body: &mut Option<Bytes>,
        end: bool,
        ctx: &mut RequestContext,
    ) -> Result<()> {
        if let Some(until) = ctx.forward.as_ref().and_then(|forward| forward.total_until)
            && Instant::now() >= until
        {
            return Err(total_is_over());
        }
        if let Some(words) = &mut ctx.answer.last_words {
            let said = words.hear(body.as_ref(), end);
            if let Said::Last(fault, _) = said {
                ctx.node_failed(fault);
            }
            *body = match said {
                Said::Part => None,
                Said::Last(..) if self.is_tried_again(ctx.may_send_again()) => {
                    ctx.failure = None;
                    return Err(forward::refused_answer(500, "last words"));
                }
                Said::Last(_, all) | Said::Other(all) => {
                    ctx.answer.last_words = None;
                    Some(all)
                }
            };
        }
        self.guard(body, end, ctx)?;
        self.note_response(ctx, body.as_ref());
        let told = ctx.answer.guard.as_ref().is_some_and(Guard::tallies);
        if let (Some(tally), Some(piece), false) = (&mut ctx.answer.tally, &body, told) {
            tally.push(piece);
        }
        self.hear(body, end, ctx)?;
        if let (Some(flow), Some(piece)) = (&mut ctx.flow, &body) {
            flow.push(piece, ctx.own_time.came());
        }
        if ctx.answer.pass(body, end) {
            // Nobody will need it again.
            ctx.let_body_go();
            ctx.node_began();
        }
        if end || ctx.answer.is_over() {
            // Before the end is sent: who comes again at once finds their place free.
            self.settle_quota(ctx);
        }
        Ok(())
    }
}
