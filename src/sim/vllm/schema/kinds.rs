//! What a field may hold, and what pydantic says when it holds something else.

use serde_json::Value;

use super::Wrong;
use super::python::one_of;

const TEXT: &str = "Input should be a valid string";
const LIST: &str = "Input should be a valid list";
const DICTIONARY: &str = "Input should be a valid dictionary";

/// Types of fields.
#[derive(Clone, Copy)]
pub(in crate::sim::vllm) enum Kind {
    /// Whatever it is.
    Any,
    /// `str`
    Text,
    /// `bool`, or a word for it.
    Switch,
    /// `float`, or a text of it.
    Number,
    /// `int`, at least this.
    Whole(i64),
    /// One of these words; several lists are several types.
    OneOf(&'static [&'static [&'static str]]),
    /// A list of these words.
    EachOneOf(&'static [&'static str]),
    /// `list`
    List,
    /// `str | list[str]`
    TextOrList,
    /// A list of functions that the model may call.
    Tools,
    /// `StreamOptions`
    StreamOptions,
    /// `Sequence`
    Sequence,
    /// `list[int] | list[list[int]] | str | list[str]`
    Inputs,
    /// A text, or `{"content": [..]}`.
    Scored,
    /// One of those, or a list of them.
    ManyScored,
    /// `list[int]`, at least one, none below 0.
    TokenIds,
    /// `SamplingParams`
    Sampling,
}

impl Kind {
    /// Adds to `wrong` what is wrong with `value`, which stands `at`.
    pub(super) fn check(self, value: &Value, at: &str, wrong: &mut Vec<Wrong>) {
        let error = |kind, says: &str| Wrong::new(kind, at.to_owned(), says, value);
        match self {
            Self::Any => {}
            Self::Text => text(value, at, wrong),
            Self::Switch if switch(value).is_some() => {}
            Self::Switch => wrong.push(error(
                "bool_parsing",
                "Input should be a valid boolean, unable to interpret input",
            )),
            Self::Number if number(value) => {}
            Self::Number => wrong.push(error(
                "float_parsing",
                "Input should be a valid number, unable to parse string as a number",
            )),
            Self::Whole(least) => at_least(value, least, at, wrong),
            Self::OneOf(types) => one_of_all(value, types, at, wrong),
            Self::EachOneOf(words) => {
                for (place, item) in value.as_array().into_iter().flatten().enumerate() {
                    one_of_all(item, &[words], &format!("{at}.{place}"), wrong);
                }
            }
            Self::List => list(value, at, wrong),
            Self::TextOrList => text_or_list(value, at, wrong),
            Self::StreamOptions => stream_options(value, at, wrong),
            Self::Tools => tools(value, at, wrong),
            Self::Sequence => sequence(value, at, wrong),
            Self::Inputs => inputs(value, at, wrong),
            Self::Scored => scored(value, at, wrong),
            Self::ManyScored => many_scored(value, at, wrong),
            Self::TokenIds => token_ids(value, at, wrong),
            Self::Sampling => sampling(value, at, wrong),
        }
    }
}

/// The number that pydantic takes `value` for, where it wants an `int`.
pub(in crate::sim::vllm) fn whole(value: &Value) -> Option<i64> {
    match value {
        Value::Bool(on) => Some(i64::from(*on)),
        Value::String(text) => text.trim().parse().ok(),
        _ => {
            value.as_i64().or_else(|| value.as_f64().filter(|n| n.fract() == 0.0).map(|n| n as i64))
        }
    }
}

/// What pydantic takes `value` for, where it wants a `bool`.
pub(in crate::sim::vllm) fn switch(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(on) => Some(*on),
        Value::Number(number) => match number.as_f64() {
            Some(1.0) => Some(true),
            Some(0.0) => Some(false),
            _ => None,
        },
        Value::String(word) => match word.to_ascii_lowercase().as_str() {
            "1" | "true" | "t" | "yes" | "y" | "on" => Some(true),
            "0" | "false" | "f" | "no" | "n" | "off" => Some(false),
            _ => None,
        },
        _ => None,
    }
}

fn number(value: &Value) -> bool {
    match value {
        Value::String(text) => text.trim().parse::<f64>().is_ok(),
        _ => value.is_number() || value.is_boolean(),
    }
}

