//! What the gateway answers itself: values, written to nobody here.

pub mod authz;
pub mod chats;
pub mod docs;
pub mod health;
pub mod info;
pub mod models;
pub mod nodes;

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode};

/// Longest wait for the name of an upstream's nodes by whoever asks about all of them: a resolver that hangs is told of as
/// nodes that hang are.
const NAME_TIMEOUT: Duration = Duration::from_millis(1_500);

/// A whole answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Headers beside those that every answer has.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The body: JSON, unless it is empty or its type is among the headers.
    pub body: Bytes,
}

impl Answer {
    /// A JSON answer.
    pub fn json(status: StatusCode, body: impl Into<Bytes>) -> Self {
        Self { status, headers: Vec::new(), body: body.into() }
    }

    /// An answer of headers alone.
    pub fn empty(status: StatusCode) -> Self {
        Self { status, headers: Vec::new(), body: Bytes::new() }
    }
}
