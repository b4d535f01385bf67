//! The files as written: every field optional, nothing checked but its type.
//!
//! Lists stay lists of values here: one element of the wrong type must not hide the problems of the others.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Visitor};
use serde_yaml::{Mapping, Value};

use super::schema::{self, forms};

/// Which paths exist, and which node answers them. Live: a change takes effect within a second.
#[derive(Default, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a map with `routes`")]
#[schemars(title = "routes.yaml")]
pub(super) struct RawRoutesFile {
    /// Nodes by name: several routes may lead to one.
    #[schemars(with = "Option<BTreeMap<String, RawUpstream>>")]
    #[schemars(extend("propertyNames" = forms::upstream_name()))]
    pub(super) upstreams: Option<Mapping>,
    /// The paths that exist. Several routes may share one: then the model decides.
    #[schemars(required, with = "Vec<RawRoute>", length(min = 1))]
    pub(super) routes: Option<Vec<Value>>,
    /// What a client may write for a model → the model that is asked.
    #[schemars(with = "Option<BTreeMap<String, forms::Text>>")]
    pub(super) aliases: Option<Mapping>,
}

/// A path and where it leads: to `upstream_url`, or to an `upstream`; or every path of a `preset`.
#[derive(Default, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a map with `path`, `methods` and `upstream_url`")]
#[schemars(rename = "Route", transform = schema::three_forms)]
pub(super) struct RawRoute {
    /// The path of requests, exactly; a segment may be a parameter: `/v1/responses/{response_id}`.
    #[schemars(with = "Option<forms::Path>")]
    pub(super) path: Option<String>,
    /// The methods of requests: `[POST]`.
    #[schemars(with = "Option<Vec<forms::Method>>", length(min = 1))]
    pub(super) methods: Option<Vec<Value>>,
    /// Address and path of the node: `http://vllm:8000/v1/chat/completions`. May repeat parameters of `path`.
    #[schemars(with = "Option<forms::Url>")]
    pub(super) upstream_url: Option<String>,
    /// The key that the node gets; absent: none is sent. Goes with `upstream_url`.
    pub(super) upstream_key: Option<String>,
    /// The header of the key. Default: `Authorization`.
    pub(super) upstream_key_header: Option<String>,
    /// What stands before the key. Default: `Bearer` and a space.
    pub(super) upstream_key_prefix: Option<String>,
    /// A name of `upstreams`.
    pub(super) upstream: Option<String>,
    /// Headers of requests that go up beside those that always do.
    #[schemars(with = "Option<Vec<forms::Text>>")]
    pub(super) forward_headers: Option<Vec<Value>>,
    /// Every path of that server, to `upstream`. A route of its own beats it.
    #[schemars(with = "Option<forms::PresetWord>")]
    pub(super) preset: Option<String>,
}

/// A node and how it is treated.
#[derive(Default, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a map with `nodes`")]
#[schemars(rename = "Upstream", transform = schema::no_two_keys)]
pub(super) struct RawUpstream {
    /// What may be assumed of the node. `vllm` also has /health, /metrics, /tokenize; `openai` speaks OpenAI's API; of
    /// `generic` (default) nothing is assumed.
    #[schemars(with = "Option<forms::KindWord>")]
    pub(super) kind: Option<String>,
    /// Where it is: `[http://gpu-0:8000]`. May end in a path: `https://api.example.com/v1/openai`. One, for now.
    #[schemars(required, with = "Vec<forms::Url>", length(min = 1, max = 1))]
    pub(super) nodes: Option<Vec<Value>>,
    /// The key that the node gets; without it none is sent. Better: `${NAME:?}`, or `key_file`.
    pub(super) key: Option<String>,
    /// A file that holds the key. Relative to this folder.
    pub(super) key_file: Option<String>,
    /// The header of the key. Default: `Authorization`.
    pub(super) key_header: Option<String>,
    /// What stands before the key. Default: `Bearer` and a space.
    pub(super) key_prefix: Option<String>,
    /// What it serves. Without it: what the node's /v1/models says.
    #[schemars(with = "Option<Vec<forms::Text>>", length(min = 1))]
    pub(super) models: Option<Vec<Value>>,
    /// How long it is waited for.
    pub(super) timeouts: Option<RawTimeouts>,
    /// How long an idle connection to it is kept. Default: `4s`, below uvicorn's 5 s.
    #[schemars(with = "Option<forms::Wait>")]
    pub(super) keepalive_idle: Option<String>,
    /// Whether a request that failed before its first byte is sent again.
    pub(super) retry: Option<RawRetry>,
}

/// How long a node is waited for.
#[derive(Default, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a map with `connect` or `first_byte`")]
#[schemars(rename = "Timeouts")]
pub(super) struct RawTimeouts {
    /// TCP and TLS together. Default: `2s`.
    #[schemars(with = "Option<forms::Wait>")]
    pub(super) connect: Option<String>,
    /// Until the first byte of the answer, and between later ones. Default: `600s`.
    #[schemars(with = "Option<forms::Wait>")]
    pub(super) first_byte: Option<String>,
}

/// Whether a request that failed before its first byte is sent again.
#[derive(Default, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a map with `attempts`")]
#[schemars(rename = "Retry")]
pub(super) struct RawRetry {
    /// Tries in all, the first one counted. Default: 2.
    #[schemars(with = "Option<forms::Attempts>")]
    pub(super) attempts: Option<Whole>,
}

/// Who may use the gateway. Live: a change takes effect within a second.
#[derive(Default, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a map with `keys`")]
#[schemars(title = "keys.yaml")]
pub(super) struct RawKeysFile {
    /// The keys; `[]` where the environment brings them all.
    #[schemars(required, with = "Vec<RawKey>")]
    pub(super) keys: Option<Vec<Value>>,
}

/// A key, and what it may do.
#[derive(Default, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a map with `name` and `key_sha256`")]
#[schemars(rename = "Key", transform = schema::one_secret)]
pub(super) struct RawKey {
    /// What logs and metrics call it.
    #[schemars(required)]
    pub(super) name: Option<String>,
    /// The key itself. Better: `key_sha256`.
    pub(super) key: Option<String>,
    /// A file that holds the key. Relative to this folder.
    pub(super) key_file: Option<String>,
    /// The key's SHA-256 in hexadecimal digits: `sluice keys new` makes both, `sluice keys hash` reads a key.
    #[schemars(with = "Option<forms::Sha256>")]
    pub(super) key_sha256: Option<String>,
    /// The models that it may use, `*` for any text: `["llama-*"]`. Default: all.
    #[schemars(with = "Option<Vec<forms::Text>>", length(min = 1))]
    pub(super) models: Option<Vec<Value>>,
    /// What it may do. `inference` (default): use models; `admin`: operate nodes, by /metrics, /pause, /resume and others.
    #[schemars(with = "Option<Vec<forms::ScopeWord>>", length(min = 1))]
    pub(super) scopes: Option<Vec<Value>>,
    /// From then on it opens nothing: `2027-01-01T00:00:00Z`. Default: never.
    #[schemars(with = "Option<forms::Time>")]
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

/// A boot setting of `server.yaml` in any form that reads naturally: text, number, true, or a list of texts. `T` is
/// what it will be read as.
pub(super) struct Written<T> {
    pub(super) text: String,
    as_type: PhantomData<T>,
}

impl<'de, T> Deserialize<'de> for Written<T> {
    fn deserialize<D: Deserializer<'de>>(value: D) -> Result<Self, D::Error> {
        value.deserialize_any(AnyPlain).map(|text| Self { text, as_type: PhantomData })
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
