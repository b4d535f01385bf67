//! YAML text to a tree of values: no key twice, no tags, merges applied, `x-` keys gone, `${NAME}` expanded.

use serde::de::{DeserializeSeed, Deserializer, EnumAccess, Error, MapAccess, SeqAccess, Visitor};
use serde_yaml::{Mapping, Value};

use super::defaults::{MERGE_ROUNDS_MAX, OPEN_BRACKETS_MAX, YAML_VALUES_MAX};
use super::environment::Environment;
use super::expand;
use super::problem::Location;
use super::report::{At, Place, Report, Step};

/// Reads a document; one that says nothing is null. Nothing when it cannot be read at all, which is then in `report`.
pub(super) fn read(text: &str, environment: &Environment, report: &mut Report) -> Option<Value> {
    let mut document = as_written(text, report)?;
    expand::expand(&mut document, environment, report);
    Some(document)
}

/// Reads a document as [`read`] does, and leaves `${NAME}` as it stands.
pub(super) fn as_written(text: &str, report: &mut Report) -> Option<Value> {
    if brackets_open(text) > OPEN_BRACKETS_MAX {
        report.syntax(None, "this is not YAML: too many brackets are opened and never closed");
        return None;
    }
    let mut reading = Reading::default();
    let seed = Node { at: At::Root, reading: &mut reading };
    let mut document = match seed.deserialize(serde_yaml::Deserializer::from_str(text)) {
        Ok(document) => document,
        Err(error) => {
            let (location, message) = syntax(&error);
            report.syntax(location, reading.refused.map_or(message, str::to_owned));
            return None;
        }
    };
    for (steps, key) in reading.repeated {
        let draft = report.problem_at(steps, "a key stands here twice");
        draft.place(Place::Repeat).hide_last().quote_word(&key).hint("keep one of them");
    }
    refuse_bad_merges(&mut document, &At::Root, report);
    merge(&mut document, report);
    drop_extensions(&mut document);
    Some(document)
}

/// The most brackets that are open at one place. Those in comments and quotes count as well: the bound leaves room.
fn brackets_open(text: &str) -> usize {
    let (mut open, mut most) = (0_usize, 0);
    for byte in text.bytes() {
        match byte {
            b'[' | b'{' => open += 1,
            b']' | b'}' => open = open.saturating_sub(1),
            _ => continue,
        }
        most = most.max(open);
    }
    most
}

/// What a reader of YAML says about a text that is none: free of the text itself.
fn syntax(error: &serde_yaml::Error) -> (Option<Location>, String) {
    let location = error.location().map(|at| Location { line: at.line(), column: at.column() });
    let text = error.to_string();
    if text.contains("invalid type") {
        return (location, "a key must be a text, not a map or list".to_owned());
    }
    let text = match location {
        Some(Location { line, column }) => {
            text.replacen(&format!(" at line {line} column {column}"), "", 1)
        }
        None => text,
    };
    (location, format!("this is not YAML: {text}"))
}

/// What is noticed while a document is read.
#[derive(Default)]
struct Reading {
    values: usize,
    repeated: Vec<(Vec<Step>, String)>,
    /// Our own reason to stop, in our own words: the reader's would hold text of the document.
    refused: Option<&'static str>,
}

/// Reads one node.
struct Node<'a> {
    at: At<'a>,
    reading: &'a mut Reading,
}

impl Node<'_> {
    fn refuse<T, E: Error>(self, reason: &'static str) -> Result<T, E> {
        self.reading.refused = Some(reason);
        Err(E::custom(reason))
    }
}

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, node: D) -> Result<Value, D::Error> {
        self.reading.values += 1;
        if self.reading.values > YAML_VALUES_MAX {
            return self.refuse("the document holds too many values, its aliases written out");
        }
        node.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("any value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_enum<A: EnumAccess<'de>>(self, _: A) -> Result<Value, A::Error> {
        self.refuse("tags such as `!name` have no meaning here")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        loop {
            let at = self.at.index(values.len());
            match list.next_element_seed(Node { at, reading: &mut *self.reading })? {
                Some(value) => values.push(value),
                None => return Ok(Value::Sequence(values)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut values = Mapping::new();
        // Keys are read as text whatever they look like: an upstream may be called `7`, or `yes`.
        while let Some(key) = map.next_key::<String>()? {
            let at = self.at.key(&key);
            let value = map.next_value_seed(Node { at, reading: &mut *self.reading })?;
            if values.contains_key(key.as_str()) {
                self.reading.repeated.push((at.steps(), key));
            } else {
                values.insert(Value::String(key), value);
            }
        }
        Ok(Value::Mapping(values))
    }
}

/// Takes out each `<<` that stands for no map, so that applying the others cannot fail.
fn refuse_bad_merges(value: &mut Value, at: &At<'_>, report: &mut Report) {
    match value {
        Value::Mapping(map) => {
            let good = match map.get("<<") {
                None | Some(Value::Mapping(_)) => true,
                Some(Value::Sequence(list)) => list.iter().all(Value::is_mapping),
                Some(_) => false,
            };
            if !good {
                map.remove("<<");
                let draft = report.problem(&at.key("<<"), "only a map can be merged here");
                draft.hint("write `<<: *name` with the anchor of a map, or a list of such");
            }
            for (key, value) in map.iter_mut() {
                refuse_bad_merges(value, &at.key(key.as_str().unwrap_or_default()), report);
            }
        }
        Value::Sequence(list) => {
            for (index, value) in list.iter_mut().enumerate() {
                refuse_bad_merges(value, &at.index(index), report);
            }
        }
        _ => {}
    }
}

/// Applies every `<<`. A merged map that merges another needs a round more.
fn merge(document: &mut Value, report: &mut Report) {
    for _ in 0..MERGE_ROUNDS_MAX {
        if !merges(document) {
            return;
        }
        if document.apply_merge().is_err() {
            break;
        }
    }
    if merges(document) {
        report.problem(&At::Root, "maps are merged into one another too deeply");
    }
}

fn merges(value: &Value) -> bool {
    match value {
        Value::Mapping(map) => map.contains_key("<<") || map.values().any(merges),
        Value::Sequence(list) => list.iter().any(merges),
        _ => false,
    }
}

/// Removes keys that begin with `x-`, where keys are words of ours: in the document itself and in the entries of
/// `routes`, `keys` and `upstreams`. The names of upstreams and aliases are the operator's own.
fn drop_extensions(document: &mut Value) {
    let Value::Mapping(top) = document else { return };
    top.retain(|key, _| !extension(key));
    for list in ["routes", "keys"] {
        if let Some(Value::Sequence(entries)) = top.get_mut(list) {
            entries.iter_mut().for_each(drop_extensions_within);
        }
    }
    if let Some(Value::Mapping(upstreams)) = top.get_mut("upstreams") {
        upstreams.values_mut().for_each(drop_extensions_within);
    }
}

fn drop_extensions_within(entry: &mut Value) {
    if let Value::Mapping(fields) = entry {
        fields.retain(|key, _| !extension(key));
        fields.values_mut().for_each(drop_extensions_within);
    }
}

fn extension(key: &Value) -> bool {
    key.as_str().is_some_and(|key| key.starts_with("x-"))
}
