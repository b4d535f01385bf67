//! `/internal/authz`: yes and no, as nginx's `auth_request` understands them.

use http::{HeaderName, HeaderValue, StatusCode};

use super::Answer;
use crate::names::{KeyName, UpstreamName};

/// What nginx hands on: the key's name, and where the request would go.
const LABEL: HeaderName = HeaderName::from_static("x-auth-label");
const BACKEND: HeaderName = HeaderName::from_static("x-proxy-backend");

/// The request is counted: it brings this along.
pub const CHECKED: HeaderName = HeaderName::from_static("x-ratelimit-checked");

/// The status that a client would have got here, where nginx cannot be told it.
const STATUS: HeaderName = HeaderName::from_static("x-sluice-status");

/// 204.
pub fn let_in(key: &KeyName, backend: Option<&UpstreamName>, pass: Option<&str>) -> Answer {
    let mut answer = Answer::empty(StatusCode::NO_CONTENT);
    let texts = [
        (LABEL, Some(key.as_str())),
        (BACKEND, backend.map(UpstreamName::as_str)),
        (CHECKED, pass),
    ];
    for (name, text) in texts {
        // Names and passes are of characters that headers may have.
        if let Some(value) = text.and_then(|text| HeaderValue::from_str(text).ok()) {
            answer.headers.push((name, value));
        }
    }
    answer
}

/// The `answer` that tells why not. Of what is no 2xx, 401 and 403, nginx makes a 500: all else becomes 403, but for a limit
/// where `of_limit` says so.
pub fn refused(mut answer: Answer, status: StatusCode, of_limit: StatusCode) -> Answer {
    answer.status = match status {
        StatusCode::UNAUTHORIZED => status,
        StatusCode::TOO_MANY_REQUESTS => of_limit,
        _ => StatusCode::FORBIDDEN,
    };
    answer.headers.push((STATUS, status.as_u16().into()));
    answer
}
