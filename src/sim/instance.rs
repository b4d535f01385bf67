//! A value that fits a JSON schema, and JSON as Python writes it: what a model says that is held to a schema.

use std::cell::Cell;
use std::fmt::Write;

use serde_json::{Map, Number, Value, json};

/// How deep schemas are followed. One that contains itself ends there.
const DEPTH_MAX: usize = 16;

/// From here on lists are as short as they may be, and where null will do it is null.
const DEPTH_ENOUGH: usize = 6;

/// Letters of a text: a line.
const TEXT_LETTERS: usize = 64;

/// Items of a list, and letters of a text, however many the schema asks for: what fits into a prompt.
const LENGTH_MAX: u64 = 1_024;

/// Values in a value: what fits into a prompt. The rest is null.
const VALUES_MAX: usize = 4_096;

/// The first value that comes to mind for `schema`; its texts repeat `said`. `pattern` is not looked at.
pub(super) fn instance_of(schema: &Value, said: &str) -> Value {
    Instance { root: schema, said, left: Cell::new(VALUES_MAX) }.of(schema, 0)
}

struct Instance<'a> {
    root: &'a Value,
    said: &'a str,
    /// Values that may still be made.
    left: Cell<usize>,
}

impl<'a> Instance<'a> {
    fn of(&self, schema: &'a Value, depth: usize) -> Value {
        let Some(left) = self.left.get().checked_sub(1).filter(|_| depth <= DEPTH_MAX) else {
            return Value::Null;
        };
        self.left.set(left);
        if let Some(value) = schema.get("const") {
            return value.clone();
        }
        if let Some([first, ..]) = schema.get("enum").and_then(Value::as_array).map(Vec::as_slice) {
            return first.clone();
        }
        if let Some(path) = schema.get("$ref").and_then(Value::as_str) {
            let target = path.strip_prefix('#').and_then(|path| self.root.pointer(path));
            return target.map_or(Value::Null, |target| self.of(target, depth + 1));
        }
        for words in ["anyOf", "oneOf"] {
            if let Some(schemas) = schema.get(words).and_then(Value::as_array) {
                return self.of_one(schemas, depth);
            }
        }
        if let Some(parts) = schema.get("allOf").and_then(Value::as_array) {
            return self.of_all(parts, depth);
        }
        self.typed(schema, depth)
    }

    fn of_one(&self, schemas: &'a [Value], depth: usize) -> Value {
        let null = |schema: &&Value| schema.get("type").is_some_and(|kind| kind == "null");
        if depth >= DEPTH_ENOUGH && schemas.iter().any(|schema| null(&schema)) {
            return Value::Null;
        }
        schemas.first().map_or(Value::Null, |schema| self.of(schema, depth + 1))
    }

    /// All fields of all parts; of parts that are no objects the first.
    fn of_all(&self, parts: &'a [Value], depth: usize) -> Value {
        let mut values = parts.iter().map(|part| self.of(part, depth + 1));
        let mut all = values.next().unwrap_or_default();
        for value in values {
            if let (Value::Object(all), Value::Object(more)) = (&mut all, value) {
                all.extend(more);
            }
        }
        all
    }

    fn typed(&self, schema: &'a Value, depth: usize) -> Value {
        let kind = match schema.get("type") {
            Some(Value::Array(kinds)) => kinds.first().and_then(Value::as_str),
            Some(kind) => kind.as_str(),
            None if schema.get("items").is_some() => Some("array"),
            None => Some("object"),
        };
        match kind {
            Some("string") => Value::String(self.text(schema)),
            Some("integer") => whole(schema).into(),
            Some("number") => number(schema),
            Some("boolean") => Value::Bool(true),
            Some("array") => self.list(schema, depth),
            Some("object") => self.object(schema, depth),
            _ => Value::Null,
        }
    }

    fn text(&self, schema: &Value) -> String {
        let known = match schema.get("format").and_then(Value::as_str) {
            Some("date-time") => Some("2026-01-01T00:00:00Z"),
            Some("date") => Some("2026-01-01"),
            Some("time") => Some("00:00:00Z"),
            Some("duration") => Some("PT1S"),
            Some("email") => Some("user@example.com"),
            Some("hostname") => Some("example.com"),
            Some("uri") => Some("https://example.com/"),
            Some("uuid") => Some("00000000-0000-4000-8000-000000000000"),
            Some("ipv4") => Some("192.0.2.1"),
            Some("ipv6") => Some("2001:db8::1"),
            _ => None,
        };
        if let Some(known) = known {
            return known.to_owned();
        }
        let most = limit(schema, "maxLength").unwrap_or(TEXT_LETTERS).min(TEXT_LETTERS);
        let least = limit(schema, "minLength").unwrap_or_default();
        let mut text: String = self.said.trim().chars().take(most.max(least)).collect();
        let missing = least.saturating_sub(text.chars().count());
        text.extend(std::iter::repeat_n('.', missing));
        text
    }

    fn list(&self, schema: &'a Value, depth: usize) -> Value {
        let least = limit(schema, "minItems").unwrap_or_default();
        let most = limit(schema, "maxItems").unwrap_or(usize::MAX);
        let usual = usize::from(depth < DEPTH_ENOUGH).min(most);
        let first: &[Value] =
            schema.get("prefixItems").and_then(Value::as_array).map_or(&[], Vec::as_slice);
        let mut items: Vec<Value> = first.iter().map(|item| self.of(item, depth + 1)).collect();
        if let Some(item) = schema.get("items").filter(|item| item.is_object()) {
            let before = self.left.get();
            let item = self.of(item, depth + 1);
            let (left, each) = (self.left.get(), before - self.left.get());
            let missing = least.max(usual).saturating_sub(items.len()).min(1 + left / each.max(1));
            self.left.set(left.saturating_sub(each * missing.saturating_sub(1)));
            items.extend(std::iter::repeat_n(item, missing));
        }
        items.into()
    }

