//! What is known of one request, from its first byte to its line in the log.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue};
use pingora::http::ResponseHeader;
use smallvec::SmallVec;

use super::access_log::Begun;
use super::answer::AnswerSoFar;
use super::body::Progress;
use super::chats::Chat;
use super::client::Client;
use super::cors;
use super::downstream::{Downstream, Limits};
use super::drain::InFlight;
use super::edits::Edits;
use super::flow::Flow;
use super::held::HeldBody;
use super::own_time::OwnTime;
use super::quota::Quota;
use super::reply::{ANTHROPIC_REQUEST_ID, REQUEST_ID};
use super::snapshot::Snapshot;
use super::stored::Stored;
use crate::access::keys::Key;
use crate::config::Credential;
use crate::ledger::Ledger;
use crate::listener::Link;
use crate::names::{ModelName, NodeId};
use crate::refusal::{Dialect, Refusal};
use crate::routing::choice::Chosen;
use crate::routing::table::Route;
use crate::upstream::load::Place;
use crate::upstream::node::Node;
use crate::upstream::prefix::chain::Chain;
use crate::wire::head::Prompt;
use crate::wire::ids::{RequestId, TraceParent};
use crate::wire::splice::Pieces;
use crate::wire::usage::spent::Spent;

/// The node that answered, or was the last to be tried.
const NODE: HeaderName = HeaderName::from_static("x-sluice-node");

/// How many tries it took.
const ATTEMPTS: HeaderName = HeaderName::from_static("x-sluice-attempts");

/// One request. Pingora owns it and lends it to each hook; what it holds is freed however the request ends.
pub struct RequestContext {
    pub(super) started: Instant,
    /// The configuration of the moment when the request came: it is served by that one to its end.
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) _in_flight: InFlight,
    /// What its connection knows of it.
    pub(super) link: Option<Arc<Link>>,
    pub(super) client: Client,
    pub(super) id: RequestId,
    pub(super) trace: Option<TraceParent>,
    pub(super) cors: cors::Headers,
    pub(super) dialect: Dialect,
    /// Who asks; none before authentication, and on open endpoints.
    pub(super) key: Option<Arc<Key>>,
    /// 8 hex digits of a key that is unknown.
    pub(super) unknown_key: Option<String>,
    pub(super) body_progress: Progress,
    pub(super) body: Option<HeldBody>,
    /// What the caller wrote, and whether they want a stream.
    pub(super) model: Option<ModelName>,
    pub(super) stream: bool,
    /// The prompt as the access log tells it.
    pub(super) logged_prompt: Option<Box<Chain>>,
    /// Where the prompt stands in the body.
    pub(super) prompt: Prompt,
    /// Tokens that the answer may have, where its client says so.
    pub(super) max_tokens: Option<u64>,
    /// More than one choice is asked for.
    pub(super) has_choices: bool,
    pub(super) stored: Stored,
    /// Its tokens are somebody's to pay.
    pub(super) is_metered: bool,
    /// What it cost, once it is over.
    pub(super) spent: Option<Spent>,
    pub(super) ledger: Ledger,
    /// The line for the access log, until it is written.
    pub(super) line: Option<Begun>,
    /// Nothing is left to be noted.
    pub(super) closed: bool,
    pub(super) quota: Quota,
    /// The question of a session that this is.
    pub(super) chat: Option<Box<Chat>>,
    pub(super) forward: Option<Forward>,
    pub(super) downstream: Downstream,
    pub(super) tries: usize,
    /// Where this try is: its place there is free when this is dropped.
    pub(super) place: Option<Place>,
    /// Where the others were.
    pub(super) tried: SmallVec<[Arc<Node>; 2]>,
    /// The connection of this try came out of the pool.
    pub(super) pooled: bool,
    /// A pooled connection was closed by its node. That was no try, and none is taken any more: so may all of them be.
    pub(super) met_stale: bool,
    pub(super) node_address: Option<SocketAddr>,
    /// There is less time to connect than the configuration lets a node have.
    pub(super) hurried: bool,
    /// The next try is at the same node.
    pub(super) same_node: bool,
    /// What this try tells of its node is told: it failed, or nothing can be known.
    pub(super) node_told: bool,
    /// What the failure that is on its way through Pingora is called.
    pub(super) failure: Option<Refusal>,
    /// The end of the request, for the log, where it is not a node's answer.
    pub(super) refused: Option<Refusal>,
    pub(super) client_left: bool,
    pub(super) answer: AnswerSoFar,
    /// The tokens of a stream as they go by.
    pub(super) flow: Option<Box<Flow>>,
    pub(super) own_time: OwnTime,
}

