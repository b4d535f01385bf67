//! The values of an upstream, a route and a key. Each is taken apart whole: a new field must be told here, too.

use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};

use super::super::{
    Balance, Credential, Day, HealthConfig, KeyConfig, KeyLimits, Kind, NodeTls, Nodes,
    RouteConfig, Target, Timeouts, UpstreamConfig, legacy, presets,
};
use super::rows::{Entry, From, Rows};

/// What stands in the place of everything that may be secret: nothing of it, not even its length.
pub(super) const MASK: &str = "****";

/// How a short route writes what belongs to its upstream.
const SHORT: &[(&str, &str)] = &[
    ("nodes", "upstream_url"),
    ("key", "upstream_key"),
    ("key_header", "upstream_key_header"),
    ("key_prefix", "upstream_key_prefix"),
];

pub(super) fn upstream(upstream: &UpstreamConfig, rows: &mut Rows<'_>) {
    let UpstreamConfig {
        name,
        kind,
        nodes,
        tls,
        credential,
        models,
        balance,
        max_in_flight,
        max_queue,
        session_header,
        health,
        timeouts,
        keepalive_idle,
        http2,
        attempts,
        load_options,
        declared,
    } = upstream;
    let entry = Entry::new(format!("upstreams.{name}"), *declared, ("routes", name.as_str()));
    let entry = &if declared.is_entry() { entry.renamed(SHORT) } else { entry };
    rows.brought(entry, "kind", kind.word().to_owned());
    match nodes {
        Nodes::Listed(urls) => rows.brought(entry, "nodes", list(urls)),
        Nodes::Dns(url) => rows.brought(entry, "dns", url.to_string()),
    }
    if nodes.have_tls() {
        trusted(tls, entry, rows);
    }
    presented(credential.as_ref(), entry, rows);
    let models = models.as_ref().map(|models| list(models));
    rows.value(entry, "models", models.unwrap_or_else(|| "as each node lists them".to_owned()));
    rows.value(entry, "balance", balance.word().to_owned());
    let most = max_in_flight.map(|most| most.to_string());
    if most.is_some() {
        rows.value(entry, "max_queue", max_queue.to_string());
    }
    rows.value(entry, "max_in_flight", most.unwrap_or_else(|| "as many as come".to_owned()));
    if *balance == Balance::ConsistentHash {
        rows.value(entry, "session_header", session_header.to_string());
    }
    probed(health.as_ref(), entry, rows);
    waited(timeouts, entry, rows);
    rows.value(entry, "keepalive_idle", wait(*keepalive_idle));
    rows.value(entry, "http2", http2.to_string());
    rows.value(entry, "retry.attempts", attempts.to_string());
    if *kind == Kind::Ollama {
        rows.value(entry, "load_options", list(load_options));
    }
}

/// How a node is probed.
fn probed(health: Option<&HealthConfig>, entry: &Entry, rows: &mut Rows<'_>) {
    let Some(HealthConfig { path, interval, timeout, unhealthy_after, healthy_after }) = health
    else {
        return rows.value(entry, "health", "off".to_owned());
    };
    rows.value(entry, "health.path", path.clone());
    rows.value(entry, "health.interval", wait(*interval));
    rows.value(entry, "health.timeout", wait(*timeout));
    rows.value(entry, "health.unhealthy_after", unhealthy_after.to_string());
    rows.value(entry, "health.healthy_after", healthy_after.to_string());
}

/// How long a node is waited for.
fn waited(timeouts: &Timeouts, entry: &Entry, rows: &mut Rows<'_>) {
    let Timeouts { connect, first_byte, idle, total } = timeouts;
    rows.value(entry, "timeouts.connect", wait(*connect));
    rows.value(entry, "timeouts.first_byte", wait(*first_byte));
    rows.value(entry, "timeouts.idle", wait(*idle));
    rows.value(entry, "timeouts.total", total.map_or_else(|| "none".to_owned(), wait));
}

/// What makes an https node the right one.
fn trusted(tls: &NodeTls, entry: &Entry, rows: &mut Rows<'_>) {
    let NodeTls { authorities, server_name } = tls;
    let file = authorities.as_ref().map(|authorities| authorities.file.clone());
    rows.value(entry, "tls.ca_file", file.unwrap_or_else(|| "the setting ca_file".to_owned()));
    let name = server_name.clone().unwrap_or_else(|| "each node's host".to_owned());
    rows.value(entry, "tls.server_name", name);
}

