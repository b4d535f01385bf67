//! The files as written: every field optional, nothing checked but its type.
//!
//! Lists stay lists of values here: one element of the wrong type must not hide the problems of the others.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Visitor};
use serde_yaml::{Mapping, Value};

/// `routes.yaml`.
#[derive(Default, serde::Deserialize)]
#[serde(deny_unknown_fields, expecting = "a map with `routes`", default)]
pub(super) struct RawRoutesFile {
    pub(super) upstreams: Option<Mapping>,
    pub(super) routes: Option<Vec<Value>>,
    pub(super) aliases: Option<Mapping>,
}

/// An entry of `routes`, in any of its three forms.
#[derive(Default, serde::Deserialize)]
#[serde(
    deny_unknown_fields,
    expecting = "a map with `path`, `methods` and `upstream_url`",
    default
)]
pub(super) struct RawRoute {
    pub(super) path: Option<String>,
    pub(super) methods: Option<Vec<Value>>,
    pub(super) upstream_url: Option<String>,
    pub(super) upstream_key: Option<String>,
    pub(super) upstream_key_header: Option<String>,
    pub(super) upstream_key_prefix: Option<String>,
    pub(super) upstream: Option<String>,
    pub(super) forward_headers: Option<Vec<Value>>,
    pub(super) preset: Option<String>,
}

/// An entry of `upstreams`.
#[derive(Default, serde::Deserialize)]
#[serde(deny_unknown_fields, expecting = "a map with `nodes`", default)]
pub(super) struct RawUpstream {
    pub(super) kind: Option<String>,
    pub(super) nodes: Option<Vec<Value>>,
    pub(super) key: Option<String>,
    pub(super) key_file: Option<String>,
    pub(super) key_header: Option<String>,
    pub(super) key_prefix: Option<String>,
    pub(super) models: Option<Vec<Value>>,
    pub(super) timeouts: Option<RawTimeouts>,
    pub(super) keepalive_idle: Option<String>,
    pub(super) retry: Option<RawRetry>,
}

/// `timeouts` of an upstream.
#[derive(Default, serde::Deserialize)]
#[serde(deny_unknown_fields, expecting = "a map with `connect` or `first_byte`", default)]
pub(super) struct RawTimeouts {
    pub(super) connect: Option<String>,
    pub(super) first_byte: Option<String>,
}

/// `retry` of an upstream.
#[derive(Default, serde::Deserialize)]
#[serde(deny_unknown_fields, expecting = "a map with `attempts`", default)]
pub(super) struct RawRetry {
    pub(super) attempts: Option<Whole>,
}

/// `keys.yaml`.
#[derive(Default, serde::Deserialize)]
#[serde(deny_unknown_fields, expecting = "a map with `keys`", default)]
pub(super) struct RawKeysFile {
    pub(super) keys: Option<Vec<Value>>,
}

/// An entry of `keys`.
#[derive(Default, serde::Deserialize)]
#[serde(deny_unknown_fields, expecting = "a map with `name` and `key_sha256`", default)]
pub(super) struct RawKey {
    pub(super) name: Option<String>,
    pub(super) key: Option<String>,
    pub(super) key_file: Option<String>,
    pub(super) key_sha256: Option<String>,
    pub(super) models: Option<Vec<Value>>,
    pub(super) scopes: Option<Vec<Value>>,
    pub(super) expires: Option<String>,
}

/// Fields that the format describes and this version does not serve: ignoring one would promise what is not kept.
pub(super) const UNSERVED: [&str; 7] =
    ["dns", "balance", "max_in_flight", "health", "fallbacks", "limits", "idle"];

/// A whole number, also one that came out of a variable as text.
#[derive(Clone, Copy)]
pub(super) struct Whole(pub(super) u64);

impl<'de> Deserialize<'de> for Whole {
    fn deserialize<D: Deserializer<'de>>(value: D) -> Result<Self, D::Error> {
        struct Digits;
        impl Visitor<'_> for Digits {
            type Value = Whole;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number")
            }
            fn visit_u64<E: Error>(self, value: u64) -> Result<Whole, E> {
                Ok(Whole(value))
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Whole, E> {
                let refused = || E::custom("not the form, expected a whole number");
                text.parse().map(Whole).map_err(|_| refused())
            }
        }
        value.deserialize_any(Digits)
    }
}

/// A boot setting of `server.yaml` in any form that reads naturally: text, number, true, or a list of texts.
pub(super) struct Plain(pub(super) String);

impl<'de> Deserialize<'de> for Plain {
    fn deserialize<D: Deserializer<'de>>(value: D) -> Result<Self, D::Error> {
        value.deserialize_any(AnyPlain).map(Self)
    }
}

struct AnyPlain;

/// Scalars of every type are taken by their text.
macro_rules! plain {
    ($($visit:ident($type:ty)),+) => {
        $(fn $visit<E>(self, value: $type) -> Result<String, E> {
            Ok(value.to_string())
        })+
    };
}

impl<'de> Visitor<'de> for AnyPlain {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text, a number, true, false, or a list of texts")
    }

    plain!(visit_bool(bool), visit_u64(u64), visit_i64(i64), visit_f64(f64), visit_str(&str));

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<String, A::Error> {
        let mut texts: Vec<String> = Vec::new();
        while let Some(text) = list.next_element()? {
            texts.push(text);
        }
        Ok(texts.join(","))
    }
}
