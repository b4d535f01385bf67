//! The status page: written here from what `/api/status` tells, complete without a script. The script loads the page anew
//! and puts in what changed, so that there is no second place that knows how a number looks.

mod html;
mod nodes;
mod numbers;
mod people;
mod pictures;
mod shown;
mod strip;
#[cfg(test)]
mod tests;

pub(super) use html::Html;

use super::answer::Asset;
use super::entrance::Visitor;
use super::status::Status;

pub(super) const STYLE: Asset =
    Asset { content_type: "text/css; charset=utf-8", text: include_str!("style.css") };

pub(super) const SCRIPT: Asset =
    Asset { content_type: "text/javascript; charset=utf-8", text: include_str!("app.js") };

pub(super) const ICON: Asset =
    Asset { content_type: "image/svg+xml", text: include_str!("icon.svg") };

/// Everything, for `visitor`.
pub(super) fn page(status: &Status, visitor: &Visitor) -> Html {
    let mut html = Html::default();
    head(&mut html, &status.state.to_uppercase());
    html.raw("<noscript><meta http-equiv=refresh content=5></noscript><script src=/app.js defer></script>");
    html.raw("<body data-version=\"").text(status.version);
    html.raw("\"><a class=skip href=#main>To the content</a><p id=told hidden></p><main id=main>");
    strip::strip(&mut html, status, visitor);
    nodes::upstreams(&mut html, &status.upstreams);
    nodes::models(&mut html, &status.models);
    people::keys(&mut html, &status.keys);
    people::streams(&mut html, &status.streams);
    people::errors(&mut html, &status.errors);
    people::stores(&mut html, status);
    html.raw(
        "</main><footer><a href=/metrics>/metrics</a> <a href=/api/status>/api/status</a></footer>",
    );
    html
}

/// For who must say who they are first; with what was wrong with what they said.
pub(super) fn login(wrong: Option<&str>) -> Html {
    let mut html = Html::default();
    head(&mut html, "Sign in");
    html.raw("<body><main id=main class=alone><h1>Sluice</h1>");
    if let Some(wrong) = wrong {
        html.raw("<p class=wrong role=alert>").text(wrong).raw("</p>");
    }
    html.raw(
        "<form method=post action=/login autocomplete=off><label for=key>A key of scope <code>admin</code></label>\
         <input id=key name=key type=password autocomplete=off required autofocus>\
         <button>Sign in</button></form>\
         <p class=rest>This listener speaks no TLS: who can read this network reads the key. \
         <code>ssh -L 9464:127.0.0.1:9464</code> to the gateway's machine is safe.</p></main>",
    );
    html
}

/// Why something was not done.
pub(super) fn told(message: &str) -> Html {
    let mut html = Html::default();
    head(&mut html, "Not done");
    html.raw("<body><main id=main class=alone><h1>Not done</h1><p class=wrong role=alert>");
    html.text(message).raw("</p><p><a href=/>To the status page</a></p></main>");
    html
}

fn head(html: &mut Html, title: &str) {
    html.raw("<!doctype html><html lang=en><meta charset=utf-8><title>").text(title);
    html.raw(
        " · Sluice</title><meta name=viewport content=\"width=device-width, initial-scale=1\">\
         <meta name=color-scheme content=\"light dark\"><link rel=icon href=/icon.svg type=\"image/svg+xml\">\
         <link rel=stylesheet href=/style.css>",
    );
}

/// A table that scrolls by itself, with its columns.
fn table(html: &mut Html, label: &'static str, columns: &[&'static str]) {
    html.raw("<div class=scroll role=region tabindex=0 aria-label=\"")
        .raw(label)
        .raw("\"><table><thead><tr>");
    for column in columns {
        html.raw("<th scope=col>").raw(column).raw("</th>");
    }
    html.raw("</tr></thead><tbody>");
}

fn table_end(html: &mut Html) {
    html.raw("</tbody></table></div>");
}

/// The first cell of a row; rows are known by `key` when the script looks for what changed.
fn row(html: &mut Html, key: &str) {
    html.raw("<tr data-key=\"").text(key).raw("\"><th scope=row>");
}

fn cell(html: &mut Html, value: impl std::fmt::Display) {
    html.raw("<td>").text(value).raw("</td>");
}
