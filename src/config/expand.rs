//! `${NAME}`, `${NAME:-default}`, `${NAME:?message}` and `$$` in the scalar values of a parsed document.

use serde_yaml::Value;

use super::environment::{Environment, variable_name};
use super::report::{At, Report};

/// Expands every text in `value`. What cannot be expanded is recorded and becomes empty, so that reading goes on.
pub(super) fn expand(value: &mut Value, environment: &Environment, report: &mut Report) {
    below(value, &At::Root, &mut |text, at| match expanded(text, environment) {
        Ok(expanded) => expanded,
        Err(unset) => {
            let draft = report.problem(at, unset.message);
            draft.hint(unset.hint);
            if let Some(quote) = unset.quote {
                draft.quote(&quote);
            }
            // Anything that says where the value was: it is never used, as this configuration is refused.
            UNSET.to_owned()
        }
    });
}

/// Stands for a value that could not be expanded.
pub(super) const UNSET: &str = "\u{0}unset";

/// Calls `replace` on each text that holds a `$`, with its place.
fn below(value: &mut Value, at: &At<'_>, replace: &mut dyn FnMut(&str, &At<'_>) -> String) {
    match value {
        Value::String(text) if text.contains('$') => *text = replace(text, at),
        Value::Sequence(list) => {
            for (index, value) in list.iter_mut().enumerate() {
                below(value, &at.index(index), replace);
            }
        }
        Value::Mapping(map) => {
            for (key, value) in map.iter_mut() {
                below(value, &at.key(key.as_str().unwrap_or_default()), replace);
            }
        }
        _ => {}
    }
}

/// Why a text cannot be expanded.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unexpandable {
    message: String,
    hint: String,
    /// The operator's own message of `${NAME:?message}`.
    quote: Option<String>,
}

impl Unexpandable {
    fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { message: message.into(), hint: hint.into(), quote: None }
    }
}

/// `text` with its variables replaced. What a variable holds is not expanded again.
pub(super) fn expanded(text: &str, environment: &Environment) -> Result<String, Unexpandable> {
    replaced(text, &mut |inner| variable(inner, environment))
}

/// The variables that a value takes from, as far as they are set.
pub(super) fn taken<'v>(value: &'v Value, environment: &Environment) -> Vec<&'v str> {
    let mut names = Vec::new();
    let texts: &[Value] = match value {
        Value::Sequence(list) => list,
        one => std::slice::from_ref(one),
    };
    for text in texts.iter().filter_map(Value::as_str) {
        let _wrong_ones_are_told_elsewhere = replaced(text, &mut |inner| {
            let name = name_and_operator(inner).0;
            names.extend(environment.get(name).map(|_| name));
            Ok("")
        });
    }
    names
}

/// `text` with what `value` says in the place of each `${…}`, given what stands between the braces.
fn replaced<'t>(
    text: &'t str,
    value: &mut dyn FnMut(&'t str) -> Result<&'t str, Unexpandable>,
) -> Result<String, Unexpandable> {
    let (mut done, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(at) = rest.find('$') {
        done.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            done.push('$');
            rest = after;
        } else if let Some(after) = rest.strip_prefix('{') {
            let Some((inner, after)) = after.split_once('}') else {
                return Err(Unexpandable::new(
                    "a `${` is never closed",
                    "write `${NAME}`, or `$$` for a dollar sign",
                ));
            };
            done.push_str(value(inner)?);
            rest = after;
        } else {
            // A lone dollar sign is itself: keys that hold one must work as they are.
            done.push('$');
        }
    }
    done.push_str(rest);
    Ok(done)
}

/// `NAME` and `:-default` of the text between the braces.
fn name_and_operator(inner: &str) -> (&str, &str) {
    let end = inner.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(inner.len());
    inner.split_at(end)
}

/// What stands for `inner`, the text between the braces.
fn variable<'v>(inner: &'v str, environment: &'v Environment) -> Result<&'v str, Unexpandable> {
    let (name, operator) = name_and_operator(inner);
    if !variable_name(name) || inner.contains('$') {
        return Err(Unexpandable::new(
            "this is no name of a variable",
            "write `${NAME}` with letters, digits and `_`, or `$$` for a dollar sign",
        ));
    }
    let set = environment.get(name);
    if operator.is_empty() {
        return set.ok_or_else(|| {
            Unexpandable::new(
                format!("the environment variable `{name}` is not set"),
                format!("set it, or write `${{{name}:-}}` where it may be empty"),
            )
        });
    }
    if let Some(default) = operator.strip_prefix(":-") {
        return Ok(set.unwrap_or(default));
    }
    if let Some(message) = operator.strip_prefix(":?") {
        return set.ok_or_else(|| Unexpandable {
            quote: (!message.is_empty()).then(|| message.to_owned()),
            ..Unexpandable::new(
                format!("the environment variable `{name}` is not set"),
                "set it to a value that is not empty",
            )
        });
    }
    Err(Unexpandable::new(
        "only `${NAME}`, `${NAME:-default}` and `${NAME:?message}` are expanded",
        "write `$$` for a dollar sign",
    ))
}
