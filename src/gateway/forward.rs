//! The request as the node sees it, and its answer as the client sees it.

use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderName, HeaderValue, Method, Version, header};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::upstreams::peer::{HttpPeer, HttpUpstreamRequestPolicy};
use pingora::{Error, ErrorType, OrErr as _, Result};
use pingora_core::protocols::ALPN;
use pingora_proxy::Session;

use super::client::say_who_asks;
use super::context::RequestContext;
use super::node;
use super::reply::REQUEST_ID;
use crate::access::keys;
use crate::refusal::Refusal;
use crate::routing::table::target_of;
use crate::upstream::{client, connection};
use crate::wire::splice::Pieces;

/// Headers of a client's that go up as they are, and families of them: versions and betas of the two APIs. Whatever is not
/// here, or in a route's `forward_headers`, ends at the gateway: cookies, credentials, `Forwarded`, and names that a WSGI
/// server would take for others.
fn is_for_nodes(name: &str) -> bool {
    let family = name.starts_with("anthropic-") || name.starts_with("openai-");
    matches!(name, "content-type" | "accept" | "user-agent") || family && !name.contains('_')
}

/// Headers of a node's that end at the gateway: what it runs on, credentials, and what speaks of its own origin.
fn is_for_gateway(name: &str) -> bool {
    matches!(
        name,
        "keep-alive"
            | "server"
            | "x-powered-by"
            | "set-cookie"
            | "www-authenticate"
            | "proxy-authenticate"
            | "alt-svc"
            | "strict-transport-security"
            | "location"
            | "access-control-allow-origin"
            | "access-control-allow-credentials"
            | "access-control-allow-headers"
            | "access-control-allow-methods"
            | "access-control-expose-headers"
            | "access-control-max-age"
    )
}

pub(super) const UP_REQUEST_ID: HeaderName = HeaderName::from_static(REQUEST_ID);
pub(super) const TRACE_PARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACE_STATE: HeaderName = HeaderName::from_static("tracestate");

/// Headers that a request has when it leaves, mostly: room for them is made once.
const HEADERS: usize = 12;

/// Requests on one connection of HTTP/2 to a node: what servers commonly allow (RFC 9113, 6.5.2).
const STREAMS_PER_CONNECTION: usize = 100;

/// How often a connection of HTTP/2 to a node is asked whether it lives (RFC 9113, 6.7): requests of many clients are on it, and a
/// limit of one of them ends that one alone. Seldom enough for servers that count pings.
const PING_INTERVAL: Duration = Duration::from_secs(30);

/// The node, its address of this moment, and how long to wait for it.
pub(super) async fn peer(
    session: &mut Session,
    ctx: &mut RequestContext,
    keepalive: Option<Duration>,
) -> Result<Box<HttpPeer>> {
    let internal = |why: &'static str| Error::explain(ErrorType::InternalError, why);
    if session.is_custom() {
        // One that outlived its try would switch Pingora's checks of the Host off.
        return Err(internal("a stand-in is in the session's place"));
    }
    let forward = ctx.forward.as_ref().ok_or_else(|| internal("no route was chosen"))?;
    let left = forward.first_byte_until.saturating_duration_since(Instant::now());
    if left.is_zero() {
        ctx.failure = Some(Refusal::UpstreamTimeout);
        return Err(Error::explain(ErrorType::HTTPStatus(504), "no time is left").into_up());
    }
    ctx.failure = None;
    ctx.node_told = false;
    ctx.tries += 1;
    let tried = ctx.tried.len();
    node::take(session, ctx).await?;
    let (Some(forward), Some(place)) = (&ctx.forward, &ctx.place) else {
        return Err(internal("no node was chosen"));
    };
    let left = forward.first_byte_until.saturating_duration_since(Instant::now());
    let (upstream, node) = (&forward.route.upstream, place.node());
    ctx.hurried = left < upstream.timeouts.connect;
    if let Some(failed) = ctx.tried.get(tried) {
        upstream.metrics.retried();
        failed.traffic.retried();
    }
    let address = match tokio::time::timeout(left, node.addresses.current()).await {
        Ok(Ok(address)) => address,
        late_or_unknown => {
            node.reached(false);
            ctx.failure = Some(match late_or_unknown {
                Err(_) => Refusal::UpstreamTimeout,
                Ok(_) => Refusal::UpstreamUnreachable,
            });
            let error = Error::explain(ErrorType::ConnectNoRoute, "the name has no address");
            return Err(error.into_up());
        }
    };
    ctx.node_address = Some(address);
    let mut peer = client::peer(upstream, node, address);
    // What must not be sent twice cannot be sent on a connection that may be closed.
    if ctx.met_stale || !forward.repeatable {
        // Connections are pooled by this key, too.
        peer.group_key = client::fresh();
    }
    peer.options.connection_timeout = Some(upstream.timeouts.connect.min(left));
    peer.options.total_connection_timeout = Some(upstream.timeouts.connect.min(left));
    peer.options.read_timeout = Some(forward.limits(keepalive).read_timeout(Instant::now()));
    peer.options.write_timeout = Some(left);
    peer.options.idle_timeout = Some(node.idle.limit(upstream.keepalive_idle));
    match (node.url.tls, upstream.http2) {
        (false, _) => peer.options.alpn = connection::protocol(),
        (true, true) => {
            peer.options.alpn = ALPN::H2H1;
            peer.options.max_h2_streams = STREAMS_PER_CONNECTION;
            peer.options.h2_ping_interval = Some(PING_INTERVAL);
        }
        (true, false) => {}
    }
    peer.options.http_upstream_request_policy = HttpUpstreamRequestPolicy::deny_upgrades();
    Ok(Box::new(peer))
}

