//! Prometheus' text format (prometheus.io, "Exposition formats"), as nodes write it: the few values that tell their load,
//! and the expositions of several nodes as one.

use std::collections::HashSet;

/// What vLLM's metrics say of a node's load (`vllm/v1/metrics/loggers.py`).
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Load {
    /// `vllm:num_requests_running`, of all engines.
    pub running: Option<u32>,
    /// `vllm:num_requests_waiting`, of all engines.
    pub waiting: Option<u32>,
    /// `vllm:kv_cache_usage_perc`, the mean of all engines: 0 to 1. Before vLLM 0.10 it was `vllm:gpu_cache_usage_perc`.
    pub kv_cache: Option<f64>,
    /// `vllm:prefix_cache_queries_total` and `vllm:prefix_cache_hits_total`, in tokens, of all engines.
    pub prefix: Option<(f64, f64)>,
    /// `vllm:engine_sleep_state{sleep_state="awake"}` is 0 for some engine.
    pub asleep: bool,
    /// Tokens that the KV cache holds, of all engines, where it is a prefix cache.
    pub cache_tokens: Option<u64>,
    /// `process_start_time_seconds`: another one is another process, whose cache is empty.
    pub started: Option<f64>,
}

/// Reads the load out of an exposition. What is absent is not 0.
pub fn load(text: &str) -> Load {
    let (mut load, mut engines) = (Load::default(), 0.0);
    for (name, labels, value) in text.lines().filter_map(sample) {
        match name {
            "vllm:num_requests_running" => add(&mut load.running, value),
            "vllm:num_requests_waiting" => add(&mut load.waiting, value),
            "vllm:kv_cache_usage_perc" | "vllm:gpu_cache_usage_perc" if value.is_finite() => {
                engines += 1.0;
                load.kv_cache = Some(load.kv_cache.unwrap_or(0.0) + value);
            }
            "vllm:prefix_cache_queries_total" if value.is_finite() => {
                load.prefix.get_or_insert_default().0 += value;
            }
            "vllm:prefix_cache_hits_total" if value.is_finite() => {
                load.prefix.get_or_insert_default().1 += value;
            }
            "vllm:engine_sleep_state" if labels.contains("sleep_state=\"awake\"") => {
                load.asleep |= value == 0.0;
            }
            "vllm:cache_config_info" => {
                let tokens = cache_tokens(labels).map(|more| more + load.cache_tokens.unwrap_or(0));
                load.cache_tokens = tokens.or(load.cache_tokens);
            }
            "process_start_time_seconds" => load.started = Some(value),
            _ => {}
        }
    }
    load.kv_cache = load.kv_cache.map(|sum| (sum / engines).clamp(0.0, 1.0));
    load
}

/// What `vllm:cache_config_info` says; 0 where nothing is found again.
fn cache_tokens(labels: &str) -> Option<u64> {
    if label(labels, "enable_prefix_caching") == Some("False") {
        return Some(0);
    }
    let number = |name| label(labels, name)?.parse::<u64>().ok();
    let blocks = || number("num_gpu_blocks")?.checked_mul(number("block_size")?);
    number("kv_cache_size_tokens").or_else(blocks)
}

/// The value of a label, as it is written.
fn label<'l>(labels: &'l str, name: &str) -> Option<&'l str> {
    let mut rest = labels;
    loop {
        let (before, behind) = rest.split_once(name)?;
        if (before.is_empty() || before.ends_with(','))
            && let Some(value) = behind.strip_prefix("=\"")
        {
            return value.split('"').next();
        }
        rest = behind;
    }
}

fn add(sum: &mut Option<u32>, value: f64) {
    if value.is_finite() && value >= 0.0 {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a count, saturated by the cast"
        )]
        let count = value as u32;
        *sum = Some(sum.unwrap_or(0).saturating_add(count));
    }
}

/// Name, labels without their braces, and value of a line that is a sample.
fn sample(line: &str) -> Option<(&str, &str, f64)> {
    let end = name_end(line)?;
    let (name, rest) = line.split_at(end);
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(inside) => {
            let close = closing(inside)?;
            (&inside[..close], &inside[close + 1..])
        }
        None => ("", rest),
    };
    let value = rest.split_ascii_whitespace().next()?.parse().ok()?;
    Some((name, labels, value))
}

/// Where the name of a sample ends; none for comments and for blank lines.
fn name_end(line: &str) -> Option<usize> {
    let in_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b':';
    let end = line.bytes().position(|byte| !in_name(byte))?;
    (end > 0).then_some(end)
}

/// Where the labels end: the first `}` outside of quotes.
fn closing(labels: &str) -> Option<usize> {
    let (mut quoted, mut escaped) = (false, false);
    labels.bytes().position(|byte| {
        let closes = byte == b'}' && !quoted;
        quoted ^= byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        closes
    })
}

