//! What goes wrong between us and a node: whose fault it is, what it is called, and how the client is told.

use std::time::{Duration, Instant};

use http::{HeaderValue, StatusCode, header};
use pingora::http::ResponseHeader;
use pingora::{Error, ErrorSource, ErrorType, Result};
use pingora_proxy::Session;

use super::context::RequestContext;
use super::downstream::{has_begun, is_over, is_total};
use super::drain::is_cut;
use super::{Gateway, forward, reply};
use crate::metrics::{Failure, Phase};
use crate::refusal::Refusal;
use crate::upstream::breaker::Fault;

/// The client left, or broke its connection: there is nobody to tell.
pub(super) fn is_clients(error: &Error) -> bool {
    *error.esource() == ErrorSource::Downstream
        && matches!(
            error.etype(),
            ErrorType::ReadError
                | ErrorType::WriteError
                | ErrorType::WriteTimedout
                | ErrorType::ConnectionClosed
                | ErrorType::H2Error
        )
}

/// How long a node asks to be left alone (RFC 9110, 10.2.3), where it says so in seconds.
fn retry_after(head: &ResponseHeader) -> Option<Duration> {
    let value = head.headers.get(header::RETRY_AFTER)?.to_str().ok()?;
    value.trim().parse().ok().map(Duration::from_secs)
}

/// The status is one of HTTP's, and everybody agrees on where the answer ends: Pingora passes on what it does not know.
fn is_framed(head: &ResponseHeader) -> bool {
    let mut lengths = head.headers.get_all(header::CONTENT_LENGTH).iter();
    let mut encodings = head.headers.get_all(header::TRANSFER_ENCODING).iter();
    let (length, encoding) = (lengths.next(), encodings.next());
    let once = lengths.next().is_none() && encodings.next().is_none();
    let digits =
        |value: &HeaderValue| !value.is_empty() && value.as_bytes().iter().all(u8::is_ascii_digit);
    let chunked = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"chunked");
    head.status.as_u16() < 600 && once && length.is_none_or(digits) && encoding.is_none_or(chunked)
}

/// The proxy takes a limit of ours that is over for the client's leaving: it is the node that was too slow. Nor has a client left
/// for which this process waits no longer: that is nobody's fault but ours.
pub(super) fn blame(error: &mut Error) {
    if is_over(error) {
        error.esource = ErrorSource::Upstream;
    } else if is_cut(error) {
        error.esource = ErrorSource::Internal;
    }
}

/// A node did not read, write or answer in time.
pub(super) fn is_timeout(error: &Error) -> bool {
    is_over(error) || matches!(error.etype(), ErrorType::ReadTimedout | ErrorType::WriteTimedout)
}

/// A stream ended as HTTP sees it, but not as it should: its node told of its death, or just ended.
pub(super) fn no_good_end(fault: Fault) -> Box<Error> {
    let kind = if fault == Fault::Died { DIED } else { ErrorType::ConnectionClosed };
    Error::explain(kind, "a stream without a good end").into_up()
}

/// A node told of its own death, in the midst of an answer that would otherwise be well.
const DIED: ErrorType = ErrorType::Custom("node died");

/// A connection that was there closed or was reset, or might as well have.
pub(super) fn is_broken_connection(error: &Error) -> bool {
    matches!(
        error.etype(),
        ErrorType::ConnectionClosed
            | ErrorType::ReadError
            | ErrorType::WriteError
            | ErrorType::H2Error
            | ErrorType::InvalidH2
            | ErrorType::H2Downgrade
    ) || *error.etype() == DIED
}

/// What a failure is called where nobody gave it a name on its way.
pub(super) fn name_of(error: &Error) -> Refusal {
    match (error.esource(), error.etype()) {
        _ if is_cut(error) => Refusal::Draining,
        (ErrorSource::Upstream, _) if is_timeout(error) => Refusal::UpstreamTimeout,
        (ErrorSource::Upstream, _) => {
            Refusal::UpstreamError("The node broke off its answer, or sent none.")
        }
        (ErrorSource::Downstream, ErrorType::ReadTimedout) => Refusal::ClientTooSlow,
        (ErrorSource::Downstream, _) => {
            Refusal::malformed("invalid_request", "The request is not HTTP as it should be.")
        }
        _ => Refusal::Internal,
    }
}

