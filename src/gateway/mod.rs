//! The hot path: a request's way from its first byte to its line in the log. The only place that touches a Pingora
//! session; each hook is a few verbs, and the order of the checks is read in `admit.rs`.

pub mod access_log;
mod account;
mod admit;
mod affinity;
mod ambiguous;
mod answer;
mod authz;
mod body;
mod chats;
mod client;
mod context;
mod cors;
mod counted;
mod dialect;
mod downstream;
mod drain;
mod edits;
mod failure;
mod flow;
mod forward;
mod gone;
mod guard;
mod held;
mod last_words;
mod limits;
mod mask;
mod model;
mod node;
mod operate;
mod own;
mod own_time;
mod passing;
mod queued;
mod quota;
mod recent;
mod reply;
mod retries;
mod snapshot;
mod stored;
mod streams;
mod writers;

use std::os::fd::RawFd;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use bytes::Bytes;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::modules::http::HttpModules;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, Result};
use pingora_core::protocols::Digest;
use pingora_proxy::{FailToProxy, ProxyHttp, ProxyWarnLogContext, Session};

pub use access_log::{AccessLog, Format};
pub use context::RequestContext;
pub use cors::Cors;
pub use drain::Drain;
pub use held::Budget;
pub use limits::Limits;
pub use recent::{RecentError, RecentErrors};
pub use retries::RetryBudget;
pub use snapshot::Snapshot;
pub use streams::{Stream, Streams};
pub use writers::Writers;

use crate::access::keys::Fingerprints;
use crate::access::passes::Passes;
use crate::access::store::Store;
use crate::chat::sessions::Sessions;
use crate::ledger::Ledger;
use crate::metrics::Metrics;
use crate::refusal::Refusal;
use crate::routing::responses::Responses;
use crate::upstream::client::Client;
use crate::upstream::connection;
use crate::upstream::refresh::Refresher;
use downstream::{Event, Farewell};
use reply::Stop;

/// The gateway: what all requests share.
pub struct Gateway {
    /// Replaced whole by a reload.
    pub live: Arc<ArcSwap<Snapshot>>,
    /// Fixed at start.
    pub limits: Limits,
    /// Fixed at start.
    pub cors: Cors,
    /// Every series.
    pub metrics: Arc<Metrics>,
    /// For requests of our own.
    pub client: Arc<Client>,
    /// For lists fetched behind an answer.
    pub refresher: Refresher,
    /// Who made which response, and where it is kept.
    pub responses: Responses,
    /// Names unknown keys.
    pub fingerprints: Fingerprints,
    /// Memory for bodies.
    pub held: Arc<Budget>,
    /// Memory for bodies of clients that are not known yet.
    pub held_unknown: Arc<Budget>,
    /// What is under way.
    pub drain: Arc<Drain>,
    /// A line for each request.
    pub access_log: AccessLog,
    /// What requests cost.
    pub ledger: Ledger,
    /// How many requests may be tried again.
    pub retries: RetryBudget,
    /// Counts what keys take.
    pub store: Arc<Store>,
    /// For requests that were counted before they come.
    pub passes: Passes,
    /// Chat sessions, where there are any.
    pub sessions: Option<Arc<Sessions>>,
    /// Event streams under way.
    pub streams: Arc<Streams>,
    /// What went wrong of late.
    pub errors: Arc<RecentErrors>,
}

#[async_trait]
impl ProxyHttp for Gateway {
    /// In a box: Pingora keeps it in a future of many layers, and moves that about.
    type CTX = Box<RequestContext>;

    /// Starts the clock and pins the configuration of this moment.
    fn new_ctx(&self) -> Box<RequestContext> {
        Box::new(RequestContext::new(
            self.live.load_full(),
            self.drain.enter(),
            self.ledger.clone(),
        ))
    }

    /// No module of Pingora's: an answer goes by as it is.
    fn init_downstream_modules(&self, _: &mut HttpModules) {}

