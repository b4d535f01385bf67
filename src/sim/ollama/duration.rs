//! How long a model stays loaded, as `keep_alive` has it: seconds, or a duration as Go writes it.

use std::time::Duration;

use serde_json::Value;

/// The longest that Go knows, some 292 years, and what a negative time means.
pub(super) const FOREVER: Duration = Duration::from_nanos(i64::MAX as u64);

/// Units in nanoseconds.
const UNITS: [(&str, u64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    // The sign for micro, and the Greek letter.
    ("\u{b5}s", 1_000),
    ("\u{3bc}s", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// The time that `value` names; less than none is for ever.
///
/// # Errors
/// It is no time; what Ollama says of it.
pub(super) fn keep_alive(value: &Value) -> Result<Duration, String> {
    match value {
        Value::Number(number) => {
            let seconds = number.as_f64().unwrap_or_default();
            if seconds < 0.0 {
                return Ok(FOREVER);
            }
            Ok(Duration::try_from_secs_f64(seconds).unwrap_or(FOREVER).min(FOREVER))
        }
        Value::String(text) => Ok(parse(text)?.unwrap_or(FOREVER)),
        Value::Bool(_) => Err("Unsupported type: 'bool'".to_owned()),
        Value::Array(_) => Err("Unsupported type: '[]interface {}'".to_owned()),
        Value::Object(_) => Err("Unsupported type: 'map[string]interface {}'".to_owned()),
        Value::Null => Err("Unsupported type: '%!s(<nil>)'".to_owned()),
    }
}

/// `time.ParseDuration`: such as `1h15m30.5s`. None: it is negative.
///
/// # Errors
/// It is no duration; what Go says of it.
fn parse(text: &str) -> Result<Option<Duration>, String> {
    let invalid = || format!("time: invalid duration {}", quote(text));
    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(Some(Duration::ZERO));
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut nanos = 0_u64;
    while !rest.is_empty() {
        let (number, after) = number(rest).ok_or_else(invalid)?;
        let unit = after.find(|letter: char| letter == '.' || letter.is_ascii_digit());
        let (unit, after) = after.split_at(unit.unwrap_or(after.len()));
        if unit.is_empty() {
            return Err(format!("time: missing unit in duration {}", quote(text)));
        }
        let Some((_, scale)) = UNITS.iter().find(|(name, _)| *name == unit) else {
            return Err(format!("time: unknown unit {} in duration {}", quote(unit), quote(text)));
        };
        nanos =
            number.nanos(*scale).and_then(|more| nanos.checked_add(more)).ok_or_else(invalid)?;
        rest = after;
    }
    // One more than the longest is the shortest of all.
    let longest = i64::MAX as u64 + u64::from(negative);
    if nanos > longest {
        return Err(invalid());
    }
    Ok((!negative || nanos == 0).then_some(Duration::from_nanos(nanos)))
}

/// A number in two halves, as it stands before a unit.
struct Number<'a> {
    whole: &'a str,
    fraction: &'a str,
}

/// The number that `text` begins with, and what comes after it; none if there is no digit.
fn number(text: &str) -> Option<(Number<'_>, &str)> {
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let (whole, after) = text.split_at(digits(text));
    let (fraction, after) = match after.strip_prefix('.') {
        Some(after) => after.split_at(digits(after)),
        None => ("", after),
    };
    (!whole.is_empty() || !fraction.is_empty()).then_some((Number { whole, fraction }, after))
}

impl Number<'_> {
    /// The number in units of so many nanoseconds; none if it is too large.
    fn nanos(&self, unit: u64) -> Option<u64> {
        let whole: u64 = if self.whole.is_empty() { 0 } else { self.whole.parse().ok()? };
        // What a float cannot hold is less than a nanosecond of any unit.
        let fraction: f64 = format!("0.{}0", self.fraction).parse().ok()?;
        whole.checked_mul(unit)?.checked_add((fraction * unit as f64) as u64)
    }
}

/// As the package `time` quotes: what is not ASCII is shown byte by byte.
fn quote(text: &str) -> String {
    let mut out = String::from('"');
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' => out.extend(['\\', char::from(byte)]),
            b' '..=b'~' => out.push(char::from(byte)),
            _ => out += &format!("\\x{byte:02x}"),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn seconds(text: &str) -> f64 {
        keep_alive(&json!(text)).unwrap().as_secs_f64()
    }

    #[test]
    fn a_time_is_read_as_go_reads_it() {
        for (text, is) in [("5m", 300.0), ("0", 0.0), ("1h15m30.5s", 4530.5), (".5s", 0.5)] {
            assert_eq!(seconds(text), is, "{text}");
        }
        assert_eq!((seconds("1.s"), seconds("+2s"), seconds("1500µs")), (1.0, 2.0, 0.0015));
        assert_eq!((seconds("-0s"), seconds("-1s")), (0.0, FOREVER.as_secs_f64()));
        for (value, is) in [(json!(30), 30.0), (json!(0.5), 0.5), (json!(0), 0.0)] {
            assert_eq!(keep_alive(&value).unwrap().as_secs_f64(), is);
        }
        assert_eq!((keep_alive(&json!(-1)), keep_alive(&json!(1e300))), (Ok(FOREVER), Ok(FOREVER)));
    }

    #[test]
    fn what_is_no_time_is_told_in_the_words_of_go() {
        for (text, says) in [
            ("", r#"time: invalid duration """#),
            ("soon", r#"time: invalid duration "soon""#),
            ("5", r#"time: missing unit in duration "5""#),
            ("5x", r#"time: unknown unit "x" in duration "5x""#),
            ("5ч", r#"time: unknown unit "\xd1\x87" in duration "5\xd1\x87""#),
            ("9999999h", r#"time: invalid duration "9999999h""#),
            ("1s-", r#"time: unknown unit "s-" in duration "1s-""#),
        ] {
            assert_eq!(keep_alive(&json!(text)), Err(says.to_owned()));
        }
        assert_eq!(keep_alive(&json!(true)), Err("Unsupported type: 'bool'".to_owned()));
    }

    proptest! {
        #[test]
        fn any_text_is_a_time_or_told(text in "[-+0-9.a-zµμ ]{0,20}|.{0,12}") {
            let _ = keep_alive(&json!(text));
        }

        #[test]
        fn what_go_writes_is_read(hours in 0_u64..10_000, minutes in 0_u64..60, nanos in 0_u64..60_000_000_000) {
            let text = format!("{hours}h{minutes}m{}.{:09}s", nanos / 1_000_000_000, nanos % 1_000_000_000);
            let whole = Duration::from_secs(hours * 3600 + minutes * 60) + Duration::from_nanos(nanos);
            let read = keep_alive(&json!(text)).unwrap();
            // The fraction goes through a float.
            prop_assert!(read.abs_diff(whole) <= Duration::from_nanos(1), "{} {:?}", text, read);
        }

        #[test]
        fn parts_add_up(parts in prop::collection::vec((0_u64..1000, 0_usize..UNITS.len()), 1..6)) {
            let text: String = parts.iter().map(|(n, unit)| format!("{n}{}", UNITS[*unit].0)).collect();
            let sum: u64 = parts.iter().map(|(n, unit)| n * UNITS[*unit].1).sum();
            prop_assert_eq!(keep_alive(&json!(text)), Ok(Duration::from_nanos(sum)));
        }
    }
}
