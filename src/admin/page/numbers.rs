//! Numbers as people read them.

use super::super::status::Percentiles;

/// Stands where there was nothing to measure.
pub(super) const NONE: &str = "-";

/// `950`, `1.23k`, `45.6M`.
#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
pub(super) fn count(number: u64) -> String {
    amount(number as f64)
}

/// The same of what is no whole number: `0.3`, `12`.
pub(super) fn amount(number: f64) -> String {
    for (unit, size) in [("G", 1e9), ("M", 1e6), ("k", 1e3)] {
        // From here on three digits of the smaller unit would be 1000.
        if number >= size * 0.9995 {
            return format!("{}{unit}", digits(number / size, 3));
        }
    }
    match number {
        0.0..0.05 if number > 0.0 => "<0.1".to_owned(),
        _ => digits((number * 10.0).round() / 10.0, if number < 10.0 { 2 } else { 1 }),
    }
}

/// So many digits, of which none is a zero at the end of a fraction.
fn digits(number: f64, most: usize) -> String {
    let whole = format!("{number:.0}").len();
    let text = format!("{number:.*}", most.saturating_sub(whole));
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

/// `3.4 ms`, `340 ms`, `1.23 s`, `2 min 5 s`.
pub(super) fn milliseconds(ms: Option<f64>) -> String {
    match ms {
        None => NONE.to_owned(),
        Some(ms) if ms < 999.5 => format!("{} ms", digits(ms, if ms < 10.0 { 2 } else { 3 })),
        Some(ms) if ms < 99_950.0 => format!("{} s", digits(ms / 1e3, 3)),
        Some(ms) => age(ms / 1e3),
    }
}

/// `180 ms / 1.2 s`.
pub(super) fn percentiles(both: Percentiles) -> String {
    match both.p50_ms.or(both.p99_ms) {
        None => NONE.to_owned(),
        Some(_) => format!("{} / {}", milliseconds(both.p50_ms), milliseconds(both.p99_ms)),
    }
}

/// `12 s`, `4 min 5 s`, `2 h 5 min`, `3 d 4 h`.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "an age is a positive number of seconds"
)]
pub(super) fn age(seconds: f64) -> String {
    let seconds = seconds as u64;
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    let both = |large: u64, unit: &str, small: u64, below: &str| match small {
        0 => format!("{large} {unit}"),
        small => format!("{large} {unit} {small} {below}"),
    };
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => both(minutes, "min", seconds % 60, "s"),
        3_600..86_400 => both(hours, "h", minutes % 60, "min"),
        _ => both(days, "d", hours % 24, "h"),
    }
}

/// Of a part from 0 to 1: `73 %`.
pub(super) fn percent(part: Option<f64>) -> String {
    part.map_or_else(|| NONE.to_owned(), |part| format!("{:.0} %", part * 100.0))
}

/// `1.23 MB`.
pub(super) fn bytes(number: u64) -> String {
    let amount = count(number);
    let end = amount.trim_end_matches(|c: char| c.is_ascii_alphabetic()).len();
    let (number, unit) = amount.split_at(end);
    format!("{number} {unit}B")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits_and_a_unit() {
        for (number, expected) in [
            (0, "0"),
            (7, "7"),
            (999, "999"),
            (1_000, "1k"),
            (1_234, "1.23k"),
            (12_345, "12.3k"),
            (999_400, "999k"),
            (999_600, "1M"),
            (123_456_789, "123M"),
            (5_000_000_000, "5G"),
        ] {
            assert_eq!(count(number), expected, "{number}");
        }
        for (number, expected) in
            [(0.0, "0"), (0.01, "<0.1"), (0.34, "0.3"), (9.96, "10"), (12.6, "13"), (999.6, "1k")]
        {
            assert_eq!(amount(number), expected, "{number}");
        }
        assert_eq!((bytes(0).as_str(), bytes(1_230_000).as_str()), ("0 B", "1.23 MB"));
    }

    #[test]
    fn times_have_their_unit() {
        for (ms, expected) in [
            (0.0, "0 ms"),
            (3.44, "3.4 ms"),
            (340.0, "340 ms"),
            (999.6, "1 s"),
            (1_234.0, "1.23 s"),
            (45_600.0, "45.6 s"),
            (125_000.0, "2 min 5 s"),
        ] {
            assert_eq!(milliseconds(Some(ms)), expected, "{ms}");
        }
        for (seconds, expected) in
            [(0.9, "0 s"), (60.0, "1 min"), (7_500.0, "2 h 5 min"), (273_600.0, "3 d 4 h")]
        {
            assert_eq!(age(seconds), expected, "{seconds}");
        }
        assert_eq!((milliseconds(None).as_str(), percent(Some(0.734)).as_str()), ("-", "73 %"));
        let one = |p50_ms, p99_ms| percentiles(Percentiles { p50_ms, p99_ms });
        assert_eq!(one(Some(180.0), Some(1_200.0)), "180 ms / 1.2 s");
        assert_eq!(one(None, None), "-");
    }
}
