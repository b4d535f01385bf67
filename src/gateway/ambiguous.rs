//! What two programs on a request's way might read differently is refused: one of them may be the attacker's.

use http::header;
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
    let headers = &request.headers;
    let mut hosts = headers.get_all(header::HOST).iter();
    let named = hosts.next().is_some() || request.uri.authority().is_some();
    if !named || hosts.next().is_some() {
        return refuse("invalid_host", "There must be one Host.");
    }
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    let mut encodings = headers.get_all(header::TRANSFER_ENCODING).iter();
    let (length, encoding) = (lengths.next(), encodings.next());
    // Pingora takes `13, 13` for one length.
    let is_list = length.is_some_and(|value| value.as_bytes().contains(&b','));
    if is_list || lengths.next().is_some() || encodings.next().is_some() {
        return refuse("invalid_framing", "The body's length is told twice.");
    }
    let Some(encoding) = encoding else { return Ok(()) };
    if !encoding.as_bytes().eq_ignore_ascii_case(b"chunked") {
        return refuse(
            "invalid_framing",
            "The only transfer encoding that is served is `chunked`.",
        );
    }
    if sent_a_length(session) {
        return refuse("invalid_framing", "The body has a length and is chunked.");
    }
    Ok(())
}

/// Pingora takes `Content-Length` away where `Transfer-Encoding` is there too: what was sent shows in the raw head.
fn sent_a_length(session: &Session) -> bool {
    let Some(http1) = session.as_http1() else { return false };
    let head = http1.get_headers_raw_bytes();
    head.split(|byte| *byte == b'\n').any(|line| {
        line.get(..15).is_some_and(|name| name.eq_ignore_ascii_case(b"content-length:"))
    })
}
