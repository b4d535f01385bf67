//! What a node says of itself: models, version, load (vLLM 0.32, samples `get_*.http`).

use http::StatusCode;

use crate::names::ModelName;
use crate::sim::call::Call;
use crate::sim::node::{Node, unix_seconds};
use crate::sim::reply::{self, Reply};
use crate::sim::text::quoted;

/// `GET /v1/models`.
pub(super) fn models(call: &Call) -> Reply {
    let (created, max) = (unix_seconds(), call.node.max_model_len);
    let model = |model: &ModelName| {
        let (name, permission) = (quoted(model.as_str()), call.node.fresh_id());
        format!(
            r#"{{"id":{name},"object":"model","created":{created},"owned_by":"vllm","root":{name},"parent":null,"max_model_len":{max},"permission":[{{"id":"modelperm-{permission}","object":"model_permission","created":{created},"allow_create_engine":false,"allow_sampling":true,"allow_logprobs":true,"allow_search_indices":false,"allow_view":true,"allow_fine_tuning":false,"organization":"*","group":null,"is_blocking":false}}]}}"#
        )
    };
    let models: Vec<_> = call.live.models.iter().map(model).collect();
    reply::json(StatusCode::OK, format!(r#"{{"object":"list","data":[{}]}}"#, models.join(",")))
}

/// `GET /version`.
pub(super) fn version() -> Reply {
    reply::json(StatusCode::OK, r#"{"version":"0.32.0"}"#)
}

/// `GET /load`: requests being answered, as vLLM counts them when told to.
pub(super) fn load(node: &Node) -> Reply {
    let counts = *node.counts.borrow();
    let load = counts.waiting + counts.running;
    reply::json(StatusCode::OK, format!(r#"{{"server_load":{load}}}"#))
}
