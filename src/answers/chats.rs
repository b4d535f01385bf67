//! What clients of chat sessions are told but for answers of models (SPEC 8).

use std::time::Duration;

use http::StatusCode;
use serde_json::json;

use super::Answer;
use crate::chat::id::SessionId;

/// A session was begun.
pub fn begun(id: &SessionId, idle: Duration) -> Answer {
    let body = json!({ "session_id": id.text(), "expires_in": idle.as_secs() });
    Answer::json(StatusCode::OK, body.to_string())
}

/// It was done.
pub fn done() -> Answer {
    Answer::json(StatusCode::OK, r#"{"status":"ok"}"#)
}
