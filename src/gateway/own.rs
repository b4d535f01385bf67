//! The endpoints that the gateway answers itself, and to whom.

use std::time::SystemTime;

use http::Method;
use pingora_proxy::Session;

use super::Gateway;
use super::admit::twice;
use super::context::RequestContext;
use super::reply::Stop;
use crate::access::keys::{self, Key};
use crate::answers::{docs, info, models};
use crate::refusal::Refusal;
use crate::wire::{paths, query};

/// HEAD has the answer of GET, without its body (RFC 9110, 9.3.2).
fn is_reading(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}

impl Gateway {
    /// Preflights; and what every answer to a page of another origin carries.
    pub(super) fn answer_other_origins(
        &self,
        session: &Session,
        ctx: &mut RequestContext,
    ) -> Result<(), Stop> {
        let request = session.req_header();
        ctx.cors = self.cors.headers_for(&request.headers);
        match self.cors.preflight(&request.method, &request.headers) {
            Some(answer) => Err(Stop::Answer(answer)),
            None => Ok(()),
        }
    }

    /// What needs no key.
    pub(super) async fn answer_open(
        &self,
        session: &Session,
        ctx: &RequestContext,
        path: &str,
    ) -> Result<(), Stop> {
        let request = session.req_header();
        if !is_reading(&request.method) {
            return Ok(());
        }
        let answer = match path {
            "/" => info::about(self.sessions.is_some()),
            "/livez" => info::live(),
            "/readyz" => {
                let presented = keys::presented(&request.headers).ok().flatten();
                let key = presented.and_then(|key| ctx.snapshot.keys.find(key, SystemTime::now()));
                let details = key.is_some_and(|key| key.admin) || ctx.snapshot.keys.is_empty();
                info::ready(self.drain.is_ready(), details.then_some(ctx.snapshot.generation))
            }
            "/health" if !ctx.snapshot.keys.is_empty() => {
                match keys::presented(&request.headers).map_err(twice)? {
                    Some(_) => return Ok(()),
                    None => ctx.snapshot.health.report(&self.client).await.short(),
                }
            }
            "/openapi.json" => {
                let snapshot = &ctx.snapshot;
                snapshot.document.answer(&snapshot.table, self.sessions.is_some(), &request.headers)
            }
            _ => match docs::page(path, &request.headers) {
                Some(answer) => answer,
                None => return Ok(()),
            },
        };
        Err(Stop::Answer(answer))
    }

    /// What the gateway answers itself to those with a key (SPEC 5.2).
    pub(super) async fn answer_in_process(
        &self,
        session: &Session,
        ctx: &mut RequestContext,
        (path, key): (&str, &Key),
    ) -> Result<(), Stop> {
        if !is_reading(&session.req_header().method) {
            return Ok(());
        }
        if path == paths::AUTHZ {
            return Err(Stop::Answer(self.answer_authz(session, ctx, key).await));
        }
        let upstreams = &ctx.snapshot.upstreams;
        let answer = match path {
            "/health" => ctx.snapshot.health.report(&self.client).await.whole(),
            "/v1/models" | "/v1/llm/models" => {
                models::ask(upstreams, &self.client, &self.refresher).await.list(key)?
            }
            _ => match path.strip_prefix("/v1/models/") {
                None => return Ok(()),
                Some(id) => {
                    let broken = Refusal::malformed("invalid_target", "The model's id is broken.");
                    // It never leaves the process: it may hold slashes, encoded or not.
                    let id = query::decoded(id).ok_or(broken)?;
                    models::ask(upstreams, &self.client, &self.refresher).await.one(&id, key)?
                }
            },
        };
        Err(Stop::Answer(answer))
    }
}