    /// Phase 1: let it through, or answer it here.
    async fn request_filter(
        &self,
        session: &mut Session,
        ctx: &mut Box<RequestContext>,
    ) -> Result<bool> {
        self.set_timers(session, ctx);
        let admitted = self.unless_cut(pin!(self.admit(session, ctx))).await;
        let answer = match admitted.unwrap_or_else(|_| Err(Refusal::Draining.into())) {
            Ok(()) => return Ok(false),
            Err(Stop::Answer(answer)) => answer,
            Err(Stop::Refuse(refusal)) => self.refuse(ctx, refusal),
            Err(Stop::Fail(error)) => return Err(error),
        };
        ctx.answer.status = answer.status.as_u16();
        reply::send(session, ctx, answer).await.map_err(|error| error.into_down())?;
        Ok(true)
    }

    /// Phase 2: the node and its address. Runs again for each try.
    async fn upstream_peer(
        &self,
        session: &mut Session,
        ctx: &mut Box<RequestContext>,
    ) -> Result<Box<HttpPeer>> {
        ctx.own_time.go();
        let keepalive = self.limits.sse_keepalive;
        let peer =
            self.unless_cut(pin!(forward::peer(session, ctx, keepalive))).await.unwrap_or_else(Err);
        ctx.own_time.stop();
        peer.map_err(|error| self.no_peer(error, ctx))
    }

    /// The connection of this try is there.
    async fn connected_to_upstream(
        &self,
        _: &mut Session,
        reused: bool,
        _: &HttpPeer,
        _: RawFd,
        digest: Option<&Digest>,
        ctx: &mut Box<RequestContext>,
    ) -> Result<()> {
        let Some(place) = &mut ctx.place else { return Ok(()) };
        let told = |digest| connection::belongs_to(digest, &place.node().idle);
        ctx.pooled = reused || digest.is_some_and(told);
        if !ctx.pooled {
            place.connected();
        }
        Ok(())
    }

