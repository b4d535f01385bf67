//! What browsers ask before they ask: vLLM 0.32 answers for every path, and allows no origin unless it was told one
//! (sample `options_chat.http`).

use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use http::request::Parts;
use http::{HeaderValue, Method, StatusCode};

use crate::sim::reply::{self, Reply};

const METHODS: &str = "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT, QUERY";

const VARIES: &str = "Origin, Access-Control-Request-Method, Access-Control-Request-Headers, \
                      Access-Control-Request-Private-Network";

/// The answer to a preflight; none to any other request.
pub(super) fn preflight(head: &Parts) -> Option<Reply> {
    let method = head.headers.get(ACCESS_CONTROL_REQUEST_METHOD)?;
    if head.method != Method::OPTIONS || !head.headers.contains_key(ORIGIN) {
        return None;
    }
    let mut says = "Disallowed CORS origin".to_owned();
    if !METHODS.split(", ").any(|known| known.as_bytes() == method.as_bytes()) {
        says += ", method";
    }
    if head.headers.contains_key("access-control-request-private-network") {
        says += ", private-network";
    }
    let text = HeaderValue::from_static("text/plain; charset=utf-8");
    let mut reply = reply::typed(StatusCode::BAD_REQUEST, text, says.into());
    let headers = reply.headers_mut();
    headers.insert(VARY, HeaderValue::from_static(VARIES));
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(METHODS));
    headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    if let Some(asked) = head.headers.get(ACCESS_CONTROL_REQUEST_HEADERS) {
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, asked.clone());
    }
    Some(reply)
}
