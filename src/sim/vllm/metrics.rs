//! `GET /metrics`: the series of vLLM 0.32 that follow from what the simulator does (sample `get_metrics.http`).

use std::fmt::Write;

use http::{HeaderValue, StatusCode};

use crate::names::ModelName;
use crate::sim::call::Call;
use crate::sim::engine::{CacheConfig, Histogram, Snapshot};
use crate::sim::node::Node;
use crate::sim::reply::{self, Reply};
use crate::sim::text::quoted;

/// Bytes of an exposition, more or less.
const BYTES: usize = 48 * 1024;

/// Answers a scrape. Every model has the series of the first, as in vLLM, where the others are its aliases.
pub(super) fn metrics(call: &Call) -> Reply {
    let content_type = HeaderValue::from_static("text/plain; version=1.0.0; charset=utf-8");
    let model = call.live.models.first().map_or("", ModelName::as_str);
    let mut page = Page {
        out: String::with_capacity(BYTES),
        model: format!("model_name={}", quoted(model)),
        created: number(call.node.started),
    };
    let now = call.node.engine.snapshot();
    page.load(&now);
    page.tokens(&now);
    page.requests(&now);
    page.cache_config(&call.node, now.blocks);
    reply::typed(StatusCode::OK, content_type, page.out.into())
}

/// The text as it grows.
struct Page {
    out: String,
    /// The label that every series has.
    model: String,
    /// When every series began.
    created: String,
}

