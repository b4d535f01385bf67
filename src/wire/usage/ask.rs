//! Asking for the usage of a stream whose client did not: vLLM and OpenAI tell of it on demand.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;

use serde_json::value::RawValue;

use crate::wire::splice::Edit;

/// An event with the usage of all choices, at the end of a stream.
const LAST: &str = "include_usage";

/// The usage so far in each chunk: of vLLM alone (`StreamOptions` in `vllm/entrypoints/openai/engine/protocol.py`).
const EACH: &str = "continuous_usage_stats";

/// What of the usage in a stream's chunks its client did not ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hidden {
    /// All of it, and the event that has nothing else.
    All,
    /// That of chunks with choices: the last event is the client's.
    Each,
    /// None: it is only noted.
    Nothing,
}

/// How a client that wants a stream asks for it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Asked {
    /// Where the model's name stands.
    pub model_at: Option<Range<usize>>,
    /// Where the value of `stream_options` stands.
    pub options_at: Option<Range<usize>>,
}

impl Asked {
    /// How `body`, an object, is to be changed for its node to tell of usage, with `each` chunk where its kind can: not at all where
    /// the client has asked for that. None where its options are the node's to judge.
    pub fn for_usage(&self, body: &[u8], each: bool) -> Option<(Option<Edit>, Hidden)> {
        let written = self.options_at.clone().and_then(|at| body.get(at));
        let mut options = match written {
            Some(options) => serde_json::from_slice::<Option<Options<'_>>>(options).ok()?,
            None => None,
        }
        .unwrap_or_default();
        let hidden = match (is_on(&options, LAST)?, is_on(&options, EACH)?) {
            (false, _) => Hidden::All,
            (true, false) if each => Hidden::Each,
            (true, _) => return Some((None, Hidden::Nothing)),
        };
        let on = serde_json::from_str("true").ok()?;
        options.insert(LAST.into(), on);
        if each {
            options.insert(EACH.into(), on);
        }
        let options = serde_json::to_string(&options).ok()?;
        let edit = match (&self.options_at, &self.model_at) {
            (Some(at), _) => Edit { at: at.clone(), new: options.into() },
            // Beside the model's name, which may get another: the two are one edit.
            (None, Some(model)) => Edit {
                at: model.end..model.end,
                new: format!(",\"stream_options\":{options}").into(),
            },
            (None, None) => {
                let begin = memchr::memchr(b'{', body)? + 1;
                Edit { at: begin..begin, new: format!("\"stream_options\":{options},").into() }
            }
        };
        Some((Some(edit), hidden))
    }
}

/// Values as they stand: what we do not know is not to be changed.
type Options<'a> = BTreeMap<Cow<'a, str>, &'a RawValue>;

/// None where it is neither on nor off.
fn is_on(options: &Options<'_>, name: &str) -> Option<bool> {
    options.get(name).map_or(Some(false), |value| switched(value.get()))
}

