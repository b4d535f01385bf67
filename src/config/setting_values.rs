//! The types of boot settings, and how each is read from its text.

use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::{HeaderValue, StatusCode};
use log::LevelFilter;
use redis::Client;

use super::address::Address;
use super::defaults::{
    BYTES_MAX, CONNECTIONS_MAX, REPLICAS_MAX, SESSIONS_MAX, THREADS_MAX, TOKENS_MAX, WAIT_MAX,
};
use super::givens::Given;
use super::networks::Networks;
use super::report::Fault;
use super::values::{duration, one_of, wait, whole, within};

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, else JSON.
    Auto,
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

/// Whose pages may use the gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CorsOrigins {
    /// Nobody's.
    Off,
    /// Everybody's.
    Any,
    /// Those of these origins, as browsers spell them: `https://chat.example.com`.
    List(Vec<HeaderValue>),
}

/// Where something is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreKind {
    /// In this process.
    Memory,
    /// In Redis, for all gateways that share it.
    Redis,
}

/// What holds while the store of limits is away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnStoreError {
    /// This gateway's part of each limit, counted in this process.
    Local,
    /// No limit.
    Allow,
    /// Nobody is let in.
    Deny,
}

impl OnStoreError {
    /// As in `server.yaml`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Allow => "allow",
            Self::Deny => "deny",
        }
    }
}

/// The address of a Redis, which may hold its password. Its `Debug` shows nothing.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisUrl(String);

impl RedisUrl {
    /// The text, password and all: for the client alone.
    pub fn secret(&self) -> &str {
        &self.0
    }

    /// Over TLS.
    pub fn is_tls(&self) -> bool {
        self.0.starts_with("rediss:")
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RedisUrl(***)")
    }
}

/// What opens `/metrics`. Its `Debug` shows nothing.
#[derive(Clone, PartialEq, Eq)]
pub struct MetricsKey(String);

impl MetricsKey {
    /// The text: to compare with.
    pub fn secret(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for MetricsKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MetricsKey(***)")
    }
}

/// An IP address and a port.
pub(super) fn address(given: &Given) -> Result<SocketAddr, Fault> {
    let text = match given.text.strip_prefix("localhost:") {
        Some(port) => format!("127.0.0.1:{port}"),
        None => given.text.clone(),
    };
    text.parse().map_err(|_| {
        Fault::with_hint("this is no address to listen on", "write it as 127.0.0.1:8080")
    })
}

/// A number of threads; 0 leaves the choice to the machine.
pub(super) fn threads(given: &Given) -> Result<usize, Fault> {
    size(whole(&given.text, 0..=THREADS_MAX)?)
}

/// A number of bytes, at least 1.
pub(super) fn bytes(given: &Given) -> Result<usize, Fault> {
    size(whole(&given.text, 1..=BYTES_MAX)?)
}

fn size(number: u64) -> Result<usize, Fault> {
    usize::try_from(number).map_err(|_| "this is too large for this machine".into())
}

/// A number of connections; 0 leaves the choice to the machine.
pub(super) fn connections(given: &Given) -> Result<usize, Fault> {
    size(whole(&given.text, 0..=CONNECTIONS_MAX)?)
}

/// A number of bytes a second; 0 for no bound.
pub(super) fn rate(given: &Given) -> Result<usize, Fault> {
    size(whole(&given.text, 0..=BYTES_MAX)?)
}

/// Addresses and networks, separated by commas, or as a JSON array.
pub(super) fn networks(given: &Given) -> Result<Networks, Fault> {
    let networks = Networks::of(list(&given.text)?.iter().map(String::as_str));
    let hint = "write them as `10.0.0.0/8, 192.168.1.7, fd00::/8`";
    networks.ok_or_else(|| Fault::with_hint("these are no addresses and networks", hint))
}

/// A wait that must not be zero.
pub(super) fn positive(given: &Given) -> Result<Duration, Fault> {
    wait(&given.text)
}

/// A wait that may be zero.
pub(super) fn any_wait(given: &Given) -> Result<Duration, Fault> {
    duration(&given.text, Duration::ZERO..=WAIT_MAX)
}

