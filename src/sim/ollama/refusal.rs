//! Requests that are not answered, in Ollama's words and in its two shapes.

use http::StatusCode;

use super::go;
use super::run::typed;
use crate::sim::call::EngineDied;
use crate::sim::engine::Health;
use crate::sim::reply::{self, Broken, Reply};

/// What Gin calls JSON.
pub(super) const JSON: &str = "application/json; charset=utf-8";

/// What Ollama calls it where it sets the type itself.
pub(super) const PLAIN_JSON: &str = "application/json";

/// The queue is full.
const BUSY: &str = "server busy, please try again.  maximum pending requests exceeded";

/// The process that runs the model is not there.
const STOPPED: &str = "model runner has unexpectedly stopped, this may be due to resource limitations or an internal \
                       error, check ollama server logs for details";

/// It went away in the middle of an answer.
const DIED: &str = "an error was encountered while running the model: unexpected EOF";

/// Why a request is not answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    status: StatusCode,
    says: String,
    /// Whether a stream was about to begin.
    in_stream: bool,
}

/// Who tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// Ollama's own API.
    Native,
    /// What reads a request of `/v1`, before the handler of Ollama's own API gets it.
    Before,
    /// What writes anew what that handler answered.
    After,
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Stop {
    /// The caller is told why.
    Refuse(Refusal),
    /// The connection is to end.
    Break,
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refuse(refusal)
    }
}

impl From<Broken> for Stop {
    fn from(_: Broken) -> Self {
        Self::Break
    }
}

impl From<EngineDied> for Refusal {
    fn from(_: EngineDied) -> Self {
        Self::internal(DIED.to_owned())
    }
}

impl From<Health> for Refusal {
    fn from(why: Health) -> Self {
        match why {
            Health::Full => Self::new(StatusCode::SERVICE_UNAVAILABLE, BUSY.to_owned()),
            Health::Serves | Health::Drains | Health::Dead => Self::internal(STOPPED.to_owned()),
        }
    }
}

impl Refusal {
    pub(super) fn new(status: StatusCode, says: String) -> Self {
        Self { status, says, in_stream: false }
    }

    /// 400.
    pub(super) fn bad(says: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, says.into())
    }

    /// 404.
    pub(super) fn not_found(says: String) -> Self {
        Self::new(StatusCode::NOT_FOUND, says)
    }

    /// 500: also what the caller did wrong, if Ollama finds it late.
    pub(super) fn internal(says: String) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, says)
    }

    /// The same, found when a stream was about to begin, if the answer is one.
    pub(super) fn in_stream(self, in_stream: bool) -> Self {
        Self { in_stream, ..self }
    }

    /// The answer.
    pub(super) fn reply(&self, shape: Shape) -> Reply {
        let says = go::string(&self.says);
        let body = match shape {
            Shape::Native => format!(r#"{{"error":{says}}}"#),
            Shape::Before => self.openai(&says),
            Shape::After => self.openai(&says) + "\n",
        };
        let content_type = match shape {
            Shape::Native if self.in_stream => PLAIN_JSON,
            Shape::Native | Shape::Before => JSON,
            Shape::After => PLAIN_JSON,
        };
        typed(reply::json(self.status, body), content_type)
    }

    fn openai(&self, says: &str) -> String {
        let kind = match self.status {
            StatusCode::BAD_REQUEST => "invalid_request_error",
            StatusCode::NOT_FOUND => "not_found_error",
            _ => "api_error",
        };
        format!(r#"{{"error":{{"message":{says},"type":"{kind}","param":null,"code":null}}}}"#)
    }
}
