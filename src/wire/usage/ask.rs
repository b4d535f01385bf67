//! Asking for the usage of a stream whose client did not: vLLM and OpenAI tell of it on demand.

use std::ops::Range;

use serde_json::{Map, Value};

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
    /// How `body`, an object, is to be changed for its node to tell of usage, with `each` chunk where its kind can; none where
    /// the client has asked for that, or in words that are the node's to judge.
    pub fn for_usage(&self, body: &[u8], each: bool) -> Option<(Edit, Hidden)> {
        let written = self.options_at.clone().and_then(|at| body.get(at));
        let mut options = match written {
            Some(options) => serde_json::from_slice::<Option<Map<String, Value>>>(options).ok()?,
            None => None,
        }
        .unwrap_or_default();
        let hidden = match (is_on(&options, LAST)?, is_on(&options, EACH)?) {
            (false, _) => Hidden::All,
            (true, false) if each => Hidden::Each,
            (true, _) => return None,
        };
        options.insert(LAST.to_owned(), true.into());
        if each {
            options.insert(EACH.to_owned(), true.into());
        }
        let options = Value::Object(options);
        let edit = match (&self.options_at, &self.model_at) {
            (Some(at), _) => Edit { at: at.clone(), new: options.to_string().into() },
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
        Some((edit, hidden))
    }
}

/// None where it is neither on nor off.
fn is_on(options: &Map<String, Value>, name: &str) -> Option<bool> {
    match options.get(name) {
        None | Some(Value::Null) => Some(false),
        Some(value) => value.as_bool(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::wire::head;

    /// The body with the edit, and what is hidden.
    fn asked(body: &str, each: bool) -> Option<(String, Hidden)> {
        let head = head::read(body.as_bytes()).unwrap();
        let (edit, hidden) = head.asked.for_usage(body.as_bytes(), each)?;
        let mut edited = body.as_bytes().to_vec();
        edited.splice(edit.at, edit.new);
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
            (json!({"include_usage": true}), false, None),
            (json!({"include_usage": true, "continuous_usage_stats": true}), true, None),
            (json!({"include_usage": "on"}), true, None),
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
