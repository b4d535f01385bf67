//! The tools that a chat may use, after its `tool_choice`: Ollama has none of its own.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::fields::{Fields, TextOr, read, refused, wrong};
use crate::refusal::Refusal;

/// A tool, or the choice of one.
#[derive(Deserialize)]
struct Named<'a> {
    #[serde(borrow)]
    function: Function<'a>,
}

#[derive(Deserialize)]
struct Function<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
}

/// The tools as they stand: all, none, or the one that is named. Ollama cannot be told that one must be called.
///
/// # Errors
/// The choice is none that there is.
pub(super) fn offered<'a>(fields: &Fields<'a>) -> Result<Vec<&'a RawValue>, Refusal> {
    let tools: Vec<&RawValue> = fields.read_as("tools")?.unwrap_or_default();
    match fields.text_or::<Named<'_>>("tool_choice")? {
        None => Ok(tools),
        Some(TextOr::Text(choice)) => match choice.as_ref() {
            "none" => Ok(Vec::new()),
            "auto" | "required" => Ok(tools),
            _ => Err(wrong("tool_choice", "it is `none`, `auto`, `required`, or names a function")),
        },
        Some(TextOr::Other(chosen)) => {
            let wanted = chosen.function.name;
            let is_wanted = |tool: &&&RawValue| {
                read::<Named<'_>>(tool, "tools").is_ok_and(|tool| tool.function.name == wanted)
            };
            let Some(tool) = tools.iter().find(is_wanted) else {
                let message =
                    format!("`tool_choice` names `{wanted}`, which is not among `tools`.");
                return Err(refused("invalid_parameter", "tool_choice", message));
            };
            Ok(vec![*tool])
        }
    }
}
