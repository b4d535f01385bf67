//! What a request must pass before a node is asked, in the order of the contract (SPEC 4): cheap checks first, and who
//! has no key learns nothing.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::HeaderName;
use pingora_proxy::Session;

use super::Gateway;
use super::affinity;
use super::ambiguous::refuse_ambiguous;
use super::body::{self, Allowance};
use super::client::Client;
use super::context::{Forward, RequestContext, Way};
use super::forward::{TRACE_PARENT, UP_REQUEST_ID};
use super::model::{Named, read_named};
use super::operate::Asked;
use super::reply::Stop;
use super::stored::Stored;
use crate::access::keys::{self, Key};
use crate::access::permission;
use crate::refusal::{Dialect, Refusal};
use crate::routing::choice::Chosen;
use crate::routing::table::with_query;
use crate::wire::ids::{RequestId, TraceParent};
use crate::wire::{paths, query};

/// A request's own timeout, in seconds.
pub(super) const TIMEOUT: HeaderName = HeaderName::from_static("x-timeout-seconds");

impl Gateway {
    /// The table of contents.
    pub(super) async fn admit(
        &self,
        session: &mut Session,
        ctx: &mut RequestContext,
    ) -> Result<(), Stop> {
        identify(session, ctx);
        ctx.client = Client::of(session, &self.limits.trusted_proxies);
        ctx.line = self.access_log.begin(session, ctx.client.address);
        refuse_ambiguous(session)?;
        self.answer_other_origins(session, ctx)?;
        // One shared text: the request's own stays with the session.
        let mut uri = session.req_header().uri.clone();
        self.answer_open(session, ctx, uri.path()).await?;
        let key = match self.of_sessions(uri.path()) {
            // In a box: what few requests need is not to be moved about with all.
            Some(call) => {
                let key = Box::pin(self.open_session(session, ctx, call)).await?;
                uri = session.req_header().uri.clone();
                key
            }
            None => self.authenticate(session, ctx)?,
        };
        let path = uri.path();
        self.answer_in_process(session, ctx, (path, &key)).await?;
        let snapshot = ctx.snapshot.clone();
        let candidates = snapshot.table.candidates(&session.req_header().method, path)?;
        permission::demand_scope(&key, path)?;
        ctx.stored = Stored::of_target(candidates, &session.req_header().method, path);
        let (timeout, query) = self.timeout(session, uri.query())?;
        if ctx.chat.is_none() {
            body::hold(session, ctx, Allowance::new(&self.limits, &self.held)).await?;
        }
        let named = read_named(session, ctx, (path, &key)).await?;
        if self.limits.log_prompts {
            affinity::note_for_log(ctx);
        }
        let there = self.routes_to_stored(ctx, candidates, &key)?;
        let routes = there.as_ref().map(|there| there.routes.as_slice());
        ctx.own_time.stop();
        let (chosen, fallbacks) = self.choose(ctx, (candidates, routes), &key).await?;
        ctx.own_time.go();
        let limit = timeout.unwrap_or(chosen.route.upstream.timeouts.first_byte);
        let asked = Asked { uri: &uri, query, timeout: limit };
        let (named_node, query) = self.operate(session, ctx, candidates, asked).await?;
        let mut forward = Forward::new(&chosen, with_query(&uri, query.as_deref())?, timeout);
        forward.model = forward.model.or_else(|| ctx.model.clone());
        forward.only = there.map(|there| there.node);
        if let Some(until) = ctx.chat.as_ref().and_then(|chat| chat.until) {
            forward.first_byte_until = forward.first_byte_until.min(until);
        }
        if let Some((route, node)) = named_node {
            (forward.route, forward.only) = (route, Some(node));
        }
        forward.repeatable = !paths::operates(path);
        forward.notes_response = ctx.stored.is_noted();
        ctx.is_metered = key.limits.has_tokens() || self.ledger.is_on();
        if forward.repeatable {
            self.take_quota(session, ctx, &key).await?;
        }
        let named = match ctx.chat.is_some() {
            true => Box::pin(self.shorten(session, ctx, &chosen, (named, path, &key))).await?,
            false => named,
        };
        forward.edits = self.edits(session, ctx, &chosen, &named)?;
        forward.fallbacks = self.other_ways(session, ctx, fallbacks, &named)?;
        ctx.forward = Some(forward);
        self.retries.request(ctx.started);
        Ok(())
    }

    /// The ways that the request may take in the place of its first. One on which there is no such request is none.
    fn other_ways(
        &self,
        session: &Session,
        ctx: &RequestContext,
        fallbacks: Vec<Chosen>,
        named: &Named,
    ) -> Result<VecDeque<Way>, Refusal> {
        let mut ways = VecDeque::new();
        for chosen in fallbacks {
            match self.edits(session, ctx, &chosen, named) {
                Ok(edits) => ways.push_back(Way { chosen, edits }),
                Err(Refusal::Malformed { .. }) => {}
                Err(refusal) => return Err(refusal),
            }
        }
        Ok(ways)
    }

    /// Who asks. Before a byte of the body is read.
    fn authenticate(&self, session: &Session, ctx: &mut RequestContext) -> Result<Arc<Key>, Stop> {
        let presented = keys::presented(&session.req_header().headers).map_err(twice)?;
        let snapshot = &ctx.snapshot;
        let key = match presented {
            _ if snapshot.keys.is_empty() => snapshot.keys.anyone.clone(),
            None => return Err(Refusal::NoKey.into()),
            Some(presented) => match snapshot.keys.find(presented, SystemTime::now()) {
                Some(key) => key.clone(),
                None => {
                    ctx.unknown_key = Some(self.fingerprints.of(presented));
                    let status = self.limits.invalid_key_status;
                    return Err(Refusal::UnknownKey { status }.into());
                }
            },
        };
        ctx.key = Some(key.clone());
        Ok(key)
    }

    /// The request's own timeout, if it has one, and the query without it.
    pub(super) fn timeout<'q>(
        &self,
        session: &Session,
        query: Option<&'q str>,
    ) -> Result<(Option<Duration>, Option<Cow<'q, str>>), Stop> {
        let query = query::take_timeout(query)?;
        let mut headers = session.req_header().headers.get_all(TIMEOUT).iter();
        let header = headers.next();
        if headers.next().is_some() {
            let message = "The header `X-Timeout-Seconds` is there twice.";
            return Err(query::invalid_timeout(message).into());
        }
        // Both are checked, also where the header wins: a typing error must not pass for a wish.
        let of_query = query.timeout.map(query::seconds).transpose()?;
        let of_header = header.map(|value| query::seconds(value.to_str().unwrap_or_default()));
        let of_header = of_header.transpose()?;
        let timeout = of_header.or(of_query).map(|wish| wish.min(self.limits.max_timeout));
        Ok((timeout, query.rest))
    }
}

/// Names the request, and the dialect in which its errors are told.
fn identify(session: &Session, ctx: &mut RequestContext) {
    let request = session.req_header();
    ctx.id = RequestId::of(request.headers.get(UP_REQUEST_ID));
    let parent = request.headers.get(TRACE_PARENT);
    ctx.trace = parent.and_then(|value| TraceParent::parse(value.as_bytes()));
    ctx.dialect = Dialect::of(request.uri.path());
}

pub(super) fn twice(keys::Twice(name): keys::Twice) -> Refusal {
    let message = format!("The header `{name}` is there twice.");
    Refusal::malformed("duplicate_credential", message)
}