    /// Phase 3: the request as the node sees it. The caller's key stays here; the node's own goes up.
    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        request: &mut RequestHeader,
        ctx: &mut Box<RequestContext>,
    ) -> Result<()> {
        ctx.own_time.go();
        ctx.answer.next_try();
        ctx.flow = None;
        let pieces = ctx.pieces();
        *request = forward::request(session, ctx, pieces.as_ref(), request.version)?;
        if let Some(forward) = &ctx.forward {
            let limits = forward.limits(self.limits.sse_keepalive);
            let (dialect, id, cut) = (ctx.dialect, ctx.id.clone(), self.drain.told());
            let farewell = Farewell { dialect, id, cut };
            ctx.downstream.install(session, pieces, limits, farewell);
        }
        ctx.own_time.stop();
        Ok(())
    }

    /// A piece of the body was taken, or a comment is due.
    async fn request_body_filter(
        &self,
        session: &mut Session,
        _: &mut Option<Bytes>,
        _: bool,
        ctx: &mut Box<RequestContext>,
    ) -> Result<()> {
        if ctx.downstream.event() == Event::Comment {
            return passing::comment(session, ctx).await;
        }
        if !ctx.may_send_again() && !ctx.may_be_stale() {
            // What is still to be sent is in the stand-in; nobody will need it again.
            ctx.let_body_go();
        }
        Ok(())
    }

    /// The head of a node's answer: pass it on, or try again, or say that it cannot be passed on.
    async fn upstream_response_filter(
        &self,
        _: &mut Session,
        response: &mut ResponseHeader,
        ctx: &mut Box<RequestContext>,
    ) -> Result<()> {
        ctx.own_time.go();
        self.judge(response, ctx)?;
        dialect::head(response, ctx)?;
        chats::begin_answer(response, ctx)
    }

    /// A piece of a node's answer, before anything is done with it.
    fn upstream_response_body_filter(
        &self,
        _: &mut Session,
        body: &mut Option<Bytes>,
        end: bool,
        ctx: &mut Box<RequestContext>,
    ) -> Result<Option<Duration>> {
        ctx.own_time.go();
        self.translate_answer(body, end, ctx)?;
        Ok(None)
    }

    /// The head of this try's answer: that of a stream waits for its first byte, any other goes to the client.
    async fn response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        ctx: &mut Box<RequestContext>,
    ) -> Result<()> {
        if !response.status.is_informational() {
            self.pass_head(session, response, ctx)?;
        }
        forward::response(response, ctx)?;
        self.end_connection_where_due(session, ctx);
        ctx.own_time.stop();
        Ok(())
    }

    /// A piece of the answer goes to the client.
    fn response_body_filter(
        &self,
        session: &mut Session,
        body: &mut Option<Bytes>,
        end: bool,
        ctx: &mut Box<RequestContext>,
    ) -> Result<Option<Duration>> {
        ctx.downstream.hand_over(session);
        self.pass(body, end, ctx)?;
        ctx.own_time.stop();
        Ok(None)
    }

    fn fail_to_connect(
        &self,
        _: &mut Session,
        _: &HttpPeer,
        ctx: &mut Box<RequestContext>,
        mut error: Box<Error>,
    ) -> Box<Error> {
        self.not_connected(&error, ctx);
        let in_time = ctx.forward.as_ref().is_none_or(|f| Instant::now() < f.first_byte_until);
        let name = if in_time { Refusal::UpstreamUnreachable } else { Refusal::UpstreamTimeout };
        ctx.failure = Some(name);
        error.set_retry(self.is_tried_again(ctx.may_try_again()));
        error
    }

    fn error_while_proxy(
        &self,
        _: &HttpPeer,
        session: &mut Session,
        mut error: Box<Error>,
        ctx: &mut Box<RequestContext>,
        _: bool,
    ) -> Box<Error> {
        ctx.downstream.remove(session);
        failure::blame(&mut error);
        if failure::is_clients(&error) {
            self.note_abort(ctx);
        }
        let retry = self.may_retry(&error, ctx);
        error.set_retry(retry);
        error
    }

    /// Nothing more can be tried: tell the client, if there is one, in the form that is still possible.
    async fn fail_to_proxy(
        &self,
        session: &mut Session,
        error: &Error,
        ctx: &mut Box<RequestContext>,
    ) -> FailToProxy {
        ctx.downstream.remove(session);
        let error_code = self.tell_failure(session, error, ctx).await;
        FailToProxy { error_code, can_reuse_downstream: false }
    }

    /// Last phase: runs once for every request, whatever happened above.
    async fn logging(
        &self,
        session: &mut Session,
        error: Option<&Error>,
        ctx: &mut Box<RequestContext>,
    ) {
        ctx.downstream.remove(session);
        self.end_connection_where_due(session, ctx);
        if let Some(error) = ctx.downstream.broke() {
            self.broke_off(&error, ctx);
        }
        if error.is_some_and(failure::is_clients) {
            ctx.client_left = true;
        }
        passing::note_cache(ctx);
        self.settle_quota(ctx);
        account::close(ctx);
        self.count(ctx);
        ctx.leave_node();
        access_log::write(ctx, Some(session));
        if let Some(link) = &ctx.link {
            link.request_ends(ctx.client_left);
        }
    }

    /// Failures are in the access log and the metrics, once.
    fn suppress_error_log(&self, _: &Session, _: &Box<RequestContext>, _: &Error) -> bool {
        true
    }

    fn suppress_proxy_warn_log(
        &self,
        _: &Session,
        _: &Box<RequestContext>,
        _: &Error,
        _: ProxyWarnLogContext,
    ) -> bool {
        true
    }
}

impl Gateway {
    /// The answer that tells `refusal`, which is noted for the log.
    fn refuse(&self, ctx: &mut RequestContext, refusal: Refusal) -> crate::answers::Answer {
        self.metrics.refused(refusal.code());
        let answer = reply::of_refusal(&refusal, ctx);
        ctx.refused = Some(refusal);
        // Before it is told: who comes again at once finds what was given back.
        self.settle_quota(ctx);
        answer
    }
}
