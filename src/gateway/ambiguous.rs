//! What two programs on a request's way might read differently is refused: one of them may be the attacker's.

use http::header;
use pingora_proxy::Session;

use super::reply::Stop;
use crate::refusal::Refusal;
use crate::wire::paths;
use crate::wire::raw_head::{self, HEADERS_MAX, TARGET_BYTES_MAX, is_host, no_host};

/// Looks at the head (SPEC 4). Where it is refused, nothing that follows on its connection is believed.
pub(super) fn refuse_ambiguous(session: &mut Session) -> Result<(), Stop> {
    look_at(session).inspect_err(|_| session.set_keepalive(None)).map_err(Stop::from)
}

/// Of HTTP/1 the head is looked at as it came: Pingora mends some of what it reads.
fn look_at(session: &Session) -> Result<(), Refusal> {
    let request = session.req_header();
    if !request.raw_path_is_utf8() {
        return Err(Refusal::malformed("invalid_target", "The path is not ASCII."));
    }
    let path = request.uri.path().as_bytes();
    paths::refuse_ambiguous(&request.method, path)?;
    if paths::refused_method(&request.method) || request.headers.contains_key(header::UPGRADE) {
        return Err(paths::upgrade_refused());
    }
    match session.as_http1() {
        Some(http1) => raw_head::check(&http1.get_headers_raw_bytes()),
        None => refuse_http2(session),
    }
}

/// HTTP/2 has one framing; the rest of what holds for HTTP/1 holds here (RFC 9113, 8.2 and 8.3).
fn refuse_http2(session: &Session) -> Result<(), Refusal> {
    let request = session.req_header();
    if request.headers.len() > HEADERS_MAX {
        return Err(Refusal::HeadTooLarge);
    }
    if request.raw_path().len() > TARGET_BYTES_MAX {
        return Err(Refusal::TargetTooLong);
    }
    // h2 has compared the length that is told with what comes, but takes the last where there are two.
    if request.headers.get_all(header::CONTENT_LENGTH).iter().nth(1).is_some() {
        return Err(Refusal::malformed("invalid_framing", "The body's length is told twice."));
    }
    let hosts = request.headers.get_all(header::HOST).iter().map(|host| host.as_bytes());
    let authority = request.uri.authority().map(|authority| authority.as_str().as_bytes());
    let mut named = authority.into_iter().chain(hosts);
    let Some(host) = named.next().filter(|host| is_host(host)) else {
        return Err(no_host("The Host is no `host[:port]`."));
    };
    match named.all(|other| other.eq_ignore_ascii_case(host)) {
        true => Ok(()),
        false => Err(no_host("There must be one Host.")),
    }
}
