//! `keep_alive`: how long a model stays loaded after an answer, for everybody who uses it.

use super::fields::{Fields, TextOr, refused};
use crate::refusal::Refusal;

/// The field, and what of `load_options` gives clients all of it.
const NAME: &str = "keep_alive";

/// Units of a duration as Go writes it, in nanoseconds.
const UNITS: [(&str, f64); 8] = [
    ("ns", 1.0),
    ("us", 1e3),
    // The sign for micro, and the Greek letter.
    ("\u{b5}s", 1e3),
    ("\u{3bc}s", 1e3),
    ("ms", 1e6),
    ("s", SECOND),
    ("m", 60.0 * SECOND),
    ("h", 3_600.0 * SECOND),
];

/// A second in nanoseconds.
const SECOND: f64 = 1e9;

/// What Go can count no more, in nanoseconds: some 292 years.
const TOO_LONG: f64 = 9_223_372_036_854_775_808.0;

/// Looks whether the model may be kept so long. Nothing at all would let go of it, less than nothing would hold it for ever:
/// that is taken only where `load_options` names the field.
///
/// # Errors
/// It is not for the client to say: 400.
pub(super) fn check(fields: &Fields<'_>, load_options: &[String]) -> Result<(), Refusal> {
    if fields.get(NAME).is_none() || load_options.iter().any(|option| option == NAME) {
        return Ok(());
    }
    let nanos = match fields.text_or::<f64>(NAME) {
        Ok(Some(TextOr::Text(text))) => nanos(&text),
        Ok(Some(TextOr::Other(seconds))) => Some(seconds * SECOND),
        _ => None,
    };
    if nanos.is_some_and(|nanos| (1.0..TOO_LONG).contains(&nanos)) {
        return Ok(());
    }
    let message = "`keep_alive` must be a time over zero here, such as `10m`: others use the model too. Leave it out, or have the upstream's configuration allow it.";
    Err(refused("option_not_allowed", NAME, message))
}

/// The nanoseconds of a duration such as `1h15m30.5s`; none where Go reads none, or one below zero.
fn nanos(text: &str) -> Option<f64> {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    let mut nanos = 0.0;
    while !rest.is_empty() {
        let of_number = |letter: char| letter == '.' || letter.is_ascii_digit();
        let (number, after) = rest.split_at(rest.find(|letter| !of_number(letter))?);
        let (unit, after) = after.split_at(after.find(of_number).unwrap_or(after.len()));
        let (_, scale) = UNITS.iter().find(|(name, _)| *name == unit)?;
        nanos += (number.parse::<f64>().ok()? * scale).floor();
        rest = after;
    }
    Some(nanos)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    /// Whether a client may say so, with these of `load_options`.
    fn is_taken(keep_alive: &Value, load_options: &[&str]) -> bool {
        let body = json!({ NAME: keep_alive }).to_string();
        let options: Vec<_> = load_options.iter().map(|&option| option.to_owned()).collect();
        match check(&Fields::read(body.as_bytes()).unwrap(), &options) {
            Ok(()) => true,
            Err(Refusal::Malformed { code: "option_not_allowed", param: Some(NAME), .. }) => false,
            Err(other) => panic!("{keep_alive}: {other:?}"),
        }
    }

    #[test]
    fn a_time_over_zero_is_anybodys() {
        for time in [json!(null), json!(300), json!(0.5), json!(1e-9), json!(9e9)] {
            assert!(is_taken(&time, &[]), "{time}");
        }
        for time in ["10m", "+1s", "1h15m30.5s", "0h1ns", ".5s", "1.s", "5us", "5µs", "5μs"] {
            assert!(is_taken(&json!(time), &[]), "{time}");
        }
    }

    #[test]
    fn what_unloads_or_pins_a_model_is_for_those_that_the_configuration_names() {
        let odd = [json!(0), json!(-0.0), json!(-1), json!(1e-10), json!(1e10), json!(1e300)];
        let none = [json!(true), json!([5]), json!({"s": 5})];
        let texts = [
            "",
            "0",
            "0s",
            "-0s",
            "0.0h0m",
            "0.9ns0.9ns",
            "-1",
            "-1m",
            "+-1m",
            "5",
            "5x",
            "5S",
            "5 m",
            " 5m",
            "m",
            ".s",
            "1.2.3s",
            "1s-",
            "1e3s",
            "infs",
            "NaNs",
            "soon",
            "9999999h",
            "٣s",
        ];
        for time in odd.into_iter().chain(none).chain(texts.map(|text| json!(text))) {
            assert!(!is_taken(&time, &[]), "{time}");
            assert!(!is_taken(&time, &["num_ctx"]), "{time}");
            assert!(is_taken(&time, &["num_ctx", "keep_alive"]), "{time}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_time_or_none(text in "[-+0-9.a-zµμ ]{0,20}|.{0,12}") {
            is_taken(&json!(text), &[]);
        }

        #[test]
        fn parts_add_up(parts in prop::collection::vec((0_u32..1_000, 0..UNITS.len()), 1..6)) {
            let text: String = parts.iter().map(|(count, unit)| format!("{count}{}", UNITS[*unit].0)).collect();
            let sum: f64 = parts.iter().map(|(count, unit)| f64::from(*count) * UNITS[*unit].1).sum();
            prop_assert_eq!(nanos(&text), Some(sum));
            prop_assert_eq!(is_taken(&json!(text), &[]), sum > 0.0);
        }
    }
}
