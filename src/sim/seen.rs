//! What arrived at a node, kept for tests.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Method};

/// Requests kept: the last ones, far more than a test sends.
const REQUESTS_MAX: usize = 1_000;

/// Bytes of bodies kept: two of the largest bodies, so that a long run of large ones does not fill the memory.
const BODY_BYTES_MAX: usize = 200 * 1024 * 1024;

/// One request as it arrived.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Its method.
    pub method: Method,
    /// Path and query as sent, escapes and all.
    pub target: String,
    /// Its headers; names in lower case.
    pub headers: HeaderMap,
    /// Its whole body.
    pub body: Bytes,
}

/// The last requests, oldest first.
#[derive(Default)]
pub(super) struct Record {
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    requests: VecDeque<Seen>,
    body_bytes: usize,
}

impl Record {
    /// Keeps one more request, and lets go of the oldest when there are too many.
    pub(super) fn add(&self, head: &Parts, body: &Bytes) {
        let target =
            head.uri.path_and_query().map_or_else(|| head.uri.to_string(), ToString::to_string);
        let seen = Seen {
            method: head.method.clone(),
            target,
            headers: head.headers.clone(),
            body: body.clone(),
        };
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.body_bytes += body.len();
        kept.requests.push_back(seen);
        while kept.requests.len() > REQUESTS_MAX || kept.body_bytes > BODY_BYTES_MAX {
            let Some(oldest) = kept.requests.pop_front() else { break };
            kept.body_bytes -= oldest.body.len();
        }
    }

    /// All that is kept, oldest first.
    pub(super) fn all(&self) -> Vec<Seen> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.requests.iter().cloned().collect()
    }
}
