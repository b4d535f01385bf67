//! What values look like: types that are never made, for the schemas of fields that hold plain texts or lists.
//!
//! Wherever a text may stand, so may one with `${NAME}` in it, which can become anything.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use http::StatusCode;
use log::LevelFilter;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

use super::super::defaults::{
    ATTEMPTS_MAX, FALLBACKS_MAX, IN_FLIGHT_MAX, LIMIT_MAX, LOAD_OPTIONS, NAME_CHARS_MAX,
    PROBES_MAX, QUEUE_MAX, REPLICAS_MAX,
};
use super::super::networks::Networks;
use super::super::raw::{RawHealth, RawProbe, Written};
use super::super::setting_values::{
    CorsOrigins, LogFormat, MetricsKey, OnStoreError, RedisUrl, StoreKind,
};

/// A text with a variable in it.
const VARIABLE: &str = r"\$\{";

/// Makes a type with a schema, and nothing else.
macro_rules! forms {
    ($($(#[doc = $doc:literal])+ $name:ident = $schema:expr;)+) => {$(
        $(#[doc = $doc])+
        pub(in super::super) enum $name {}

        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                $schema
            }
        }
    )+};
}

forms! {
    /// Any text.
    Text = json_schema!({ "type": "string" });
    /// `/v1/chat/completions`.
    Path = pattern("^/");
    /// Of a route, in any case.
    Method = any_case(&["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"]);
    /// `http://gpu-0:8000`.
    Url = pattern("^[Hh][Tt][Tt][Pp][Ss]?://");
    /// What may be assumed of a node.
    KindWord = words(&["vllm", "openai", "ollama", "generic"]);
    /// An option of Ollama's that loads a model anew.
    LoadOption = words(&LOAD_OPTIONS);
    /// Which node a request goes to.
    BalanceWord = words(&["least_load", "round_robin", "consistent_hash", "prefix_aware"]);
    /// Models that may answer in another's place.
    Models = json_schema!({
        "type": "array",
        "items": { "type": "string" },
        "minItems": 1,
        "maxItems": FALLBACKS_MAX,
        "uniqueItems": true,
    });
    /// A table of routes.
    PresetWord = words(&["vllm"]);
    /// What a key may do.
    ScopeWord = words(&["inference", "admin"]);
    /// `500ms`, `1m30s`.
    Wait = pattern(r"^\s*[0-9].*[a-zµ]\s*$");
    /// Tries.
    Attempts = number(1, Some(ATTEMPTS_MAX));
    /// Requests under way at one node.
    InFlight = number(1, Some(IN_FLIGHT_MAX));
    /// Requests that wait.
    Waiting = number(0, Some(QUEUE_MAX));
    /// What a key may take.
    Limit = number(1, Some(LIMIT_MAX));
    /// Which day a daily limit means.
    DayWord = words(&["rolling", "utc"]);
    /// Probes in a row.
    Probes = number(1, Some(PROBES_MAX));
    /// 64 hexadecimal digits.
    Sha256 = pattern("^[0-9a-fA-F]{64}$");
    /// RFC 3339.
    Time = pattern("^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}");
}

/// What the name of an upstream looks like; variables do not expand in it.
pub(in super::super) fn upstream_name() -> Value {
    json!({ "pattern": format!("^[A-Za-z0-9._-]{{1,{NAME_CHARS_MAX}}}$") })
}

fn pattern(pattern: &str) -> Schema {
    json_schema!({ "type": "string", "pattern": format!("{pattern}|{VARIABLE}") })
}

/// One of `words`, each of which an editor can offer.
fn words(words: &[&str]) -> Schema {
    json_schema!({ "anyOf": [{ "enum": words }, { "type": "string", "pattern": VARIABLE }] })
}

/// The same, where upper and lower case are one.
fn any_case(words: &[&str]) -> Schema {
    let letter = |c: char| match c.is_ascii_alphabetic() {
        true => format!("[{}{}]", c.to_ascii_uppercase(), c.to_ascii_lowercase()),
        false => c.to_string(),
    };
    let word = |word: &&str| word.chars().map(letter).collect::<String>();
    let all = words.iter().map(word).collect::<Vec<_>>().join("|");
    let pattern = format!("^({all})$|{VARIABLE}");
    json_schema!({ "anyOf": [{ "enum": words }, { "type": "string", "pattern": pattern }] })
}

/// A whole number, also as the text that a variable leaves.
fn number(least: u64, most: Option<u64>) -> Schema {
    let mut number = json!({ "type": "integer", "minimum": least });
    if let Some(most) = most {
        number["maximum"] = json!(most);
    }
    let digits = format!("^[0-9]+$|{VARIABLE}");
    json_schema!({ "anyOf": [number, { "type": "string", "pattern": digits }] })
}

impl JsonSchema for RawHealth {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "OffOrHealth".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [
            generator.subschema_for::<RawProbe>(),
            { "enum": ["off", "false", false] },
            { "type": "string", "pattern": VARIABLE },
        ] })
    }
}

/// What may be written for a boot setting of this type.
pub(in super::super) trait Setting {
    fn schema() -> Schema;
}

impl<T: Setting> JsonSchema for Written<T> {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Setting".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        T::schema()
    }
}

/// Makes the schema of each type that a boot setting may have.
macro_rules! settings {
    ($($type:ty = $schema:expr;)+) => {
        $(impl Setting for $type {
            fn schema() -> Schema {
                $schema
            }
        })+
    };
}

settings! {
    SocketAddr = pattern(":[0-9]+$");
    usize = number(0, None);
    Duration = any_wait();
    Option<Duration> = any_wait();
    StatusCode = words_and_numbers(&[401, 403]);
    Networks = json_schema!({ "type": ["string", "array"], "items": { "type": "string" } });
    CorsOrigins = json_schema!({ "type": ["string", "array"], "items": { "type": "string" } });
    LevelFilter = any_case(&[
        "error", "warn", "info", "debug", "trace", "critical", "fatal", "warning", "notset",
    ]);
    LogFormat = words(&["auto", "json", "text"]);
    StoreKind = words(&["memory", "redis"]);
    OnStoreError = words(&["local", "allow", "deny"]);
    NonZeroU32 = number(1, Some(REPLICAS_MAX));
    Option<RedisUrl> = pattern("^rediss?://");
    Option<MetricsKey> = pattern("^[!-~]+$");
    bool = json_schema!({ "anyOf": [
        { "type": "boolean" },
        { "enum": ["on", "off", "true", "false"] },
        { "type": "string", "pattern": VARIABLE },
    ] });
    Option<PathBuf> = json_schema!({ "type": "string" });
    Option<String> = json_schema!({ "type": "string" });
    String = json_schema!({ "type": "string" });
}

/// A duration, also a bare zero.
fn any_wait() -> Schema {
    json_schema!({ "anyOf": [pattern(r"^\s*[0-9].*[a-zµ]\s*$|^0$"), { "const": 0 }] })
}

fn words_and_numbers(numbers: &[u16]) -> Schema {
    let texts = numbers.iter().map(|number| json!(number.to_string()));
    let all: Vec<Value> = numbers.iter().map(|number| json!(number)).chain(texts).collect();
    json_schema!({ "anyOf": [{ "enum": all }, { "type": "string", "pattern": VARIABLE }] })
}
