//! Bodies against the forms that they may have: all that is wrong with each of them, in the words of vLLM 0.32.
//!
//! vLLM checks with pydantic, which tries one form after the other and reports every error of every form, the first ten
//! in full.

mod kinds;
mod python;

use http::StatusCode;
use serde_json::Value;

pub(super) use self::kinds::{Kind, switch, whole};
use self::python::{literal, summary};
use super::refusal::Refusal;

/// Errors told in full; the others are only counted.
const REPORTED_MAX: usize = 10;

/// What a field may be.
#[derive(Clone, Copy)]
pub(super) struct Field {
    name: &'static str,
    kind: Kind,
    presence: Presence,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Presence {
    Needed,
    Given,
    Nullable,
}

impl Field {
    /// One that must be there.
    pub(super) const fn needed(name: &'static str, kind: Kind) -> Self {
        Self { name, kind, presence: Presence::Needed }
    }

    /// One that may be left out, but is not null.
    pub(super) const fn given(name: &'static str, kind: Kind) -> Self {
        Self { name, kind, presence: Presence::Given }
    }

    /// One that may be left out or null.
    pub(super) const fn nullable(name: &'static str, kind: Kind) -> Self {
        Self { name, kind, presence: Presence::Nullable }
    }

    fn check(&self, body: &Value, wrong: &mut Vec<Wrong>) {
        // Names with brackets are taken for pydantic's own words, and left out.
        let at = if self.name.contains('[') { String::new() } else { format!(".{}", self.name) };
        match body.get(self.name) {
            None if self.presence == Presence::Needed => {
                wrong.push(Wrong::new("missing", at, "Field required", body));
            }
            Some(Value::Null) if self.presence == Presence::Nullable => {}
            None => {}
            Some(value) => self.kind.check(value, &at, wrong),
        }
    }
}

/// One error.
struct Wrong {
    kind: &'static str,
    /// Below the body, with a dot before each step.
    at: String,
    says: String,
    input: String,
    /// What else pydantic tells, as Python writes it.
    context: Option<String>,
}

impl Wrong {
    fn new(kind: &'static str, at: String, says: impl Into<String>, input: &Value) -> Self {
        Self { kind, at, says: says.into(), input: summary(input), context: None }
    }

    fn with(self, context: String) -> Self {
        Self { context: Some(context), ..self }
    }

    fn write(&self, root: &str) -> String {
        let Self { kind, at, says, input, context } = self;
        let (says, input) = (literal(says), literal(input));
        let context = context.as_ref().map_or_else(String::new, |text| format!(", 'ctx': {text}"));
        format!(
            "\n  {{'type': '{kind}', 'loc': '{root}{at}', 'msg': {says}, 'input': {input}{context}}}"
        )
    }
}

/// The first of `forms` that `body` has.
///
/// # Errors
/// It has none of them.
pub(super) fn form_of(body: &Value, forms: &[&[Field]]) -> Result<usize, Refusal> {
    let mut wrong = Vec::new();
    for (place, form) in forms.iter().enumerate() {
        let before = wrong.len();
        if body.is_object() {
            form.iter().for_each(|field| field.check(body, &mut wrong));
        } else {
            let says = "Input should be a valid dictionary or object to extract fields from";
            wrong.push(Wrong::new("model_attributes_type", String::new(), says, body));
        }
        if wrong.len() == before {
            return Ok(place);
        }
    }
    Err(refusal("body", &wrong))
}

/// Checks the parameters of a query, or whatever is not a body, against its only form.
///
/// # Errors
/// They do not have it.
pub(super) fn check(root: &str, values: &Value, form: &[Field]) -> Result<(), Refusal> {
    let mut wrong = Vec::new();
    form.iter().for_each(|field| field.check(values, &mut wrong));
    if wrong.is_empty() { Ok(()) } else { Err(refusal(root, &wrong)) }
}

fn refusal(root: &str, wrong: &[Wrong]) -> Refusal {
    let label = if wrong.len() == 1 { "error" } else { "errors" };
    let mut says = format!("{} validation {label}:", wrong.len());
    says.extend(wrong.iter().take(REPORTED_MAX).map(|wrong| wrong.write(root)));
    if let Some(more @ 1..) = wrong.len().checked_sub(REPORTED_MAX) {
        says += &format!("\n  ...and {more} more {label}");
    }
    Refusal::Other {
        status: StatusCode::BAD_REQUEST,
        kind: "Bad Request",
        says,
        param: wrong.first().map(|first| format!("{root}{}", first.at)),
    }
}