/// One exposition of several: each sample with a label `node_label` that names where it comes from. Samples of one
/// family stand together, as the format asks for; of comments on a family the first ones stay.
pub fn joined(node_label: &str, expositions: &[(String, String)]) -> String {
    // Families in the order of their first sample.
    let mut order: Vec<&str> = Vec::new();
    let mut families: std::collections::HashMap<&str, Family<'_>> =
        std::collections::HashMap::new();
    for (node, text) in expositions {
        let label = format!("{node_label}=\"{}\"", escaped(node));
        let mut own: HashSet<&str> = HashSet::new();
        let mut family = "";
        for line in text.lines() {
            let comment = line.strip_prefix("# HELP ").or_else(|| line.strip_prefix("# TYPE "));
            if let Some(rest) = comment {
                family = rest.split(' ').next().unwrap_or_default();
                own.insert(family);
            }
            let Some(end) = comment.map(|_| 0).or_else(|| name_end(line)) else { continue };
            let name = &line[..end];
            if comment.is_none() && !belongs(name, family) {
                family = name;
                own.insert(family);
            }
            let entry = families.entry(family).or_insert_with(|| {
                order.push(family);
                Family::default()
            });
            match comment {
                Some(_) if entry.commented => {}
                Some(_) => entry.comments.push(line),
                None => entry.samples.push(labelled(line, end, &label)),
            }
        }
        for family in own {
            families.entry(family).or_default().commented = true;
        }
    }
    let mut text = String::new();
    for family in order.iter().filter_map(|name| families.get(name)) {
        let samples = family.samples.iter().map(String::as_str);
        for line in family.comments.iter().copied().chain(samples) {
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

#[derive(Default)]
struct Family<'t> {
    comments: Vec<&'t str>,
    /// An earlier exposition had its comments.
    commented: bool,
    samples: Vec<String>,
}

/// Whether a sample called `name` is of `family`: histograms, summaries and counters have suffixes.
fn belongs(name: &str, family: &str) -> bool {
    let suffix = name.strip_prefix(family).filter(|_| !family.is_empty());
    suffix.is_some_and(|suffix| {
        matches!(suffix, "" | "_bucket" | "_sum" | "_count" | "_total" | "_created")
    })
}

/// The sample of `line`, whose name ends at `end`, with one label more.
fn labelled(line: &str, end: usize, label: &str) -> String {
    let (name, rest) = line.split_at(end);
    match rest.strip_prefix('{') {
        Some(inside) if inside.starts_with('}') => format!("{name}{{{label}{inside}"),
        Some(inside) => format!("{name}{{{label},{inside}"),
        None => format!("{name}{{{label}}}{rest}"),
    }
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_load_is_that_of_all_engines_and_absent_is_not_0() {
        let text = "# HELP vllm:num_requests_running Running.\n# TYPE vllm:num_requests_running gauge\n\
            vllm:num_requests_running{engine=\"0\",model_name=\"a}\\\"b\"} 3.0\n\
            vllm:num_requests_running{engine=\"1\",model_name=\"a\"} 2.0 1700000000\n\
            vllm:num_requests_waiting_by_reason{reason=\"capacity\"} 9.0\n\
            vllm:engine_sleep_state{engine=\"0\",sleep_state=\"awake\"} 1.0\n\
            vllm:engine_sleep_state{engine=\"0\",sleep_state=\"discard_all\"} 0.0\n";
        assert_eq!(load(text), Load { running: Some(5), ..Load::default() });
        let asleep =
            "vllm:engine_sleep_state{sleep_state=\"awake\"} 0.0\nvllm:num_requests_waiting NaN\n";
        assert_eq!(load(asleep), Load { asleep: true, ..Load::default() });
    }

    #[test]
    fn several_nodes_are_one_exposition() {
        let one = "# HELP a A.\n# TYPE a counter\na_total{x=\"1\"} 1\na_created{x=\"1\"} 2\nb 3\n";
        let two = "# HELP a A.\n# TYPE a counter\na_total{} 4\n# TYPE c gauge\nc 5\n\n";
        let nodes = [("n1".to_owned(), one.to_owned()), ("n\"2".to_owned(), two.to_owned())];
        let expected = "# HELP a A.\n# TYPE a counter\na_total{node=\"n1\",x=\"1\"} 1\n\
            a_created{node=\"n1\",x=\"1\"} 2\na_total{node=\"n\\\"2\"} 4\nb{node=\"n1\"} 3\n\
            # TYPE c gauge\nc{node=\"n\\\"2\"} 5\n";
        assert_eq!(joined("node", &nodes), expected);
    }

    proptest! {
        #[test]
        fn no_text_is_too_strange(text in "\\PC{0,200}", lines in "[ab:{}\"\\\\= 0-9\n#]{0,200}") {
            load(&text);
            load(&lines);
            joined("node", &[("n".to_owned(), text), ("m".to_owned(), lines)]);
        }
    }
}