impl Gateway {
    /// Looks at the status of a node's answer: whether it may go on, must be tried again, or says that we are set up
    /// wrongly.
    pub(super) fn judge(&self, head: &ResponseHeader, ctx: &mut RequestContext) -> Result<()> {
        let status = head.status;
        let rest = (status == StatusCode::SERVICE_UNAVAILABLE).then(|| retry_after(head));
        ctx.node_answered(status, rest.flatten());
        let Some(upstream) = ctx.forward.as_ref().map(|forward| forward.route.upstream.clone())
        else {
            return Ok(());
        };
        if status.is_redirection() {
            self.count_failure(ctx, Failure::Broken);
            ctx.failure = Some(Refusal::UpstreamError("The node answered with a redirect."));
            return Err(forward::refused_answer(502, "a redirect"));
        }
        if status == StatusCode::SWITCHING_PROTOCOLS {
            self.count_failure(ctx, Failure::Broken);
            ctx.failure = Some(Refusal::UpstreamError("The node changed the protocol unasked."));
            return Err(forward::refused_answer(502, "an upgrade"));
        }
        if !is_framed(head) {
            self.count_failure(ctx, Failure::Broken);
            ctx.failure = Some(Refusal::UpstreamError("The node's answer is not HTTP."));
            return Err(forward::refused_answer(502, "a status or framing that is none"));
        }
        if status == StatusCode::UNAUTHORIZED || status == StatusCode::FORBIDDEN {
            if ctx.brought_key().is_some() {
                ctx.failure = Some(Refusal::UnknownKey { status: self.limits.invalid_key_status });
                return Err(forward::refused_answer(401, "the client's own key was refused"));
            }
            if upstream.key_refused(true) {
                log::error!(
                    "upstream `{}` refuses our key ({}): check its key in the configuration",
                    upstream.name,
                    status.as_u16()
                );
            }
            self.count_failure(ctx, Failure::Auth);
            ctx.failure = Some(Refusal::UpstreamAuthFailed);
            return Err(forward::refused_answer(502, "our key was refused"));
        }
        upstream.key_refused(false);
        let passing =
            status == StatusCode::BAD_GATEWAY || status == StatusCode::SERVICE_UNAVAILABLE;
        let again = passing && ctx.may_send_again() && ctx.another_try_may_work();
        if self.is_tried_again(again) {
            ctx.failure = None;
            return Err(forward::refused_answer(status.as_u16(), "a passing state"));
        }
        Ok(())
    }

    /// A try failed before its answer's good end: counted, and told of its node.
    pub(super) fn try_failed(&self, ctx: &mut RequestContext, fault: Fault) {
        let impatient = ctx.forward.as_ref().is_some_and(|forward| forward.impatient);
        let how = match fault {
            Fault::Connect => Some(Failure::Connect),
            Fault::Timeout => Some(Failure::Timeout),
            Fault::Broken => Some(Failure::Broken),
            Fault::Died => Some(Failure::Died),
            // The answer may still pass; what becomes of it is counted by its status.
            Fault::Status | Fault::Gone | Fault::ShuttingDown => None,
        };
        if let Some(how) = how {
            self.count_failure(ctx, how);
        }
        // A client that waits for less than the configuration lets it has found nothing out about the node.
        match fault == Fault::Timeout && impatient {
            true => ctx.node_told = true,
            false => ctx.node_failed(fault),
        }
    }

    /// True, and counted, where what `may` be tried again fits the budget.
    pub(super) fn is_tried_again(&self, may: bool) -> bool {
        may && self.retries.retry(Instant::now())
    }

    /// There is no connection.
    pub(super) fn not_connected(&self, error: &Error, ctx: &mut RequestContext) {
        let timed_out =
            matches!(error.etype(), ErrorType::ConnectTimedout | ErrorType::TLSHandshakeTimedout);
        if timed_out && ctx.hurried {
            // A client without patience has found nothing out about the node.
            ctx.node_told = true;
            return self.count_failure(ctx, Failure::Connect);
        }
        if let (Some(place), Some(address)) = (&ctx.place, ctx.node_address) {
            place.node().addresses.connect_failed(address);
        }
        self.try_failed(ctx, Fault::Connect);
    }

    /// There is nobody to connect to. A node whose name has no address is as good as one that takes no connection.
    pub(super) fn no_peer(&self, mut error: Box<Error>, ctx: &mut RequestContext) -> Box<Error> {
        let late = ctx.failure == Some(Refusal::UpstreamTimeout);
        if *error.etype() == ErrorType::ConnectNoRoute && !late {
            self.try_failed(ctx, Fault::Connect);
            error.set_retry(self.is_tried_again(ctx.may_try_again()));
        }
        error
    }

