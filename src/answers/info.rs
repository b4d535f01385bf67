//! `GET /`, `/livez`, `/readyz`: what this is, and whether it can be sent traffic.

use http::StatusCode;
use serde_json::json;

use super::Answer;

/// Those of chat sessions.
const OF_SESSIONS: [&str; 4] = ["/init_session", "/set_system_prompt", "/chat", "/stop_session"];

/// `GET /`: name, version, and where to go from here. `sessions`: there are chat sessions.
pub fn about(sessions: bool) -> Answer {
    let mut endpoints = vec![
        "/v1/models",
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/responses",
        "/v1/messages",
        "/v1/embeddings",
        "/health",
        "/livez",
        "/readyz",
        "/docs",
        "/redoc",
        "/openapi.json",
    ];
    endpoints.extend(OF_SESSIONS.iter().filter(|_| sessions));
    let body = json!({
        "name": "sluice",
        "version": env!("CARGO_PKG_VERSION"),
        "endpoints": endpoints,
    });
    Answer::json(StatusCode::OK, body.to_string())
}

/// `GET /livez`: the process runs. It never depends on a node, or a dead GPU would restart every gateway.
pub fn live() -> Answer {
    Answer::json(StatusCode::OK, r#"{"status":"ok"}"#)
}

/// `GET /readyz`: 503 while draining, so that a load balancer sends its traffic elsewhere. `generation` is told to
/// admins only.
pub fn ready(ready: bool, generation: Option<u64>) -> Answer {
    let (status, word) = match ready {
        true => (StatusCode::OK, "ok"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "draining"),
    };
    let mut body = json!({ "status": word });
    if let Some(generation) = generation {
        body["config_generation"] = generation.into();
        body["version"] = env!("CARGO_PKG_VERSION").into();
    }
    Answer::json(status, body.to_string())
}
