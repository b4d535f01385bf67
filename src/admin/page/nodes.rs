//! The nodes of each upstream, and the models on them.

use super::super::status::{Answers, ModelStatus, NodeStatus, UpstreamStatus};
use super::html::Html;
use super::numbers::{NONE, age, amount, count, percent, percentiles};
use super::pictures::{bar, line};
use super::shown::{NODES_MAX, ROWS_MAX, rest, shown};
use super::{cell, row, table, table_end};

const NODE_COLUMNS: [&str; 12] = [
    "Node",
    "State",
    "In flight (others)",
    "Running / waiting",
    "KV cache",
    "Prefix hits",
    "TTFT p50 / p99",
    "Tokens/s",
    "OK / 4xx / errors",
    "Retries",
    "Aborts",
    "Work",
];

const MODEL_COLUMNS: [&str; 8] = [
    "Model",
    "Nodes up",
    "Requests/s",
    "Tokens/s",
    "TTFT p50 / p99",
    "Inter-token p50 / p99",
    "OK / 4xx / errors",
    "Retries",
];

pub(super) fn upstreams(html: &mut Html, upstreams: &[UpstreamStatus]) {
    html.raw("<form id=nodes data-key=nodes method=post action=/nodes>");
    for upstream in upstreams {
        html.raw("<section data-key=\"upstream ").text(&upstream.upstream).raw("\"><h2>");
        html.text(&upstream.upstream).raw(" <span class=\"state ").text(upstream.state).raw("\">");
        html.text(upstream.state.to_uppercase()).raw("</span> <small>").text(upstream.kind);
        html.raw(", ").text(upstream.balance).raw(", ").text(count_of(upstream.queued));
        html.raw(" queued</small></h2>");
        table(html, "Nodes", &NODE_COLUMNS);
        let out_of_work = |node: &NodeStatus| if node.takes_work { 0.0 } else { 1.0 };
        let nodes = shown(&upstream.nodes, NODES_MAX, out_of_work);
        nodes.iter().for_each(|node| self::node(html, node));
        table_end(html);
        rest(html, &upstream.nodes, nodes.len());
        html.raw("</section>");
    }
    html.raw("</form>");
}

/// For how long a node has been in its state.
#[expect(clippy::cast_precision_loss, reason = "shown with two units at most")]
pub(super) fn since(node: &NodeStatus) -> String {
    age(node.state_age_seconds as f64)
}

fn node(html: &mut Html, node: &NodeStatus) {
    let number = |gauge: Option<u32>| gauge.map_or_else(|| NONE.to_owned(), |it| it.to_string());
    row(html, &node.node);
    html.text(&node.node);
    if let Some(reason) = &node.reason {
        html.raw("<small>for ").text(since(node)).raw(": ").text(reason).raw("</small>");
    }
    html.raw("</th><td><span class=\"state ").text(node.state).raw("\">").text(node.state);
    html.raw("</span></td><td>").text(node.in_flight).raw(" (").text(node.foreign).raw(")</td>");
    cell(html, format_args!("{} / {}", number(node.running), number(node.waiting)));
    html.raw("<td>");
    if let Some(part) = node.kv_cache {
        bar(html, part);
    }
    html.text(percent(node.kv_cache)).raw("</td>");
    cell(html, percent(node.prefix_hits));
    cell(html, percentiles(node.ttft));
    html.raw("<td>");
    line(html, "tokens per second", &node.tokens_line);
    html.text(amount(node.tokens_per_second)).raw("</td>");
    answers(html, node.answers);
    cell(html, count(node.answers.retries));
    cell(html, count(node.answers.aborts));
    let order = if node.state == "drained" { "undrain" } else { "drain" };
    html.raw("<td><button name=").text(order).raw(" value=\"").text(&node.node);
    html.raw("\" aria-label=\"").text(order).raw(" ").text(&node.node).raw("\">").text(order);
    html.raw("</button></td></tr>");
}

fn answers(html: &mut Html, Answers { ok, refused, errors, .. }: Answers) {
    html.raw("<td>").text(count(ok)).raw(" / ").text(count(refused)).raw(" / ");
    match errors {
        0 => html.raw("0"),
        errors => html.raw("<b class=bad>").text(count(errors)).raw("</b>"),
    };
    html.raw("</td>");
}

pub(super) fn models(html: &mut Html, models: &[ModelStatus]) {
    if models.is_empty() {
        return;
    }
    html.raw("<section id=models data-key=models><h2>Models</h2>");
    table(html, "Models", &MODEL_COLUMNS);
    let shown = shown(models, ROWS_MAX, |model| model.requests_per_second);
    for model in &shown {
        row(html, &model.model);
        html.text(&model.model).raw("</th>");
        cell(html, format_args!("{} of {}", model.nodes_up, model.nodes));
        cell(html, amount(model.requests_per_second));
        html.raw("<td>");
        line(html, "tokens per second", &model.tokens_line);
        html.text(amount(model.tokens_per_second)).raw("</td>");
        cell(html, percentiles(model.ttft));
        cell(html, percentiles(model.inter_token_latency));
        answers(html, model.answers);
        cell(html, count(model.answers.retries));
        html.raw("</tr>");
    }
    table_end(html);
    rest(html, models, shown.len());
    html.raw("</section>");
}

fn count_of(number: usize) -> String {
    count(u64::try_from(number).unwrap_or(u64::MAX))
}
