//! What a node says of itself: models, version, load, metrics (vLLM 0.32, samples `get_*.http`).

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

use http::{HeaderValue, StatusCode};

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
    let running = node.counts.borrow().running;
    reply::json(StatusCode::OK, format!(r#"{{"server_load":{running}}}"#))
}

/// `GET /metrics`: the series that a gateway reads. Every model has those of the first, as in vLLM, where the others are
/// its aliases.
pub(super) fn metrics(call: &Call) -> Reply {
    let content_type = HeaderValue::from_static("text/plain; version=1.0.0; charset=utf-8");
    reply::typed(StatusCode::OK, content_type, exposition(call).into())
}

fn exposition(call: &Call) -> String {
    let Node { counts, totals, .. } = &*call.node;
    let name = call.live.models.first().map_or("", ModelName::as_str);
    let model = format!(r#"model_name={}"#, quoted(name));
    let labels = format!(r#"engine="0",{model}"#);
    let now = |total: &AtomicU64| total.load(Ordering::Relaxed);
    let mut out = String::new();
    let mut series = |name: &str, kind: &str, help: &str, samples: &[(&str, u64)]| {
        let _ = writeln!(out, "# HELP vllm:{name} {help}\n# TYPE vllm:{name} {kind}");
        for (labels, value) in samples {
            let _ = writeln!(out, "vllm:{name}{{{labels}}} {value}.0");
        }
    };
    let running = counts.borrow().running as u64;
    let help = "Number of requests in model execution batches.";
    series("num_requests_running", "gauge", help, &[(&labels, running)]);
    let help = "Number of requests waiting to be processed.";
    series("num_requests_waiting", "gauge", help, &[(&labels, 0)]);
    let help = "KV-cache usage. 1 means 100 percent usage.";
    series("kv_cache_usage_perc", "gauge", help, &[(&labels, 0)]);
    let help = "Number of prefill tokens processed.";
    series("prompt_tokens_total", "counter", help, &[(&labels, now(&totals.prompt_tokens))]);
    let help = "Number of generation tokens processed.";
    series(
        "generation_tokens_total",
        "counter",
        help,
        &[(&labels, now(&totals.generation_tokens))],
    );
    // Clients that leave are not counted as `abort`: vLLM 0.32 does not either.
    let reasons = [
        ("stop", now(&totals.stopped)),
        ("length", now(&totals.at_length)),
        ("abort", 0),
        ("error", now(&totals.failed)),
        ("repetition", 0),
    ];
    let labelled =
        reasons.map(|(reason, n)| (format!(r#"engine="0",finished_reason="{reason}",{model}"#), n));
    let samples = labelled.each_ref().map(|(labels, n)| (labels.as_str(), *n));
    let help = "Count of successfully processed requests.";
    series("request_success_total", "counter", help, &samples);
    out
}
