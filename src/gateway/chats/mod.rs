//! Chat sessions (SPEC 8): four POSTs that carry their credential in the body. Three are answered here. The fourth, a question,
//! becomes the chat that a node is asked for, and goes the way of any request from there; its answer is told as clients of sessions
//! read it, and kept.

mod answer;
mod begin;
mod owner;
mod question;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, Uri};
use pingora_proxy::Session;

pub(super) use answer::{Chat, hear};

use super::context::RequestContext;
use super::reply::Stop;
use super::{Gateway, body};
use crate::access::keys::Key;
use crate::answers::chats as answers;
use crate::chat::id::SessionId;
use crate::chat::sessions::Sessions;
use crate::chat::store::{Taken, Untaken};
use crate::refusal::Refusal;
use crate::wire::chats::{self, Call};

/// The longest body of a request of a session, in bytes: its client is not known yet. A message of a million tokens has less.
const BODY_BYTES_MAX: usize = 8 << 20;

/// The longest that a request waits for those before it in its session: as long as an answer may take to begin.
const TURN_MAX: Duration = Duration::from_secs(600);

impl Gateway {
    /// The key by which a question of a session goes on, whose chat is in `ctx` then; none where this is no request of sessions.
    /// Every other one of theirs is answered.
    pub(super) async fn open_session(
        &self,
        session: &mut Session,
        ctx: &mut RequestContext,
        uri: &Uri,
    ) -> Result<Option<Arc<Key>>, Stop> {
        let Some(sessions) = &self.sessions else { return Ok(None) };
        let Some(call) = Call::of_path(uri.path()) else { return Ok(None) };
        if session.req_header().method != Method::POST {
            return Err(Refusal::MethodNotAllowed { allow: "POST".into() }.into());
        }
        let limit = self.limits.max_body_bytes.min(BODY_BYTES_MAX);
        let share = self.held.share();
        ctx.body = body::read(session, limit, share, &mut ctx.body_progress).await?;
        let body = ctx.body.as_ref().map_or(Bytes::new(), |held| held.bytes.clone());
        let answer = match call {
            Call::Init => self.begin(sessions, session, ctx, &body).await?,
            Call::SystemPrompt => {
                let chats::SystemPrompt { session_id, system_prompt } = chats::read(&body)?;
                let taken = take(sessions, &id_of(&session_id)?).await?;
                ctx.key = Some(self.owner(ctx, sessions, &taken.session.owner).await?);
                let mut new = taken.session.clone();
                new.system = system_prompt.into();
                taken.keep(new);
                answers::done()
            }
            Call::Stop => {
                let chats::Stop { session_id } = chats::read(&body)?;
                sessions.store.close(&id_of(&session_id)?).await.map_err(refusal)?;
                answers::done()
            }
            Call::Chat => return Ok(Some(self.ask(sessions, session, ctx, &body).await?)),
        };
        Err(Stop::Answer(answer))
    }
}

/// A session, when it is this request's turn.
async fn take(sessions: &Sessions, id: &SessionId) -> Result<Taken, Refusal> {
    if sessions.store.is_full() {
        return Err(refusal(Untaken::Full));
    }
    sessions.store.take(id, Instant::now() + TURN_MAX).await.map_err(refusal)
}

fn id_of(text: &str) -> Result<SessionId, Refusal> {
    SessionId::parse(text).ok_or(Refusal::SessionNotFound)
}

fn refusal(why: Untaken) -> Refusal {
    match why {
        Untaken::Unknown => Refusal::SessionNotFound,
        Untaken::Busy | Untaken::Late => Refusal::SessionBusy,
        Untaken::Full => Refusal::SessionsUnavailable("As many sessions are kept as may be."),
        Untaken::Away => {
            Refusal::SessionsUnavailable("Sessions cannot be looked up at the moment.")
        }
    }
}
