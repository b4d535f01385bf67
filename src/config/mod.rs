//! Configuration: text and environment in, values that cannot be wrong out.
//!
//! [`load`] reads `routes.yaml`, `keys.yaml` and the files they name; everything in this module is checked: code that
//! holds a [`Config`] never looks at a string again to see if it makes sense.

mod address;
mod at;
pub mod authorities;
pub mod certificate;
mod declared;
pub mod defaults;
mod document;
mod effective;
mod environment;
mod expand;
mod files;
mod givens;
mod health;
mod keys;
mod legacy;
mod load;
mod locate;
mod models;
mod named_files;
mod networks;
mod node_tls;
mod nodes;
mod paths;
mod places;
mod presets;
mod problem;
mod raw;
mod report;
mod routes;
pub mod schema;
pub mod secret;
mod setting_values;
mod settings;
#[cfg(test)]
mod tests;
mod tokens_json;
mod typed;
mod upstreams;
mod values;

pub use declared::Declared;
pub use effective::{Effective, effective, effective_settings};
pub use environment::Environment;
pub use givens::SERVER_FILE;
pub use keys::check_key;
pub use load::{KEYS_FILE, ROUTES_FILE, Source, Texts, load, parse};
pub use named_files::ReadFile;
pub use networks::Networks;
pub use node_tls::NodeTls;
pub use places::Places;
pub use problem::{Location, Origin, Problem, Problems};
pub use report::nearest;
pub use setting_values::{CorsOrigins, LogFormat, MetricsKey, OnStoreError, RedisUrl, StoreKind};
pub use settings::{SETTINGS, Setting, Settings, SettingsArgs, settings_table};
pub use upstreams::with_defaults;

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::{HeaderName, HeaderValue, Method};

use crate::names::{KeyName, ModelName, UpstreamName};

/// All that a reload replaces: routes, upstreams and keys, as of one reading of the files.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// In file order; each name once.
    pub upstreams: Vec<UpstreamConfig>,
    /// In file order, explicit routes and those of presets mixed; `upstream` indexes [`Config::upstreams`].
    pub routes: Vec<RouteConfig>,
    /// What a caller may write → the model that is asked.
    pub aliases: Vec<(ModelName, ModelName)>,
    /// Model → the models that may answer in its place, the best first: at least one, none twice, never an alias.
    pub fallbacks: Vec<(ModelName, Vec<ModelName>)>,
    /// `DEFAULT_BACKEND`: index into [`Config::upstreams`].
    pub default_upstream: Option<usize>,
    /// Every key that opens the gateway; names and hashes are unique.
    pub keys: Vec<KeyConfig>,
    /// Files whose change means a reload, besides `routes.yaml` and `keys.yaml` (each `key_file`, each `ca_file`).
    pub watched: Vec<PathBuf>,
    /// Things an operator should know that are no errors, free of config text that may be secret.
    pub warnings: Vec<String>,
}

/// What may be assumed of a node (SPEC 2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Kind {
    /// Nothing: no probe unless `health` names a path.
    #[default]
    Generic,
    /// Speaks OpenAI's API.
    OpenAi,
    /// vLLM: also has `/health`, `/metrics`, `/tokenize`.
    Vllm,
    /// Ollama: spoken to in its own API.
    Ollama,
}

/// Nodes that serve the same thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamConfig {
    /// Unique.
    pub name: UpstreamName,
    /// What may be assumed of each of its nodes.
    pub kind: Kind,
    /// Where they are.
    pub nodes: Nodes,
    /// What makes them the right ones, where TLS is spoken to them.
    pub tls: NodeTls,
    /// What we present to each; none: no key is sent.
    pub credential: Option<Credential>,
    /// What it serves, where the file says so; else it is learnt from each node's `/v1/models`.
    pub models: Option<Vec<ModelName>>,
    /// Which of its nodes a request goes to.
    pub balance: Balance,
    /// Requests under way at one node, at most; none: as many as come.
    pub max_in_flight: Option<u32>,
    /// Requests that may wait for a place at a node.
    pub max_queue: usize,
    /// The header that names a session, for [`Balance::ConsistentHash`].
    pub session_header: HeaderName,
    /// How each node is probed; none: it is not.
    pub health: Option<HealthConfig>,
    /// How long to wait for a node.
    pub timeouts: Timeouts,
    /// How long an idle connection to a node is kept: below uvicorn's 5 s.
    pub keepalive_idle: Duration,
    /// HTTP/2 is spoken to `https` nodes that offer it.
    pub http2: bool,
    /// Tries in all, at least 1.
    pub attempts: usize,
    /// Options of Ollama's that load a model anew, and that clients may set nevertheless.
    pub load_options: Vec<String>,
    /// Where it comes from.
    pub declared: Declared,
}

impl Kind {
    /// As files write it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Generic => "generic",
            Self::OpenAi => "openai",
            Self::Vllm => "vllm",
            Self::Ollama => "ollama",
        }
    }
}

impl Balance {
    /// As files write it.
    pub fn word(self) -> &'static str {
        match self {
            Self::RoundRobin => "round_robin",
            Self::LeastLoad => "least_load",
            Self::ConsistentHash => "consistent_hash",
            Self::PrefixAware => "prefix_aware",
        }
    }
}

/// Where an upstream's nodes are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Nodes {
    /// As listed, in file order, each once; at least one.
    Listed(Vec<NodeUrl>),
    /// Every address that this URL's host resolves to is a node. The host is a name, never an address.
    Dns(NodeUrl),
}

/// Which node of an upstream a request goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Balance {
    /// Each in turn.
    RoundRobin,
    /// The one with the least to do.
    #[default]
    LeastLoad,
    /// The one of its session, unless that has far more to do than others.
    ConsistentHash,
    /// The one that would begin to answer first, by what it has to do and what it holds of the prompt.
    PrefixAware,
}

