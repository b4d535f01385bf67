//! What routing needs of a JSON body: read in one pass, borrowed from it, the rest skipped.
//!
//! A gateway and a node that disagree on which `model` counts are a hole: a key limited to one model could use another.
//! So every top-level field may be there once (Python takes the last of two, others the first), escapes in names are
//! read before names are compared, and what is nested deeper than a node's parser can follow is refused.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use smallvec::SmallVec;

use super::nesting::{self, NESTING_MAX};
use super::usage::ask::{Asked, switched};

/// Top-level fields: vLLM 0.32 knows about 80 for a chat. More are compared in quadratic time.
const FIELDS_MAX: usize = 1_024;

/// Top-level fields of most requests: more need memory of their own while the head is read.
const FIELDS: usize = 24;

/// Fields that make a prompt, in their order. Of `system`, `instructions`, `messages`, `prompt` and `input` a request has what its path
/// knows.
const PROMPT: [&str; PROMPT_PARTS] =
    ["cache_salt", "tools", "system", "instructions", "messages", "prompt", "input"];
const PROMPT_PARTS: usize = 7;

/// What chats, then older ones and messages and completions, and responses call the longest answer.
const MAX_TOKENS: [&str; 3] = ["max_completion_tokens", "max_tokens", "max_output_tokens"];

/// The part of a request's body that the gateway looks at.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Head<'a> {
    /// The model's name, escapes resolved.
    pub model: Option<Cow<'a, str>>,
    /// The caller asked for an event stream.
    pub stream: bool,
    /// Where the model's name and the options of a stream stand in the body.
    pub asked: Asked,
    /// The stored response that the request goes on from.
    pub previous_response_id: Field<'a>,
    /// The id that the request's own response shall have (an extension of vLLM's).
    pub request_id: Field<'a>,
    /// Where the prompt stands.
    pub prompt: Prompt,
    /// Tokens that the answer may have, with all its choices, where the caller says so.
    pub max_tokens: Option<u64>,
    /// More than one choice is asked for.
    pub has_choices: bool,
}

/// Where in a body the prompt stands.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Prompt {
    /// What it is made of, in the order in which it is put together: what salts a node's cache, tools, system prompt, then
    /// messages, text or input.
    pub parts: SmallVec<[Range<usize>; PROMPT_PARTS]>,
    /// What the caller says that it has in common with others: `prompt_cache_key`, else `user`.
    pub shared_by: Option<Range<usize>>,
}

/// A field that means something on some paths only: there it should be a text.
#[derive(Debug, Default, PartialEq, Eq)]
pub enum Field<'a> {
    /// Not there, or null.
    #[default]
    Absent,
    /// Its text, escapes resolved.
    Text(Cow<'a, str>),
    /// Something else.
    NotText,
}

impl<'a> Field<'a> {
    fn of(raw: Option<&'a RawValue>) -> Self {
        match raw.map(RawValue::get) {
            None | Some("null") => Self::Absent,
            Some(_) => raw.and_then(text_of).map_or(Self::NotText, Self::Text),
        }
    }
}

/// Why a body cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unreadable {
    /// Not JSON, or no object; where, and what was expected.
    Malformed(String),
    /// This top-level field is there twice.
    Duplicate(String),
    /// `model` is no string.
    ModelNotText,
    /// Deeper than 128 levels.
    TooDeep,
    /// More than 1,024.
    TooManyFields,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(what) => write!(f, "The request body is not a JSON object: {what}."),
            Self::Duplicate(name) => {
                write!(f, "The field `{name}` is in the request body twice.")
            }
            Self::ModelNotText => f.write_str("The field `model` must be a string."),
            Self::TooDeep => {
                write!(f, "The request body is nested deeper than {NESTING_MAX} levels.")
            }
            Self::TooManyFields => {
                write!(f, "The request body has more than {FIELDS_MAX} top-level fields.")
            }
        }
    }
}

