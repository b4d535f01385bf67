//! How much of what was said a node is shown: counted for the model that is asked, once its key may ask it.

use pingora_proxy::Session;

use super::{Gateway, RequestContext, Stop};
use crate::access::keys::Key;
use crate::chat::counting::{Prompt, Unfit};
use crate::chat::window::TooLong;
use crate::gateway::gone::unless_gone;
use crate::gateway::model::{Named, read_named};
use crate::refusal::Refusal;
use crate::routing::choice::Chosen;

impl Gateway {
    /// Leaves the oldest questions of a session out, with their answers, until the prompt fits; gives where in the body that is now
    /// something may be changed.
    ///
    /// # Errors
    /// The question does not fit even alone; nobody can count it; the client has left.
    pub(in crate::gateway) async fn shorten(
        &self,
        session: &mut Session,
        ctx: &mut RequestContext,
        chosen: &Chosen,
        (named, path, key): (Named, &str, &Key),
    ) -> Result<Named, Stop> {
        let Some(mut chat) = ctx.chat.take() else { return Ok(named) };
        let (upstream, brought) =
            (&*chosen.route.upstream, chat.brought_for(&chosen.route.upstream));
        let model = chosen.renamed.as_ref().or(ctx.model.as_ref());
        let work = async {
            let described = upstream.described(model, (&self.client, brought)).await;
            let longest = described.and_then(|model| model.context());
            let limit = limit(chat.sessions.context, longest, chat.room())?;
            let prompt = Prompt {
                session: chat.conversation().ok_or(Refusal::Internal)?,
                question: &chat.asked.question,
                extra: &chat.asked.extra,
                model,
                key: brought,
            };
            let fitted = chat.sessions.counting.fit(&prompt, limit, (upstream, &self.client));
            fitted.await.map_err(|why| unfit(why, limit))
        };
        let fitted = match chat.until {
            Some(until) => {
                let in_time = tokio::time::timeout_at(until.into(), work);
                let in_time = unless_gone(session, in_time).await?;
                in_time.map_err(|_| Refusal::UpstreamTimeout)?
            }
            None => unless_gone(session, work).await?,
        }?;
        chat.sessions.metrics.forgotten.inc_by(fitted.dropped as u64);
        let shorter = match (fitted.dropped, chat.conversation()) {
            (1.., Some(said)) => Some(chat.asked.write(said, fitted.dropped, self.held.share())?),
            _ => None,
        };
        chat.fitted = Some((fitted, upstream.name.clone(), model.cloned()));
        ctx.chat = Some(chat);
        match shorter {
            None => Ok(named),
            Some(body) => {
                ctx.body = Some(body);
                read_named(session, ctx, (path, key)).await
            }
        }
    }
}

/// Tokens that the prompt may have: as configured, and for the answer to have room in what the model takes in all.
fn limit(context: u64, longest: Option<u64>, max_tokens: Option<u64>) -> Result<u64, Refusal> {
    let Some(longest) = longest else { return Ok(context) };
    let room = longest.checked_sub(max_tokens.unwrap_or(1).max(1)).filter(|room| *room > 0);
    let room = room.ok_or_else(|| Refusal::Malformed {
        code: "context_length_exceeded",
        message: format!(
            "The model takes {longest} tokens in all: `max_tokens` leaves no room for a question."
        )
        .into(),
        param: Some("max_tokens"),
    })?;
    Ok(room.min(context))
}

fn unfit(why: Unfit, limit: u64) -> Refusal {
    let malformed = |code, message: String| Refusal::Malformed {
        code,
        message: message.into(),
        param: Some("message"),
    };
    match why {
        Unfit::TooLong(TooLong { tokens }) => malformed(
            "context_length_exceeded",
            format!(
                "The message has {tokens} tokens with the system prompt: more than the {limit} that fit."
            ),
        ),
        Unfit::Refused(why) => malformed("invalid_prompt", why),
        Unfit::Failed => Refusal::Internal,
    }
}
