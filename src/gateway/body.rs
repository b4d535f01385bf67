//! The request's body, read whole before a node is contacted: it can go to any node, and again to another.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::{Version, header};
use pingora::{Error, ErrorType};
use pingora_proxy::Session;

use super::context::RequestContext;
use super::held::{Budget, HeldBody, Share};
use super::limits::Limits;
use super::reply::Stop;
use crate::listener::Link;
use crate::refusal::Refusal;
use crate::wire::chunked::Broken;

/// How far the body was read: whether the connection can carry another request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// Nothing of it, or a part: more bytes of it may come.
    Unread,
    /// To its good end.
    Whole,
    /// What came is no body; where it ends nobody knows.
    Broken,
}

/// What a body may take.
pub(super) struct Allowance {
    bytes: usize,
    /// How many bytes of it must come in a second, once it has taken `patience`.
    rate: usize,
    patience: Duration,
    share: Share,
}

impl Allowance {
    pub(super) fn new(limits: &Limits, held: &Arc<Budget>) -> Self {
        Self {
            bytes: limits.max_body_bytes,
            rate: limits.min_body_rate,
            patience: limits.client_timeout,
            share: held.share(),
        }
    }

    /// The same for one of at most so many bytes.
    pub(super) fn of_at_most(self, bytes: usize) -> Self {
        Self { bytes: self.bytes.min(bytes), ..self }
    }

    /// Whether a body of which so much has come is too slow: a byte now and then keeps every other clock from ringing.
    fn is_too_slow(&self, bytes: usize, since: Instant) -> bool {
        let took = since.elapsed();
        took > self.patience && (bytes as f64) < self.rate as f64 * took.as_secs_f64()
    }
}

/// Reads the body, if there is one, into `ctx`. Waiting for it is no work of ours.
pub(super) async fn hold(
    session: &mut Session,
    ctx: &mut RequestContext,
    allowance: Allowance,
) -> Result<(), Stop> {
    ctx.own_time.stop();
    let link = ctx.link.as_deref();
    ctx.body = read(session, (allowance, link), &mut ctx.body_progress).await?;
    ctx.own_time.go();
    Ok(())
}

/// Reads the body, if there is one.
///
/// A body that came in one read stays where it is; more pieces are joined in one buffer (a copy): kept one by one, a
/// body of one-byte chunks would cost 60 times its size, and the proxy may be handed three pieces at most.
async fn read(
    session: &mut Session,
    (mut allowance, link): (Allowance, Option<&Link>),
    progress: &mut Progress,
) -> Result<Option<HeldBody>, Stop> {
    if session.is_body_empty() {
        *progress = Progress::Whole;
        return Ok(None);
    }
    if is_encoded(session) {
        return Err(Refusal::EncodedBody.into());
    }
    if link.is_some_and(Link::is_broken) {
        return Err(unframed(progress));
    }
    let (limit, since) = (allowance.bytes, Instant::now());
    let announced = announced_length(session);
    if announced.is_some_and(|length| length > limit) {
        return Err(Refusal::BodyTooLarge { limit }.into());
    }
    invite(session).await?;
    let (mut first, mut joined) = (Bytes::new(), BytesMut::new());
    loop {
        let next = next_piece(session, allowance.patience).await;
        let Some(piece) = next.map_err(|error| unreadable(error, link, progress))? else { break };
        if let Some(link) = link {
            link.body_came(piece.len());
        }
        let held = first.len() + joined.len();
        if held + piece.len() > limit {
            return Err(Refusal::BodyTooLarge { limit }.into());
        }
        if !allowance.share.grow(piece.len()) {
            return Err(Refusal::Overloaded.into());
        }
        if allowance.is_too_slow(held + piece.len(), since) {
            *progress = Progress::Broken;
            return Err(Refusal::ClientTooSlow.into());
        }
        if held == 0 {
            first = piece;
        } else {
            if joined.is_empty() {
                joined.reserve(announced.unwrap_or(2 * held).max(held + piece.len()));
                joined.extend_from_slice(&std::mem::take(&mut first));
            }
            joined.extend_from_slice(&piece);
        }
    }
    let bytes = if joined.is_empty() { first } else { joined.freeze() };
    // Pingora's parser is lax about chunks: a body is what the one below it has read to the same end.
    if is_chunked(session) && !link.is_some_and(|link| link.has_chunks_of(bytes.len())) {
        return Err(unframed(progress));
    }
    *progress = Progress::Whole;
    Ok(Some(allowance.share.hold(bytes)))
}

/// Of HTTP/2 Pingora has no clock here.
async fn next_piece(
    session: &mut Session,
    patience: Duration,
) -> Result<Option<Bytes>, Box<Error>> {
    if !session.is_http2() {
        return session.read_request_body().await;
    }
    let next = tokio::time::timeout(patience, session.read_request_body()).await;
    next.unwrap_or_else(|_| Error::err(ErrorType::ReadTimedout))
}

fn is_chunked(session: &Session) -> bool {
    session.get_header(header::TRANSFER_ENCODING).is_some()
}

/// The body is compressed, or says so: what a node would make of it is not what the gateway reads.
fn is_encoded(session: &Session) -> bool {
    let mut values = session.req_header().headers.get_all(header::CONTENT_ENCODING).iter();
    values.any(|value| !value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"identity"))
}

fn announced_length(session: &Session) -> Option<usize> {
    session.get_header(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Tells a client that waits for it to send its body (RFC 9110, 10.1.1).
async fn invite(session: &mut Session) -> Result<(), Stop> {
    // HTTP/1.0 knows no answer before the answer.
    let waits = session.req_header().version != Version::HTTP_10
        && session
            .get_header(header::EXPECT)
            .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
    if waits {
        // Any head written before the body is read turns keep-alive off; this one is no answer.
        session.set_close_on_response_before_downstream_finish(false);
        let invited = session.write_continue_response().await;
        session.set_close_on_response_before_downstream_finish(true);
        invited.map_err(|error| Stop::Fail(error.into_down()))?;
    }
    Ok(())
}

/// What a failed read means: a slow client, one that left, or one that sent no HTTP.
fn unreadable(error: Box<Error>, link: Option<&Link>, progress: &mut Progress) -> Stop {
    match error.etype() {
        _ if link.is_some_and(Link::is_broken) => unframed(progress),
        ErrorType::ReadTimedout => {
            *progress = Progress::Broken;
            Refusal::ClientTooSlow.into()
        }
        ErrorType::ConnectionClosed | ErrorType::ReadError | ErrorType::H2Error => {
            *progress = Progress::Broken;
            Stop::Fail(error.into_down())
        }
        _ => unframed(progress),
    }
}

/// What came is no body: nothing that follows it is believed.
fn unframed(progress: &mut Progress) -> Stop {
    *progress = Progress::Broken;
    Refusal::from(Broken).into()
}