/// Reads the head of `body`, one whole JSON object.
///
/// # Errors
/// [`Unreadable`]: the request is answered with 400.
pub fn read(body: &[u8]) -> Result<Head<'_>, Unreadable> {
    if nesting::is_too_deep(body) {
        return Err(Unreadable::TooDeep);
    }
    // Of bytes, serde_json would look only at those that are kept.
    let text = std::str::from_utf8(body).map_err(not_text)?;
    let mut json = serde_json::Deserializer::from_str(text);
    let mut refused = None;
    let fields = json.deserialize_map(Fields { refused: &mut refused });
    if let Some(why) = refused {
        return Err(why);
    }
    let fields = fields.and_then(|fields| json.end().map(|()| fields)).map_err(malformed)?;
    let (model, model_at) = match fields.model {
        None => (None, None),
        Some(raw) if raw.get() == "null" => (None, None),
        Some(raw) => {
            let name = text_of(raw).ok_or(Unreadable::ModelNotText)?;
            (Some(name), Some(range_in(body, raw.get())))
        }
    };
    Ok(Head {
        model,
        asked: Asked {
            model_at,
            options_at: fields.stream_options.map(|raw| range_in(body, raw.get())),
        },
        stream: fields.stream.is_some_and(|raw| switched(raw.get()) == Some(true)),
        previous_response_id: Field::of(fields.previous_response_id),
        request_id: Field::of(fields.request_id),
        prompt: fields.prompt(body),
        max_tokens: fields.max_tokens(),
        has_choices: fields.choices() > 1,
    })
}

/// The text of serde_json's error: a position and what was expected, nothing of the body.
fn malformed(error: serde_json::Error) -> Unreadable {
    Unreadable::Malformed(error.to_string())
}

fn not_text(error: std::str::Utf8Error) -> Unreadable {
    Unreadable::Malformed(format!("byte {} is not UTF-8", error.valid_up_to()))
}

/// The text that `raw` is, if it is one.
fn text_of(raw: &RawValue) -> Option<Cow<'_, str>> {
    let inner = raw.get().strip_prefix('"')?.strip_suffix('"')?;
    if memchr::memchr(b'\\', inner.as_bytes()).is_none() {
        // Nothing to resolve: what stands between the quotes was read as a string already.
        return Some(Cow::Borrowed(inner));
    }
    serde_json::from_str(raw.get()).ok().map(Cow::Owned)
}

/// Where `part`, borrowed from `whole`, stands in it.
fn range_in(whole: &[u8], part: &str) -> Range<usize> {
    let start = part.as_ptr() as usize - whole.as_ptr() as usize;
    start..start + part.len()
}

/// A string that is borrowed unless it holds escapes.
#[derive(serde::Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

#[derive(Default)]
struct RawFields<'a> {
    model: Option<&'a RawValue>,
    stream: Option<&'a RawValue>,
    stream_options: Option<&'a RawValue>,
    previous_response_id: Option<&'a RawValue>,
    request_id: Option<&'a RawValue>,
    prompt: [Option<&'a RawValue>; PROMPT_PARTS],
    prompt_cache_key: Option<&'a RawValue>,
    user: Option<&'a RawValue>,
    /// [`MAX_TOKENS`].
    max_tokens: [Option<&'a RawValue>; 3],
    n: Option<&'a RawValue>,
}

impl RawFields<'_> {
    fn prompt(&self, body: &[u8]) -> Prompt {
        let there = |raw: &&RawValue| raw.get() != "null";
        let at = |raw: &RawValue| range_in(body, raw.get());
        let parts = self.prompt.iter().flatten().copied().filter(there).map(at).collect();
        let shared_by = [self.prompt_cache_key, self.user].into_iter().flatten();
        Prompt { parts, shared_by: shared_by.filter(there).map(at).next() }
    }

    fn max_tokens(&self) -> Option<u64> {
        let number = |raw: &RawValue| raw.get().parse::<u64>().ok();
        let each = self.max_tokens.iter().flatten().copied().find_map(number)?;
        Some(each.saturating_mul(self.choices()))
    }

    fn choices(&self) -> u64 {
        self.n.and_then(|raw| raw.get().parse().ok()).unwrap_or(1)
    }
}