    /// The fields that must be there; all of them if none must.
    fn object(&self, schema: &'a Value, depth: usize) -> Value {
        let Some(Value::Object(properties)) = schema.get("properties") else { return json!({}) };
        let required = schema.get("required").and_then(Value::as_array);
        let needed = |name: &str| {
            required.is_none_or(|names| names.iter().any(|needed| needed.as_str() == Some(name)))
        };
        let fields = properties.iter().filter(|(name, _)| needed(name));
        let fields: Map<String, Value> =
            fields.map(|(name, schema)| (name.clone(), self.of(schema, depth + 1))).collect();
        fields.into()
    }
}

fn limit(schema: &Value, name: &str) -> Option<usize> {
    let limit = schema.get(name)?.as_u64()?.min(LENGTH_MAX);
    usize::try_from(limit).ok()
}

/// 1, or the nearest number that the bounds allow.
fn whole(schema: &Value) -> i64 {
    let bound = |name: &str| schema.get(name).and_then(Value::as_f64);
    let least = bound("minimum").map(f64::ceil);
    let least = least.or(bound("exclusiveMinimum").map(|bound| bound.floor() + 1.0));
    let most = bound("maximum").map(f64::floor);
    let most = most.or(bound("exclusiveMaximum").map(|bound| bound.ceil() - 1.0));
    let step = bound("multipleOf").filter(|step| *step >= 1.0).unwrap_or(1.0);
    let number = least.unwrap_or(f64::MIN).max(most.map_or(1.0, |most| most.min(1.0)));
    // A cast saturates; a schema of larger numbers has no other first value either.
    ((number / step).ceil() * step) as i64
}

fn number(schema: &Value) -> Value {
    let whole = whole(schema) as f64;
    let most = schema.get("maximum").and_then(Value::as_f64).unwrap_or(f64::MAX);
    let number = if whole + 0.5 <= most { whole + 0.5 } else { whole.min(most) };
    Number::from_f64(number).map_or(Value::Null, Value::Number)
}

/// `value` as Python's `json.dumps` writes it: with a space after each comma and colon.
pub(super) fn python_json(value: &Value) -> String {
    let mut out = String::new();
    write_python(value, &mut out);
    out
}

fn write_python(value: &Value, out: &mut String) {
    match value {
        Value::Array(items) => {
            out.push('[');
            for (place, item) in items.iter().enumerate() {
                out.push_str(if place == 0 { "" } else { ", " });
                write_python(item, out);
            }
            out.push(']');
        }
        Value::Object(fields) => {
            out.push('{');
            for (place, (name, field)) in fields.iter().enumerate() {
                out.push_str(if place == 0 { "" } else { ", " });
                // Memory grows as needed, so writing cannot fail.
                let _ = write!(out, "{}: ", Value::from(name.as_str()));
                write_python(field, out);
            }
            out.push('}');
        }
        _ => {
            let _ = write!(out, "{value}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fits(schema: Value) -> Value {
        instance_of(&schema, "What now?")
    }

    #[test]
    fn a_value_has_the_fields_that_its_schema_needs() {
        let schema = json!({"type": "object", "required": ["city", "days", "tags", "unit"], "properties": {
            "city": {"type": "string"}, "days": {"type": "integer", "minimum": 3}, "more": {"type": "null"},
            "tags": {"type": "array", "items": {"type": "boolean"}, "minItems": 2}, "unit": {"enum": ["C", "F"]}}});
        assert_eq!(
            fits(schema),
            json!({"city": "What now?", "days": 3, "tags": [true, true], "unit": "C"})
        );
    }

    #[test]
    fn bounds_are_kept() {
        assert_eq!(fits(json!({"type": "string", "maxLength": 4})), "What");
        assert_eq!(fits(json!({"type": "string", "minLength": 12})), "What now?...");
        assert_eq!(fits(json!({"type": "integer", "maximum": -3})), -3);
        assert_eq!(fits(json!({"type": "integer", "minimum": 5, "multipleOf": 4})), 8);
        assert_eq!(fits(json!({"type": "number", "exclusiveMinimum": 0, "maximum": 1})), 1.0);
        assert_eq!(fits(json!({"type": "array", "items": {}, "maxItems": 0})), json!([]));
    }

    #[test]
    fn a_schema_that_contains_itself_comes_to_an_end() {
        let node = json!({"type": "object", "required": ["next"], "properties": {
            "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}}});
        let value = fits(json!({"$ref": "#/$defs/node", "$defs": {"node": node}}));
        assert!(value["next"].is_object());
        assert!(value.to_string().contains("null"));
        assert!(fits(json!({"$ref": "#"})).is_null());
    }

    #[test]
    fn a_schema_that_asks_for_too_much_gets_what_there_is() {
        let wide = |items| json!({"type": "array", "minItems": 1000, "items": items});
        let text = fits(wide(wide(wide(json!({"type": "integer"}))))).to_string();
        assert!((1_000..20_000).contains(&text.len()), "{}", text.len());
    }

    #[test]
    fn json_is_written_as_python_does() {
        assert_eq!(
            python_json(&json!({"a": [1, "é\n"], "b": {}})),
            "{\"a\": [1, \"é\\n\"], \"b\": {}}"
        );
    }
}
