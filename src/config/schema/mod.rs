//! JSON Schema of the files, for editors: made from the very structs that read them.
//!
//! A schema knows shapes: fields, types, words of closed sets. What only holds between values (a name that exists, a
//! path that stands there once) is left to `sluice check`.

pub(super) mod forms;

use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use schemars::{JsonSchema, Schema};
use serde_json::{Value, json};

use super::raw::{RawKeysFile, RawRoutesFile};
use super::settings::{SETTINGS, SettingsFile};

/// A file of the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Document {
    /// routes.yaml
    Routes,
    /// keys.yaml
    Keys,
    /// server.yaml
    Server,
}

impl Document {
    /// Every file.
    pub const ALL: [Self; 3] = [Self::Routes, Self::Keys, Self::Server];

    /// `routes`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Routes => "routes",
            Self::Keys => "keys",
            Self::Server => "server",
        }
    }

    /// Where its schema lies beside it: `routes.schema.json`.
    pub fn file_name(self) -> String {
        format!("{}.schema.json", self.name())
    }

    /// Its JSON Schema (draft 2020-12), ending in a line end.
    pub fn schema(self) -> String {
        let schema = match self {
            Self::Routes => schema_of::<RawRoutesFile>(),
            Self::Keys => schema_of::<RawKeysFile>(),
            Self::Server => with_defaults(schema_of::<SettingsFile>()),
        };
        // Maps of a schema have texts as keys: it always has a JSON form.
        serde_json::to_string_pretty(&schema).unwrap_or_default() + "\n"
    }
}

fn schema_of<T: JsonSchema>() -> Schema {
    let settings = SchemaSettings::draft2020_12();
    settings.with_transform(RecursiveTransform(tidy)).into_generator().into_root_schema_for::<T>()
}

/// Tells each boot setting's default. All of them may hold: such a file is empty.
fn with_defaults(mut schema: Schema) -> Schema {
    schema.insert("type".to_owned(), json!(["object", "null"]));
    for setting in SETTINGS.iter().filter(|setting| !setting.default.is_empty()) {
        let field = schema.pointer_mut(&format!("/properties/{}/description", setting.name));
        if let Some(Value::String(description)) = field {
            description.push_str(&format!(" Default: `{}`.", setting.default));
        }
    }
    schema
}

/// What the derive leaves to be done, in each schema and those within it.
fn tidy(schema: &mut Schema) {
    // Keys that begin with `x-` may stand wherever the words are ours (SPEC 2.2).
    if schema.get("additionalProperties") == Some(&json!(false)) {
        schema.insert("patternProperties".to_owned(), json!({ "^x-": true }));
    }
    // A comment's line ends are not those of a sentence.
    if let Some(Value::String(description)) = schema.get_mut("description") {
        *description = description.replace('\n', " ");
    }
    // A value that may be left out is one choice more, not a choice of choices.
    if let Some(Value::Array(choices)) = schema.get_mut("anyOf")
        && let [first, null] = choices.as_mut_slice()
        && let Some(Value::Array(inner)) = first.get_mut("anyOf")
    {
        inner.push(null.take());
        *choices = std::mem::take(inner);
    }
}

/// A route says where it leads in one of three ways.
pub(super) fn three_forms(route: &mut Schema) {
    let form = |title: &str, fields: &[&str], foreign: &[&str]| {
        let absent: Vec<_> = foreign.iter().map(|field| json!({ "required": [field] })).collect();
        json!({ "title": title, "required": fields, "not": { "anyOf": absent } })
    };
    let keys = ["upstream_key", "upstream_key_header", "upstream_key_prefix"];
    let with_keys = |fields: &[&'static str]| [fields, &keys].concat();
    let forms = json!([
        form("short", &["path", "methods", "upstream_url"], &["upstream", "preset"]),
        form("long", &["path", "methods", "upstream"], &with_keys(&["upstream_url", "preset"])),
        form("preset", &["preset", "upstream"], &with_keys(&["path", "methods", "upstream_url"])),
    ]);
    route.insert("anyOf".to_owned(), forms);
}

/// The key itself, a file with it, or its hash.
pub(super) fn one_secret(key: &mut Schema) {
    let one = ["key", "key_file", "key_sha256"].map(|field| json!({ "required": [field] }));
    key.insert("oneOf".to_owned(), json!(one));
}

/// Nodes by list or by name; their key, or a file with it.
pub(super) fn one_of_each(upstream: &mut Schema) {
    let one = ["nodes", "dns"].map(|field| json!({ "required": [field] }));
    upstream.insert("oneOf".to_owned(), json!(one));
    upstream.insert("not".to_owned(), json!({ "required": ["key", "key_file"] }));
}