struct Fields<'r> {
    refused: &'r mut Option<Unreadable>,
}

impl<'de> Visitor<'de> for Fields<'_> {
    type Value = RawFields<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawFields<'de>, A::Error> {
        let mut fields = RawFields::default();
        let mut seen = SmallVec::<[Cow<'de, str>; FIELDS]>::new();
        while let Some(Text(name)) = map.next_key::<Text<'de>>()? {
            if seen.contains(&name) {
                *self.refused = Some(Unreadable::Duplicate(name.into_owned()));
                return Err(serde::de::Error::custom("duplicate field"));
            }
            if seen.len() == FIELDS_MAX {
                *self.refused = Some(Unreadable::TooManyFields);
                return Err(serde::de::Error::custom("too many fields"));
            }
            match name.as_ref() {
                "model" => fields.model = Some(map.next_value()?),
                "stream" => fields.stream = Some(map.next_value()?),
                "stream_options" => fields.stream_options = Some(map.next_value()?),
                "previous_response_id" => fields.previous_response_id = Some(map.next_value()?),
                "request_id" => fields.request_id = Some(map.next_value()?),
                "prompt_cache_key" => fields.prompt_cache_key = Some(map.next_value()?),
                "user" => fields.user = Some(map.next_value()?),
                "n" => fields.n = Some(map.next_value()?),
                name => {
                    let place = |names: &[&str]| names.iter().position(|known| *known == name);
                    if let Some(part) = place(&PROMPT) {
                        fields.prompt[part] = Some(map.next_value()?);
                    } else if let Some(at) = place(&MAX_TOKENS) {
                        fields.max_tokens[at] = Some(map.next_value()?);
                    } else {
                        map.next_value::<serde::de::IgnoredAny>()?;
                    }
                }
            }
            seen.push(name);
        }
        Ok(fields)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_model_is_found_wherever_it_stands() {
        let body = br#"{"messages":[{"role":"user","content":"\"model\":\"x\""}], "model" : "llama","stream":true}"#;
        let head = read(body).unwrap();
        assert_eq!(head.model.as_deref(), Some("llama"));
        assert_eq!(&body[head.asked.model_at.unwrap()], b"\"llama\"");
        assert!(head.stream);
    }

    #[test]
    fn an_escaped_name_is_the_same_name() {
        assert_eq!(read(br#"{"mod\u0065l":"a"}"#).unwrap().model.as_deref(), Some("a"));
        assert_eq!(read(br#"{"model":"\u0061"}"#).unwrap().model.as_deref(), Some("a"));
        assert_eq!(
            read(br#"{"model":"a","mod\u0065l":"b"}"#),
            Err(Unreadable::Duplicate("model".into()))
        );
    }

    #[test]
    fn ids_of_responses_are_texts_or_nothing() {
        let of = |value: &str| {
            let body = format!(r#"{{"previous_response_id":{value},"request_id":"b"}}"#);
            let head = read(body.as_bytes()).unwrap();
            assert_eq!(head.request_id, Field::Text("b".into()));
            match head.previous_response_id {
                Field::Absent => Some(String::new()),
                Field::Text(text) => Some(text.into_owned()),
                Field::NotText => None,
            }
        };
        assert_eq!(of(r#""resp_\u0031""#).as_deref(), Some("resp_1"));
        assert_eq!(of("null").as_deref(), Some(""));
        assert_eq!((of("7"), of("[\"resp_1\"]")), (None, None));
        assert_eq!(read(b"{}").unwrap().previous_response_id, Field::Absent);
        assert_eq!(
            read(br#"{"previous_response_id":"a","previous\u005fresponse_id":"b"}"#),
            Err(Unreadable::Duplicate("previous_response_id".into()))
        );
    }

    #[test]
    fn a_prompt_is_put_together_as_a_node_does_it_wherever_its_parts_stand() {
        let body = br#"{"user":"u","messages":[1],"tools":[2],"model":"m","cache_salt":"s","system":null}"#;
        let prompt = read(body).unwrap().prompt;
        let part = |at: &Range<usize>| std::str::from_utf8(&body[at.clone()]).unwrap();
        assert_eq!(prompt.parts.iter().map(part).collect::<Vec<_>>(), [r#""s""#, "[2]", "[1]"]);
        assert_eq!(prompt.shared_by.as_ref().map(part), Some(r#""u""#));
        let body = br#"{"prompt_cache_key":"k","user":"u","input":"i"}"#;
        let part = |at: &Range<usize>| std::str::from_utf8(&body[at.clone()]).unwrap();
        let prompt = read(body).unwrap().prompt;
        assert_eq!(prompt.shared_by.as_ref().map(part), Some(r#""k""#));
        assert_eq!(prompt.parts.iter().map(part).collect::<Vec<_>>(), [r#""i""#]);
    }

    #[test]
    fn the_longest_answer_has_several_names_and_counts_for_each_choice() {
        let of = |fields: &str| read(format!("{{{fields}}}").as_bytes()).unwrap().max_tokens;
        assert_eq!(of(r#""max_tokens":7"#), Some(7));
        assert_eq!(of(r#""max_tokens":7,"n":3"#), Some(21));
        assert_eq!(of(r#""max_tokens":7,"max_completion_tokens":5"#), Some(5));
        assert_eq!(of(r#""max_output_tokens":9,"n":null"#), Some(9));
        assert_eq!((of(r#""max_tokens":null"#), of(r#""max_tokens":-1,"n":2"#)), (None, None));
    }

    #[test]
    fn every_top_level_field_may_be_there_once() {
        let twice = Err(Unreadable::Duplicate("n".into()));
        assert_eq!(read(br#"{"n":1,"model":"a","n":2}"#), twice);
        assert!(read(br#"{"a":{"n":1,"n":2}}"#).is_ok());
        let many = (0..=FIELDS_MAX).map(|n| format!("\"f{n}\":0")).collect::<Vec<_>>().join(",");
        assert_eq!(read(format!("{{{many}}}").as_bytes()), Err(Unreadable::TooManyFields));
    }

    #[test]
    fn what_is_no_json_object_is_refused() {
        for body in [
            "",
            " ",
            "[]",
            "null",
            "\"x\"",
            "{",
            "{\"model\":\"a\"",
            "{\"model\":\"a\"} x",
            "{\"a\":}",
            "{'model':'a'}",
            "{\"model\":\"a\",}",
            "\u{feff}{}",
            "{\"model\":\"\\ud800\"}",
        ] {
            assert!(read(body.as_bytes()).is_err(), "{body}");
        }
        assert_eq!(read(br#"{"model":7}"#), Err(Unreadable::ModelNotText));
        assert_eq!(read(br#"{"model":null}"#).unwrap(), Head::default());
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_whole_parser(fields in proptest::collection::btree_map(
            "[a-z\"\\\\é]{0,6}", "[ -~é\\n]{0,12}", 0..6), model in "[ -~é]{0,9}")
        {
            let mut object: serde_json::Map<String, serde_json::Value> =
                fields.into_iter().map(|(name, text)| (name, text.into())).collect();
            object.insert("model".into(), model.clone().into());
            let body = serde_json::to_vec(&object).unwrap();
            let head = read(&body).unwrap();
            prop_assert_eq!(head.model.as_deref(), Some(model.as_str()));
            let at = head.asked.model_at.unwrap();
            prop_assert_eq!(serde_json::from_slice::<String>(&body[at]).unwrap(), model);
        }

        #[test]
        fn no_bytes_make_it_panic_or_accept_what_a_parser_refuses(
            body in proptest::collection::vec(any::<u8>(), 0..64))
        {
            if read(&body).is_ok() {
                let text = String::from_utf8_lossy(&body);
                prop_assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok());
            }
        }
    }
}
