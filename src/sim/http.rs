//! The way of a request: read it, keep it, fail it if told to, check the key, answer.

use std::future::pending;
use std::sync::Arc;

use http::header::{AUTHORIZATION, LOCATION, RETRY_AFTER};
use http::request::Parts;
use http::{HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;

use super::call::Call;
use super::faults::{self, Fault};
use super::node::{Flight, Node};
use super::refusal::{Refusal, Shape};
use super::reply::{self, Broken, Reply};
use super::wire::{Ending, Line};
use super::{chat, completions, info, messages, responses, tokenize};

/// Bytes of a request body: what a chat with some images needs at most. vLLM has no bound.
const BODY_BYTES_MAX: usize = 100 * 1024 * 1024;

/// Paths that begin so need a key; all others are open, as in vLLM 0.32.
const GUARDED: [&str; 4] = ["/v1", "/v2", "/inference", "/cohere"];

/// What a path is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Endpoint {
    Chat,
    Completions,
    Responses,
    Messages,
    Tokenize,
    Detokenize,
    Models,
    Alive,
    Ping,
    Version,
    Load,
    Metrics,
}

impl Endpoint {
    fn of(path: &str) -> Option<Self> {
        Some(match path {
            "/v1/chat/completions" => Self::Chat,
            "/v1/completions" => Self::Completions,
            "/v1/responses" => Self::Responses,
            "/v1/messages" => Self::Messages,
            "/tokenize" => Self::Tokenize,
            "/detokenize" => Self::Detokenize,
            "/v1/models" => Self::Models,
            "/health" => Self::Alive,
            "/ping" => Self::Ping,
            "/version" => Self::Version,
            "/load" => Self::Load,
            "/metrics" => Self::Metrics,
            _ => return None,
        })
    }

    /// Its methods, as `allow` lists them.
    fn methods(self) -> &'static str {
        match self {
            Self::Chat
            | Self::Completions
            | Self::Responses
            | Self::Messages
            | Self::Tokenize
            | Self::Detokenize => "POST",
            Self::Models | Self::Alive | Self::Version | Self::Load | Self::Metrics => "GET",
            Self::Ping => "GET, POST",
        }
    }
}

/// Answers one request.
///
/// # Errors
/// The connection is to end without an answer.
pub(super) async fn serve(
    node: Arc<Node>,
    line: Arc<Line>,
    request: Request<Incoming>,
) -> Result<Reply, Broken> {
    let (head, body) = request.into_parts();
    // Even a request that is to fail is read first: to close with unread bytes would be a reset.
    let body = match Limited::new(body, BODY_BYTES_MAX).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => {
            return Ok(Refusal::TooLarge.reply(Shape::OpenAi));
        }
        // The client left in the middle of its request.
        Err(_) => return Err(Broken),
    };
    node.counts.send_modify(|counts| counts.arrived += 1);
    if let Some(record) = &node.record {
        record.add(&head, &body);
    }
    let live = node.live.load_full();
    let standing = if head.method == Method::POST { &live.fault } else { &live.probe_fault };
    let fault = match faults::asked_for(&head.headers) {
        Ok(fault) => fault.or_else(|| standing.clone()),
        Err(error) => {
            return Ok(
                Refusal::Fault(StatusCode::BAD_REQUEST, error.to_string()).reply(Shape::OpenAi)
            );
        }
    };
    let call = Call { node, live, line, head, body, fault };
    match fail(&call).await? {
        Some(reply) => Ok(reply),
        None => Ok(answer(&call).await),
    }
}

/// What a fault does before the request is looked at; nothing, if it shows only later.
async fn fail(call: &Call) -> Result<Option<Reply>, Broken> {
    match &call.fault {
        Some(Fault::Status { status, retry_after }) => {
            let says = format!("The simulator was told to answer {status}.");
            let mut reply = Refusal::Fault(*status, says).reply(Shape::OpenAi);
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
            let _flight = (call.head.method == Method::POST).then(|| Flight::begin(&call.node, 0));
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
            Fault::StallAfter(_) | Fault::CutAfter(_) | Fault::ResetAfter(_) | Fault::DieAfter(_),
        )
        | None => Ok(None),
    }
}

/// The order is vLLM's: the key, the path, the method, the body.
async fn answer(call: &Call) -> Reply {
    let path = call.head.uri.path();
    if !has_key(&call.head, &call.node.api_keys) {
        return Refusal::Unauthorized.reply(Shape::OpenAi);
    }
    let Some(endpoint) = Endpoint::of(path) else {
        return Refusal::UnknownPath.reply(Shape::OpenAi);
    };
    let mut methods = endpoint.methods().split(", ");
    if !methods.any(|method| method == call.head.method.as_str()) {
        return Refusal::Method(endpoint.methods()).reply(Shape::OpenAi);
    }
    let reply = match endpoint {
        Endpoint::Chat => chat::answer(call).await,
        Endpoint::Completions => completions::answer(call).await,
        Endpoint::Responses => responses::answer(call).await,
        Endpoint::Messages => messages::answer(call).await,
        Endpoint::Tokenize => tokenize::tokenize(call),
        Endpoint::Detokenize => tokenize::detokenize(call),
        Endpoint::Models => Ok(info::models(call)),
        Endpoint::Alive | Endpoint::Ping => Ok(reply::empty(StatusCode::OK)),
        Endpoint::Version => Ok(info::version()),
        Endpoint::Load => Ok(info::load(&call.node)),
        Endpoint::Metrics => Ok(info::metrics(call)),
    };
    let shape = if endpoint == Endpoint::Messages { Shape::Anthropic } else { Shape::OpenAi };
    reply.unwrap_or_else(|refusal| refusal.reply(shape))
}

/// Whether the request may pass. `x-api-key` is no key, and a preflight needs none, as in vLLM 0.32.
fn has_key(head: &Parts, keys: &[String]) -> bool {
    let guarded = GUARDED.iter().any(|prefix| head.uri.path().starts_with(prefix));
    if keys.is_empty() || !guarded || head.method == Method::OPTIONS {
        return true;
    }
    let value = head.headers.get(AUTHORIZATION).map(HeaderValue::to_str);
    let Some(Ok(Some((scheme, key)))) = value.map(|value| value.map(|text| text.split_once(' ')))
    else {
        return false;
    };
    scheme.eq_ignore_ascii_case("bearer") && keys.iter().any(|known| known == key)
}
