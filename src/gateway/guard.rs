//! Streams of inference whose end looks good and is none: a node that dies may still end its answer well, as HTTP sees it.

use bytes::{Bytes, BytesMut};
use http::{Method, header};
use pingora::Result;
use pingora::http::ResponseHeader;
use pingora_proxy::Session;

use super::answer::AnswerSoFar;
use super::context::RequestContext;
use super::{Gateway, failure};
use crate::refusal::Refusal;
use crate::upstream::breaker::Fault;
use crate::wire::finish::Reason;
use crate::wire::stream_end::StreamEnd;
use crate::wire::usage::Tally;
use crate::wire::usage::ask::Hidden;
use crate::wire::usage::chunks::Chunks;

/// Over one stream.
pub(super) struct Guard {
    end: StreamEnd,
    /// Takes out what its client did not ask for.
    chunks: Option<Chunks>,
    /// The client was told that the stream broke: nothing passes any more.
    over: bool,
}

impl Guard {
    /// For a stream whose end is known. What is sent with a length has no place for an event of ours.
    pub(super) fn of(
        session: &Session,
        head: &ResponseHeader,
        hidden: Option<Hidden>,
    ) -> Option<Self> {
        let request = session.req_header();
        let watched =
            request.method == Method::POST && !head.headers.contains_key(header::CONTENT_LENGTH);
        let end = watched.then(|| StreamEnd::of_path(request.uri.path()))??;
        Some(Self { end, chunks: hidden.map(Chunks::new), over: false })
    }

    /// It has told the tally of all that passed.
    pub(super) fn tallies(&self) -> bool {
        self.chunks.is_some()
    }

    /// The client has all of it: the good end, or that the stream broke.
    pub(super) fn is_over(&self) -> bool {
        self.over || self.end.is_over()
    }

    /// What has come is a whole answer.
    pub(super) fn is_well(&self) -> bool {
        !self.over && self.end.is_well()
    }

    /// Why the stream has ended, if it has.
    pub(super) fn reason(&self) -> Option<Reason> {
        self.end.reason()
    }

    /// Leaves of a piece what may pass; says how the node has failed, if it has.
    fn watch(
        &mut self,
        body: &mut Option<Bytes>,
        end: bool,
        mut tally: Option<&mut Tally>,
    ) -> Option<Fault> {
        let mut died = false;
        if let Some(piece) = body.take() {
            let passed = self.end.push(piece);
            (*body, died) = (some(self.shown(passed.bytes, tally.as_deref_mut())), passed.died);
        }
        if end && !died {
            let rest = self.end.finish();
            let shown = self.shown(rest.bytes, tally.as_deref_mut());
            *body = some(joined(body.take(), shown));
            died = rest.died;
        }
        if died {
            return Some(Fault::Died);
        }
        if end && !self.end.is_well() {
            // With it goes the begin of a line that its client has nothing of: what is told of the failure stands alone.
            return Some(Fault::Broken);
        }
        if let (true, Some(chunks), Some(tally)) = (end, &mut self.chunks, tally) {
            *body = some(joined(body.take(), chunks.finish(tally)));
        }
        None
    }

    /// What of these bytes is for the client.
    fn shown(&mut self, bytes: Bytes, tally: Option<&mut Tally>) -> Bytes {
        match (&mut self.chunks, tally) {
            (Some(chunks), Some(tally)) => chunks.push(bytes, tally),
            _ => bytes,
        }
    }
}

fn some(bytes: Bytes) -> Option<Bytes> {
    (!bytes.is_empty()).then_some(bytes)
}

/// Both, one after the other; copied only where there are two.
pub(super) fn joined(first: Option<Bytes>, second: Bytes) -> Bytes {
    match first {
        Some(first) if second.is_empty() => first,
        Some(first) => {
            let mut both = BytesMut::from(first);
            both.extend_from_slice(&second);
            both.freeze()
        }
        None => second,
    }
}

impl Gateway {
    /// Lets a piece of a stream pass. Where the node has failed, the client is told after the last whole event.
    ///
    /// # Errors
    /// It has failed, and nothing of its answer went out: another try may take its place. Or it has failed inside of an
    /// event: only a cut is honest.
    pub(super) fn guard(
        &self,
        body: &mut Option<Bytes>,
        end: bool,
        ctx: &mut RequestContext,
    ) -> Result<()> {
        let AnswerSoFar { guard: Some(guard), tally, .. } = &mut ctx.answer else { return Ok(()) };
        if guard.over {
            *body = None;
            return Ok(());
        }
        let Some(fault) = guard.watch(body, end, tally.as_mut()) else {
            if guard.is_over() {
                ctx.downstream.settled();
            }
            return Ok(());
        };
        let mut tail = ctx.answer.tail.unwrap_or_default();
        tail.push(body.as_deref().unwrap_or_default());
        let nothing_sent = !ctx.answer.is_bound() && body.is_none();
        if nothing_sent || !tail.between_events() {
            return Err(failure::no_good_end(fault));
        }
        let refusal = Refusal::UpstreamError("The node broke off its answer.");
        let event = refusal.event(ctx.dialect, ctx.id.as_str());
        *body = Some(joined(body.take(), event.into()));
        self.try_failed(ctx, fault);
        self.metrics.refused(refusal.code());
        ctx.refused = Some(refusal);
        ctx.downstream.settled();
        if let Some(guard) = &mut ctx.answer.guard {
            guard.over = true;
        }
        Ok(())
    }
}
