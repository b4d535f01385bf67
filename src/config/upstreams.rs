//! Upstreams: those that a file names, and those that the short form implies.

use std::collections::HashMap;

use http::HeaderName;
use http::header::AUTHORIZATION;
use serde_yaml::{Mapping, Value};

use super::address::quotable;
use super::defaults::LOAD_OPTIONS;
use super::named_files::NamedFiles;
use super::raw::{RawTimeouts, RawUpstream};
use super::report::{At, Fault, Place, Report, did_you_mean, nearest};
use super::typed::{Entry, texts, typed};
use super::{
    Balance, Credential, Declared, Kind, NodeTls, NodeUrl, Nodes, Timeouts, UpstreamConfig,
    defaults, health, models, node_tls, nodes, values,
};
use crate::names::UpstreamName;

/// What else a name may hold. No `:`, as `upstream:model` picks an upstream.
const NAME_CHARACTERS: &str = "._-";

/// What makes short-form routes share an upstream: the node, and what is sent to it as a key.
type Implied = (NodeUrl, Option<(HeaderName, Vec<u8>)>);

/// All upstreams, in file order.
#[derive(Default)]
pub(super) struct Upstreams {
    pub(super) list: Vec<UpstreamConfig>,
    /// Each declared name; without index where its entry has problems.
    names: HashMap<String, Option<usize>>,
    /// Short form: routes to one host with one key share an upstream.
    implied: HashMap<Implied, usize>,
    /// How many upstreams a `host:port` stands for.
    keys_per_host: HashMap<String, usize>,
}

impl Upstreams {
    /// Reads `upstreams` of a file.
    pub(super) fn read(&mut self, map: Mapping, files: &mut NamedFiles<'_>, report: &mut Report) {
        let at = At::Root.key("upstreams");
        for (key, mut value) in map {
            let Value::String(name) = key else { continue };
            let at = at.key(&name);
            let named = values::name(&name, NAME_CHARACTERS);
            if let Err(fault) = named {
                report.fault(&at, fault).place(Place::Key).hide_last().quote_word(&name);
            }
            let found = report.found();
            let upstream = typed::<RawUpstream>(&mut value, &at, report)
                .and_then(|entry| upstream(&name, entry, &at, (files, report)));
            // Problems of an entry leave its name known: routes to it are not wrong as well.
            self.names.insert(name.clone(), None);
            if let (Some(upstream), true) = (upstream, report.found() == found) {
                self.add(upstream);
            }
        }
    }

    /// Adds an upstream and answers its index.
    pub(super) fn add(&mut self, upstream: UpstreamConfig) -> usize {
        let index = self.list.len();
        self.names.insert(upstream.name.as_str().to_owned(), Some(index));
        self.list.push(upstream);
        index
    }

    /// The upstream of a short-form route, which `declared` it where it is new.
    pub(super) fn implied(
        &mut self,
        node: NodeUrl,
        credential: Option<Credential>,
        declared: Declared,
    ) -> usize {
        let key = credential.as_ref().map(|c| (c.header.clone(), c.value.as_bytes().to_vec()));
        let key = (node, key);
        if let Some(index) = self.implied.get(&key) {
            return *index;
        }
        let authority = key.0.authority();
        let count = self.keys_per_host.entry(authority.clone()).or_default();
        *count += 1;
        let name = match *count {
            1 => authority,
            count => format!("{authority}#{count}"),
        };
        let index = self.add(UpstreamConfig {
            credential,
            declared,
            ..with_defaults(
                UpstreamName::from(name),
                Kind::Generic,
                Nodes::Listed(vec![key.0.clone()]),
            )
        });
        self.implied.insert(key, index);
        index
    }

    /// Whether there is an upstream called `name`, good or bad.
    pub(super) fn knows(&self, name: &str) -> bool {
        self.names.contains_key(name)
    }

    /// The upstream called `name`; no index where its entry has problems of its own.
    pub(super) fn named(&self, name: &str) -> Result<Option<usize>, Fault> {
        if let Some(index) = self.names.get(name) {
            return Ok(*index);
        }
        match nearest(name, self.names.keys().map(String::as_str)) {
            Some(word) => Err(Fault::with_hint("there is no such upstream", did_you_mean(word))),
            None => Err(Fault::with_hint("there is no such upstream", "add it to `upstreams`")),
        }
    }
}

