//! The top of the page: how it is, what is wrong and why, and the totals.

use super::super::entrance::Visitor;
use super::super::status::{Line, Percentiles, Status, Totals};
use super::html::Html;
use super::nodes::since;
use super::numbers::{age, amount, count, milliseconds};
use super::pictures::line;
use super::shown::{ROWS_MAX, rest};

pub(super) fn strip(html: &mut Html, status: &Status, visitor: &Visitor) {
    html.raw("<header><h1>Sluice</h1><p class=\"state ").text(status.state);
    html.raw("\" aria-live=polite>").text(status.state.to_uppercase());
    html.raw("</p><p>version ").text(status.version);
    html.raw(", up ").text(age(seconds(status.uptime_seconds)));
    html.raw(", configuration ").text(status.generation);
    html.raw(" in effect for ").text(age(seconds(status.generation_age_seconds))).raw("</p>");
    if let Visitor::Key { name, by_login } = visitor {
        html.raw("<form method=post action=/logout>").text(name);
        html.raw(if *by_login { " <button>Sign out</button></form>" } else { "</form>" });
    }
    html.raw("<nav aria-label=Sections>");
    for (there, link) in [
        (!status.upstreams.is_empty(), "<a href=#nodes>Nodes</a> "),
        (!status.models.is_empty(), "<a href=#models>Models</a> "),
        (!status.keys.is_empty(), "<a href=#keys>Keys</a> "),
        (!status.streams.is_empty(), "<a href=#streams>Streams</a> "),
        (true, "<a href=#errors>Errors</a>"),
    ] {
        html.raw(if there { link } else { "" });
    }
    html.raw("</nav></header>");
    if let Some(failed) = &status.failed_reload {
        html.raw(
            "<section data-key=failed class=wrong><h2>The configuration on disk was not taken, ",
        );
        html.text(age(seconds(failed.age_seconds))).raw(" ago</h2><pre>").text(&failed.message);
        html.raw("</pre><p>Configuration ")
            .text(status.generation)
            .raw(" is still served.</p></section>");
    }
    wrong(html, status);
    totals(html, &status.totals);
}

/// What an operator looks for first. A node that was drained is as it was asked to be.
fn wrong(html: &mut Html, status: &Status) {
    let all = || status.upstreams.iter();
    let down: Vec<_> = all().filter(|upstream| upstream.state == "down").collect();
    let nodes: Vec<_> = all()
        .flat_map(|upstream| upstream.nodes.iter().map(move |node| (upstream, node)))
        .filter(|(_, node)| !node.takes_work && node.state != "drained")
        .collect();
    let stores: Vec<_> = status.stores.iter().filter(|store| !store.up).collect();
    if down.is_empty() && nodes.is_empty() && stores.is_empty() {
        return;
    }
    html.raw("<section data-key=wrong class=wrong><h2>What is wrong</h2><ul>");
    for upstream in down.iter().take(ROWS_MAX) {
        html.raw("<li><b>").text(&upstream.upstream).raw("</b>: no node takes work.</li>");
    }
    for store in stores {
        html.raw("<li>The store of ").text(store.of).raw(" (").text(store.kind);
        html.raw(") is away: ").text(count(store.errors)).raw(" calls failed.</li>");
    }
    for (upstream, node) in nodes.iter().take(ROWS_MAX) {
        html.raw("<li><b>").text(&node.node).raw("</b> of ").text(&upstream.upstream);
        html.raw(" is ").text(node.state).raw(" for ").text(since(node));
        if let Some(reason) = &node.reason {
            html.raw(": ").text(reason);
        }
        html.raw("</li>");
    }
    html.raw("</ul>");
    rest(html, &nodes, ROWS_MAX);
    html.raw("</section>");
}

/// One number, what belongs to it, and its last five minutes where they are known.
struct Total<'a> {
    name: &'static str,
    value: String,
    beside: Option<(&'static str, String)>,
    line: Option<(&'static str, &'a Line)>,
}

impl<'a> Total<'a> {
    fn new(name: &'static str, value: String) -> Self {
        Self { name, value, beside: None, line: None }
    }

    fn of(name: &'static str, times: Percentiles) -> Self {
        Self::new(name, milliseconds(times.p50_ms)).beside("p99", milliseconds(times.p99_ms))
    }

    /// Where there is any: without a limit of tokens or a ledger, streams do not tell of their prompts.
    fn beside_if(self, name: &'static str, number: f64) -> Self {
        if number > 0.0 { self.beside(name, amount(number)) } else { self }
    }

    fn beside(self, name: &'static str, value: String) -> Self {
        Self { beside: Some((name, value)), ..self }
    }

    fn line(self, what: &'static str, line: &'a Line) -> Self {
        Self { line: Some((what, line)), ..self }
    }

    fn write(&self, html: &mut Html) {
        html.raw("<div><dt>").raw(self.name).raw("</dt><dd>").text(&self.value);
        if let Some((name, value)) = &self.beside {
            html.raw(" <small>").raw(name).raw(" ").text(value).raw("</small>");
        }
        if let Some((what, points)) = self.line {
            line(html, what, points);
        }
        html.raw("</dd></div>");
    }
}

fn totals(html: &mut Html, totals: &Totals) {
    html.raw("<section data-key=totals aria-label=Totals><dl class=totals>");
    for total in [
        Total::new("In flight", count(totals.in_flight))
            .line("requests in flight", &totals.in_flight_line),
        Total::new("Queued", count(totals.queued)).line("requests queued", &totals.queued_line),
        Total::new("Requests/s", amount(totals.requests_per_second))
            .line("requests per second", &totals.requests_line),
        Total::new("Tokens/s", amount(totals.tokens_per_second))
            .beside_if("prompts", totals.prompt_tokens_per_second)
            .line("tokens of answers per second", &totals.tokens_line),
        Total::of("TTFT, p50", totals.ttft)
            .line("milliseconds to the first token, p50,", &totals.ttft_line),
        Total::of("Inter-token latency, p50", totals.inter_token_latency),
        Total::new("Errors/s", amount(totals.errors_per_second))
            .line("errors per second", &totals.errors_line),
    ] {
        total.write(html);
    }
    html.raw("</dl></section>");
}

#[expect(clippy::cast_precision_loss, reason = "ages are shown with two units at most")]
fn seconds(whole: u64) -> f64 {
    whole as f64
}