/// How a node is probed, whether requests go to it or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthConfig {
    /// What is asked for by GET, as any path: `/v1/x` below the node's base, others at its root. Begins with `/`.
    pub path: String,
    /// From the begin of a probe to that of the next.
    pub interval: Duration,
    /// Longest wait for an answer, connecting included.
    pub timeout: Duration,
    /// Probes that fail one after the other until the node gets no more requests; at least 1.
    pub unhealthy_after: u32,
    /// Probes that succeed one after the other until it gets requests again; at least 1.
    pub healthy_after: u32,
}

/// Waits for a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// TCP and TLS together.
    pub connect: Duration,
    /// Until the first byte of the answer; a request's own timeout replaces it.
    pub first_byte: Duration,
    /// Between later bytes of the answer; a request's own timeout replaces it, too.
    pub idle: Duration,
    /// From the request to the last byte of its answer; none: as long as it takes.
    pub total: Option<Duration>,
}

/// A node's address as configured: `https://api.example.com/v1/openai`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NodeUrl {
    /// `https`.
    pub tls: bool,
    /// Host name or IP address, without brackets.
    pub host: String,
    /// Never 0.
    pub port: u16,
    /// The path `P` of the URL without its last `/`; empty for none and for `/v1`. `/v1/x` goes to `P/x`, or with an
    /// empty base to `/v1/x`; other paths go to the root. Always empty beside [`Target::Path`].
    pub base: String,
}

/// What the gateway presents to a node. Its `Debug` shows nothing of the key.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential {
    /// `Authorization` unless configured.
    pub header: HeaderName,
    /// Prefix and key, marked sensitive.
    pub value: HeaderValue,
    /// The key alone: what must never be passed on.
    pub key: Arc<str>,
}

impl Credential {
    /// `key` as nodes are mostly shown one; none where it is no key.
    pub fn bearer(key: &str) -> Option<Self> {
        values::credential(http::header::AUTHORIZATION, "Bearer ", key).ok()
    }

    /// True where `text` holds the key.
    pub fn is_told_by(&self, text: &[u8]) -> bool {
        // Most headers are shorter than a key: a look at the length is enough.
        let key = self.key.as_bytes();
        text.len() >= key.len() && memchr::memmem::find(text, key).is_some()
    }
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Credential({}: ***)", self.header)
    }
}

/// One line of the route table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteConfig {
    /// Raw path, `{name}` for a parameter: one segment, never empty.
    pub path: String,
    /// At least one.
    pub methods: Vec<Method>,
    /// Index into [`Config::upstreams`].
    pub upstream: usize,
    /// What the node is asked for.
    pub target: Target,
    /// From a preset: an explicit route of the same path and method beats it.
    pub preset: bool,
    /// Request headers that go up beside the ones on the list (SPEC 6).
    pub forward_headers: Vec<HeaderName>,
    /// Where it comes from; every route of a preset from the entry of the preset.
    pub declared: Declared,
}

/// The path that a node sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// The request's own, below the node's base (SPEC 2.2).
    Node,
    /// The path of the route's `upstream_url`, `{name}` as in [`RouteConfig::path`].
    Path(String),
}

/// A key that opens the gateway. Its `Debug` shows nothing of the key, not even the hash: short keys can be guessed.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyConfig {
    /// Unique.
    pub name: KeyName,
    /// SHA-256 of the key.
    pub sha256: [u8; 32],
    /// Patterns with `*` for any text; none: every model.
    pub models: Option<Vec<String>>,
    /// May infer.
    pub inference: bool,
    /// May use the operating endpoints and see details.
    pub admin: bool,
    /// From then on it is as unknown as any other.
    pub expires: Option<SystemTime>,
    /// How often it may ask.
    pub limits: KeyLimits,
    /// Where it comes from.
    pub declared: Declared,
}

/// How often a key may ask; none: as often as it likes. Each is from 1 to [`LIMIT_MAX`](defaults::LIMIT_MAX).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KeyLimits {
    /// Requests in any 60 seconds.
    pub rpm: Option<u32>,
    /// Requests in a [`Day`].
    pub rpd: Option<u32>,
    /// Tokens of prompts and answers in any 60 seconds.
    pub tpm: Option<u32>,
    /// The same in a [`Day`].
    pub tpd: Option<u32>,
    /// Requests at a time.
    pub concurrent: Option<u32>,
    /// Which day is meant.
    pub day: Day,
}

impl KeyLimits {
    /// Its tokens are limited.
    pub fn has_tokens(&self) -> bool {
        self.tpm.or(self.tpd).is_some()
    }

    /// The part of one gateway of so many. At least 1: what is limited is not forbidden.
    pub fn divided(&self, gateways: NonZeroU32) -> Self {
        let part = |limit: Option<u32>| limit.map(|limit| (limit / gateways).max(1));
        Self {
            rpm: part(self.rpm),
            rpd: part(self.rpd),
            tpm: part(self.tpm),
            tpd: part(self.tpd),
            concurrent: part(self.concurrent),
            day: self.day,
        }
    }

    /// It may ask as often as it likes.
    pub fn is_none(&self) -> bool {
        [self.rpm, self.rpd, self.tpm, self.tpd, self.concurrent].iter().all(Option::is_none)
    }
}

/// What a daily limit calls a day.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Day {
    /// Any 24 hours.
    #[default]
    Rolling,
    /// From midnight to midnight of UTC.
    Utc,
}

impl std::fmt::Debug for KeyConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KeyConfig({})", self.name)
    }
}