/// What a node is shown.
fn presented(credential: Option<&Credential>, entry: &Entry, rows: &mut Rows<'_>) {
    let Some(Credential { header, value, key }) = credential else {
        return rows.value(entry, "key", "none".to_owned());
    };
    if entry.is_outside() {
        let from = From::variable(legacy::NODE_KEY);
        rows.add(format!("{}.key", entry.path), MASK.to_owned(), from);
    } else {
        rows.value(entry, first_written(&["key_file"], entry, rows), MASK.to_owned());
    }
    rows.value(entry, "key_header", header.to_string());
    let prefix = match value.as_bytes().strip_suffix(key.as_bytes()) {
        Some(b"") => "\"\"",
        Some(b"Bearer ") => "\"Bearer \"",
        // A part of the key may have come to stand here.
        _ => MASK,
    };
    rows.value(entry, "key_prefix", prefix.to_owned());
}

/// The first of `names` that is written in `entry`, else `key`.
fn first_written(names: &[&'static str], entry: &Entry, rows: &Rows<'_>) -> &'static str {
    names.iter().find(|name| rows.written(entry, name).is_some()).copied().unwrap_or("key")
}

pub(super) fn route(
    index: usize,
    route: &RouteConfig,
    upstreams: &[UpstreamConfig],
    rows: &mut Rows<'_>,
) {
    let RouteConfig { path, methods, upstream, target, preset, forward_headers, declared } = route;
    let entry = &Entry::new(format!("routes[{index}]"), *declared, ("routes", ""));
    let Some(upstream) = upstreams.get(*upstream) else { return };
    let named = upstream.name.to_string();
    if *preset {
        rows.brought(entry, "preset", presets::VLLM_NAME.to_owned());
    } else {
        rows.brought(entry, "path", path.clone());
        rows.brought(entry, "methods", list(methods));
    }
    match target {
        Target::Node => rows.brought(entry, "upstream", named),
        Target::Path(target) => {
            rows.brought(entry, "upstream_url", format!("{}{target}", upstream.nodes.first()));
        }
    }
    rows.value(entry, "forward_headers", list(forward_headers));
}

pub(super) fn key(index: usize, key: &KeyConfig, rows: &mut Rows<'_>) {
    let KeyConfig { name, sha256: _, models, inference, admin, expires, limits, declared } = key;
    let entry = &Entry::new(format!("keys[{index}]"), *declared, ("keys", ""));
    rows.brought(entry, "name", name.to_string());
    let field = first_written(&["key_file", "key_sha256"], entry, rows);
    rows.brought(entry, field, MASK.to_owned());
    let models = models.as_ref().map(|models| list(models));
    rows.value(entry, "models", models.unwrap_or_else(|| "all".to_owned()));
    let scopes = [("inference", *inference), ("admin", *admin)];
    let held: Vec<&str> =
        scopes.into_iter().filter(|(_, held)| *held).map(|(name, _)| name).collect();
    rows.brought(entry, "scopes", list(&held));
    let expires =
        expires.map(|end| DateTime::<Utc>::from(end).to_rfc3339_opts(SecondsFormat::Secs, true));
    rows.value(entry, "expires", expires.unwrap_or_else(|| "never".to_owned()));
    let KeyLimits { rpm, rpd, tpm, tpd, concurrent, day } = *limits;
    for (field, limit) in [
        ("limits.rpm", rpm),
        ("limits.rpd", rpd),
        ("limits.tpm", tpm),
        ("limits.tpd", tpd),
        ("limits.concurrent", concurrent),
    ] {
        match limit {
            Some(limit) => rows.brought(entry, field, limit.to_string()),
            None => rows.value(entry, field, "none".to_owned()),
        }
    }
    let day = match day {
        Day::Rolling => "rolling",
        Day::Utc => "utc",
    };
    rows.value(entry, "limits.day", day.to_owned());
}

pub(super) fn list<T: ToString>(items: &[T]) -> String {
    format!("[{}]", items.iter().map(T::to_string).collect::<Vec<_>>().join(", "))
}

fn wait(time: Duration) -> String {
    humantime::format_duration(time).to_string()
}