    /// A node broke off a stream, whose client was told in the stream.
    pub(super) fn broke_off(&self, error: &Error, ctx: &mut RequestContext) {
        let refusal = name_of(error);
        self.metrics.refused(refusal.code());
        ctx.refused = Some(refusal);
        self.try_failed(ctx, if is_timeout(error) { Fault::Timeout } else { Fault::Broken });
    }

    /// The client left. The proxy has let the node's connection go just before it calls `error_while_proxy`: over HTTP/1.1
    /// its socket is closed, over HTTP/2 its stream is reset. Not observed where nobody saw the client leave: when the
    /// stand-in has gone.
    pub(super) fn note_abort(&self, ctx: &RequestContext) {
        let Some(left_at) = ctx.downstream.left_at() else { return };
        let in_stream = ctx.answer.tail.is_some();
        let phase = if in_stream && ctx.answer.is_bound() {
            Phase::Streaming
        } else if in_stream || (ctx.stream && !ctx.answer.is_bound()) {
            Phase::Waiting
        } else {
            Phase::NonStreaming
        };
        self.metrics.aborted(phase, left_at.elapsed());
    }

    /// Tells the client, in the form that is still possible; gives the status for the log, 0 where nobody was told.
    pub(super) async fn tell_failure(
        &self,
        session: &mut Session,
        error: &Error,
        ctx: &mut RequestContext,
    ) -> u16 {
        if is_clients(error) {
            ctx.client_left = true;
            return 0;
        }
        let refusal = ctx.failure.take().unwrap_or_else(|| name_of(error));
        let status = refusal.status().as_u16();
        // Its kind alone: the whole of it may show what could not be read.
        let (source, kind) = (error.esource().as_str(), error.etype().as_str());
        log::debug!("request {} failed: {source} {kind}", ctx.id.as_str());
        let told = if !has_begun(session.response_written()) {
            ctx.body_progress = super::body::Progress::Broken;
            ctx.answer.status = status;
            let answer = self.refuse(ctx, refusal);
            reply::send(session, ctx, answer).await
        } else {
            let between = ctx.answer.tail.is_some_and(|tail| tail.between_events());
            if ctx.answer.is_over() && between {
                if !ctx.downstream.is_torn() {
                    ctx.client_left |= session.write_response_body(None, true).await.is_err();
                }
                return status;
            }
            self.metrics.refused(refusal.code());
            let event = refusal.event(ctx.dialect, ctx.id.as_str());
            ctx.refused = Some(refusal);
            self.settle_quota(ctx);
            // After a part of an event, or of anything but events, only a cut is honest.
            match between && !ctx.downstream.is_torn() {
                true => reply::end_stream(session, event).await,
                false => Ok(()),
            }
        };
        if told.is_err() {
            ctx.client_left = true;
        }
        status
    }

    /// Whether a failed try is followed by another (SPEC 6): only before the answer's first byte, never after our own
    /// timeout, never for what the client did.
    pub(super) fn may_retry(&self, error: &Error, ctx: &mut RequestContext) -> bool {
        if *error.esource() != ErrorSource::Upstream {
            return false;
        }
        let bound = ctx.answer.is_bound() || ctx.downstream.is_torn();
        let (timed_out, broken) = (is_timeout(error), is_broken_connection(error));
        // A pooled connection that the node closed while we took it: the same node on a fresh one, no penalty.
        if broken && !bound && ctx.may_be_stale() && !ctx.answer.has_head() {
            ctx.met_stale = true;
            ctx.same_node = true;
            return true;
        }
        if ctx.failure.is_none() && !ctx.answer.is_over() {
            match error.etype() {
                // Its head has told the node's health already, and a long answer tells nothing of it.
                ErrorType::HTTPStatus(_) => self.count_failure(ctx, Failure::Status),
                _ if is_total(error) => {
                    ctx.node_told = true;
                    self.count_failure(ctx, Failure::Timeout);
                }
                _ if timed_out => self.try_failed(ctx, Fault::Timeout),
                kind if *kind == DIED => self.try_failed(ctx, Fault::Died),
                _ => self.try_failed(ctx, Fault::Broken),
            }
        }
        if bound || timed_out || !ctx.may_send_again() {
            return false;
        }
        // `judge` has asked the budget already, and given what may not be tried again its name.
        let passing = matches!(error.etype(), ErrorType::HTTPStatus(_)) && ctx.failure.is_none();
        passing || self.is_tried_again(broken)
    }
}
