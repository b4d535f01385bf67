//! A tree of values to typed fields: what does not fit is recorded and taken out, and reading goes on without it.

use serde::de::DeserializeOwned;
use serde_path_to_error::Segment;
use serde_yaml::Value;

use super::defaults::ENTRY_PROBLEMS_MAX;
use super::report::{At, Place, Report, Step, did_you_mean, nearest};

/// An entry as far as it could be read.
pub(super) struct Entry<T> {
    /// The fields that fit.
    pub(super) fields: T,
    /// Fields that were taken out, and the ones that misspelt names were meant for: their absence is no news.
    told: Vec<String>,
}

impl<T> Entry<T> {
    /// Records that `field` is needed, unless something else was already said of it.
    pub(super) fn missing(&self, field: &str, at: &At<'_>, hint: &str, report: &mut Report) {
        if !self.told.iter().any(|told| told == field) {
            report.problem(at, format!("`{field}` is missing")).hint(hint);
        }
    }

    /// Whether something was already said of `field`.
    pub(super) fn told(&self, field: &str) -> bool {
        self.told.iter().any(|told| told == field)
    }
}

/// Reads `value`, which stands at `at`; nothing when it is of another shape altogether.
pub(super) fn typed<T: DeserializeOwned>(
    value: &mut Value,
    at: &At<'_>,
    report: &mut Report,
) -> Option<Entry<T>> {
    let mut told = Vec::new();
    // serde stops at the first misfit, so the entry is read again without it: once for each misfit.
    for _ in 0..ENTRY_PROBLEMS_MAX {
        let error = match serde_path_to_error::deserialize::<_, T>(&*value) {
            Ok(fields) => return Some(Entry { fields, told }),
            Err(error) => error,
        };
        let below = steps_of(error.path());
        let found = node(value, &below);
        let misfit = Misfit {
            error: error.inner().to_string(),
            steps: [at.steps(), below.clone()].concat(),
            field: below.first().and_then(Step::field),
            composed: found.is_some_and(|found| found.is_mapping() || found.is_sequence()),
        };
        match misfit.error.contains("unknown field `") {
            true => told.extend(misfit.unknown_field(report)),
            false => told.extend(misfit.wrong_type(report)),
        }
        if !remove(value, &below) {
            return None;
        }
    }
    None
}

fn steps_of(path: &serde_path_to_error::Path) -> Vec<Step> {
    let step = |segment: &Segment| match segment {
        Segment::Seq { index } => Some(Step::Index(*index)),
        Segment::Map { key } => Some(Step::Key(key.clone())),
        Segment::Enum { .. } | Segment::Unknown => None,
    };
    path.iter().filter_map(step).collect()
}

/// What serde did not take.
struct Misfit {
    /// In serde's words, which may hold the value: only what this crate wrote is used of them.
    error: String,
    steps: Vec<Step>,
    /// The field of the entry that it is in.
    field: Option<String>,
    /// A map or a list stands there.
    composed: bool,
}

impl Misfit {
    /// What was expected: behind the last "expected", as a value may hold the word as well.
    fn expected(&self) -> &str {
        self.error.rsplit_once(", expected ").map_or("", |(_, expected)| expected)
    }

    /// Records a field that does not exist; answers the fields that it says something of.
    fn unknown_field(self, report: &mut Report) -> Vec<String> {
        let field = self.steps.last().and_then(Step::field).unwrap_or_default();
        let expected = self.expected();
        let meant = nearest(&field, expected.split('`').skip(1).step_by(2));
        let draft = report.problem_at(self.steps.clone(), "unknown field").place(Place::Key);
        let Some(word) = meant else {
            let known = expected.trim_start_matches("one of ");
            draft.hide_last().quote_word(&field).hint(format!("known here: {known}"));
            return vec![field];
        };
        draft.hint(did_you_mean(word));
        vec![word.to_owned(), field]
    }

    /// Records a value of another type; answers the field that it says something of.
    fn wrong_type(self, report: &mut Report) -> Option<String> {
        let wanted = match self.expected() {
            "a string" => "a text",
            "a sequence" => "a list",
            "a YAML mapping" => "a map",
            "" => "of another form",
            expected => expected,
        };
        let draft = report.problem_at(self.steps.clone(), format!("this must be {wanted}"));
        if wanted == "a text" && !self.composed {
            draft.hint("put it in quotes");
        }
        self.field
    }
}

/// The node that `steps` lead to.
pub(super) fn node<'v>(value: &'v Value, steps: &[Step]) -> Option<&'v Value> {
    steps.iter().try_fold(value, |value, step| match step {
        Step::Key(key) => value.get(key.as_str()),
        Step::Index(index) => value.get(*index),
    })
}

/// Takes the node that `steps` lead to out of `value`; of a list the whole, as indexes would move.
fn remove(value: &mut Value, steps: &[Step]) -> bool {
    let fields: Vec<&str> = steps
        .iter()
        .map_while(|step| match step {
            Step::Key(key) => Some(key.as_str()),
            Step::Index(_) => None,
        })
        .collect();
    let Some((last, parents)) = fields.split_last() else { return false };
    let parent = parents.iter().try_fold(value, |value, key| value.get_mut(*key));
    parent.and_then(Value::as_mapping_mut).is_some_and(|map| map.remove(*last).is_some())
}

/// The texts of a list with their places; an element of another type is recorded.
pub(super) fn texts(list: Vec<Value>, at: &At<'_>, report: &mut Report) -> Vec<(usize, String)> {
    let mut texts = Vec::with_capacity(list.len());
    for (index, value) in list.into_iter().enumerate() {
        match value {
            Value::String(text) => texts.push((index, text)),
            Value::Number(_) | Value::Bool(_) => {
                report.problem(&at.index(index), "this must be a text").hint("put it in quotes");
            }
            _ => {
                report.problem(&at.index(index), "this must be a text");
            }
        }
    }
    texts
}
