//! `POST /chat`: what was said so far and the question become the chat that a node is asked for.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderValue, Uri, header};
use pingora_proxy::Session;
use serde_json::{Map, Number, Value};

use super::answer::Chat;
use super::{Gateway, RequestContext, Stop, TOKEN_BYTES_MAX, chats, id_of, take, too_long};
use crate::access::keys::Key;
use crate::chat::session::{Owner, Session as Conversation};
use crate::chat::sessions::Sessions;
use crate::config::Credential;
use crate::gateway::held::{HeldBody, Share};
use crate::names::ModelName;
use crate::refusal::Refusal;
use crate::wire::paths::CHAT;

/// What a client asks in a session.
pub(super) struct Asked {
    pub(super) question: Arc<str>,
    pub(super) model: Option<ModelName>,
    pub(super) stream: bool,
    pub(super) max_tokens: Option<u64>,
    pub(super) temperature: Option<Number>,
    pub(super) extra: Map<String, Value>,
}

impl Gateway {
    /// Puts a chat of all that was said in the place of the question. Gives the key by which it goes on.
    ///
    /// # Errors
    /// There is no such session, or its key is none any more; the client has left.
    pub(super) async fn ask(
        &self,
        sessions: &Arc<Sessions>,
        session: &mut Session,
        (ctx, body): (&mut RequestContext, &Bytes),
        until: Option<Instant>,
    ) -> Result<Arc<Key>, Stop> {
        let mut read: chats::Question = chats::read(body)?;
        let extra = read.take_extra()?;
        let id = id_of(&read.session_id)?;
        if read.message.len() as u64 > sessions.context * TOKEN_BYTES_MAX {
            return Err(too_long("message").into());
        }
        let taken = take(sessions, session, &id, until).await?;
        let key = self.owner(ctx, sessions, (&id, &taken.session.owner)).await?;
        ctx.key = Some(key.clone());
        let credential = match &taken.session.owner {
            Owner::Node { key, .. } => id.open(key).and_then(|key| Credential::bearer(&key)),
            Owner::Key(_) | Owner::Upstream(_) => None,
        };
        let home = self.home(ctx, sessions).await?;
        let model = match &sessions.model {
            Some(model) => Some(model.clone()),
            None => {
                let first = home.described(None, (&self.client, credential.as_ref())).await;
                first.map(|model| model.name)
            }
        };
        let asked = Asked {
            question: read.message.into(),
            model,
            stream: read.stream.unwrap_or_default(),
            max_tokens: read.max_tokens,
            temperature: read.temperature,
            extra,
        };
        ctx.body = Some(asked.write(&taken.session, 0, self.held.share())?);
        let brought = (home.name.clone(), credential);
        let mut chat = Chat::new(sessions.clone(), (taken, asked), brought);
        chat.until = until;
        ctx.chat = Some(Box::new(chat));
        readdress(session)?;
        Ok(key)
    }
}

impl Asked {
    /// The body of the chat, without the oldest `dropped` pairs.
    ///
    /// # Errors
    /// No memory is left for it.
    pub(super) fn write(
        &self,
        conversation: &Conversation,
        dropped: usize,
        mut share: Share,
    ) -> Result<HeldBody, Refusal> {
        let chat = chats::Asked {
            model: self.model.as_ref().map(ModelName::as_str),
            messages: conversation.messages(dropped, &self.question),
            stream: self.stream,
            max_tokens: self.max_tokens,
            temperature: self.temperature.clone(),
            extra: &self.extra,
        };
        let chat = serde_json::to_vec(&chat).map_err(|_| Refusal::Internal)?;
        match share.grow(chat.len()) {
            true => Ok(share.hold(chat.into())),
            false => Err(Refusal::Overloaded),
        }
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
