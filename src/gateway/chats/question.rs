//! `POST /chat`: what was said so far and the question become the chat that a node is asked for.

use std::sync::Arc;

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderValue, Uri, header};
use pingora_proxy::Session;

use super::answer::Chat;
use super::{Gateway, RequestContext, chats, id_of, take};
use crate::access::keys::Key;
use crate::chat::counting::{Prompt, Unfit};
use crate::chat::session::Owner;
use crate::chat::sessions::Sessions;
use crate::chat::window::TooLong;
use crate::config::Credential;
use crate::names::ModelName;
use crate::refusal::Refusal;
use crate::wire::paths::CHAT;

impl Gateway {
    /// Puts the chat in the place of the question. Gives the key by which it goes on.
    ///
    /// # Errors
    /// There is no such session; the question does not fit; nobody can count it.
    pub(super) async fn ask(
        &self,
        sessions: &Sessions,
        session: &mut Session,
        ctx: &mut RequestContext,
        body: &Bytes,
    ) -> Result<Arc<Key>, Refusal> {
        let mut asked: chats::Question = chats::read(body)?;
        let extra = asked.take_extra()?;
        let id = id_of(&asked.session_id)?;
        let taken = take(sessions, &id).await?;
        let key = self.owner(ctx, sessions, &taken.session.owner).await?;
        ctx.key = Some(key.clone());
        let credential = match &taken.session.owner {
            Owner::Node(sealed) => id.open(sealed).and_then(|key| Credential::bearer(&key)),
            Owner::Key(_) | Owner::Upstream(_) => None,
        };
        let upstream = self.home(ctx, sessions).await?.route.upstream.clone();
        let described = upstream.described(sessions.model.as_ref(), &self.client).await;
        let model =
            sessions.model.clone().or_else(|| described.as_ref().map(|one| one.name.clone()));
        let longest = described.as_ref().and_then(|model| model.context());
        let question: Arc<str> = asked.message.into();
        let prompt = Prompt {
            session: &taken.session,
            question: &question,
            extra: &extra,
            model: model.as_ref(),
            key: credential.as_ref(),
        };
        let room = asked.max_tokens.or_else(|| extra.get("max_completion_tokens")?.as_u64());
        let limit = limit(sessions.context, longest, room)?;
        let nodes = (&*upstream, &*self.client);
        let fitted = sessions.counting.fit(&prompt, limit, nodes).await;
        let fitted = fitted.map_err(|why| unfit(why, limit))?;
        sessions.metrics.forgotten.inc_by(fitted.dropped as u64);
        let chat = chats::Asked {
            model: model.as_ref().map(ModelName::as_str),
            messages: taken.session.messages(fitted.dropped, &question),
            stream: asked.stream.unwrap_or_default(),
            max_tokens: asked.max_tokens,
            temperature: asked.temperature,
            extra: &extra,
        };
        let chat = serde_json::to_vec(&chat).map_err(|_| Refusal::Internal)?;
        let mut share = self.held.share();
        if !share.grow(chat.len()) {
            return Err(Refusal::Overloaded);
        }
        ctx.body = Some(share.hold(chat.into()));
        let chat = Chat::new(taken, (question, fitted), credential, sessions.metrics.clone());
        ctx.chat = Some(Box::new(chat));
        readdress(session)?;
        Ok(key)
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
        Unfit::Unanswered => Refusal::UpstreamError("No node could count the prompt's tokens."),
        Unfit::Failed => Refusal::Internal,
    }
}

/// From here on the request is one for a chat like any other.
fn readdress(session: &mut Session) -> Result<(), Refusal> {
    let request = session.req_header_mut();
    let mut parts = request.uri.clone().into_parts();
    let target = match request.uri.query() {
        Some(query) => {
            PathAndQuery::try_from(format!("{CHAT}?{query}")).map_err(|_| Refusal::Internal)?
        }
        None => PathAndQuery::from_static(CHAT),
    };
    parts.path_and_query = Some(target);
    request.set_uri(Uri::from_parts(parts).map_err(|_| Refusal::Internal)?);
    // Whatever the client said of its own body.
    let json = HeaderValue::from_static("application/json");
    request.insert_header(header::CONTENT_TYPE, json).map_err(|_| Refusal::Internal)
}