fn text(value: &Value, at: &str, wrong: &mut Vec<Wrong>) {
    if !value.is_string() {
        wrong.push(Wrong::new("string_type", at.to_owned(), TEXT, value));
    }
}

fn list(value: &Value, at: &str, wrong: &mut Vec<Wrong>) {
    if !value.is_array() {
        wrong.push(Wrong::new("list_type", at.to_owned(), LIST, value));
    }
}

/// Whether `value` is a whole number; if not, why.
fn integer(value: &Value, at: &str, wrong: &mut Vec<Wrong>) -> bool {
    let (kind, says) = match value {
        _ if whole(value).is_some() => return true,
        Value::String(_) => {
            ("int_parsing", "Input should be a valid integer, unable to parse string as an integer")
        }
        Value::Number(_) => (
            "int_from_float",
            "Input should be a valid integer, got a number with a fractional part",
        ),
        _ => ("int_type", "Input should be a valid integer"),
    };
    wrong.push(Wrong::new(kind, at.to_owned(), says, value));
    false
}

fn at_least(value: &Value, least: i64, at: &str, wrong: &mut Vec<Wrong>) {
    if integer(value, at, wrong) && whole(value).is_some_and(|number| number < least) {
        let says = format!("Input should be greater than or equal to {least}");
        let error = Wrong::new("greater_than_equal", at.to_owned(), says, value);
        wrong.push(error.with(format!("{{'ge': {least}}}")));
    }
}

fn one_of_all(value: &Value, types: &[&[&str]], at: &str, wrong: &mut Vec<Wrong>) {
    let word = value.as_str().unwrap_or_default();
    if value.is_string() && types.iter().any(|words| words.contains(&word)) {
        return;
    }
    for words in types {
        let expected = one_of(words);
        let says = format!("Input should be {expected}");
        let error = Wrong::new("literal_error", at.to_owned(), says, value);
        wrong.push(error.with(format!("{{'expected': \"{expected}\"}}")));
    }
}

fn text_or_list(value: &Value, at: &str, wrong: &mut Vec<Wrong>) {
    let mut texts = Vec::new();
    match value {
        Value::String(_) => return,
        Value::Array(items) => {
            for (place, item) in items.iter().enumerate() {
                text(item, &format!("{at}.{place}"), &mut texts);
            }
        }
        _ => list(value, at, &mut texts),
    }
    if !texts.is_empty() {
        text(value, at, wrong);
        wrong.append(&mut texts);
    }
}

fn stream_options(value: &Value, at: &str, wrong: &mut Vec<Wrong>) {
    if !value.is_object() {
        let says = "Input should be a valid dictionary or object to extract fields from";
        return wrong.push(Wrong::new("model_attributes_type", at.to_owned(), says, value));
    }
    for name in ["include_usage", "continuous_usage_stats"] {
        if let Some(value) = value.get(name).filter(|value| !value.is_null()) {
            Kind::Switch.check(value, &format!("{at}.{name}"), wrong);
        }
    }
}

fn tools(value: &Value, at: &str, wrong: &mut Vec<Wrong>) {
    let Value::Array(tools) = value else { return list(value, at, wrong) };
    for (place, tool) in tools.iter().enumerate() {
        let at = format!("{at}.{place}.function");
        match tool.get("function") {
            None => wrong.push(Wrong::new("missing", at, "Field required", tool)),
            Some(function) if function.get("name").is_none() => {
                wrong.push(Wrong::new("missing", format!("{at}.name"), "Field required", function));
            }
            Some(_) => {}
        }
    }
}

fn sequence(value: &Value, at: &str, wrong: &mut Vec<Wrong>) {
    match value {
        Value::Array(_) => {}
        Value::String(_) => {
            let says = "'str' instances are not allowed as a Sequence value";
            let error = Wrong::new("sequence_str", at.to_owned(), says, value);
            wrong.push(error.with("{'type_name': 'str'}".to_owned()));
        }
        _ => {
            let says = "Input should be an instance of Sequence";
            let error = Wrong::new("is_instance_of", at.to_owned(), says, value);
            wrong.push(error.with("{'class': 'Sequence'}".to_owned()));
        }
    }
}

