//! What a request may take of this process, and how long its client may keep it waiting.

use std::pin::Pin;
use std::time::Duration;

use http::StatusCode;
use pingora::Error;
use pingora_proxy::Session;

use super::Gateway;
use super::context::RequestContext;
use crate::config::Networks;
use crate::listener::Link;

/// What a request may take of this process.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Cap of a request's own timeout.
    pub max_timeout: Duration,
    /// Longest body, in bytes.
    pub max_body_bytes: usize,
    /// 401, or 403 for clients of a service that answered so.
    pub invalid_key_status: StatusCode,
    /// 403, or 429 for a proxy that knows what to do with it: what `/internal/authz` says of a limit.
    pub authz_limit_status: StatusCode,
    /// Longest wait for bytes of a request's body.
    pub client_timeout: Duration,
    /// The slowest body, in bytes a second; 0 for any.
    pub min_body_rate: usize,
    /// Proxies that are believed.
    pub trusted_proxies: Networks,
    /// Longest wait for a client to take bytes.
    pub write_timeout: Duration,
    /// How long an idle connection of a client's is kept.
    pub keepalive_timeout: Duration,
    /// Lines of the access log tell prompts, as hashes.
    pub log_prompts: bool,
    /// A comment goes to the client of an event stream after so long a silence. None: never.
    pub sse_keepalive: Option<Duration>,
}

impl Gateway {
    /// Nobody may hold a connection for ever: not by sending slowly, not by reading slowly, not by doing nothing.
    pub(super) fn set_timers(&self, session: &mut Session, ctx: &mut RequestContext) {
        ctx.link = Link::of(session.digest()).cloned();
        if let Some(link) = &ctx.link {
            link.request_begins();
        }
        session.set_read_timeout(Some(self.limits.client_timeout));
        session.set_write_timeout(Some(self.limits.write_timeout));
        session.set_total_drain_timeout(Some(self.limits.client_timeout));
        if self.drain.ends_connections() {
            session.set_keepalive(None);
        } else if session.get_keepalive().is_some() {
            session.set_keepalive(Some(self.limits.keepalive_timeout.as_secs().max(1)));
        }
    }

    /// What comes of `work`. Nothing else is looked at while it need not wait.
    ///
    /// # Errors
    /// The process waits for no request any longer.
    pub(super) async fn unless_cut<T>(
        &self,
        work: Pin<&mut impl Future<Output = T>>,
    ) -> Result<T, Box<Error>> {
        tokio::select! {
            biased;
            done = work => Ok(done),
            cut = async { self.drain.told().due().await } => Err(cut),
        }
    }

    /// Where another process serves, or none soon, a connection ends with its request, also one that began before: its client
    /// is to come again elsewhere.
    pub(super) fn end_connection_where_due(&self, session: &mut Session, ctx: &RequestContext) {
        if self.drain.ends_connections() {
            ctx.downstream.end_connection(session);
        }
    }
}
