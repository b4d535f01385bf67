//! The one wrapper round the client's side of a request: it gives Pingora the saved body, on the first try and on each
//! other one, and stays there for what only it can do.
//!
//! Pingora 0.9 has no hook that reads a body before a node is chosen: a body that was read in `request_filter` is sent
//! to the node from a retry buffer of 64 KiB only, and a larger one not at all. But the client's session is a public
//! field, and may be of a custom kind. For each try the proxy calls, in this order:
//!
//! `upstream_request_filter` → (writes the head) → `enable_retry_buffering` → `is_body_done` → `get_retry_buffer` →
//! loop { `read_body_or_idle` → `is_body_done` → `request_body_filter` }
//!
//! So at the end of the first hook a stand-in takes the session's place and serves the saved pieces. It stays while the
//! node is waited for, since the same call then watches for the client's leaving: there, and nowhere else, a clock can
//! be looked at. Five things come of it:
//!
//! - **A head waits for its first byte** (`response_duplex_vec` gets heads and bodies): a node that dies or falls silent
//!   after the head of its stream can still be replaced.
//! - **Limits of our own.** One that is over is an error of that call. The proxy takes it for the client's; [`is_over`]
//!   tells.
//! - **A stream that its node breaks off ends well**, with an event that says why: the client's connection lives on, and its next
//!   request does not run into a closed one.
//! - **An end of our own.** A process that stops waits no longer than it was told to: the same call then ends the request, whose client
//!   is told so as long as a head waits, or between two events.
//! - **Comments.** That call sits in a `select!` that may drop it half way, so nothing is written there: it gives an
//!   empty piece and says, once, that the body is not done. The proxy then leaves the `select!` for
//!   `request_body_filter`, where anything may be written, and sends no empty piece to the node.
//!
//! Rules: at most three pieces (the channel to the node holds four, and were it full when the body ends, nobody would
//! watch the client until the node's first byte); and never a stand-in when a try begins (Pingora checks the Host of a
//! custom session less strictly). Of an answer that is no event stream it keeps nothing back, but for one that is judged or
//! translated whole; what it does for that is to look at the clock.
//!
//! This leans on one version's order of calls: pinned in Cargo.toml, held by `tests/gateway/replay.rs` and
//! `tests/gateway/streams/`.

mod clock;
mod session;

use std::mem;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use http::header;
use parking_lot::Mutex;
use pingora::Error;
use pingora::http::ResponseHeader;
use pingora_core::protocols::http::ServerSession;
use pingora_proxy::Session;

pub(super) use clock::{Limits, is_over, is_total, total_is_over};
use session::StandIn;

use super::drain::Cut;
use crate::refusal::Dialect;
use crate::wire::ids::RequestId;
use crate::wire::splice::Pieces;

/// What a client of an event stream is told while its node is silent: nothing, to whoever reads events.
pub(super) const COMMENT: &[u8] = b": keep-alive\n\n";

/// What the stand-in of a request and its handle both know.
#[derive(Default)]
struct Shared {
    home: Mutex<Home>,
    /// The next event is no piece of a body.
    comment_due: AtomicBool,
    /// The head of this try's answer is not to be kept back.
    passes: AtomicBool,
    /// The client's connection is to end with the answer.
    last: AtomicBool,
    /// Bytes of an answer are with the client.
    written: AtomicBool,
    /// The node has got all of the request's body, or nothing is left to give it.
    replayed: AtomicBool,
    /// A write was begun and not ended.
    torn: AtomicBool,
    /// The client has all of the stream, or knows that it broke.
    settled: AtomicBool,
}

/// What a stand-in leaves behind.
#[derive(Default)]
struct Home {
    session: Option<ServerSession>,
    left_at: Option<Instant>,
    broke: Option<Box<Error>>,
}

/// How a stream is ended that its node has broken off: in words that its client reads; and when it is to end though its node
/// has not.
#[derive(Debug, Clone)]
pub(super) struct Farewell {
    pub(super) dialect: Dialect,
    pub(super) id: RequestId,
    pub(super) cut: Cut,
}

/// Why the proxy has come by `request_body_filter`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    /// With a piece of the body, or its end.
    Body,
    /// To have a comment written.
    Comment,
}

/// The client's side of one request. Nothing is installed at first.
#[derive(Default)]
pub(super) struct Downstream {
    /// The same for all tries.
    shared: Option<Arc<Shared>>,
    installed: bool,
    /// The stand-in is not needed after the first bytes.
    hands_over: bool,
}