/// Another way that a request may take.
pub(super) struct Way {
    pub(super) chosen: Chosen,
    pub(super) edits: Edits,
}

/// Where a request goes, decided once.
pub(super) struct Forward {
    pub(super) route: Arc<Route>,
    /// Path and query as they were asked for.
    pub(super) asked: PathAndQuery,
    /// The model as its nodes know it.
    pub(super) model: Option<ModelName>,
    /// Where it goes while no node of this route works, the best first.
    pub(super) fallbacks: VecDeque<Way>,
    /// The one node that will do.
    pub(super) only: Option<NodeId>,
    /// What of the body is written anew.
    pub(super) edits: Edits,
    /// When the first byte must be there: all tries share it.
    pub(super) first_byte_until: Instant,
    /// The longest silence after it.
    pub(super) idle: Duration,
    /// When the answer must be over.
    pub(super) total_until: Option<Instant>,
    /// The request may be sent more than once.
    pub(super) repeatable: bool,
    /// Its client has a limit of its own for how long it waits.
    pub(super) impatient: bool,
    /// The answer makes a response, whose id is to be remembered.
    pub(super) notes_response: bool,
}

impl RequestContext {
    pub(super) fn new(snapshot: Arc<Snapshot>, in_flight: InFlight, ledger: Ledger) -> Self {
        let now = Instant::now();
        Self {
            started: now,
            snapshot,
            _in_flight: in_flight,
            link: None,
            client: Client::default(),
            id: RequestId::none(),
            trace: None,
            cors: cors::Headers::new(),
            dialect: Dialect::default(),
            key: None,
            unknown_key: None,
            body_progress: Progress::Unread,
            body: None,
            model: None,
            stream: false,
            logged_prompt: None,
            prompt: Prompt::default(),
            stored: Stored::default(),
            is_metered: false,
            spent: None,
            ledger,
            line: None,
            closed: false,
            quota: Quota::default(),
            chat: None,
            max_tokens: None,
            has_choices: false,
            forward: None,
            downstream: Downstream::default(),
            tries: 0,
            place: None,
            tried: SmallVec::new(),
            pooled: false,
            met_stale: false,
            node_address: None,
            hurried: false,
            same_node: false,
            node_told: false,
            failure: None,
            refused: None,
            client_left: false,
            answer: AnswerSoFar::default(),
            flow: None,
            own_time: OwnTime::begun(now),
        }
    }

    /// Adds what every answer has: the name of its request, and what pages of other origins need.
    pub(super) fn add_own_headers(&self, head: &mut ResponseHeader) -> pingora::Result<()> {
        head.insert_header(REQUEST_ID, self.id.header())?;
        if self.dialect == Dialect::Anthropic {
            head.insert_header(ANTHROPIC_REQUEST_ID, self.id.header())?;
        }
        self.quota.tell(head)?;
        if self.key.as_ref().is_some_and(|key| key.admin) && self.forward.is_some() {
            self.tell_operators(head)?;
        }
        self.cors.iter().try_for_each(|(name, value)| head.append_header(name, value).map(drop))
    }

    /// Where the request was, for those who may know it.
    fn tell_operators(&self, head: &mut ResponseHeader) -> pingora::Result<()> {
        if let Some(node) = self.place.as_ref().map(Place::node).or_else(|| self.tried.last()) {
            head.insert_header(NODE, node.shown.clone())?;
        }
        let attempts = match self.counted_tries() {
            // As nearly always: a text that is there.
            1 => HeaderValue::from_static("1"),
            tries => tries.into(),
        };
        head.insert_header(ATTEMPTS, attempts).map(drop)
    }