/// A new head, made of what may go up: what nobody thought of stays behind.
pub(super) fn request(
    session: &Session,
    ctx: &RequestContext,
    body: Option<&Pieces>,
    version: Version,
) -> Result<RequestHeader> {
    let no_route = || Error::explain(ErrorType::InternalError, "no route was chosen");
    let forward = ctx.forward.as_ref().ok_or_else(no_route)?;
    let no_node = || Error::explain(ErrorType::InternalError, "no node was chosen");
    let node = ctx.place.as_ref().ok_or_else(no_node)?.node();
    let translated = forward.edits.translated.as_ref();
    let target = match translated {
        // Its own API has no use for what a client adds to OpenAI's.
        Some(translated) => target_of(&node.path_for(translated.path), None),
        None => forward.route.target(&forward.asked, node),
    };
    let no_target = |_| Error::explain(ErrorType::InternalError, "the node's path is none");
    let target = target.map_err(no_target)?;
    let from = session.req_header();
    let mut headers = HeaderMap::with_capacity(HEADERS);
    headers.insert(header::HOST, node.host_header.clone());
    let hops = of_one_hop(&from.headers);
    for (name, value) in &from.headers {
        let goes_up = is_for_nodes(name.as_str()) || forward.route.forward_headers.contains(name);
        if goes_up && !hops.contains(name) {
            headers.append(name.clone(), value.clone());
        }
    }
    if let Some(credential) = ctx.credential() {
        headers.insert(credential.header.clone(), credential.value.clone());
    }
    headers.insert(UP_REQUEST_ID, ctx.id.of_try());
    if let Some(trace) = &ctx.trace {
        headers.insert(
            TRACE_PARENT,
            HeaderValue::try_from(trace.child())
                .or_err(ErrorType::InternalError, "trace context")?,
        );
        for state in from.headers.get_all(TRACE_STATE) {
            headers.append(TRACE_STATE, state.clone());
        }
    }
    say_who_asks(session, ctx.client, &mut headers);
    if translated.is_some() {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    match body {
        Some(pieces) => drop(headers.insert(header::CONTENT_LENGTH, pieces.len().into())),
        None if from.method == Method::POST => {
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        None => {}
    }
    // Made of parts, it keeps no second map with the names as somebody wrote them.
    let mut parts = http::Request::new(()).into_parts().0;
    parts.method = from.method.clone();
    parts.uri = target.into();
    parts.version = version;
    parts.headers = headers;
    Ok(parts.into())
}

/// The headers that `Connection` says are meant for the next hop alone (RFC 9110, 7.6.1).
fn of_one_hop(headers: &HeaderMap) -> Vec<HeaderName> {
    let framing = [header::CONTENT_LENGTH, header::TRANSFER_ENCODING];
    let values = headers.get_all(header::CONNECTION).iter();
    let words = values.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    let names = words.filter_map(|word| HeaderName::from_bytes(word.trim_ascii()).ok());
    names.filter(|name| !framing.contains(name)).collect()
}

/// Takes off what ends here, and adds what every answer has.
pub(super) fn response(head: &mut ResponseHeader, ctx: &RequestContext) -> Result<()> {
    let hops = of_one_hop(&head.headers);
    let credential = ctx.credential();
    let tells = |value: &HeaderValue| {
        credential.is_some_and(|credential| credential.is_told_by(value.as_bytes()))
    };
    let stays = |(name, value): &(&HeaderName, &HeaderValue)| {
        let ends_here = is_for_gateway(name.as_str()) || keys::is_credential(name.as_str());
        ends_here || hops.contains(name) || tells(value)
    };
    let gone: Vec<_> = head.headers.iter().filter(stays).map(|(name, _)| name.clone()).collect();
    for name in &gone {
        head.remove_header(name);
    }
    ctx.add_own_headers(head)
}

/// An answer that does not go on is an error of the node's.
pub(super) fn refused_answer(status: u16, why: &'static str) -> Box<Error> {
    Error::explain(ErrorType::HTTPStatus(status), why).into_up()
}
