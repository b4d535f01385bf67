//! The way of a request: read it, keep it, fail it if told to, answer it.

use std::future::pending;
use std::sync::{Arc, OnceLock};

use http::header::{LOCATION, RETRY_AFTER};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use tokio::time::Instant;

use super::call::Call;
use super::engine::{Job, PAUSE_MAX};
use super::faults::{self, Fault};
use super::node::Node;
use super::reply::{self, Broken, Reply};
use super::server::Course;
use super::wire::{Ending, Line};

/// Bytes of a request body: what a chat with some images needs at most. vLLM has no bound.
const BODY_BYTES_MAX: usize = 100 * 1024 * 1024;

/// Answers one request.
///
/// # Errors
/// The connection is to end without an answer.
pub(super) async fn serve(
    node: Arc<Node>,
    line: Arc<Line>,
    request: Request<Incoming>,
) -> Result<Reply, Broken> {
    let kind = node.kind;
    reply_to(node, line, request).await.map(|reply| kind.head(reply))
}

async fn reply_to(
    node: Arc<Node>,
    line: Arc<Line>,
    request: Request<Incoming>,
) -> Result<Reply, Broken> {
    let (head, body) = request.into_parts();
    // Even a request that is to fail is read first: to close with unread bytes would be a reset.
    let body = match Limited::new(body, BODY_BYTES_MAX).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => {
            return Ok(node.kind.too_large(head.uri.path()));
        }
        // The client left in the middle of its request.
        Err(_) => return Err(Broken),
    };
    node.counts.send_modify(|counts| counts.arrived += 1);
    if let Some(record) = &node.record {
        record.add(&head, &body);
    }
    let live = node.live.load_full();
    let fault = match faults::asked_for(&head.headers) {
        Ok(fault) => fault.or_else(|| node.standing_fault(&live, &head.method)),
        Err(error) => {
            let (path, says) = (head.uri.path(), error.to_string());
            return Ok(node.kind.fault(path, StatusCode::BAD_REQUEST, says));
        }
    };
    let call = Call { node, live, line, head, body, fault, salt: OnceLock::new() };
    match fail(&call).await? {
        Some(reply) => Ok(reply),
        None => call.node.kind.answer(&call).await,
    }
}

/// What a fault does before the request is looked at; nothing, if it shows only later.
async fn fail(call: &Call) -> Result<Option<Reply>, Broken> {
    match &call.fault {
        Some(Fault::Status { status, retry_after }) => {
            let says = format!("The simulator was told to answer {status}.");
            let mut reply = call.node.kind.fault(call.head.uri.path(), *status, says);
            if let Some(seconds) = retry_after {
                reply.headers_mut().insert(RETRY_AFTER, (*seconds).into());
            }
            Ok(Some(reply))
        }
        Some(Fault::Redirect(url)) => {
            let mut reply = reply::empty(StatusCode::TEMPORARY_REDIRECT);
            reply.headers_mut().insert(LOCATION, url.clone());
            Ok(Some(reply))
        }
        Some(Fault::Stall) => {
            // A probe that waits is no request of the model.
            let _flight = (call.head.method == Method::POST).then(|| call.begin(&Job::default()));
            pending().await
        }
        Some(Fault::Slow(slower)) => {
            if call.head.method != Method::POST {
                tokio::time::sleep(*slower).await;
            }
            Ok(None)
        }
        Some(Fault::Refuse(back_after)) => {
            let until = back_after.map(|time| Instant::now() + time.min(PAUSE_MAX));
            call.node.course.send_replace(Course::Refuse(until));
            // The connection goes with all others, once the port is closed.
            pending().await
        }
        Some(Fault::Close) => Err(Broken),
        Some(Fault::Reset) => {
            call.ends(Ending::Reset);
            Err(Broken)
        }
        Some(Fault::Garbage) => {
            call.ends(Ending::Garbage);
            Err(Broken)
        }
        Some(
            Fault::StallAfter(_)
            | Fault::CutAfter(_)
            | Fault::ResetAfter(_)
            | Fault::DieAfter(_)
            | Fault::KillAfter { .. },
        )
        | None => Ok(None),
    }
}
