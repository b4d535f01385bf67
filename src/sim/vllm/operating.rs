//! What operators do to a node: pause it, resume it, scale it (vLLM 0.32, samples `*pause*`, `*resume*`, `*elastic_ep*`).

use http::StatusCode;
use serde_json::{Map, Value};

use super::refusal::Refusal;
use super::schema::{self, Field, Kind};
use crate::sim::call::Call;
use crate::sim::reply::{self, Reply};

const PAUSE: [Field; 2] = [
    Field::given("mode", Kind::OneOf(&[&["abort", "wait", "keep"]])),
    Field::given("clear_cache", Kind::Switch),
];

/// `POST /pause`: from now on no request is answered, while the node says that it is well.
///
/// # Errors
/// The query names no way to do it.
pub(super) fn pause(call: &Call) -> Result<Reply, Refusal> {
    let pairs = call.head.uri.query().unwrap_or_default().split('&');
    // Of two with one name the last counts. What may be said here needs no escapes.
    let query: Map<String, Value> = pairs
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (name.to_owned(), Value::from(value)))
        .collect();
    schema::check("query", &Value::from(query), &PAUSE)?;
    call.node.engine.pause();
    Ok(reply::json(StatusCode::OK, r#"{"status":"paused"}"#))
}

/// `POST /resume`: what waits is answered.
pub(super) fn resume(call: &Call) -> Reply {
    call.node.engine.resume();
    reply::json(StatusCode::OK, r#"{"status":"resumed"}"#)
}

/// `GET /is_paused`.
pub(super) fn is_paused(call: &Call) -> Reply {
    let paused = call.node.engine.is_paused();
    reply::json(StatusCode::OK, format!(r#"{{"is_paused":{paused}}}"#))
}

/// `POST /scale_elastic_ep`: any size will do.
///
/// # Errors
/// The body names no size.
pub(super) fn scale(call: &Call) -> Result<Reply, Refusal> {
    let body = match call.json() {
        Err(Refusal::NoBody | Refusal::BadJson(_)) => return Err(refused("Invalid JSON format")),
        other => other?,
    };
    let size = match body.get("new_data_parallel_size") {
        None | Some(Value::Null) => return Err(refused("new_data_parallel_size is required")),
        Some(size) => size.as_u64().filter(|size| *size > 0),
    };
    let Some(size) = size else {
        return Err(refused("new_data_parallel_size must be a positive integer"));
    };
    let timeout = body.get("drain_timeout");
    if timeout.is_some_and(|seconds| seconds.as_u64().is_none_or(|seconds| seconds == 0)) {
        return Err(refused("drain_timeout must be a positive integer"));
    }
    let says = format!(r#"{{"message":"Scaled to {size} data parallel engines"}}"#);
    Ok(reply::json(StatusCode::OK, says))
}

/// `POST /is_scaling_elastic_ep`: it takes no time here.
pub(super) fn is_scaling() -> Reply {
    reply::json(StatusCode::OK, r#"{"is_scaling_elastic_ep":false}"#)
}

fn refused(says: &str) -> Refusal {
    Refusal::Other {
        status: StatusCode::BAD_REQUEST,
        kind: "Bad Request",
        says: says.to_owned(),
        param: None,
    }
}