/// Whether a value of JSON switches something on; none where it is neither on nor off. As vLLM reads it, by Pydantic ("Boolean
/// types"): who writes it otherwise than this gateway understands it would not be counted.
pub fn switched(value: &str) -> Option<bool> {
    let word = value.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
    let one_of = |words: &[&str]| {
        word.is_some_and(|word| words.iter().any(|known| known.eq_ignore_ascii_case(word)))
    };
    match value {
        "true" => Some(true),
        "false" | "null" => Some(false),
        _ if one_of(&["1", "on", "t", "true", "y", "yes"]) => Some(true),
        _ if one_of(&["0", "off", "f", "false", "n", "no"]) => Some(false),
        number => match number.parse::<f64>() {
            Ok(1.0) => Some(true),
            Ok(0.0) => Some(false),
            _ => None,
        },
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::wire::head;

    /// The body with the edit, and what is hidden.
    fn asked(body: &str, each: bool) -> Option<(String, Hidden)> {
        let head = head::read(body.as_bytes()).unwrap();
        let (edit, hidden) = head.asked.for_usage(body.as_bytes(), each)?;
        let mut edited = body.as_bytes().to_vec();
        if let Some(edit) = edit {
            edited.splice(edit.at, edit.new);
        }
        Some((String::from_utf8(edited).unwrap(), hidden))
    }

    #[test]
    fn who_did_not_ask_gets_the_options_beside_the_model_or_first() {
        let (body, hidden) = asked(r#"{"stream":true,"model" : "m", "n":1}"#, true).unwrap();
        let wanted = r#"{"stream":true,"model" : "m","stream_options":{"continuous_usage_stats":true,"include_usage":true}, "n":1}"#;
        assert_eq!((body.as_str(), hidden), (wanted, Hidden::All));
        let (body, hidden) = asked(r#" {"stream":true}"#, false).unwrap();
        let wanted = r#" {"stream_options":{"include_usage":true},"stream":true}"#;
        assert_eq!((body.as_str(), hidden), (wanted, Hidden::All));
    }

    #[test]
    fn what_no_parser_of_ours_can_hold_is_kept_as_it_stands() {
        let body = r#"{"stream":true,"stream_options":{"z":1e999,"a":"\ud800","n":12345678901234567890123}}"#;
        let wanted = r#"{"stream":true,"stream_options":{"a":"\ud800","include_usage":true,"n":12345678901234567890123,"z":1e999}}"#;
        assert_eq!(asked(body, false), Some((wanted.to_owned(), Hidden::All)));
    }

    #[test]
    fn a_switch_is_read_as_vllm_reads_it() {
        for on in ["true", "1", "1.0", "\"true\"", "\"YES\"", "\"1\""] {
            assert_eq!(switched(on), Some(true), "{on}");
        }
        for off in ["false", "null", "0", "0.0", "\"off\"", "\"N\""] {
            assert_eq!(switched(off), Some(false), "{off}");
        }
        for odd in ["2", "\"\"", "\"maybe\"", "{}", "[true]", "\"null\""] {
            assert_eq!(switched(odd), None, "{odd}");
        }
    }

    #[test]
    fn options_that_are_there_keep_what_they_say_of_other_things() {
        let with =
            |options: Value| json!({"model": "m", "stream": true, "stream_options": options});
        for (options, each, wanted) in [
            (json!(null), false, Some((json!({"include_usage": true}), Hidden::All))),
            (
                json!({"include_usage": false, "include_obfuscation": true}),
                false,
                Some((json!({"include_usage": true, "include_obfuscation": true}), Hidden::All)),
            ),
            (
                json!({"include_usage": true}),
                true,
                Some((
                    json!({"include_usage": true, "continuous_usage_stats": true}),
                    Hidden::Each,
                )),
            ),
            (
                json!({"continuous_usage_stats": true}),
                true,
                Some((json!({"include_usage": true, "continuous_usage_stats": true}), Hidden::All)),
            ),
            (
                json!({"include_usage": 0, "x": 1}),
                false,
                Some((json!({"include_usage": true, "x": 1}), Hidden::All)),
            ),
            (
                json!({"include_usage": "On"}),
                false,
                Some((json!({"include_usage": "On"}), Hidden::Nothing)),
            ),
            (
                json!({"include_usage": true, "continuous_usage_stats": 1}),
                true,
                Some((
                    json!({"include_usage": true, "continuous_usage_stats": 1}),
                    Hidden::Nothing,
                )),
            ),
            (json!({"include_usage": "x"}), true, None),
            (json!(7), true, None),
            (json!([]), true, None),
        ] {
            let asked = asked(&with(options.clone()).to_string(), each);
            let asked = asked.map(|(body, hidden)| (serde_json::from_str(&body).unwrap(), hidden));
            let wanted = wanted.map(|(options, hidden)| (with(options), hidden));
            assert_eq!(asked, wanted, "{options}");
        }
    }
}
