//! What two programs on a request's way might read differently is refused: one of them may be the attacker's.

use http::header;
use pingora::http::RequestHeader;
use pingora_proxy::Session;

use super::reply::Stop;
use crate::refusal::Refusal;
use crate::wire::paths;

/// Looks at the target, the method, the Host and the framing (SPEC 4).
pub(super) fn refuse_ambiguous(session: &Session) -> Result<(), Stop> {
    let request = session.req_header();
    let refuse = |code, what: &'static str| Err(Refusal::malformed(code, what).into());
    if !request.raw_path_is_utf8() {
        return refuse("invalid_target", "The path is not ASCII.");
    }
    let path = request.uri.path().as_bytes();
    paths::refuse_ambiguous(&request.method, path).map_err(Refusal::from)?;
    if paths::refused_method(&request.method) || request.headers.contains_key(header::UPGRADE) {
        return Err(paths::upgrade_refused().into());
    }
    let count = |name| request.headers.get_all(name).iter().count();
    if count(header::HOST) + usize::from(request.uri.authority().is_some()) == 0
        || count(header::HOST) > 1
    {
        return refuse("invalid_host", "There must be one Host.");
    }
    if count(header::CONTENT_LENGTH) > 1 || count(header::TRANSFER_ENCODING) > 1 || is_list(request)
    {
        return refuse("invalid_framing", "The body's length is told twice.");
    }
    let encoding = request.headers.get(header::TRANSFER_ENCODING);
    if encoding.is_some_and(|value| !value.as_bytes().eq_ignore_ascii_case(b"chunked")) {
        return refuse(
            "invalid_framing",
            "The only transfer encoding that is served is `chunked`.",
        );
    }
    if sent_two_framings(session) {
        return refuse("invalid_framing", "The body has a length and is chunked.");
    }
    Ok(())
}

/// Pingora takes `13, 13` for one length.
fn is_list(request: &RequestHeader) -> bool {
    let length = request.headers.get(header::CONTENT_LENGTH);
    length.is_some_and(|value| value.as_bytes().contains(&b','))
}

/// Pingora takes `Content-Length` away where `Transfer-Encoding` is there too: what was sent shows in the raw head.
fn sent_two_framings(session: &Session) -> bool {
    if !session.req_header().headers.contains_key(header::TRANSFER_ENCODING) {
        return false;
    }
    let Some(http1) = session.as_http1() else { return false };
    let head = http1.get_headers_raw_bytes();
    head.split(|byte| *byte == b'\n').any(|line| {
        line.get(..15).is_some_and(|name| name.eq_ignore_ascii_case(b"content-length:"))
    })
}
