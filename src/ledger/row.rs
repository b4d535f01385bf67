//! A row: one request that was let through to a node, and the tokens that it had.

use std::borrow::Cow;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::names::{KeyName, ModelName, UpstreamName};
use crate::wire::ids::RequestId;
use crate::wire::usage::spent::Spent;

/// What is known of a request when it is over: a handful of handles and short copies.
pub struct Row {
    /// When it ended.
    pub time: SystemTime,
    /// What it is called.
    pub id: RequestId,
    /// Who asked.
    pub key: Option<KeyName>,
    /// The model as its node knows it.
    pub model: Option<ModelName>,
    /// As its client called it, where that is another name.
    pub asked_model: Option<ModelName>,
    /// The upstream that it went to.
    pub upstream: UpstreamName,
    /// Its path.
    pub path: Box<str>,
    /// The status of its answer; 499 where the client left before there was one.
    pub status: u16,
    /// Whether an event stream was asked for.
    pub stream: bool,
    /// Its tokens, and how they are known.
    pub spent: Spent,
    /// From its first byte to its end.
    pub duration: Duration,
    /// Whether the client left before the end.
    pub client_left: bool,
}

/// A row as it stands in the file. Fields may be added; none changes its meaning.
#[derive(Serialize, Deserialize)]
pub(super) struct Written<'a> {
    /// RFC 3339, UTC, to a millisecond.
    #[serde(borrow)]
    pub(super) time: Cow<'a, str>,
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub(super) key: Option<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub(super) model: Option<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    asked_model: Option<Cow<'a, str>>,
    #[serde(borrow)]
    upstream: Cow<'a, str>,
    #[serde(borrow)]
    path: Cow<'a, str>,
    pub(super) status: u16,
    stream: bool,
    pub(super) prompt_tokens: u64,
    /// Of those, found in a cache; none where the node does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) cached_tokens: Option<u64>,
    pub(super) completion_tokens: u64,
    /// `reported`, `counted` or `estimated`.
    #[serde(borrow)]
    pub(super) usage_source: Cow<'a, str>,
    duration_ms: u64,
    client_left: bool,
}

impl Row {
    /// Writes it as a line.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let written = Written {
            time: humantime::format_rfc3339_millis(self.time).to_string().into(),
            id: self.id.as_str().into(),
            key: self.key.as_ref().map(|key| key.as_str().into()),
            model: self.model.as_ref().map(|model| model.as_str().into()),
            asked_model: self.asked_model.as_ref().map(|model| model.as_str().into()),
            upstream: self.upstream.as_str().into(),
            path: (&*self.path).into(),
            status: self.status,
            stream: self.stream,
            prompt_tokens: self.spent.prompt,
            cached_tokens: self.spent.cached,
            completion_tokens: self.spent.answer,
            usage_source: self.spent.source.as_str().into(),
            duration_ms: u64::try_from(self.duration.as_millis()).unwrap_or(u64::MAX),
            client_left: self.client_left,
        };
        // Memory grows as needed, so writing cannot fail.
        let _ = serde_json::to_writer(&mut *out, &written);
        out.push(b'\n');
    }
}

impl<'a> Written<'a> {
    /// None of a line that is no row.
    pub(super) fn read(line: &'a [u8]) -> Option<Self> {
        serde_json::from_slice(line).ok()
    }
}