    /// The body as the node gets it.
    pub(super) fn pieces(&self) -> Option<Pieces> {
        let edits = self.forward.as_ref().map(|forward| &forward.edits);
        if let Some(translated) = edits.and_then(|edits| edits.translated.as_ref()) {
            return translated.body.as_ref().map(|body| Pieces::whole(body.bytes.clone()));
        }
        let body = &self.body.as_ref()?.bytes;
        Some(match edits.and_then(|edits| edits.edit.as_ref()) {
            Some(edit) => Pieces::edited(body, edit),
            None => Pieces::whole(body.clone()),
        })
    }

    /// What the node is shown: a key that the client has brought for it, or its upstream's.
    pub(super) fn credential(&self) -> Option<&Credential> {
        let upstream = self.forward.as_ref().map(|forward| &forward.route.upstream);
        self.brought_key().or_else(|| upstream.and_then(|upstream| upstream.credential.as_ref()))
    }

    /// The node's key that the client of a session has brought.
    pub(super) fn brought_key(&self) -> Option<&Credential> {
        let upstream = &self.forward.as_ref()?.route.upstream;
        self.chat.as_ref().and_then(|chat| chat.brought_for(upstream))
    }

    /// Nobody will need the body again.
    pub(super) fn let_body_go(&mut self) {
        self.body = None;
        if let Some(forward) = &mut self.forward {
            forward.fallbacks.clear();
            if let Some(translated) = &mut forward.edits.translated {
                translated.body = None;
            }
        }
    }

    /// Tries so far, without the one that met a pooled connection which its node had closed.
    pub(super) fn counted_tries(&self) -> usize {
        self.tries - usize::from(self.met_stale)
    }

    /// True where a try is left, for a request that was not sent.
    pub(super) fn may_try_again(&self) -> bool {
        self.forward.as_ref().is_some_and(|forward| {
            self.counted_tries() < forward.route.upstream.attempts && forward.is_in_time()
        })
    }

    /// True where a try is left, for a request that was sent.
    pub(super) fn may_send_again(&self) -> bool {
        self.is_repeatable() && self.may_try_again()
    }

    /// True where it is the pool's fault, not the node's, if the connection turns out to be closed.
    pub(super) fn may_be_stale(&self) -> bool {
        let in_time = self.forward.as_ref().is_some_and(Forward::is_in_time);
        self.pooled && !self.met_stale && self.is_repeatable() && in_time
    }

    fn is_repeatable(&self) -> bool {
        self.forward.as_ref().is_some_and(|forward| forward.repeatable)
    }
}

impl Forward {
    fn is_in_time(&self) -> bool {
        Instant::now() < self.first_byte_until
    }

    /// Takes the next way on which some node works; false where there is none.
    pub(super) fn fall_back(&mut self) -> bool {
        while let Some(Way { chosen, edits }) = self.fallbacks.pop_front() {
            if chosen.is_up(None) {
                (self.route, self.model, self.edits) = (chosen.route, chosen.renamed, edits);
                return true;
            }
        }
        false
    }

    /// What the client may be kept waiting for.
    pub(super) fn limits(&self, keepalive: Option<Duration>) -> Limits {
        let (first_byte_until, idle) = (self.first_byte_until, self.idle);
        Limits { first_byte_until, idle, total_until: self.total_until, keepalive }
    }

    /// `timeout` is the request's own: the longest wait for the first byte, and between later ones.
    pub(super) fn new(chosen: &Chosen, asked: PathAndQuery, timeout: Option<Duration>) -> Self {
        let (now, timeouts) = (Instant::now(), chosen.route.upstream.timeouts);
        let first_byte_until = now + timeout.unwrap_or(timeouts.first_byte);
        let total_until = timeouts.total.map(|total| now + total);
        Self {
            route: chosen.route.clone(),
            asked,
            model: chosen.renamed.clone(),
            fallbacks: VecDeque::new(),
            only: None,
            edits: Edits::default(),
            first_byte_until: total_until.map_or(first_byte_until, |at| at.min(first_byte_until)),
            idle: timeout.unwrap_or(timeouts.idle),
            total_until,
            repeatable: true,
            impatient: timeout.is_some(),
            notes_response: false,
        }
    }
}