impl Downstream {
    /// Puts a stand-in in the session's place that serves `pieces`. The last act of `upstream_request_filter`.
    pub(super) fn install(
        &mut self,
        session: &mut Session,
        pieces: Option<Pieces>,
        limits: Limits,
        farewell: Farewell,
    ) {
        self.remove(session);
        let now = Instant::now();
        self.hands_over = limits.end_with_first_byte(now);
        let shared = self.shared.get_or_insert_default().clone();
        shared.passes.store(false, Relaxed);
        shared.replayed.store(false, Relaxed);
        // The session is moved, its box stays: nothing is asked of the allocator but room for the stand-in.
        let real = mem::replace(&mut *session.downstream_session, nobody());
        let stand_in = StandIn::new((real, shared), pieces, (limits, now), farewell);
        *session.downstream_session = ServerSession::new_custom(Box::new(stand_in));
        self.installed = true;
    }

    /// What the proxy has come for. The first act of `request_body_filter`.
    pub(super) fn event(&self) -> Event {
        let shared = self.shared.as_ref().filter(|_| self.installed);
        match shared.is_some_and(|shared| shared.comment_due.swap(false, Relaxed)) {
            true => Event::Comment,
            false => Event::Body,
        }
    }

    /// The head that comes goes to the client at once.
    pub(super) fn pass_at_once(&self) {
        if let Some(shared) = &self.shared {
            shared.passes.store(true, Relaxed);
        }
    }

    /// The client's connection ends with its request; a head that has not been written yet says so.
    pub(super) fn end_connection(&self, session: &mut Session) {
        session.set_keepalive(None);
        if let Some(shared) = self.shared.as_ref().filter(|_| self.installed) {
            shared.last.store(true, Relaxed);
        }
    }

    /// Brings the real session back once bytes of the answer are with the client, where that is all there was to do. The
    /// first act of `response_body_filter`.
    pub(super) fn hand_over(&mut self, session: &mut Session) {
        let done =
            |shared: &Arc<Shared>| shared.written.load(Relaxed) && shared.replayed.load(Relaxed);
        if self.hands_over && self.installed && self.shared.as_ref().is_some_and(done) {
            self.remove(session);
        }
    }

    /// Brings the real session back, where a stand-in is in its place; a head that is kept back is lost. The first act
    /// of every hook after a failure.
    pub(super) fn remove(&mut self, session: &mut Session) {
        if !mem::take(&mut self.installed) {
            return;
        }
        // Dropping the stand-in sends the real session home.
        drop(mem::replace(&mut *session.downstream_session, nobody()));
        let real = self.shared.as_ref().and_then(|shared| shared.home.lock().session.take());
        if let Some(real) = real {
            *session.downstream_session = real;
        }
    }

    /// A write to the client was broken off half way: its stream can only be cut.
    pub(super) fn is_torn(&self) -> bool {
        self.shared.as_ref().is_some_and(|shared| shared.torn.load(Relaxed))
    }

    /// The node broke off a stream that has begun, which was ended with an event that says so: the proxy saw a good end.
    pub(super) fn broke(&self) -> Option<Box<Error>> {
        self.shared.as_ref()?.home.lock().broke.take()
    }

    /// The client has all of the stream, or knows that it broke, with what goes to it now: nothing of ours is to follow.
    pub(super) fn settled(&self) {
        if let Some(shared) = &self.shared {
            shared.settled.store(true, Relaxed);
        }
    }

    /// When the client was seen to have left, while a stand-in was there to see it. Known after [`Downstream::remove`].
    pub(super) fn left_at(&self) -> Option<Instant> {
        self.shared.as_ref()?.home.lock().left_at
    }
}

/// The head of an event stream, whose events can be read.
pub(super) fn is_stream(head: &ResponseHeader) -> bool {
    let kind = head.headers.get(header::CONTENT_TYPE);
    head.status == http::StatusCode::OK
        && kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"))
        && !head.headers.contains_key(header::CONTENT_ENCODING)
}

/// The client has got the head of an answer.
pub(super) fn has_begun(written: Option<&ResponseHeader>) -> bool {
    written.is_some_and(|head| !head.status.is_informational())
}

/// A session that nothing is ever asked of: it keeps a place for the length of a move.
fn nobody() -> ServerSession {
    ServerSession::new_custom(Box::new(()))
}
