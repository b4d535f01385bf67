//! JSON whose fields stay in their order, and what is different in two of them.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// A value; fields in the order in which they came.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Json {
    Null,
    Bool(bool),
    Whole(i128),
    Fraction(f64),
    Text(String),
    List(Vec<Json>),
    Object(Vec<(String, Json)>),
}

impl Json {
    /// The value of a text.
    pub(super) fn parse(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    /// A field of an object.
    pub(super) fn field(&self, name: &str) -> Option<&Self> {
        match self {
            Self::Object(fields) => {
                fields.iter().find(|(own, _)| own == name).map(|(_, value)| value)
            }
            _ => None,
        }
    }

    fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a bool",
            Self::Whole(_) => "a whole number",
            Self::Fraction(_) => "a fraction",
            Self::Text(_) => "a text",
            Self::List(_) => "a list",
            Self::Object(_) => "an object",
        }
    }
}

/// Fields whose values a model makes up, or that tell of a moment: only their type is compared.
const MADE_UP: [&str; 37] = [
    "id",
    "created",
    "created_at",
    "model",
    "root",
    "content",
    "text",
    "delta",
    "token",
    "token_strs",
    "bytes",
    "logprob",
    "tokens",
    "token_ids",
    "prompt_token_ids",
    "prompt_text",
    "arguments",
    "partial_json",
    "call_id",
    "item_id",
    "prompt_tokens",
    "completion_tokens",
    "total_tokens",
    "input_tokens",
    "output_tokens",
    "count",
    "cache_write_tokens",
    "original_input_tokens",
    "system_fingerprint",
    "text_offset",
    "token_logprobs",
    "top_logprobs",
    "prompt_logprobs",
    "rank",
    "decoded_token",
    "prompt",
    "max_tokens",
];

/// Appends to `wrong` what `ours` has other than `theirs`, which stands `at`.
pub(super) fn differences(theirs: &Json, ours: &Json, at: &str, wrong: &mut Vec<String>) {
    let name = at.rsplit(['.', '[']).next().unwrap_or_default();
    let made_up = at.split(['.', '[']).any(|name| MADE_UP.contains(&name));
    match (theirs, ours) {
        (Json::Object(theirs), Json::Object(ours)) => fields(theirs, ours, at, wrong),
        (Json::List(theirs), Json::List(ours)) => items(theirs, ours, at, wrong),
        // Random weights end an answer with a token of their own, which vLLM names by its id.
        (Json::Whole(_), Json::Null) if name == "stop_reason" => {}
        _ if theirs.kind() != ours.kind() => {
            wrong.push(format!("{at}: {} instead of {}", ours.kind(), theirs.kind()));
        }
        _ if !made_up && theirs != ours => {
            wrong.push(format!("{at}: {ours:?} instead of {theirs:?}"));
        }
        _ => {}
    }
}

fn fields(theirs: &[(String, Json)], ours: &[(String, Json)], at: &str, wrong: &mut Vec<String>) {
    // A completion's objects have tokens for names; a chat's do not.
    let by_token = at.ends_with("top_logprobs[") || at.ends_with("prompt_logprobs[");
    if by_token && theirs.first().is_none_or(|(name, _)| name != "token") {
        if let [(_, theirs), ..] = theirs {
            ours.iter().for_each(|(_, ours)| differences(theirs, ours, &format!("{at}{{"), wrong));
        }
        return;
    }
    let names = |fields: &[(String, Json)]| -> Vec<String> {
        fields.iter().map(|(name, _)| name.clone()).collect()
    };
    if names(theirs) != names(ours) {
        wrong.push(format!("{at}: fields {:?} instead of {:?}", names(ours), names(theirs)));
        return;
    }
    for ((name, theirs), (_, ours)) in theirs.iter().zip(ours) {
        differences(theirs, ours, &format!("{at}.{name}"), wrong);
    }
}

/// Lists of what a model makes up may have any length: there each of ours must be like one of theirs.
fn items(theirs: &[Json], ours: &[Json], at: &str, wrong: &mut Vec<String>) {
    let at = format!("{at}[");
    let made_up = at.split(['.', '[']).any(|name| name != "content" && MADE_UP.contains(&name));
    let of_tokens = at.ends_with("logprobs.content[");
    if !made_up && !of_tokens {
        if theirs.len() != ours.len() {
            wrong.push(format!("{at}: {} items instead of {}", ours.len(), theirs.len()));
        }
        for (theirs, ours) in theirs.iter().zip(ours) {
            differences(theirs, ours, &at, wrong);
        }
        return;
    }
    for ours in ours {
        let least = theirs.iter().map(|theirs| {
            let mut wrong = Vec::new();
            differences(theirs, ours, &at, &mut wrong);
            wrong
        });
        match least.min_by_key(Vec::len) {
            Some(mut least) => wrong.append(&mut least),
            // A token may have no bytes.
            None if at.ends_with("bytes[") => {}
            None => wrong.push(format!("{at}: items instead of none")),
        }
    }
    if ours.is_empty() && !theirs.is_empty() {
        wrong.push(format!("{at}: no items"));
    }
}

struct AnyJson;

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(AnyJson)
    }
}

impl<'de> Visitor<'de> for AnyJson {
    type Value = Json;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("JSON")
    }
    fn visit_unit<E: Error>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }
    fn visit_bool<E: Error>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Bool(value))
    }
    fn visit_i64<E: Error>(self, value: i64) -> Result<Json, E> {
        Ok(Json::Whole(value.into()))
    }
    fn visit_u64<E: Error>(self, value: u64) -> Result<Json, E> {
        Ok(Json::Whole(value.into()))
    }
    fn visit_f64<E: Error>(self, value: f64) -> Result<Json, E> {
        Ok(Json::Fraction(value))
    }
    fn visit_str<E: Error>(self, value: &str) -> Result<Json, E> {
        Ok(Json::Text(value.to_owned()))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Json, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = from.next_element()? {
            items.push(item);
        }
        Ok(Json::List(items))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Json, A::Error> {
        let mut fields = Vec::new();
        while let Some(field) = from.next_entry()? {
            fields.push(field);
        }
        Ok(Json::Object(fields))
    }
}
