//! The files as written: every field optional, nothing checked but its type.
//!
//! Lists stay lists of values here: one element of the wrong type must not hide the problems of the others.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Unexpected, Visitor};
use serde_yaml::{Mapping, Value};

use super::defaults::NODES_MAX;
use super::schema::{self, forms};

/// Which paths exist, and which nodes answer them. Live: a change takes effect within a second.
#[derive(Default, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a map with `routes`")]
#[schemars(title = "routes.yaml")]
pub(super) struct RawRoutesFile {
    /// Groups of nodes by name: several routes may lead to one.
    #[schemars(with = "Option<BTreeMap<String, RawUpstream>>")]
    #[schemars(extend("propertyNames" = forms::upstream_name()))]
    pub(super) upstreams: Option<Mapping>,
    /// The paths that exist. Several routes may share one: then the model decides.
    #[schemars(required, with = "Vec<RawRoute>", length(min = 1))]
    pub(super) routes: Option<Vec<Value>>,
    /// What a client may write for a model → the model that is asked.
    #[schemars(with = "Option<BTreeMap<String, forms::Text>>")]
    pub(super) aliases: Option<Mapping>,
    /// A model → the models that may answer in its place, the best first. None of them is an alias.
    #[schemars(with = "Option<BTreeMap<String, forms::Models>>")]
    pub(super) fallbacks: Option<Mapping>,
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

/// Nodes that serve the same thing, and how they are treated.
#[derive(Default, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a map with `nodes`")]
#[schemars(rename = "Upstream", transform = schema::one_of_each)]
pub(super) struct RawUpstream {
    /// What may be assumed of each node. `vllm` also has /health, /metrics, /tokenize; `openai` speaks OpenAI's API; `ollama` is spoken
    /// to in its own API; of `generic` (default) nothing is assumed.
    #[schemars(with = "Option<forms::KindWord>")]
    pub(super) kind: Option<String>,
    /// Where they are: `[http://gpu-0:8000, http://gpu-1:8000]`. May end in a path: `https://api.example.com/v1/openai`.
    #[schemars(with = "Option<Vec<forms::Url>>", length(min = 1, max = NODES_MAX))]
    pub(super) nodes: Option<Vec<Value>>,
    /// Instead of `nodes`: every address that the name resolves to is a node, as of each moment. `http://vllm:8000`.
    #[schemars(with = "Option<forms::Url>")]
    pub(super) dns: Option<String>,
    /// The key that each node gets; without it none is sent. Better: `${NAME:?}`, or `key_file`.
    pub(super) key: Option<String>,
    /// A file that holds the key. Relative to this folder.
    pub(super) key_file: Option<String>,
    /// The header of the key. Default: `Authorization`.
    pub(super) key_header: Option<String>,
    /// What stands before the key. Default: `Bearer` and a space.
    pub(super) key_prefix: Option<String>,
    /// How `https` nodes are known to be the right ones. Default: by the setting `ca_file`, or the system's authorities, and each
    /// node's host.
    pub(super) tls: Option<RawTls>,
    /// What it serves. Without it: what each node's /v1/models says.
    #[schemars(with = "Option<Vec<forms::Text>>", length(min = 1))]
    pub(super) models: Option<Vec<Value>>,
    /// Which node a request goes to: the one with the least to do (`least_load`, default), each in turn (`round_robin`), the
    /// one of its session (`consistent_hash`), or the one that would begin to answer first, by what it has to do and what
    /// it holds of the prompt (`prefix_aware`).
    #[schemars(with = "Option<forms::BalanceWord>")]
    pub(super) balance: Option<String>,
    /// Requests under way at one node, at most; others wait, first come, first served. Default: as many as come.
    #[schemars(with = "Option<forms::InFlight>")]
    pub(super) max_in_flight: Option<Whole>,
    /// Requests that may wait. Default: 1024.
    #[schemars(with = "Option<forms::Waiting>")]
    pub(super) max_queue: Option<Whole>,
    /// The header that names a session, for `consistent_hash`. Default: `x-session-id`. Without it: the body's
    /// `prompt_cache_key`, its `user`, the key.
    pub(super) session_header: Option<String>,
    /// How nodes are probed; `off`: they are not. Default: for `generic` off, for the other kinds on. Of `vllm` the load and
    /// pauses are asked for, too.
    pub(super) health: Option<RawHealth>,
    /// How long a node is waited for.
    pub(super) timeouts: Option<RawTimeouts>,
    /// How long an idle connection to a node is kept. Default: `4s`, below uvicorn's 5 s.
    #[schemars(with = "Option<forms::Wait>")]
    pub(super) keepalive_idle: Option<String>,
    /// Whether HTTP/2 is spoken to `https` nodes that offer it. Default: `false`; vLLM's server has none.
    pub(super) http2: Option<Written<bool>>,
    /// Whether a request that failed before its first byte is sent again.
    pub(super) retry: Option<RawRetry>,
    /// Of `ollama`: options that load a model anew, and that clients may set nevertheless: `[num_ctx]`. `keep_alive`: to zero or
    /// below, which unloads a model at once or never. Default: none.
    #[schemars(with = "Option<Vec<forms::LoadOption>>")]
    pub(super) load_options: Option<Vec<Value>>,
}

/// How `https` nodes are known to be the right ones.
#[derive(Default, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a map with `ca_file` or `server_name`")]
#[schemars(rename = "Tls")]
pub(super) struct RawTls {
    /// A PEM file of the authorities that certify them, instead of all others. Relative to this folder. Live: a change takes effect
    /// within a second.
    pub(super) ca_file: Option<String>,
    /// The name that they are asked for (SNI) and that their certificates must have: `gpu.internal`. Default: each node's host.
    pub(super) server_name: Option<String>,
}

/// How long a node is waited for.
#[derive(Default, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a map with `connect` or `first_byte`")]
#[schemars(rename = "Timeouts")]
pub(super) struct RawTimeouts {
    /// TCP and TLS together. Default: `2s`.
    #[schemars(with = "Option<forms::Wait>")]
    pub(super) connect: Option<String>,
    /// Until the first byte of the answer. Default: `600s`.
    #[schemars(with = "Option<forms::Wait>")]
    pub(super) first_byte: Option<String>,
    /// Between later bytes of the answer. Default: `120s`.
    #[schemars(with = "Option<forms::Wait>")]
    pub(super) idle: Option<String>,
    /// From the request to the last byte of its answer. Default: as long as it takes.
    #[schemars(with = "Option<forms::Wait>")]
    pub(super) total: Option<String>,
}

/// How nodes are probed: a map of [`RawProbe`], or `off`.
pub(super) enum RawHealth {
    Off,
    Probe(RawProbe),
}

impl<'de> Deserialize<'de> for RawHealth {
    fn deserialize<D: Deserializer<'de>>(value: D) -> Result<Self, D::Error> {
        struct OffOrMap;
        impl<'de> Visitor<'de> for OffOrMap {
            type Value = RawHealth;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`off`, or a map with `path` or `interval`")
            }
            fn visit_bool<E: Error>(self, on: bool) -> Result<RawHealth, E> {
                match on {
                    false => Ok(RawHealth::Off),
                    true => Err(E::invalid_value(Unexpected::Bool(on), &self)),
                }
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<RawHealth, E> {
                match text {
                    "off" | "false" => Ok(RawHealth::Off),
                    _ => Err(E::invalid_value(Unexpected::Other("text"), &self)),
                }
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RawHealth, A::Error> {
                RawProbe::deserialize(MapAccessDeserializer::new(map)).map(RawHealth::Probe)
            }
        }
        value.deserialize_any(OffOrMap)
    }
}

/// How nodes are probed.
#[derive(Default, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a map with `path` or `interval`")]
#[schemars(rename = "Health")]
pub(super) struct RawProbe {
    /// What is asked for. Default: `/health` for `vllm`, `/v1/models` for `openai`; `generic` has none.
    #[schemars(with = "Option<forms::Path>")]
    pub(super) path: Option<String>,
    /// From one probe to the next. Default: `5s`.
    #[schemars(with = "Option<forms::Wait>")]
    pub(super) interval: Option<String>,
    /// Longest wait for an answer, connecting included. Default: `2s`.
    #[schemars(with = "Option<forms::Wait>")]
    pub(super) timeout: Option<String>,
    /// Probes that fail in a row until a node gets no more requests. Default: 3.
    #[schemars(with = "Option<forms::Probes>")]
    pub(super) unhealthy_after: Option<Whole>,
    /// Probes that succeed in a row until it gets requests again. Default: 2.
    #[schemars(with = "Option<forms::Probes>")]
    pub(super) healthy_after: Option<Whole>,
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
    /// How often it may ask. Default: as often as it likes.
    pub(super) limits: Option<RawLimits>,
}

/// How often a key may ask. What is over a limit is refused with 429 and is not counted.
#[derive(Default, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a map with `rpm` or `rpd`")]
#[schemars(rename = "Limits")]
pub(super) struct RawLimits {
    /// Requests in any 60 seconds.
    #[schemars(with = "Option<forms::Limit>")]
    pub(super) rpm: Option<Whole>,
    /// Requests in a `day`.
    #[schemars(with = "Option<forms::Limit>")]
    pub(super) rpd: Option<Whole>,
    /// Tokens of prompts and answers in any 60 seconds.
    #[schemars(with = "Option<forms::Limit>")]
    pub(super) tpm: Option<Whole>,
    /// Tokens of prompts and answers in a `day`.
    #[schemars(with = "Option<forms::Limit>")]
    pub(super) tpd: Option<Whole>,
    /// Requests at a time.
    #[schemars(with = "Option<forms::Limit>")]
    pub(super) concurrent: Option<Whole>,
    /// `rolling` (default): any 24 hours; `utc`: from midnight to midnight of UTC.
    #[schemars(with = "Option<forms::DayWord>")]
    pub(super) day: Option<String>,
}

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
