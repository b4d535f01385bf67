//! Values of the status as people read them, each in few letters.

use serde_json::Value;

/// Stands for what is not known.
const NOTHING: &str = "-";

/// A text or a whole number.
pub(super) fn text(value: &Value) -> String {
    match value {
        Value::Null => NOTHING.to_owned(),
        // Who answers is not known to be a gateway: nothing of it may write to the terminal but letters.
        Value::String(text) => text.replace(char::is_control, "?"),
        other => other.to_string(),
    }
}

/// A node's URL; without what nearly all begin with.
pub(super) fn address(value: &Value) -> String {
    let url = text(value);
    url.strip_prefix("http://").map(str::to_owned).unwrap_or(url)
}

/// A count or a rate, in four letters or five.
pub(super) fn number(value: &Value) -> String {
    let Some(number) = value.as_f64() else { return NOTHING.to_owned() };
    let whole = value.is_u64();
    match number {
        _ if number >= 1e9 => format!("{:.1}G", number / 1e9),
        _ if number >= 1e6 => format!("{:.1}M", number / 1e6),
        _ if number >= 1e4 => format!("{:.0}k", number / 1e3),
        _ if whole || number >= 9.95 || number == 0.0 => format!("{number:.0}"),
        _ => format!("{number:.1}"),
    }
}

/// A part of one.
pub(super) fn percent(value: &Value) -> String {
    value.as_f64().map_or_else(|| NOTHING.to_owned(), |part| format!("{:.0}%", part * 100.0))
}

/// Median and 99th percentile in milliseconds.
pub(super) fn percentiles(value: &Value) -> String {
    match (&value["p50_ms"], &value["p99_ms"]) {
        (Value::Null, _) | (_, Value::Null) => NOTHING.to_owned(),
        (half, most) => format!("{}/{}", number(half), number(most)),
    }
}

/// Seconds, in the two largest units that say something.
pub(super) fn age(value: &Value) -> String {
    let Some(seconds) = value.as_f64() else { return NOTHING.to_owned() };
    let whole = seconds as u64;
    match whole {
        0..10 if !value.is_u64() => format!("{seconds:.1}s"),
        0..60 => format!("{whole}s"),
        60..3_600 => format!("{}m {}s", whole / 60, whole % 60),
        3_600..86_400 => format!("{}h {}m", whole / 3_600, whole / 60 % 60),
        _ => format!("{}d {}h", whole / 86_400, whole / 3_600 % 24),
    }
}

/// The elements of a list; none of what is no list.
pub(super) fn each(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_stay_short() {
        for (value, told) in [
            (json!(0), "0"),
            (json!(9_999), "9999"),
            (json!(10_000), "10k"),
            (json!(2_000_000), "2.0M"),
            (json!(3_400_000_000_u64), "3.4G"),
            (json!(0.0), "0"),
            (json!(0.25), "0.2"),
            (json!(9.96), "10"),
            (json!(123.4), "123"),
            (Value::Null, "-"),
        ] {
            assert_eq!(number(&value), told, "{value}");
        }
        assert_eq!(percent(&json!(0.256)), "26%");
        assert_eq!(percentiles(&json!({"p50_ms": 80.2, "p99_ms": 1_000})), "80/1000");
        assert_eq!(percentiles(&json!({"p50_ms": null, "p99_ms": null})), "-");
    }

    #[test]
    fn ages_have_the_units_that_matter() {
        for (seconds, told) in [
            (json!(0), "0s"),
            (json!(4.25), "4.2s"),
            (json!(59.9), "59s"),
            (json!(61), "1m 1s"),
            (json!(7_260), "2h 1m"),
            (json!(90_000), "1d 1h"),
            (Value::Null, "-"),
        ] {
            assert_eq!(age(&seconds), told, "{seconds}");
        }
    }
}
