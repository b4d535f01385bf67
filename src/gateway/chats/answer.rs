//! The answer to a question of a session: heard while it passes, told as clients of sessions read it, kept once it is whole.

use std::mem;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use pingora::Result;
use pingora::http::ResponseHeader;

use super::question::Asked;
use crate::chat::counting::Fitted;
use crate::chat::session::Session;
use crate::chat::sessions::Sessions;
use crate::chat::store::Taken;
use crate::config::Credential;
use crate::gateway::Gateway;
use crate::gateway::context::{Forward, RequestContext};
use crate::gateway::dialect::{is_empty, retell};
use crate::gateway::downstream::is_stream;
use crate::gateway::forward::refused_answer;
use crate::names::{ModelName, UpstreamName};
use crate::refusal::Refusal;
use crate::upstream::Upstream;
use crate::wire::chats::{Listener, Whole};

/// What a client is told of an answer that is none.
const NO_CHAT: Refusal = Refusal::UpstreamError("The node's answer is no chat.");

/// A question of a session, under way. The next one waits for its end.
pub(in crate::gateway) struct Chat {
    pub(super) sessions: Arc<Sessions>,
    /// None once its answer is kept.
    taken: Option<Taken>,
    pub(super) asked: Asked,
    /// When its client will have waited for long enough.
    pub(in crate::gateway) until: Option<Instant>,
    /// How much of the conversation is shown, and whose nodes and which model that was counted for.
    pub(super) fitted: Option<(Fitted, UpstreamName, Option<ModelName>)>,
    /// The upstream for whose nodes its client has brought a key.
    home: UpstreamName,
    credential: Option<Credential>,
    heard: Heard,
}

/// What was heard of the answer to this try.
#[derive(Default)]
enum Heard {
    /// Nothing that could be an answer.
    #[default]
    Nothing,
    Chunks(Listener),
    Whole(Whole),
}

impl Chat {
    /// What is asked in a session that was taken, and the key that its client has brought for nodes of an upstream.
    pub(super) fn new(
        sessions: Arc<Sessions>,
        (taken, asked): (Taken, Asked),
        (home, credential): (UpstreamName, Option<Credential>),
    ) -> Self {
        let (fitted, heard) = (None, Heard::Nothing);
        Self { sessions, taken: Some(taken), asked, until: None, fitted, home, credential, heard }
    }

    /// What was said.
    pub(super) fn conversation(&self) -> Option<&Session> {
        self.taken.as_ref().map(|taken| &taken.session)
    }

    /// Tokens that the answer may have, where its client says so.
    pub(super) fn room(&self) -> Option<u64> {
        let other = self.asked.extra.get("max_completion_tokens");
        let other = other.and_then(|value| value.as_u64().or_else(|| value.as_str()?.parse().ok()));
        self.asked.max_tokens.max(other)
    }

    /// The node's key that its client has brought, for nodes of `upstream`: others never see it.
    pub(in crate::gateway) fn brought_for(&self, upstream: &Upstream) -> Option<&Credential> {
        self.credential.as_ref().filter(|_| self.home == upstream.name)
    }

    /// The answer to this try begins.
    fn begin(&mut self, head: &ResponseHeader) {
        self.heard = match head.status.is_success() {
            _ if is_stream(head) => Heard::Chunks(Listener::default()),
            true => Heard::Whole(Whole::default()),
            false => Heard::Nothing,
        };
    }

    /// It is kept until it is whole.
    fn is_whole(&self) -> bool {
        matches!(self.heard, Heard::Whole(_))
    }

    /// A piece of it; `over` where no more comes, and it is `well`. Puts in its place what the client is told. Gives the prompt's tokens
    /// as the node tells them, once it has.
    ///
    /// # Errors
    /// What has come is no answer.
    fn hear(
        &mut self,
        body: &mut Option<Bytes>,
        over: bool,
        well: bool,
    ) -> Result<Option<u64>, Refusal> {
        match &mut self.heard {
            Heard::Nothing => {}
            Heard::Chunks(chunks) => {
                chunks.push(body.as_deref().unwrap_or_default());
                if over
                    && well
                    && let Some(said) = chunks.said().map(Arc::from)
                {
                    self.keep(said);
                }
            }
            Heard::Whole(whole) => {
                if !body.take().is_none_or(|piece| whole.push(&piece)) {
                    return Err(NO_CHAT);
                }
                if over {
                    let reply = mem::take(whole).reply().ok_or(NO_CHAT)?;
                    self.heard = Heard::Nothing;
                    let told = serde_json::to_vec(&reply).map_err(|_| Refusal::Internal)?;
                    self.keep(reply.text().into());
                    *body = Some(told.into());
                    return Ok(Some(reply.prompt_tokens()));
                }
            }
        }
        Ok(None)
    }

    /// Whether who was asked counts as was counted here: if not, they have another template or tokenizer, and prompts are too short or
    /// too long.
    fn compare(&self, told: u64, asked: &Forward) {
        let Some((Fitted { counted: Some(counted), .. }, upstream, model)) = &self.fitted else {
            return;
        };
        let same = asked.route.upstream.name == *upstream && asked.model == *model;
        if told == 0 || *counted == told || !same {
            return;
        }
        let miscounts = &self.sessions.metrics.miscounts;
        if miscounts.get() == 0 {
            log::warn!(
                "chat sessions: a prompt was counted as {counted} tokens, and its node says {told}: is `session_model` its model?"
            );
        }
        miscounts.inc();
    }

    /// Whoever asks next in this session goes on from here.
    fn keep(&mut self, answer: Arc<str>) {
        let (Some(taken), Some((fitted, ..))) = (self.taken.take(), &mut self.fitted) else {
            return;
        };
        let mut session = taken.session.clone();
        session.go_on(fitted.dropped, self.asked.question.clone(), answer);
        session.kept = mem::take(&mut fitted.kept);
        taken.keep(session);
    }
}

/// The head of the answer to a question of a session, if this is one: its client is told of it in other words.
///
/// # Errors
/// It has no body.
pub(in crate::gateway) fn begin_answer(
    head: &mut ResponseHeader,
    ctx: &mut RequestContext,
) -> Result<()> {
    let Some(chat) = &mut ctx.chat else { return Ok(()) };
    chat.begin(head);
    ctx.answer.in_short = chat.is_whole();
    if !chat.is_whole() {
        return Ok(());
    }
    if is_empty(head) {
        ctx.failure = Some(NO_CHAT);
        return Err(refused_answer(502, "an answer without a body"));
    }
    retell(head, "application/json")
}

impl Gateway {
    /// A piece of the answer to a question of a session, if this is one.
    ///
    /// # Errors
    /// What has come is no answer, or no memory is left for it.
    pub(in crate::gateway) fn hear(
        &self,
        body: &mut Option<Bytes>,
        end: bool,
        ctx: &mut RequestContext,
    ) -> Result<()> {
        if ctx.chat.as_ref().is_some_and(|chat| chat.is_whole()) {
            self.hold_answer(body.as_ref(), ctx)?;
        }
        let Some(chat) = &mut ctx.chat else { return Ok(()) };
        let guard = ctx.answer.guard.as_ref();
        let (over, well) =
            guard.map_or((end, true), |guard| (end || guard.is_over(), guard.is_well()));
        match chat.hear(body, over, well) {
            Ok(told) => {
                if let (Some(told), Some(forward)) = (told, &ctx.forward) {
                    chat.compare(told, forward);
                }
                Ok(())
            }
            Err(refusal) => {
                ctx.failure = Some(refusal);
                Err(refused_answer(502, "no chat"))
            }
        }
    }
}
