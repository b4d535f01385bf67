//! `POST /init_session`: a key opens a session, and who tries keys out soon waits.

use std::time::Instant;

use bytes::Bytes;

use super::{Gateway, RequestContext, answers, chats, refusal};
use crate::access::keys::Presented;
use crate::access::limits::Part;
use crate::answers::Answer;
use crate::chat::id::SessionId;
use crate::chat::session::{self, Owner};
use crate::chat::sessions::Sessions;
use crate::refusal::Refusal;

impl Gateway {
    /// Begins a session, for who has a key.
    ///
    /// # Errors
    /// [`Refusal::UnknownKey`]; [`Refusal::TooManyAttempts`]; there is no room for it, or no node to ask.
    pub(super) async fn begin(
        &self,
        sessions: &Sessions,
        ctx: &mut RequestContext,
        body: &Bytes,
    ) -> Result<Answer, Refusal> {
        let chats::Init { vllm_api_key: key } = chats::read(body)?;
        let id = SessionId::fresh().map_err(|_| Refusal::Internal)?;
        let owner = match self.owner_by_key(ctx, &key)? {
            Some((owner, key)) => {
                // It takes memory, so it is a request like any other.
                self.take_part(ctx, &key, Part::All(0)).await?;
                ctx.quota.keep();
                owner
            }
            None => self.try_out(sessions, ctx, (&id, &key)).await?,
        };
        let new = session::Session::new(owner, sessions.system.clone());
        sessions.store.open(&id, new).await.map_err(refusal)?;
        sessions.metrics.begun.inc();
        Ok(answers::begun(&id, sessions.idle))
    }

    /// Tries a key that is none of ours: so often as its client's address may.
    async fn try_out(
        &self,
        sessions: &Sessions,
        ctx: &mut RequestContext,
        (id, key): (&SessionId, &str),
    ) -> Result<Owner, Refusal> {
        let waits = |wait| Refusal::TooManyAttempts { wait };
        // Counted before it is known: many at once are many.
        let attempt = sessions.attempts.begin(ctx.client.ip(), Instant::now()).map_err(waits)?;
        if let Some(owner) = self.owner_by_nodes(ctx, sessions, (id, key)).await? {
            return Ok(owner);
        }
        attempt.failed();
        sessions.metrics.refused.inc();
        ctx.unknown_key = Some(self.fingerprints.of(Presented::in_body(key)));
        Err(Refusal::UnknownKey { status: self.limits.invalid_key_status })
    }
}
