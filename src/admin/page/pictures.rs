//! Lines of the last minutes, and bars, as SVG that says in words what it shows.

use std::fmt::Write;

use super::html::Html;
use super::numbers::amount;

/// Steps of a line's height. Few: what is between them nobody sees, and every digit goes over the wire.
const HEIGHT: f64 = 16.0;

/// A line of `points`, which are of `what`, the oldest first; there are gaps where nothing was measured.
pub(super) fn line(html: &mut Html, what: &'static str, points: &[Option<f64>]) {
    let highest = points.iter().flatten().copied().fold(0.0, f64::max);
    let width = points.len().saturating_sub(1).max(1);
    html.raw("<svg class=line viewBox=\"0 -1 ")
        .text(width)
        .raw(" 18\" preserveAspectRatio=none role=img aria-label=\"");
    html.text(what).raw(" in the last 5 minutes: ");
    match points.iter().any(Option::is_some) {
        false => html.raw("nothing yet\">"),
        true => html
            .raw("at most ")
            .text(amount(highest))
            .raw("\"><path d=\"")
            .text(path(points, highest))
            .raw("\"/>"),
    };
    html.raw("</svg>");
}

/// In steps from point to point, which are small numbers.
#[expect(clippy::cast_possible_truncation, reason = "at most HEIGHT")]
fn path(points: &[Option<f64>], highest: f64) -> String {
    let scale = if highest > 0.0 { HEIGHT / highest } else { 0.0 };
    let height = |point: f64| (HEIGHT - point.max(0.0) * scale).round() as i32;
    let mut path = String::new();
    let mut before: Option<i32> = None;
    for (at, point) in points.iter().enumerate() {
        let now = point.map(height);
        // A String takes all that is written.
        let _never_fails = match (before, now) {
            (None, Some(y)) => write!(path, "M{at} {y}l0 0"),
            (Some(last), Some(y)) => match y - last {
                up @ ..0 => write!(path, " 1{up}"),
                down => write!(path, " 1 {down}"),
            },
            (_, None) => Ok(()),
        };
        before = now;
    }
    path
}

/// From here on a bar is marked.
const FULL: f64 = 0.9;

/// A bar for a part from 0 to 1. What it shows stands beside it, as a number.
pub(super) fn bar(html: &mut Html, part: f64) {
    let percent = (part.clamp(0.0, 1.0) * 100.0).round();
    html.raw("<svg class=\"bar");
    if part >= FULL {
        html.raw(" full");
    }
    html.raw("\" viewBox=\"0 0 100 8\" preserveAspectRatio=none aria-hidden=true><rect width=100 height=8 /><rect width=")
        .text(percent)
        .raw(" height=8 /></svg>");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_goes_in_steps_and_has_gaps() {
        let points = [Some(0.0), Some(4.0), None, Some(2.0), Some(2.0)];
        assert_eq!(path(&points, 4.0), "M0 16l0 0 1-16M3 8l0 0 1 0");
        let mut html = Html::default();
        line(&mut html, "requests per second", &points);
        let label = "aria-label=\"requests per second in the last 5 minutes: at most 4\"";
        assert!(html.as_str().contains(label), "{}", html.as_str());
        let mut html = Html::default();
        line(&mut html, "errors", &[None]);
        assert!(html.as_str().ends_with("5 minutes: nothing yet\"></svg>"), "{}", html.as_str());
    }

    #[test]
    fn a_bar_is_never_longer_than_all() {
        let mut html = Html::default();
        bar(&mut html, 1.7);
        assert!(
            html.as_str().contains("class=\"bar full\"")
                && html.as_str().contains("width=100 height=8 /></svg>")
        );
    }
}