fn inputs(value: &Value, at: &str, wrong: &mut Vec<Wrong>) {
    let items = match value {
        Value::String(_) => return,
        Value::Array(items) => items.as_slice(),
        _ => &[],
    };
    let place = |place: usize| format!("{at}.{place}");
    // One list of errors for each type that it may have; it fits if one is empty.
    let (mut ids, mut lists, mut texts) = (Vec::new(), Vec::new(), Vec::new());
    list(value, at, &mut ids);
    list(value, at, &mut lists);
    list(value, at, &mut texts);
    for (number, item) in items.iter().enumerate() {
        integer(item, &place(number), &mut ids);
        list(item, &place(number), &mut lists);
        for (inner, id) in item.as_array().into_iter().flatten().enumerate() {
            integer(id, &format!("{at}.{number}.{inner}"), &mut lists);
        }
        text(item, &place(number), &mut texts);
    }
    if !(ids.is_empty() || lists.is_empty() || texts.is_empty()) {
        wrong.append(&mut ids);
        wrong.append(&mut lists);
        text(value, at, wrong);
        wrong.append(&mut texts);
    }
}

fn scored(value: &Value, at: &str, wrong: &mut Vec<Wrong>) {
    let content_at = format!("{at}.ScoreMultiModalParam.content");
    match value {
        Value::String(_) => return,
        Value::Object(fields) if fields.get("content").is_some_and(Value::is_array) => return,
        _ => text(value, at, wrong),
    }
    match value.as_object().map(|fields| fields.get("content")) {
        None => {
            let at = format!("{at}.ScoreMultiModalParam");
            wrong.push(Wrong::new("dict_type", at, DICTIONARY, value));
        }
        Some(None) => wrong.push(Wrong::new("missing", content_at, "Field required", value)),
        Some(Some(content)) => list(content, &content_at, wrong),
    }
}

fn many_scored(value: &Value, at: &str, wrong: &mut Vec<Wrong>) {
    let (mut alone, mut together) = (Vec::new(), Vec::new());
    scored(value, at, &mut alone);
    list(value, at, &mut together);
    for (place, item) in value.as_array().into_iter().flatten().enumerate() {
        scored(item, &format!("{at}.{place}"), &mut together);
    }
    if !(alone.is_empty() || together.is_empty()) {
        wrong.append(&mut alone);
        wrong.append(&mut together);
    }
}

fn token_ids(value: &Value, at: &str, wrong: &mut Vec<Wrong>) {
    let Value::Array(items) = value else { return list(value, at, wrong) };
    if items.is_empty() {
        let says = "List should have at least 1 item after validation, not 0";
        let context = "{'field_type': 'List', 'min_length': 1, 'actual_length': 0}";
        let error = Wrong::new("too_short", at.to_owned(), says, value);
        return wrong.push(error.with(context.to_owned()));
    }
    let before = wrong.len();
    for (place, item) in items.iter().enumerate() {
        integer(item, &format!("{at}.{place}"), wrong);
    }
    if wrong.len() == before && items.iter().filter_map(whole).any(|id| id < 0) {
        let says = "token_ids must not contain negative values";
        let error = Wrong::new("value_error", at.to_owned(), format!("Value error, {says}"), value);
        wrong.push(error.with(format!("{{'error': ValueError('{says}')}}")));
    }
}

fn sampling(value: &Value, at: &str, wrong: &mut Vec<Wrong>) {
    let mut inside = Vec::new();
    match value {
        Value::Object(fields) => {
            for name in ["n", "max_tokens", "logprobs"] {
                if let Some(number) = fields.get(name).filter(|number| !number.is_null()) {
                    integer(number, &format!("{at}.{name}"), &mut inside);
                }
            }
        }
        _ => inside.push(Wrong::new("dict_type", at.to_owned(), DICTIONARY, value)),
    }
    if !inside.is_empty() {
        let says = "Input should be an instance of SamplingParams";
        let error = Wrong::new("is_instance_of", at.to_owned(), says, value);
        wrong.push(error.with("{'class': 'SamplingParams'}".to_owned()));
        wrong.append(&mut inside);
    }
}
