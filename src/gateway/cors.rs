//! Web pages of other origins (Fetch standard, "CORS protocol"): off unless origins are configured, never with
//! credentials.

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};

use crate::answers::Answer;
use crate::config::CorsOrigins;

/// How long a browser may remember a preflight, in seconds.
const MAX_AGE: HeaderValue = HeaderValue::from_static("600");

/// What a page may read beside the body.
const EXPOSED: HeaderValue = HeaderValue::from_static(
    "x-request-id, request-id, retry-after, retry-after-ms, x-ratelimit-limit-requests, \
     x-ratelimit-remaining-requests, x-ratelimit-reset-requests, x-ratelimit-limit-tokens, \
     x-ratelimit-remaining-tokens, x-ratelimit-reset-tokens",
);

/// Every method that a route may have.
const METHODS: HeaderValue = HeaderValue::from_static("GET, POST, PUT, PATCH, DELETE");

/// Which pages may use the gateway.
#[derive(Debug)]
pub struct Cors(CorsOrigins);

/// The headers that an answer gets.
pub(super) type Headers = Vec<(HeaderName, HeaderValue)>;

impl Cors {
    /// Pages of these origins may.
    pub fn new(origins: CorsOrigins) -> Self {
        Self(origins)
    }

    /// What an answer to a request with `headers` gets. Where it depends on the origin, every answer says so, or a cache
    /// would give one page's answer to another.
    pub(super) fn headers_for(&self, headers: &HeaderMap) -> Headers {
        let mut answer = Headers::new();
        if matches!(self.0, CorsOrigins::List(_)) {
            answer.push((header::VARY, HeaderValue::from_static("origin")));
        }
        if let Some(allowed) = self.allowed(headers) {
            answer.push((header::ACCESS_CONTROL_ALLOW_ORIGIN, allowed));
            answer.push((header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED));
        }
        answer
    }

    /// The answer to a preflight; none where the request is no preflight, or CORS is off.
    pub(super) fn preflight(&self, method: &Method, headers: &HeaderMap) -> Option<Answer> {
        if self.0 == CorsOrigins::Off
            || *method != Method::OPTIONS
            || !headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
            || !headers.contains_key(header::ORIGIN)
        {
            return None;
        }
        let mut answer = Answer::empty(StatusCode::NO_CONTENT);
        if self.allowed(headers).is_some() {
            answer.headers.push((header::ACCESS_CONTROL_ALLOW_METHODS, METHODS));
            answer.headers.push((header::ACCESS_CONTROL_MAX_AGE, MAX_AGE));
            // Reflected: SDKs in browsers send a dozen headers of their own, more with each version.
            if let Some(wanted) = headers.get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
                answer.headers.push((header::ACCESS_CONTROL_ALLOW_HEADERS, wanted.clone()));
            }
        }
        Some(answer)
    }

    fn allowed(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        let origin = || headers.get(header::ORIGIN);
        match &self.0 {
            CorsOrigins::Off => None,
            CorsOrigins::Any => origin().map(|_| HeaderValue::from_static("*")),
            CorsOrigins::List(known) => origin().filter(|origin| known.contains(origin)).cloned(),
        }
    }
}
