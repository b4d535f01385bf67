//! What two programs on a request's way might read differently is refused: one of them may be the attacker's.

use http::header;
use pingora_proxy::Session;

use super::reply::Stop;
use crate::refusal::Refusal;
use crate::wire::paths;
use crate::wire::raw_head::{self, HEADERS_MAX, TARGET_BYTES_MAX, is_host, no_host};

/// Looks at the head: of HTTP/1 at its bytes as they came, as Pingora mends some of what it reads (SPEC 4).
pub(super) fn refuse_ambiguous(session: &Session) -> Result<(), Stop> {
    let request = session.req_header();
    if !request.raw_path_is_utf8() {
        return Err(Refusal::malformed("invalid_target", "The path is not ASCII.").into());
    }
    let path = request.uri.path().as_bytes();
    paths::refuse_ambiguous(&request.method, path).map_err(Refusal::from)?;
    if paths::refused_method(&request.method) || request.headers.contains_key(header::UPGRADE) {
        return Err(paths::upgrade_refused().into());
    }
    match session.as_http1() {
        Some(http1) => raw_head::check(&http1.get_headers_raw_bytes())?,
        None => refuse_http2(session)?,
    }
    Ok(())
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
    let hosts = request.headers.get_all(header::HOST).iter().map(|host| host.as_bytes());
    let authority = request.uri.authority().map(|authority| authority.as_str().as_bytes());
    let mut named = authority.into_iter().chain(hosts);
    let Some(host) = named.next().filter(|host| is_host(host)) else {
        return Err(no_host("The Host is no `host[:port]`."));
    };
    match named.all(|other| other == host) {
        true => Ok(()),
        false => Err(no_host("There must be one Host.")),
    }
}