/// A wait, or nothing where it is zero.
pub(super) fn wait_or_off(given: &Given) -> Result<Option<Duration>, Fault> {
    any_wait(given).map(|wait| Some(wait).filter(|wait| !wait.is_zero()))
}

/// A wait that must not be zero; a bare number counts seconds, as `SESSION_TTL_SECONDS` says.
pub(super) fn seconds(given: &Given) -> Result<Duration, Fault> {
    match given.text.parse() {
        Ok(seconds) => {
            let longest = WAIT_MAX.as_secs();
            within(seconds, 1..=longest).map(Duration::from_secs)
        }
        Err(_) => wait(&given.text),
    }
}

/// A number of tokens, at least 1.
pub(super) fn tokens(given: &Given) -> Result<usize, Fault> {
    size(whole(&given.text, 1..=TOKENS_MAX)?)
}

/// A number of things that are kept, at least 1.
pub(super) fn count(given: &Given) -> Result<usize, Fault> {
    size(whole(&given.text, 1..=SESSIONS_MAX)?)
}

/// A text, or nothing.
pub(super) fn text(given: &Given) -> Result<Option<String>, Fault> {
    Ok(Some(given.text.clone()).filter(|text| !text.is_empty()))
}

/// A text, which may be empty.
pub(super) fn prompt(given: &Given) -> Result<String, Fault> {
    Ok(given.text.clone())
}

/// 401 or 403.
pub(super) fn invalid_key_status(given: &Given) -> Result<StatusCode, Fault> {
    one_of(&given.text, &[("401", StatusCode::UNAUTHORIZED), ("403", StatusCode::FORBIDDEN)])
}

/// 403 or 429.
pub(super) fn authz_limit_status(given: &Given) -> Result<StatusCode, Fault> {
    one_of(&given.text, &[("403", StatusCode::FORBIDDEN), ("429", StatusCode::TOO_MANY_REQUESTS)])
}

/// A log level, also by Python's names in any case.
pub(super) fn log_level(given: &Given) -> Result<LevelFilter, Fault> {
    match given.text.to_lowercase().as_str() {
        "critical" | "fatal" => Ok(LevelFilter::Error),
        "warning" => Ok(LevelFilter::Warn),
        "notset" => Ok(LevelFilter::Trace),
        level => one_of(
            level,
            &[
                ("error", LevelFilter::Error),
                ("warn", LevelFilter::Warn),
                ("info", LevelFilter::Info),
                ("debug", LevelFilter::Debug),
                ("trace", LevelFilter::Trace),
            ],
        ),
    }
}

/// How to log.
pub(super) fn log_format(given: &Given) -> Result<LogFormat, Fault> {
    one_of(
        &given.text,
        &[("auto", LogFormat::Auto), ("json", LogFormat::Json), ("text", LogFormat::Text)],
    )
}

/// On or off; `true` and `false` are what YAML tools write for them.
pub(super) fn switch(given: &Given) -> Result<bool, Fault> {
    match given.text.as_str() {
        "true" => Ok(true),
        "false" => Ok(false),
        text => one_of(text, &[("on", true), ("off", false)]),
    }
}

/// True or false.
pub(super) fn truth(given: &Given) -> Result<bool, Fault> {
    one_of(&given.text, &[("true", true), ("false", false)])
}

/// `memory` or `redis`.
pub(super) fn store_kind(given: &Given) -> Result<StoreKind, Fault> {
    let words = [("memory", StoreKind::Memory), ("redis", StoreKind::Redis)];
    one_of(&given.text, &words)
}

/// `local`, `allow` or `deny`.
pub(super) fn on_store_error(given: &Given) -> Result<OnStoreError, Fault> {
    let all = [OnStoreError::Local, OnStoreError::Allow, OnStoreError::Deny];
    one_of(&given.text, &all.map(|one| (one.word(), one)))
}

/// A number of gateways.
pub(super) fn replicas(given: &Given) -> Result<NonZeroU32, Fault> {
    let number = whole(&given.text, 1..=REPLICAS_MAX)?;
    let number = u32::try_from(number).ok().and_then(NonZeroU32::new);
    number.ok_or_else(|| "this must be at least 1".into())
}

