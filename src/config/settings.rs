//! Boot settings: one table makes flags, environment, file, defaults and documentation.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::StatusCode;

use super::authorities;
use super::certificate;
use super::environment::Environment;
use super::givens::Givens;
use super::networks::Networks;
use super::problem::Problems;
use super::raw::Written;
use super::report::Fault;
use super::secret;
use super::setting_values::{
    self as read, CorsOrigins, LogFormat, MetricsKey, OnStoreError, RedisUrl, StoreKind,
};

/// Settings whose values are, or may hold, a password: they are never shown.
pub(super) const SECRETS: [&str; 2] = ["redis_url", "metrics_key"];

/// Who sets one of them wants sessions, as the service that had these alone (SPEC 8).
const SESSION_SETTINGS: [&str; 3] = ["session_model", "max_context_tokens", "session_ttl"];

/// One setting in all its spellings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setting {
    /// As in `server.yaml`: `max_timeout`.
    pub name: &'static str,
    /// What holds when nobody says anything; empty for nothing.
    pub default: &'static str,
    /// The variable of a replaced service that means the same.
    pub legacy: Option<&'static str>,
    /// What it does, in one paragraph.
    pub meaning: &'static str,
}

impl Setting {
    /// `--max-timeout`.
    pub fn flag(&self) -> String {
        format!("--{}", self.name.replace('_', "-"))
    }

    /// `SLUICE_MAX_TIMEOUT`.
    pub fn variable(&self) -> String {
        format!("SLUICE_{}", self.name.to_uppercase())
    }
}