impl Page {
    fn load(&mut self, now: &Snapshot) {
        let help = "Number of requests in model execution batches.";
        self.gauge("num_requests_running", help, &[("", now.running as f64)]);
        let waiting = now.waiting as f64;
        let help = "Number of requests waiting to be processed.";
        self.gauge("num_requests_waiting", help, &[("", waiting)]);
        let help = "Number of waiting requests by reason. Reason labels: 'capacity' = waiting for scheduling capacity; \
                    'deferred' = deferred by transient constraints (LoRA budget, KV transfer, blocked status). Sum of \
                    all reasons equals vllm:num_requests_waiting.";
        let reasons = [(r#"reason="capacity""#, waiting), (r#"reason="deferred""#, 0.0)];
        self.gauge("num_requests_waiting_by_reason", help, &reasons);
        let help = "Engine sleep state; awake = 0 means engine is sleeping; awake = 1 means engine is awake; \
                    weights_offloaded = 1 means sleep level 1; discard_all = 1 means sleep level 2.";
        let states = [
            (r#"sleep_state="awake""#, 1.0),
            (r#"sleep_state="weights_offloaded""#, 0.0),
            (r#"sleep_state="discard_all""#, 0.0),
        ];
        self.gauge("engine_sleep_state", help, &states);
        let used = now.blocks_used as f64 / now.blocks as f64;
        self.gauge(
            "kv_cache_usage_perc",
            "KV-cache usage. 1 means 100 percent usage.",
            &[("", used)],
        );
        let help = "Prefix cache queries, in terms of number of queried tokens.";
        self.counter("prefix_cache_queries", help, &[("", now.queries.asked)]);
        let help = "Prefix cache hits, in terms of number of cached tokens.";
        self.counter("prefix_cache_hits", help, &[("", now.queries.hit)]);
        let help = "Cumulative number of preemption from the engine.";
        self.counter("num_preemptions", help, &[("", 0)]);
    }

    fn tokens(&mut self, now: &Snapshot) {
        let (prompt, cached) = (now.totals.prompt_tokens, now.totals.prompt_tokens_cached);
        self.counter("prompt_tokens", "Number of prefill tokens processed.", &[("", prompt)]);
        let sources = [
            (r#"source="local_compute""#, prompt - cached),
            (r#"source="local_cache_hit""#, cached),
            (r#"source="external_kv_transfer""#, 0),
        ];
        self.counter("prompt_tokens_by_source", "Number of prompt tokens by source.", &sources);
        let help = "Number of cached prompt tokens (local + external).";
        self.counter("prompt_tokens_cached", help, &[("", cached)]);
        let help = "Prefix-cache hit tokens by the cache tier that supplied them: device (local HBM), host (offloaded \
                    to DRAM), disk, p2p (transferred from another vLLM instance) or external_unspecified. Counted at \
                    admission; sums to vllm:prefix_cache_hits + vllm:external_prefix_cache_hits.";
        let tiers = [
            (r#"source="device""#, now.queries.hit),
            (r#"source="host""#, 0),
            (r#"source="p2p""#, 0),
            (r#"source="disk""#, 0),
            (r#"source="external_unspecified""#, 0),
        ];
        self.counter("prompt_tokens_cached_by_source", help, &tiers);
        let help = "Number of generation tokens processed.";
        self.counter("generation_tokens", help, &[("", now.generated)]);
        // Clients that leave are not counted as `abort`: vLLM 0.32 does not either.
        let reasons = [
            (r#"finished_reason="stop""#, now.totals.stopped),
            (r#"finished_reason="length""#, now.totals.at_length),
            (r#"finished_reason="abort""#, 0),
            (r#"finished_reason="error""#, now.totals.failed),
            (r#"finished_reason="repetition""#, 0),
        ];
        self.counter("request_success", "Count of successfully processed requests.", &reasons);
    }

    fn requests(&mut self, now: &Snapshot) {
        let totals = &now.totals;
        let of_prompts = "Number of prefill tokens processed.";
        let computed =
            "Histogram of new KV tokens computed during prefill (excluding cached tokens).";
        let preempted = "Histogram of the number of times a request was preempted.";
        for (name, help, histogram) in [
            ("request_prompt_tokens", of_prompts, &totals.request_prompt_tokens),
            (
                "request_generation_tokens",
                "Number of generation tokens processed.",
                &totals.request_generation_tokens,
            ),
            (
                "time_to_first_token_seconds",
                "Histogram of time to first token in seconds.",
                &totals.time_to_first_token,
            ),
            (
                "inter_token_latency_seconds",
                "Histogram of inter-token latency in seconds.",
                &totals.inter_token_latency,
            ),
            (
                "request_time_per_output_token_seconds",
                "Histogram of time_per_output_token_seconds per request.",
                &totals.time_per_output_token,
            ),
            (
                "e2e_request_latency_seconds",
                "Histogram of e2e request latency in seconds.",
                &totals.latency,
            ),
            (
                "request_queue_time_seconds",
                "Histogram of time spent in WAITING phase for request.",
                &totals.queue_time,
            ),
            (
                "request_inference_time_seconds",
                "Histogram of time spent in RUNNING phase for request.",
                &totals.inference_time,
            ),
            (
                "request_prefill_time_seconds",
                "Histogram of time spent in PREFILL phase for request.",
                &totals.prefill_time,
            ),
            (
                "request_decode_time_seconds",
                "Histogram of time spent in DECODE phase for request.",
                &totals.decode_time,
            ),
            ("request_num_preemptions", preempted, &totals.preemptions),
            ("request_prefill_kv_computed_tokens", computed, &totals.request_computed_tokens),
        ] {
            self.histogram(name, help, histogram);
        }
    }

    /// The labels that tell of the cache; those of what the simulator has not are as in the sample.
    fn cache_config(&mut self, node: &Node, blocks: usize) {
        let CacheConfig { block_size: block, prefix_caching, blocks_named } = &node.engine.cache;
        let tokens = block * blocks;
        let at_once = number(tokens as f64 / node.max_model_len as f64);
        let caching = if *prefix_caching { "True" } else { "False" };
        let given = blocks_named.map_or("None".to_owned(), |n| n.to_string());
        let labels = format!(
            r#"_block_size_resolved="True",block_size="{block}",cache_dtype="auto",cache_hit_alignment_tokens="None",effective_attention_block_size="{block}",enable_mamba_shared_prefix_checkpoint="False",enable_prefix_caching="{caching}",engine="0",gpu_memory_utilization="0.92",hash_block_size="None",is_attention_free="False",kv_cache_dtype_skip_layers="[]",kv_cache_layout="None",kv_cache_max_concurrency="{at_once}",kv_cache_memory_bytes="None",kv_cache_size_tokens="{tokens}",kv_offloading_backend="native",kv_offloading_size="None",kv_sharing_fast_prefill="False",mamba_block_size="None",mamba_cache_dtype="auto",mamba_cache_mode="none",mamba_page_size_padded="None",mamba_ssm_cache_dtype="float32",num_cpu_blocks="None",num_gpu_blocks="{blocks}",num_gpu_blocks_override="{given}",prefix_cache_retention_interval="0",prefix_caching_hash_algo="sha256",prefix_match_unit="None",replayssm_buffer_len="16",skip_page_size_padded="None",sliding_window="None",swa_bounded_replay="True",use_kda_recoverssm="False",use_replayssm="False",user_specified_block_size="False""#
        );
        self.head("cache_config_info", "gauge", "Information of the LLMEngine CacheConfig");
        let _ = writeln!(self.out, "vllm:cache_config_info{{{labels}}} 1.0");
    }

    fn gauge(&mut self, name: &str, help: &str, samples: &[(&str, f64)]) {
        self.head(name, "gauge", help);
        for (label, value) in samples {
            self.sample(name, label, &number(*value));
        }
    }

    fn counter(&mut self, name: &str, help: &str, samples: &[(&str, u64)]) {
        let total = format!("{name}_total");
        self.head(&total, "counter", help);
        for (label, value) in samples {
            self.sample(&total, label, &number(*value as f64));
        }
        self.created(name, help, samples.iter().map(|(label, _)| *label));
    }

    fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) {
        self.head(name, "histogram", help);
        let (bucket, mut all) = (format!("{name}_bucket"), 0);
        for (bound, count) in histogram.cumulative() {
            let bound = if bound.is_finite() { number(bound) } else { "+Inf".to_owned() };
            self.sample(&bucket, &format!(r#"le="{bound}""#), &number(count as f64));
            all = count;
        }
        self.sample(&format!("{name}_count"), "", &number(all as f64));
        self.sample(&format!("{name}_sum"), "", &number(histogram.sum()));
        self.created(name, help, [""].into_iter());
    }

    /// When a series began, as Python's client library tells beside every counter and histogram.
    fn created<'a>(&mut self, name: &str, help: &str, labels: impl Iterator<Item = &'a str>) {
        let (name, created) = (format!("{name}_created"), self.created.clone());
        self.head(&name, "gauge", help);
        for label in labels {
            self.sample(&name, label, &created);
        }
    }

    fn head(&mut self, name: &str, kind: &str, help: &str) {
        // Memory grows as needed, so writing cannot fail; the same holds below.
        let _ = writeln!(self.out, "# HELP vllm:{name} {help}\n# TYPE vllm:{name} {kind}");
    }

    /// Labels come in the order of their names, as Python's client library writes them.
    fn sample(&mut self, name: &str, label: &str, value: &str) {
        let model = &self.model;
        let _ = match label {
            "" => writeln!(self.out, r#"vllm:{name}{{engine="0",{model}}} {value}"#),
            label if label < "model_name" => {
                writeln!(self.out, r#"vllm:{name}{{engine="0",{label},{model}}} {value}"#)
            }
            label => writeln!(self.out, r#"vllm:{name}{{engine="0",{model},{label}}} {value}"#),
        };
    }
}

/// A number as Python's client library writes it: with a point, and from a million on with an exponent.
fn number(value: f64) -> String {
    let text = format!("{value:?}");
    let point = text.find('.').unwrap_or(0);
    if value <= 0.0 || point <= 6 || text.contains('e') {
        return text;
    }
    let (whole, fraction) = (&text[..point], &text[point + 1..]);
    let mantissa = format!("{}.{}{fraction}", &whole[..1], &whole[1..]);
    format!("{}e+{:02}", mantissa.trim_end_matches(['0', '.']), point - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_python_writes_them() {
        assert_eq!(number(0.0), "0.0");
        assert_eq!(number(2560.0), "2560.0");
        assert_eq!(number(0.25), "0.25");
        assert_eq!(number(123_456.0), "123456.0");
        assert_eq!(number(1_048_576.0), "1.048576e+06");
        assert_eq!(number(2_000_000.0), "2e+06");
        assert_eq!(number(1_795_201_304.771_866_6), "1.7952013047718666e+09");
    }
}
