//! Answers of the gateway's own, and the three reasons for which a request does not go on to a node.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, header};
use pingora::Error;
use pingora::http::ResponseHeader;
use pingora_proxy::Session;

use super::body::Progress;
use super::context::RequestContext;
use crate::answers::Answer;
use crate::refusal::Refusal;

/// The name of a request, on every answer.
pub(super) const REQUEST_ID: &str = "x-request-id";

/// The same name where clients of Anthropic's look for it.
pub(super) const ANTHROPIC_REQUEST_ID: &str = "request-id";

/// `Retry-After` in milliseconds, and whether to come back at all: what OpenAI's and Anthropic's SDKs read first.
const RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");
const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

/// How long what a refused client still sends is read after the answer: closed at once, its kernel might throw the
/// answer away (RFC 9112, 9.6). nginx waits 5 s between bytes.
const LINGER: Duration = Duration::from_secs(2);

/// Why a request does not go on to a node. Three reasons, one `?`.
pub(super) enum Stop {
    /// The gateway knows the answer.
    Answer(Answer),
    /// The caller is told why not.
    Refuse(Refusal),
    /// The connection broke: nobody is left to tell.
    Fail(Box<Error>),
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refuse(refusal)
    }
}

impl From<Box<Error>> for Stop {
    fn from(error: Box<Error>) -> Self {
        Self::Fail(error)
    }
}

/// The answer that tells `refusal` to its caller.
pub(super) fn of_refusal(refusal: &Refusal, ctx: &RequestContext) -> Answer {
    let body = refusal.body(ctx.dialect, ctx.id.as_str());
    let mut answer = Answer::json(refusal.status(), body);
    if refusal.challenges() {
        answer.headers.push((header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")));
    }
    if let Some(seconds) = refusal.retry_after_seconds() {
        answer.headers.push((header::RETRY_AFTER, seconds.into()));
    }
    if let Some(millis) = refusal.retry_after_millis() {
        answer.headers.push((RETRY_AFTER_MS, millis.into()));
    }
    if refusal.forbids_retry() {
        answer.headers.push((SHOULD_RETRY, HeaderValue::from_static("false")));
    }
    if let Some(allow) = refusal.allow().and_then(|allow| HeaderValue::from_str(allow).ok()) {
        answer.headers.push((header::ALLOW, allow));
    }
    answer
}

/// Writes `answer`. The connection lives on only where the request's body was read to its good end.
///
/// # Errors
/// The client is gone.
pub(super) async fn send(
    session: &mut Session,
    ctx: &RequestContext,
    answer: Answer,
) -> pingora::Result<()> {
    let body_left = ctx.body_progress != Progress::Whole && !session.is_body_empty();
    if body_left || ctx.body_progress == Progress::Broken {
        session.set_keepalive(None);
    }
    let mut head = ResponseHeader::build(answer.status, Some(8))?;
    let told = answer.headers.iter().any(|(name, _)| *name == header::CONTENT_TYPE);
    if !answer.body.is_empty() && !told {
        head.insert_header(header::CONTENT_TYPE, "application/json")?;
    }
    // A 304 has the length of what it stands for, or none.
    if ![http::StatusCode::NO_CONTENT, http::StatusCode::NOT_MODIFIED].contains(&answer.status) {
        head.insert_header(header::CONTENT_LENGTH, answer.body.len())?;
    }
    for (name, value) in answer.headers {
        head.append_header(name, value)?;
    }
    ctx.add_own_headers(&mut head)?;
    let empty = answer.body.is_empty() || session.req_header().method == Method::HEAD;
    session.write_response_header(Box::new(head), empty).await?;
    if !empty {
        session.write_response_body(Some(answer.body), true).await?;
    }
    if body_left {
        let _drained_or_not = tokio::time::timeout(LINGER, session.drain_request_body()).await;
    }
    Ok(())
}

/// Ends an event stream that has begun with an event that says why.
///
/// # Errors
/// The client is gone.
pub(super) async fn end_stream(session: &mut Session, event: String) -> pingora::Result<()> {
    session.write_response_body(Some(Bytes::from(event)), false).await?;
    session.write_response_body(None, true).await
}
