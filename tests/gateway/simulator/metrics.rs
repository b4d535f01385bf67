//! `/metrics` beside that of a real vLLM 0.32: the same names, types, helps, labels and buckets.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::json;
use sluice::sim::Settings;

use super::support::{Node, chat, with};

/// What a vLLM 0.32 said that had answered one chat.
const SAMPLE: &str = include_str!("samples/metrics.txt");

/// Families of the sample that the simulator does not show, by their beginning, and why.
const LEFT_OUT: [(&str, &str); 11] = [
    ("python_", "there is no Python"),
    ("process_", "the simulator may share its process with others"),
    ("http_", "vLLM's middleware, not its engine"),
    ("vllm:estimated_", "there is no GPU whose work could be estimated"),
    ("vllm:external_prefix_cache_", "there is no cache beside the node's own"),
    ("vllm:mm_cache_", "there are no pictures"),
    ("vllm:admission_rejections_", "the queue has no limit, as in vLLM by default"),
    ("vllm:iteration_tokens_", "there are no steps of a batch"),
    (
        "vllm:request_max_num_generation_tokens",
        "the engine is told the length that it makes, not the one asked for",
    ),
    ("vllm:request_params_n", "several choices are one request of the engine"),
    (
        "vllm:request_params_max_tokens",
        "the engine is told the length that it makes, not the one asked for",
    ),
];

/// A metric: its help, its type and its series with their labels.
#[derive(Debug, Default, PartialEq, Eq)]
struct Family {
    help: String,
    kind: String,
    series: BTreeSet<String>,
}

/// The families of an exposition. Buckets, counts and sums belong to their histogram.
fn families(text: &str) -> BTreeMap<String, Family> {
    let mut families = BTreeMap::<String, Family>::new();
    let mut last = String::new();
    for line in text.lines() {
        if let Some((name, help)) =
            line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' '))
        {
            families.entry(name.to_owned()).or_default().help = help.to_owned();
        } else if let Some((name, kind)) =
            line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' '))
        {
            families.entry(name.to_owned()).or_default().kind = kind.to_owned();
            last = name.to_owned();
        } else {
            let (series, value) = line.rsplit_once(' ').unwrap();
            assert!(value.parse::<f64>().is_ok(), "{line}");
            assert!(series.starts_with(&last), "{series} stands below {last}");
            families.get_mut(&last).unwrap().series.insert(series.to_owned());
        }
    }
    families
}

/// The value of a series, which must be there once.
pub(super) async fn value(node: &Node, name: &str, labels: &str) -> f64 {
    let text = node.get("/metrics").await.text().await.unwrap();
    let found: Vec<_> = text
        .lines()
        .filter(|line| line.starts_with(&format!("vllm:{name}{{")) && line.contains(labels))
        .collect();
    assert_eq!(found.len(), 1, "{name} {labels}: {found:?}");
    found[0].rsplit_once(' ').unwrap().1.parse().unwrap()
}

#[tokio::test]
async fn series_are_those_of_vllm_or_left_out_for_a_reason() {
    let models = vec!["tiny-llama".into()];
    let node = Node::with(Settings { models, max_model_len: 2048, ..Settings::default() }).await;
    let shown = families(&node.get("/metrics").await.text().await.unwrap());
    let mut sample = families(SAMPLE);
    for (name, mut family) in shown {
        let mut real = sample.remove(&name).unwrap_or_else(|| panic!("vLLM has no {name}"));
        if name == "vllm:cache_config_info" {
            // Its labels are settings, and the settings differ.
            for family in [&mut family, &mut real] {
                let series = family.series.pop_first().unwrap();
                let labels = series.split(['{', '"']).filter(|part| part.ends_with('='));
                family.series = labels.map(|label| label.trim_matches(',').to_owned()).collect();
            }
        }
        assert_eq!(family, real, "{name}");
    }
    let unexplained: Vec<_> = sample
        .keys()
        .filter(|name| LEFT_OUT.iter().all(|(left_out, _)| !name.starts_with(left_out)))
        .collect();
    assert!(unexplained.is_empty(), "not shown: {unexplained:?}");
}

#[tokio::test]
async fn each_request_is_in_the_histograms_once() {
    let pace = Duration::from_millis(20);
    let node = Node::with(Settings { token_delay: pace, ..Settings::default() }).await;
    for stream in [false, true] {
        let body = with(chat("Hi"), json!({"max_tokens": 4, "stream": stream}));
        node.told("/v1/chat/completions", body).await;
    }
    for name in [
        "request_prompt_tokens",
        "request_generation_tokens",
        "request_prefill_kv_computed_tokens",
        "time_to_first_token_seconds",
        "request_time_per_output_token_seconds",
        "e2e_request_latency_seconds",
        "request_queue_time_seconds",
        "request_inference_time_seconds",
        "request_prefill_time_seconds",
        "request_decode_time_seconds",
        "request_num_preemptions",
    ] {
        assert_eq!(value(&node, &format!("{name}_count"), "").await, 2.0, "{name}");
    }
    assert_eq!(value(&node, "request_prompt_tokens_sum", "").await, 18.0);
    assert_eq!(value(&node, "request_prompt_tokens_bucket", "le=\"5.0\"").await, 0.0);
    assert_eq!(value(&node, "request_prompt_tokens_bucket", "le=\"10.0\"").await, 2.0);
    assert_eq!(value(&node, "request_generation_tokens_sum", "").await, 8.0);
    assert_eq!(value(&node, "generation_tokens_total", "").await, 8.0);
    assert_eq!(value(&node, "inter_token_latency_seconds_count", "").await, 6.0);
    assert_eq!(value(&node, "inter_token_latency_seconds_bucket", "le=\"0.01\"").await, 0.0);
    let (decoded, all) = (6.0 * pace.as_secs_f64(), "e2e_request_latency_seconds_sum");
    assert!(value(&node, "request_decode_time_seconds_sum", "").await >= decoded);
    assert!(
        value(&node, all, "").await >= value(&node, "request_decode_time_seconds_sum", "").await
    );
}

#[tokio::test]
async fn the_cache_tells_what_it_has_and_what_it_found() {
    let settings =
        Settings { block_size: 8, num_gpu_blocks_override: Some(2048), ..Settings::default() };
    let node = Node::with(settings).await;
    let labels = r#"block_size="8",cache_dtype="auto""#;
    assert_eq!(value(&node, "cache_config_info", labels).await, 1.0);
    assert_eq!(value(&node, "cache_config_info", r#"kv_cache_max_concurrency="2.0""#).await, 1.0);
    for _ in 0..2 {
        node.told("/v1/chat/completions", with(chat("Hi"), json!({"max_tokens": 4}))).await;
    }
    assert_eq!(value(&node, "prefix_cache_queries_total", "").await, 18.0);
    assert_eq!(value(&node, "prefix_cache_hits_total", "").await, 8.0);
    assert_eq!(value(&node, "prompt_tokens_cached_total", "").await, 8.0);
    let by_source = "prompt_tokens_by_source_total";
    assert_eq!(value(&node, by_source, "local_compute").await, 10.0);
    assert_eq!(value(&node, by_source, "local_cache_hit").await, 8.0);
}
