//! The gateway itself, made of its settings and of what it shares with others.

use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;

use super::CannotStart;
use crate::access::keys::Fingerprints;
use crate::access::passes::Passes;
use crate::admin::Seen;
use crate::config::{Settings, secret};
use crate::gateway::{AccessLog, Budget, Cors, Drain, Gateway, Limits, RetryBudget, Snapshot};
use crate::ledger::Ledger;
use crate::routing::responses::{RESPONSES_MAX, Responses};
use crate::upstream::client::Client;
use crate::upstream::refresh::Refresher;

/// Of the memory for bodies, what clients may have beside it that are not known yet: they take nothing from those who are.
const UNKNOWN_PART: usize = 8;

/// What it shares with others, beside what they see of it.
pub(super) struct Parts {
    pub(super) live: Arc<ArcSwap<Snapshot>>,
    pub(super) client: Arc<Client>,
    pub(super) refresher: Refresher,
    pub(super) drain: Arc<Drain>,
    pub(super) access_log: AccessLog,
    pub(super) ledger: Ledger,
}

pub(super) fn assemble(
    settings: &Settings,
    seen: &Seen,
    parts: Parts,
) -> Result<Gateway, CannotStart> {
    let Parts { live, client, refresher, drain, access_log, ledger } = parts;
    let metrics = seen.metrics.clone();
    let held = |bytes| Budget::new(bytes, metrics.held_bytes.clone());
    Ok(Gateway {
        live,
        limits: limits(settings),
        cors: Cors::new(settings.cors_allow_origins.clone()),
        client,
        refresher,
        responses: Responses::new(RESPONSES_MAX, metrics.response_ids.clone()),
        fingerprints: Fingerprints::new().map_err(|_| CannotStart::Randomness)?,
        held: held(settings.max_held_bytes),
        held_unknown: held(settings.max_held_bytes / UNKNOWN_PART),
        drain,
        access_log,
        ledger,
        retries: RetryBudget::new(Instant::now()),
        store: seen.store.clone(),
        passes: passes(settings)?,
        sessions: seen.sessions.clone(),
        streams: seen.streams.clone(),
        errors: seen.errors.clone(),
        metrics,
    })
}

fn limits(settings: &Settings) -> Limits {
    Limits {
        max_timeout: settings.max_timeout,
        max_body_bytes: settings.max_body_bytes,
        invalid_key_status: settings.invalid_key_status,
        authz_limit_status: settings.authz_limit_status,
        client_timeout: settings.client_timeout,
        min_body_rate: settings.min_body_rate,
        trusted_proxies: settings.trusted_proxies.clone(),
        write_timeout: settings.write_timeout,
        keepalive_timeout: settings.keepalive_timeout,
        log_prompts: settings.log_prompts,
        sse_keepalive: settings.sse_keepalive,
    }
}

fn passes(settings: &Settings) -> Result<Passes, CannotStart> {
    let secret = settings.authz_secret_file.as_deref().map(secret::read).transpose();
    let secret = secret.map_err(CannotStart::Secret)?;
    Passes::new(secret.as_ref().map(String::as_bytes)).map_err(|_| CannotStart::Randomness)
}
