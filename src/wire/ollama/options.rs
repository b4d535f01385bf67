//! `options`: how an answer is sampled, and what loads a model anew.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::Call;
use super::fields::{Fields, TextOr, refused, wrong};
use crate::refusal::Refusal;

/// Options for one answer. All others change how the model is loaded, or may do so in another version.
const FREE: [&str; 18] = [
    "frequency_penalty",
    "min_p",
    "mirostat",
    "mirostat_eta",
    "mirostat_tau",
    "num_keep",
    "num_predict",
    "penalize_newline",
    "presence_penalty",
    "repeat_last_n",
    "repeat_penalty",
    "seed",
    "stop",
    "temperature",
    "tfs_z",
    "top_k",
    "top_p",
    "typical_p",
];

/// Numbers by their names in OpenAI's API, and in vLLM's and others' additions to it. Of two for one option the last counts.
const NUMBERS: [(&str, &str); 12] = [
    ("max_tokens", "num_predict"),
    ("max_completion_tokens", "num_predict"),
    ("seed", "seed"),
    ("temperature", "temperature"),
    ("top_p", "top_p"),
    ("frequency_penalty", "frequency_penalty"),
    ("presence_penalty", "presence_penalty"),
    ("top_k", "top_k"),
    ("min_p", "min_p"),
    ("typical_p", "typical_p"),
    ("repetition_penalty", "repeat_penalty"),
    ("repeat_last_n", "repeat_last_n"),
];

/// What OpenAI's API has for these where nothing is said, and Ollama's `/v1` too: a model's own would differ.
const ONE: [&str; 2] = ["temperature", "top_p"];

/// Options by their names, as they stand.
pub(super) type Options<'a> = BTreeMap<Cow<'a, str>, Cow<'a, RawValue>>;

/// The options of a request: those that it calls so, and over them those that OpenAI's API has fields for.
///
/// # Errors
/// One is no number or text, or is neither for one answer nor among `allowed`.
pub(super) fn of<'a>(
    call: Call,
    fields: &Fields<'a>,
    allowed: &[String],
) -> Result<Options<'a>, Refusal> {
    let mut options: Options<'a> = fields.read_as("options")?.unwrap_or_default();
    options.retain(|_, value| value.get() != "null");
    let is_allowed = |name: &str| FREE.contains(&name) || allowed.iter().any(|free| free == name);
    if let Some(name) = options.keys().find(|name| !is_allowed(name)) {
        let message = format!(
            "The option `{name}` may not be set here: it can load the model anew. Leave it out, or have the upstream's configuration allow it."
        );
        return Err(refused("option_not_allowed", "options", message));
    }
    if call == Call::Embedding {
        return Ok(options);
    }
    for (name, option) in NUMBERS {
        if let Some(number) = fields.number(name)? {
            options.insert(option.into(), Cow::Borrowed(number));
        }
    }
    for name in ONE {
        options.entry(name.into()).or_insert(made("1.0".to_owned())?);
    }
    if let Some(stop) = stop(fields)? {
        options.insert("stop".into(), stop);
    }
    Ok(options)
}

/// A list, also of one text.
fn stop<'a>(fields: &Fields<'a>) -> Result<Option<Cow<'a, RawValue>>, Refusal> {
    let Some(value) = fields.get("stop") else { return Ok(None) };
    Ok(Some(match fields.text_or::<Vec<Cow<'_, str>>>("stop")? {
        Some(TextOr::Text(_)) => made(format!("[{}]", value.get()))?,
        _ => Cow::Borrowed(value),
    }))
}

/// A value that does not stand in the request.
fn made(json: String) -> Result<Cow<'static, RawValue>, Refusal> {
    RawValue::from_string(json)
        .map(Cow::Owned)
        .map_err(|error| wrong("options", &error.to_string()))
}