/// An upstream with the defaults of everything that can be left out.
pub fn with_defaults(name: UpstreamName, kind: Kind, nodes: Nodes) -> UpstreamConfig {
    UpstreamConfig {
        name,
        kind,
        nodes,
        tls: NodeTls::default(),
        credential: None,
        models: None,
        balance: Balance::default(),
        max_in_flight: None,
        max_queue: defaults::QUEUE,
        session_header: defaults::SESSION_HEADER,
        health: health::of_kind(kind),
        timeouts: Timeouts {
            connect: defaults::CONNECT,
            first_byte: defaults::FIRST_BYTE,
            idle: defaults::IDLE,
            total: None,
        },
        keepalive_idle: defaults::KEEPALIVE_IDLE,
        http2: false,
        attempts: defaults::ATTEMPTS,
        load_options: Vec::new(),
        declared: Declared::Named,
    }
}

/// Checks one entry; what is wrong with it is in the report.
fn upstream(
    name: &str,
    mut entry: Entry<RawUpstream>,
    at: &At<'_>,
    (files, report): (&mut NamedFiles<'_>, &mut Report),
) -> Option<UpstreamConfig> {
    let credential = credential_of(&entry.fields, at, files, report);
    let nodes = nodes::read(&mut entry, at, report);
    let tls = node_tls::read(entry.fields.tls.take(), nodes.as_ref(), at, (files, report));
    let kind = kind_of(&entry, at, report);
    let health = health::read(&mut entry, kind, at, report);
    let load_options = load_options(&mut entry, kind, at, report);
    let raw = entry.fields;
    let models = raw.models.map(|list| {
        let hint = "leave it out to ask the nodes";
        let listed = models::list(list, hint, &at.key("models"), report);
        listed.into_iter().map(|(_, model)| model).collect()
    });
    let balance = raw
        .balance
        .and_then(|text| report.take(&at.key("balance"), &text, balance(&text)))
        .unwrap_or_default();
    let max_in_flight = raw.max_in_flight.and_then(|whole| {
        let most = values::within(whole.0, 1..=defaults::IN_FLIGHT_MAX);
        report.take(&at.key("max_in_flight"), &whole.0.to_string(), most)
    });
    let max_queue = raw.max_queue.and_then(|whole| {
        let most = values::within(whole.0, 0..=defaults::QUEUE_MAX);
        report.take(&at.key("max_queue"), &whole.0.to_string(), most)
    });
    let session_header = raw
        .session_header
        .and_then(|text| report.take(&at.key("session_header"), &text, values::header(&text)));
    let timeouts = timeouts(raw.timeouts.unwrap_or_default(), &at.key("timeouts"), report);
    let keepalive = raw
        .keepalive_idle
        .and_then(|text| report.take(&at.key("keepalive_idle"), &text, values::wait(&text)));
    let http2 = raw.http2.and_then(|written| {
        let truth = values::one_of(&written.text, &[("true", true), ("false", false)]);
        report.take(&at.key("http2"), &written.text, truth)
    });
    let attempts = raw.retry.and_then(|retry| retry.attempts).and_then(|whole| {
        let attempts = values::within(whole.0, 1..=defaults::ATTEMPTS_MAX);
        report.take(&at.key("retry").key("attempts"), &whole.0.to_string(), attempts)
    });
    Some(UpstreamConfig {
        tls,
        credential,
        models,
        balance,
        max_in_flight: max_in_flight.and_then(|most| most.try_into().ok()),
        max_queue: max_queue.map_or(Some(defaults::QUEUE), |most| most.try_into().ok())?,
        session_header: session_header.unwrap_or(defaults::SESSION_HEADER),
        health,
        timeouts,
        keepalive_idle: keepalive.unwrap_or(defaults::KEEPALIVE_IDLE),
        http2: http2.unwrap_or_default(),
        attempts: attempts.map_or(Some(defaults::ATTEMPTS), |count| count.try_into().ok())?,
        load_options,
        ..with_defaults(UpstreamName::from(name), kind?, nodes?)
    })
}

/// What kind the nodes are of; nothing where what is written is no kind.
fn kind_of(entry: &Entry<RawUpstream>, at: &At<'_>, report: &mut Report) -> Option<Kind> {
    match &entry.fields.kind {
        Some(text) => report.take(&at.key("kind"), text, kind(text)),
        None => (!entry.told("kind")).then(Kind::default),
    }
}

fn kind(text: &str) -> Result<Kind, Fault> {
    let kinds = [Kind::Generic, Kind::OpenAi, Kind::Vllm, Kind::Ollama];
    values::one_of(text, &kinds.map(|kind| (kind.word(), kind)))
}

/// Options that load a model anew, which clients may set.
fn load_options(
    entry: &mut Entry<RawUpstream>,
    kind: Option<Kind>,
    at: &At<'_>,
    report: &mut Report,
) -> Vec<String> {
    let Some(list) = entry.fields.load_options.take() else { return Vec::new() };
    let at = &at.key("load_options");
    if kind.is_some_and(|kind| kind != Kind::Ollama) {
        report.problem(at, "only nodes of `kind: ollama` have such options");
    }
    let known = LOAD_OPTIONS.map(|name| (name, name));
    let mut options = Vec::new();
    for (index, text) in texts(list, at, report) {
        let option = values::one_of(&text, &known);
        options.extend(report.take(&at.index(index), &text, option).map(str::to_owned));
    }
    options
}

fn balance(text: &str) -> Result<Balance, Fault> {
    let policies =
        [Balance::LeastLoad, Balance::RoundRobin, Balance::ConsistentHash, Balance::PrefixAware];
    values::one_of(text, &policies.map(|policy| (policy.word(), policy)))
}

/// The value read from a URL, or its fault; the URL is kept for the terminal where it can hold no key.
pub(super) fn url<T>(
    text: &str,
    at: &At<'_>,
    result: Result<T, Fault>,
    report: &mut Report,
) -> Option<T> {
    match quotable(text) {
        true => report.take(at, text, result),
        false => report.take_secret(at, result),
    }
}

fn timeouts(raw: RawTimeouts, at: &At<'_>, report: &mut Report) -> Timeouts {
    let mut wait = |field: &str, text: Option<String>| {
        text.and_then(|text| report.take(&at.key(field), &text, values::wait(&text)))
    };
    Timeouts {
        connect: wait("connect", raw.connect).unwrap_or(defaults::CONNECT),
        first_byte: wait("first_byte", raw.first_byte).unwrap_or(defaults::FIRST_BYTE),
        idle: wait("idle", raw.idle).unwrap_or(defaults::IDLE),
        total: wait("total", raw.total),
    }
}

fn credential_of(
    raw: &RawUpstream,
    at: &At<'_>,
    files: &mut NamedFiles<'_>,
    report: &mut Report,
) -> Option<Credential> {
    let from_file;
    let (field, key) = match (&raw.key, &raw.key_file) {
        (Some(_), Some(_)) => {
            report.problem(at, "`key` and `key_file` exclude each other").hint("keep one of them");
            return None;
        }
        (Some(key), None) => ("key", Some(key.as_str())),
        (None, Some(path)) => {
            from_file = report.take_secret(&at.key("key_file"), files.key(path));
            if from_file.as_deref() == Some("") {
                report.problem(&at.key("key_file"), "the file is empty");
            }
            ("key_file", from_file.as_deref())
        }
        (None, None) => ("key", None),
    };
    let parts = Parts { key, header: raw.key_header.as_deref(), prefix: raw.key_prefix.as_deref() };
    credential(parts, [field, "key_header", "key_prefix"], at, report)
}

/// A credential as written.
pub(super) struct Parts<'t> {
    pub(super) key: Option<&'t str>,
    pub(super) header: Option<&'t str>,
    pub(super) prefix: Option<&'t str>,
}

/// Checks a credential whose parts stand in `fields` below `at`. An empty key is none: no key is sent.
pub(super) fn credential(
    parts: Parts<'_>,
    fields: [&str; 3],
    at: &At<'_>,
    report: &mut Report,
) -> Option<Credential> {
    let header = match parts.header {
        Some(text) => report.take_secret(&at.key(fields[1]), values::header(text)),
        None => Some(AUTHORIZATION),
    };
    let prefix = values::prefix(parts.prefix.unwrap_or("Bearer "));
    let prefix = report.take_secret(&at.key(fields[2]), prefix);
    let key = parts.key.filter(|key| !key.is_empty())?;
    let credential = values::credential(header?, prefix?, key);
    report.take_secret(&at.key(fields[0]), credential)
}