/// Makes everything that a setting is from one line each: documentation, name, type, default, reader; then, where it
/// has them, the variable of a replaced service and what the flag takes.
macro_rules! settings {
    ($(
        $(#[doc = $meaning:literal])+
        $name:ident: $type:ty = $default:literal, $read:path
            $(, legacy $legacy:literal)? $(, flag($($flag:tt)+))?;
    )+) => {
        /// The settings of one run. They need a restart to change.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct Settings {
            $($(#[doc = $meaning])+ pub $name: $type,)+
        }

        /// The flags as given. Values are read by [`Settings::resolve`], so that all problems are told at once.
        #[derive(Debug, Clone, Default, clap::Args)]
        pub struct SettingsArgs {
            $(
                $(#[doc = $meaning])+
                #[arg(long, value_name = "VALUE" $(, $($flag)+)?)]
                pub $name: Option<String>,
            )+
        }

        /// How the gateway runs. Read at the start: a change needs a restart.
        #[derive(Default, serde::Deserialize, schemars::JsonSchema)]
        #[serde(deny_unknown_fields, expecting = "a map of settings")]
        #[schemars(title = "server.yaml")]
        pub(super) struct SettingsFile {
            $($(#[doc = $meaning])+ $name: Option<Written<$type>>,)+
        }

        /// Every setting, in the order of the documentation.
        pub const SETTINGS: &[Setting] = &[$(Setting {
            name: stringify!($name),
            default: $default,
            legacy: settings!(@legacy $($legacy)?),
            meaning: concat!($($meaning),+),
        }),+];

        impl SettingsArgs {
            /// What the flag of `setting` says.
            pub(super) fn get(&self, setting: &str) -> Option<&str> {
                match setting {
                    $(stringify!($name) => self.$name.as_deref(),)+
                    _ => None,
                }
            }
        }

        impl SettingsFile {
            /// What the file says of `setting`.
            pub(super) fn get(&self, setting: &str) -> Option<&str> {
                match setting {
                    $(stringify!($name) => self.$name.as_ref().map(|written| written.text.as_str()),)+
                    _ => None,
                }
            }
        }

        impl Settings {
            fn read(givens: &mut Givens) -> Option<Self> {
                // All are read before the first that is missing ends it.
                $(let $name = givens.read(stringify!($name), $read);)+
                Some(Self { $($name: $name?),+ })
            }
        }
    };
    (@legacy) => { None };
    (@legacy $legacy:literal) => { Some($legacy) };
}

settings! {
    /// Where applications connect. `HOST` and `PORT` each replace their half.
    listen: SocketAddr = "127.0.0.1:8080", read::address, legacy "HOST, PORT";
    /// Where operators connect: metrics, the state of nodes, drain and undrain.
    admin_listen: SocketAddr = "127.0.0.1:9464", read::address;
    /// The key that `/metrics` of `admin_listen` asks for, as `Authorization: Bearer`; none: it is open.
    metrics_key: Option<MetricsKey> = "", read::metrics_key;
    /// Worker threads; 0 for one per core.
    threads: usize = "0", read::threads;
    /// The longest timeout that a request may ask for.
    max_timeout: Duration = "3600s", read::positive;
    /// The largest request body, in bytes; a larger one is refused with 413.
    max_body_bytes: usize = "104857600", read::bytes, legacy "MAX_BODY_BYTES";
    /// All request bodies that are held at once, in bytes; past it requests are refused with 503.
    max_held_bytes: usize = "1073741824", read::bytes;
    /// What is remembered of prompts for `prefix_aware`, in bytes.
    max_prefix_bytes: usize = "67108864", read::bytes;
    /// The status for a key that is unknown or expired: 401 or 403.
    invalid_key_status: StatusCode = "401", read::invalid_key_status;
    /// The status by which `/internal/authz` tells of a limit: 403, as nginx makes a 500 of any other, or 429.
    authz_limit_status: StatusCode = "403", read::authz_limit_status;
    /// A file with the secret by which gateways take each other's `X-RateLimit-Checked`; none: each its own alone.
    authz_secret_file: Option<PathBuf> = "", read::path;
    /// Where it is counted what keys take: `memory`, each gateway for itself, or `redis`, all gateways together.
    rate_limit_store: StoreKind = "memory", read::store_kind, legacy "RATE_LIMIT_STORE";
    /// The Redis of `rate_limit_store` and `session_store`: `redis://:password@host:6379/0`, or `rediss://` over TLS, certified by `ca_file` or the system's authorities.
    redis_url: Option<RedisUrl> = "", read::redis_url, legacy "REDIS_URL";
    /// What holds while Redis is away: `local`, each gateway counts for itself, up to its part of each limit; `allow` or `deny`, all are let in, or refused with 503.
    on_store_error: OnStoreError = "local", read::on_store_error;
    /// How many gateways share Redis: each has its part of a limit while it counts for itself.
    replicas: NonZeroU32 = "1", read::replicas;
    /// Whether there are chat sessions: true or false. Where this is not said: where `session_model`, `max_context_tokens` or `session_ttl` is.
    sessions: bool = "false", read::truth,
        flag(num_args = 0..=1, require_equals = true, default_missing_value = "true");
    /// The model of sessions, as its node calls it. Where that is a folder with a tokenizer, prompts are counted by it, else by the node; none: the first model that a node lists.
    session_model: Option<String> = "", read::text, legacy "VLLM_MODEL_NAME";
    /// The longest prompt of a session, in tokens: the oldest questions and their answers are forgotten past it.
    max_context_tokens: usize = "8000", read::tokens, legacy "MAX_CONTEXT_TOKENS";
    /// How long a session is kept after its last request.
    session_ttl: Duration = "600s", read::seconds, legacy "SESSION_TTL_SECONDS";
    /// What sessions begin with, where a client has not set it.
    session_system_prompt: String = "Ты — полезный ассистент. Отвечай точно и по существу.", read::prompt;
    /// Where sessions are kept: `memory`, lost with this process, or `redis`, for all gateways.
    session_store: StoreKind = "memory", read::store_kind;
    /// Sessions that are kept in memory at once; past it no new one is begun.
    max_sessions: usize = "100000", read::count;
    /// All sessions in memory, in bytes; past it no new one is begun, and none grows.
    max_session_bytes: usize = "268435456", read::bytes;
    /// Origins of web pages that may use the gateway, separated by commas, or `*`; none: no page may.
    cors_allow_origins: CorsOrigins = "", read::cors_origins, legacy "CORS_ALLOW_ORIGINS";
    /// What is logged: error, warn, info, debug or trace; Python's names are understood, too.
    log_level: log::LevelFilter = "info", read::log_level, legacy "LOG_LEVEL";
    /// How it is logged: json, text, or auto (text on a terminal, else json).
    log_format: LogFormat = "auto", read::log_format;
    /// Whether each request is logged: on or off.
    access_log: bool = "on", read::switch;
    /// Whether lines of requests tell prompts, as hashes of their blocks, for `sluice simulate`: on or off.
    log_prompts: bool = "off", read::switch;
    /// A file to which a line for each request is appended, with its tokens, for `sluice usage`; none: no account is kept.
    ledger: Option<PathBuf> = "", read::path;
    /// From this size on the ledger is put aside, in bytes: the time is added to its name.
    ledger_file_bytes: usize = "268435456", read::bytes;
    /// How long `/readyz` says 503 before connections are no longer accepted.
    drain_delay: Duration = "5s", read::any_wait;
    /// How long live streams may take to end after that.
    drain_timeout: Duration = "30s", read::any_wait;
    /// A Unix socket by which `sluice serve --upgrade`, and SIGQUIT, start a new process in the place of this one, without a stream being cut; none: they do not.
    upgrade_socket: Option<PathBuf> = "", read::path;
    /// Connections of clients at once; past it new ones are refused. 0: as many as the descriptors of this process are for.
    max_connections: usize = "0", read::connections;
    /// How soon the head of a request must be whole, and a TLS handshake.
    header_timeout: Duration = "10s", read::positive;
    /// The longest wait for the next bytes of a request's body.
    client_timeout: Duration = "30s", read::positive;
    /// The slowest body, in bytes a second, of those that take longer than `client_timeout`; 0 for any.
    min_body_rate: usize = "500", read::rate;
    /// The longest wait for a client to take bytes of its answer.
    write_timeout: Duration = "60s", read::positive;
    /// How long a client's idle connection is kept.
    keepalive_timeout: Duration = "60s", read::positive;
    /// How long an event stream may be silent before a comment is put into it; 0 for never.
    sse_keepalive: Option<Duration> = "15s", read::wait_or_off;
    /// Whether HTTP/2 is served without TLS: true or false.
    h2c: bool = "false", read::truth,
        flag(num_args = 0..=1, require_equals = true, default_missing_value = "true");
    /// A PEM file with the certificate of `listen`, and those that lead to its authority: then HTTPS is served there, and HTTP/2. Looked at again each second, as is `tls_key`.
    tls_cert: Option<PathBuf> = "", read::path;
    /// A PEM file with the private key of `tls_cert`.
    tls_key: Option<PathBuf> = "", read::path;
    /// Proxies before the gateway whose `X-Forwarded-For`, `-Proto` and `-Host` are believed: addresses and networks, separated by commas; none: nobody's are.
    trusted_proxies: Networks = "", read::networks;
    /// A PEM file of the authorities that certify https nodes, and Redis; none: the system's.
    ca_file: Option<PathBuf> = "", read::path;
}

impl Settings {
    /// Puts the settings together: flag over `SLUICE_` variable over variable of a replaced service over
    /// `server.yaml` in `dir` over default.
    ///
    /// # Errors
    /// Every value that does not fit, with where it came from, and what is wrong with the file.
    pub fn resolve(
        args: &SettingsArgs,
        environment: &Environment,
        dir: &Path,
    ) -> Result<Self, Problems> {
        let mut givens = Givens::gather(args, environment, dir);
        let mut settings = Self::read(&mut givens);
        if let Some(settings) = &mut settings {
            let mut paths = [
                ("ca_file", &mut settings.ca_file),
                ("tls_cert", &mut settings.tls_cert),
                ("tls_key", &mut settings.tls_key),
                ("authz_secret_file", &mut settings.authz_secret_file),
                ("ledger", &mut settings.ledger),
                ("upgrade_socket", &mut settings.upgrade_socket),
            ];
            for (name, path) in &mut paths {
                if givens.stands_in_file(name) {
                    **path = path.take().map(|path| dir.join(path));
                }
            }
            if let Some(Err(fault)) = settings.ca_file.as_deref().map(authorities::check) {
                givens.fault("ca_file", fault);
            }
            if settings.tls_cert.is_some() != settings.tls_key.is_some() {
                givens.fault("tls_cert", "this and `tls_key` are set together".into());
            }
            if let Some(Err(fault)) = settings.tls_files().as_ref().map(certificate::check) {
                givens.fault("tls_cert", fault);
            }
            if let Some(Err(fault)) = settings.authz_secret_file.as_deref().map(secret::read) {
                givens.fault("authz_secret_file", fault.into());
            }
            if let Some(Err(fault)) = settings.session_model.as_deref().map(read::model_folder) {
                givens.fault("session_model", fault);
            }
            if let Some(Err(fault)) = settings.ledger.as_deref().map(read::place_of_file) {
                givens.fault("ledger", fault);
            }
            if let Some(Err(fault)) = settings.upgrade_socket.as_deref().map(read::place_of_file) {
                givens.fault("upgrade_socket", fault);
            }
            if settings.rate_limit_store == StoreKind::Redis && settings.redis_url.is_none() {
                givens.fault("rate_limit_store", needs_redis());
            }
            if settings.session_store == StoreKind::Redis && settings.redis_url.is_none() {
                givens.fault("session_store", needs_redis());
            }
            if !givens.is_given("sessions") {
                settings.sessions = SESSION_SETTINGS.iter().any(|name| givens.is_given(name));
            }
            if settings.max_held_bytes < settings.max_body_bytes {
                givens.fault("max_held_bytes", "this must be at least `max_body_bytes`".into());
            }
        }
        let problems = givens.finish();
        match settings {
            Some(settings) if problems.is_empty() => Ok(settings),
            _ => Err(problems),
        }
    }
}

impl Settings {
    /// The files of the certificate, where TLS is served.
    pub fn tls_files(&self) -> Option<certificate::Files> {
        self.tls_cert.clone().zip(self.tls_key.clone())
    }
}

fn needs_redis() -> Fault {
    let hint = "set REDIS_URL, or `redis_url: redis://host:6379`";
    Fault::with_hint("this needs `redis_url` as well", hint)
}

/// All settings as a Markdown table, for `docs/settings.md`.
pub fn settings_table() -> String {
    let mut table =
        "| setting | flag | environment | default | meaning |\n|---|---|---|---|---|\n".to_owned();
    for setting in SETTINGS {
        let code = |text: &str| match text {
            "" => "none".to_owned(),
            text => format!("`{text}`"),
        };
        let legacy = setting.legacy.map_or(String::new(), |names| {
            names.split(", ").map(|name| format!(", `{name}`")).collect()
        });
        table.push_str(&format!(
            "| `{}` | `{}` | `{}`{legacy} | {} | {} |\n",
            setting.name,
            setting.flag(),
            setting.variable(),
            code(setting.default),
            setting.meaning.trim(),
        ));
    }
    table
}