/// The address of a Redis, or nothing.
pub(super) fn redis_url(given: &Given) -> Result<Option<RedisUrl>, Fault> {
    let text = given.text.as_str();
    if text.is_empty() {
        return Ok(None);
    }
    let known = ["redis://", "rediss://"].iter().any(|scheme| text.starts_with(scheme));
    // What the client says of it may hold parts of it.
    match known && Client::open(text).is_ok() {
        true => Ok(Some(RedisUrl(text.to_owned()))),
        false => Err(Fault::with_hint(
            "this is no address of a Redis",
            "write it as `redis://:password@host:6379/0`, `rediss://` for TLS; `%` codes for `/`, `@`, `#` and the like in the password",
        )),
    }
}

/// A key as a header can carry it, or nothing.
pub(super) fn metrics_key(given: &Given) -> Result<Option<MetricsKey>, Fault> {
    match given.text.bytes().all(|byte| byte.is_ascii_graphic()) {
        true => Ok(text(given)?.map(MetricsKey)),
        false => Err("a key is made of visible ASCII characters without spaces".into()),
    }
}

/// A path, or nothing. One of the file is relative to it: that is resolved where the directory is known.
pub(super) fn path(given: &Given) -> Result<Option<PathBuf>, Fault> {
    Ok(Some(given.text.as_str()).filter(|text| !text.is_empty()).map(PathBuf::from))
}

/// A model that is called by its folder has its tokenizer there.
pub(super) fn model_folder(model: &str) -> Result<(), Fault> {
    let folder = Path::new(model);
    match folder.is_dir() && !folder.join("tokenizer.json").is_file() {
        true => Err("there is no `tokenizer.json` in this folder".into()),
        false => Ok(()),
    }
}

/// There may be a file at `path`: its folder is there, and it is none itself.
pub(super) fn place_of_file(path: &Path) -> Result<(), Fault> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    if path.is_dir() {
        return Err("this is a folder: a file is needed".into());
    }
    match folder.is_none_or(Path::is_dir) {
        true => Ok(()),
        false => Err("its folder is not there".into()),
    }
}

/// Texts separated by commas, or as a JSON array; empty ones are left out.
fn list(text: &str) -> Result<Vec<String>, Fault> {
    let text = text.trim();
    let all: Vec<String> = if text.starts_with('[') {
        serde_json::from_str(text)
            .map_err(|_| Fault::from("a list in brackets must be a JSON array of texts"))?
    } else {
        text.split(',').map(|one| one.trim().to_owned()).collect()
    };
    Ok(all.into_iter().filter(|one| !one.is_empty()).collect())
}

/// Origins separated by commas, or as a JSON array; `*` alone for any.
pub(super) fn cors_origins(given: &Given) -> Result<CorsOrigins, Fault> {
    let origins = list(&given.text)?;
    let origins: Vec<&str> = origins.iter().map(String::as_str).collect();
    if origins.is_empty() {
        return Ok(CorsOrigins::Off);
    }
    if origins.contains(&"*") {
        return match origins.len() {
            1 => Ok(CorsOrigins::Any),
            _ => Err("`*` means all origins: it stands alone".into()),
        };
    }
    origins.into_iter().map(origin).collect::<Result<_, _>>().map(CorsOrigins::List)
}

/// An origin exactly as browsers send it: it is compared as text.
fn origin(text: &str) -> Result<HeaderValue, Fault> {
    let wrong = || {
        Fault::with_hint(
            "this is no origin of web pages",
            "write it as `https://chat.example.com`, without a `/` at the end",
        )
    };
    let Address { node, path } = Address::parse(text).map_err(|_| wrong())?;
    let scheme = if node.tls { "https" } else { "http" };
    let authority = node.authority();
    let default_port = if node.tls { ":443" } else { ":80" };
    let short = authority.strip_suffix(default_port).unwrap_or(&authority);
    if !path.is_empty() {
        return Err(wrong());
    }
    HeaderValue::from_str(&format!("{scheme}://{short}")).map_err(|_| wrong())
}
