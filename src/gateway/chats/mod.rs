//! Chat sessions (SPEC 8): four POSTs that carry their credential in the body. Three are answered here. The fourth, a question,
//! becomes the chat that a node is asked for, and goes the way of any request from there; its answer is told as clients of sessions
//! read it, and kept.

mod answer;
mod begin;
mod owner;
mod question;
mod shorten;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Method;
use pingora_proxy::Session;

pub(super) use answer::{Chat, begin_answer};

use super::Gateway;
use super::body::{self, Allowance};
use super::context::RequestContext;
use super::gone::unless_gone;
use super::reply::Stop;
use crate::access::keys::Key;
use crate::answers::chats as answers;
use crate::chat::id::SessionId;
use crate::chat::sessions::Sessions;
use crate::chat::store::{Taken, Untaken};
use crate::refusal::Refusal;
use crate::wire::chats::{self, Call};

/// The longest body with a text, in bytes, of a client that is not known yet. A message of a million tokens has less.
const TEXT_BODY_BYTES_MAX: usize = 8 << 20;

/// The longest body with nothing but a key or an id, in bytes.
const KEY_BODY_BYTES_MAX: usize = 16 << 10;

/// The longest that a request waits for those before it in its session: as long as an answer may take to begin.
const TURN_MAX: Duration = Duration::from_secs(600);

/// No token has more bytes than this on the average of a text: what is longer need not be counted.
const TOKEN_BYTES_MAX: u64 = 128;

impl Gateway {
    /// What a request for `path` is to chat sessions, where there are any.
    pub(super) fn of_sessions(&self, path: &str) -> Option<(Arc<Sessions>, Call)> {
        let sessions = self.sessions.as_ref()?;
        Call::of_path(path).map(|call| (sessions.clone(), call))
    }

    /// The key by which a question of a session goes on, whose chat is in `ctx` then. Every other request is answered.
    pub(super) async fn open_session(
        &self,
        session: &mut Session,
        ctx: &mut RequestContext,
        (sessions, call): (Arc<Sessions>, Call),
    ) -> Result<Arc<Key>, Stop> {
        if session.req_header().method != Method::POST {
            return Err(Refusal::MethodNotAllowed { allow: "POST".into() }.into());
        }
        // Its own clock begins now: also what it waits for in line counts.
        let (timeout, _) = self.timeout(session, session.req_header().uri.query())?;
        let until = timeout.map(|timeout| Instant::now() + timeout);
        let body = self.read_unknown(session, ctx, call).await?;
        let answer = match call {
            Call::Init => self.begin(&sessions, ctx, &body).await?,
            Call::SystemPrompt => {
                let asked: chats::SystemPrompt = chats::read(&body)?;
                let id = id_of(&asked.session_id)?;
                if asked.system_prompt.len() as u64 > sessions.context * TOKEN_BYTES_MAX {
                    return Err(too_long("system_prompt").into());
                }
                let taken = take(&sessions, session, &id, until).await?;
                ctx.key = Some(self.owner(ctx, &sessions, (&id, &taken.session.owner)).await?);
                let mut new = taken.session.clone();
                new.system = asked.system_prompt.into();
                taken.keep_now(new).await.map_err(refusal)?;
                answers::done()
            }
            Call::Stop => {
                let chats::Stop { session_id } = chats::read(&body)?;
                sessions.store.close(&id_of(&session_id)?).await.map_err(refusal)?;
                answers::done()
            }
            Call::Chat => {
                return self.ask(&sessions, session, (ctx, &body), until).await;
            }
        };
        Err(Stop::Answer(answer))
    }

    /// Reads the body of a client that nobody knows yet: out of memory of its own, and not for long.
    async fn read_unknown(
        &self,
        session: &mut Session,
        ctx: &mut RequestContext,
        call: Call,
    ) -> Result<Bytes, Stop> {
        let longest = match call {
            Call::Init | Call::Stop => KEY_BODY_BYTES_MAX,
            Call::SystemPrompt | Call::Chat => TEXT_BODY_BYTES_MAX,
        };
        let allowance = Allowance::new(&self.limits, &self.held_unknown).of_at_most(longest);
        let held = body::hold(session, ctx, allowance);
        let held = tokio::time::timeout(self.limits.client_timeout, held).await;
        held.map_err(|_| Refusal::ClientTooSlow)??;
        Ok(ctx.body.as_ref().map_or(Bytes::new(), |held| held.bytes.clone()))
    }
}

/// A session, when it is this request's turn.
async fn take(
    sessions: &Sessions,
    session: &mut Session,
    id: &SessionId,
    until: Option<Instant>,
) -> Result<Taken, Stop> {
    if sessions.store.is_full() {
        return Err(refusal(Untaken::Full).into());
    }
    let until = until.unwrap_or_else(|| Instant::now() + TURN_MAX);
    let taken = unless_gone(session, sessions.store.take(id, until)).await?;
    Ok(taken.map_err(refusal)?)
}

fn id_of(text: &str) -> Result<SessionId, Refusal> {
    SessionId::parse(text).ok_or(Refusal::SessionNotFound)
}

fn too_long(param: &'static str) -> Refusal {
    Refusal::Malformed {
        code: "context_length_exceeded",
        message: "This is longer than any prompt may be.".into(),
        param: Some(param),
    }
}

fn refusal(why: Untaken) -> Refusal {
    match why {
        Untaken::Unknown => Refusal::SessionNotFound,
        Untaken::Busy | Untaken::Late => Refusal::SessionBusy,
        Untaken::Full => Refusal::SessionsUnavailable("As many sessions are kept as may be."),
        Untaken::Away => Refusal::SessionsUnavailable("Sessions cannot be had at the moment."),
    }
}
