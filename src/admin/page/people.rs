//! Keys and what they have left, live streams, errors, and where limits and sessions are kept.

use super::super::status::{ErrorStatus, KeyStatus, LimitStatus, Status, StreamStatus};
use super::html::Html;
use super::numbers::{NONE, age, bytes, count, milliseconds};
use super::pictures::bar;
use super::shown::{ROWS_MAX, rest, shown};
use super::{cell, row, table, table_end};

/// Steps in which keys near their limits stand above others: with finer ones rows would change places all the time.
const STEPS: f64 = 10.0;

pub(super) fn keys(html: &mut Html, keys: &[KeyStatus]) {
    if keys.is_empty() {
        return;
    }
    html.raw("<section id=keys data-key=keys><h2>Keys and quotas</h2>");
    table(html, "Keys and quotas", &["Key", "Limits", "Requests", "Refused", "Tokens in / out"]);
    let mut shown = shown(keys, ROWS_MAX, |key| nearest(key) + busy(key));
    shown.sort_by(|one, other| step(other).total_cmp(&step(one)));
    for key in &shown {
        row(html, &key.key);
        html.text(&key.key);
        html.raw(if key.expired {
            "<small>expired</small></th><td class=limits>"
        } else {
            "</th><td class=limits>"
        });
        match key.limits.is_empty() {
            true => drop(html.raw("none")),
            false => key.limits.iter().for_each(|limit| self::limit(html, limit)),
        }
        html.raw("</td>");
        cell(html, count(key.requests));
        cell(html, count(key.limited));
        cell(html, format_args!("{} / {}", count(key.prompt_tokens), count(key.completion_tokens)));
        html.raw("</tr>");
    }
    table_end(html);
    rest(html, keys, shown.len());
    html.raw("</section>");
}

fn limit(html: &mut Html, limit: &LimitStatus) {
    html.raw("<span>").text(limit.limit).raw(" ");
    match limit.used {
        Some(used) => {
            bar(html, part(limit));
            html.text(count(used)).raw(" of ").text(count(limit.allowed));
        }
        None => drop(html.text(count(limit.allowed)).raw(", counted in Redis")),
    }
    html.raw("</span> ");
}

#[expect(clippy::cast_precision_loss, reason = "a part is shown in percent")]
fn part(limit: &LimitStatus) -> f64 {
    match (limit.used, limit.allowed) {
        (None, _) => 0.0,
        (Some(_), 0) => 1.0,
        (Some(used), allowed) => used as f64 / allowed as f64,
    }
}

/// How much of its tightest limit a key has used, from 0 to 1.
fn nearest(key: &KeyStatus) -> f64 {
    key.limits.iter().map(part).fold(0.0, f64::max)
}

fn step(key: &KeyStatus) -> f64 {
    (nearest(key) * STEPS).floor()
}

/// Less than any step: it decides between keys that are as near.
#[expect(clippy::cast_precision_loss, reason = "it only orders")]
fn busy(key: &KeyStatus) -> f64 {
    let requests = key.requests as f64;
    requests / (requests + 1.0) / 100.0
}

pub(super) fn streams(html: &mut Html, streams: &[StreamStatus]) {
    if streams.is_empty() {
        return;
    }
    html.raw("<section id=streams data-key=streams><h2>Slowest live streams</h2>");
    table(
        html,
        "Slowest live streams",
        &["Last token", "Age", "Tokens", "Model", "Node", "Key", "Request"],
    );
    let shown = shown(streams, ROWS_MAX, |stream| stream.last_token_age_seconds);
    for stream in &shown {
        row(html, &stream.id);
        html.text(milliseconds(Some(stream.last_token_age_seconds * 1e3))).raw(" ago</th>");
        cell(html, age(stream.age_seconds));
        cell(html, count(stream.tokens));
        cell(html, stream.model.as_deref().unwrap_or(NONE));
        cell(html, &stream.node);
        cell(html, stream.key.as_deref().unwrap_or(NONE));
        cell(html, &stream.id);
        html.raw("</tr>");
    }
    table_end(html);
    rest(html, streams, shown.len());
    html.raw("</section>");
}

pub(super) fn errors(html: &mut Html, errors: &[ErrorStatus]) {
    html.raw("<section id=errors data-key=errors><h2>Recent errors</h2>");
    if errors.is_empty() {
        html.raw("<p class=rest>none</p></section>");
        return;
    }
    table(
        html,
        "Recent errors",
        &["Time (UTC)", "Status", "What", "Model", "Node", "Key", "Request", "Tries"],
    );
    let shown = shown(errors, ROWS_MAX, |error| -error.age_seconds);
    for error in &shown {
        row(html, &format!("{} {}", error.id, error.time));
        html.raw("<time datetime=\"").text(&error.time).raw("\">");
        html.text(error.time.get(11..19).unwrap_or(&error.time)).raw("</time><small>");
        html.text(age(error.age_seconds)).raw(" ago</small></th>");
        match error.status {
            Some(status) => cell(html, status),
            None => cell(html, "a try"),
        }
        html.raw("<td class=words><b>")
            .text(error.code)
            .raw("</b> ")
            .text(&error.message)
            .raw("</td>");
        for text in [&error.model, &error.node, &error.key] {
            cell(html, text.as_deref().unwrap_or(NONE));
        }
        cell(html, &error.id);
        cell(html, error.tries);
        html.raw("</tr>");
    }
    table_end(html);
    rest(html, errors, shown.len());
    html.raw("</section>");
}

pub(super) fn stores(html: &mut Html, Status { stores, sessions, .. }: &Status) {
    if stores.is_empty() && sessions.is_none() {
        return;
    }
    html.raw("<section data-key=stores><h2>Stores and sessions</h2><ul>");
    for store in stores {
        html.raw("<li>").text(store.of).raw(" in ").text(store.kind);
        if store.kind != "memory" {
            html.raw(": <span class=\"state ");
            html.raw(if store.up { "up\">up" } else { "down\">away" }).raw("</span>, ");
            html.text(count(store.errors)).raw(" calls failed");
        }
        html.raw("</li>");
    }
    if let Some(sessions) = sessions {
        html.raw("<li>chat sessions: ").text(count(sessions.open)).raw(" open, ");
        html.text(bytes(sessions.bytes)).raw(", ").text(count(sessions.begun)).raw(" begun</li>");
    }
    html.raw("</ul></section>");
}
