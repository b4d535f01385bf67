//! `GET /v1/models` and `GET /v1/models/{id}`.

use std::time::UNIX_EPOCH;

use http::StatusCode;

use super::{Refusal, Shape};
use crate::sim::call::Call;
use crate::sim::ollama::names::{self, Missing, Name};
use crate::sim::ollama::refusal::PLAIN_JSON;
use crate::sim::ollama::run::typed;
use crate::sim::ollama::{go, info};
use crate::sim::reply::{self, Reply};

/// All models, by their short names.
pub(in crate::sim::ollama) fn list(call: &Call) -> Reply {
    let data: Vec<_> =
        info::models(call).map(|model| object(call, &model.name.shortest(), &model.name)).collect();
    // Go's list without an item is null.
    let data = if data.is_empty() { "null".to_owned() } else { format!("[{}]", data.join(",")) };
    json(format!(r#"{{"object":"list","data":{data}}}"#))
}

/// One model, under the name that was asked for.
pub(in crate::sim::ollama) fn retrieve(call: &Call, id: &str) -> Reply {
    let found = names::find(call, id, Missing::Show);
    match found {
        Ok(model) => json(object(call, id, &model.name)),
        Err(refusal) => Refusal::reply(&refusal, Shape::After),
    }
}

fn object(call: &Call, id: &str, name: &Name) -> String {
    let created = info::modified(call).duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let (id, owner) = (go::string(id), go::string(name.namespace()));
    format!(r#"{{"id":{id},"object":"model","created":{created},"owned_by":{owner}}}"#)
}

fn json(body: String) -> Reply {
    typed(reply::json(StatusCode::OK, body + "\n"), PLAIN_JSON)
}
