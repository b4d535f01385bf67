//! Names of models: lists of them, and models that are asked in the place of others.

use std::collections::HashSet;

use serde_yaml::{Mapping, Value};

use super::defaults::FALLBACKS_MAX;
use super::report::{At, Place, Report};
use super::typed::texts;
use super::values;
use crate::names::ModelName;

/// The models of a list with their places; `hint` says what to do instead of leaving it empty.
pub(super) fn list(
    list: Vec<Value>,
    hint: &str,
    at: &At<'_>,
    report: &mut Report,
) -> Vec<(usize, ModelName)> {
    if list.is_empty() {
        report.problem(at, "at least one model is needed").hint(hint);
    }
    let mut models = Vec::with_capacity(list.len());
    let mut seen = HashSet::new();
    for (index, text) in texts(list, at, report) {
        let at = at.index(index);
        if !seen.insert(text.clone()) {
            report.problem(&at, "this model stands here twice").quote(&text);
        }
        let model = report.take(&at, &text, values::model(&text));
        models.extend(model.map(|model| (index, model)));
    }
    models
}

/// `aliases`: another name for a model, one step only.
pub(super) fn aliases(map: Mapping, report: &mut Report) -> Vec<(ModelName, ModelName)> {
    let at = At::Root.key("aliases");
    let mut aliases = Vec::with_capacity(map.len());
    for (key, value) in &map {
        let Some(alias) = key.as_str() else { continue };
        let at = at.key(alias);
        let Value::String(text) = value else {
            report.problem(&at, "this must be a text").hint("name the model that is meant");
            continue;
        };
        let name = values::model(alias);
        if let Err(fault) = &name {
            report.fault(&at, fault.clone()).place(Place::Key).hide_last();
        }
        if map.contains_key(text.as_str()) {
            let draft = report.problem(&at, "an alias must lead to a model, not to an alias");
            draft.quote(text).hint("name the model itself");
        }
        let model = report.take(&at, text, values::model(text));
        aliases.extend(name.ok().zip(model));
    }
    aliases
}

/// `fallbacks`: models that may answer in the place of another. None of them is one of `aliases`.
pub(super) fn fallbacks(
    map: Mapping,
    aliases: &Mapping,
    report: &mut Report,
) -> Vec<(ModelName, Vec<ModelName>)> {
    let at = At::Root.key("fallbacks");
    let mut fallbacks = Vec::with_capacity(map.len());
    for (key, value) in map {
        let Value::String(model) = key else { continue };
        let at = at.key(&model);
        let name = values::model(&model);
        if let Err(fault) = &name {
            report.fault(&at, fault.clone()).place(Place::Key).hide_last();
        }
        if aliases.contains_key(model.as_str()) {
            let draft = report.problem(&at, "a model has fallbacks, and this is an alias");
            draft.place(Place::Key).hint("write the model that the alias leads to");
        }
        let Value::Sequence(list) = value else {
            report.problem(&at, "this must be a list").hint("write `[model]`");
            continue;
        };
        let others = others(list, &model, aliases, (&at, report));
        fallbacks.extend(name.ok().map(|name| (name, others)));
    }
    fallbacks
}

/// The models that may answer in the place of `model`.
fn others(
    entries: Vec<Value>,
    model: &str,
    aliases: &Mapping,
    (at, report): (&At<'_>, &mut Report),
) -> Vec<ModelName> {
    if entries.len() > FALLBACKS_MAX {
        report.problem(at, format!("a model has at most {FALLBACKS_MAX} fallbacks"));
    }
    let others = list(entries, "leave it out where there is none", at, report);
    for (index, other) in &others {
        let at = at.index(*index);
        if other.as_str() == model {
            report.problem(&at, "a model cannot fall back to itself").hint("remove it");
        }
        if aliases.contains_key(other.as_str()) {
            let draft = report.problem(&at, "a fallback must be a model, not an alias");
            draft.quote(other.as_str()).hint("name the model itself");
        }
    }
    others.into_iter().map(|(_, other)| other).collect()
}
