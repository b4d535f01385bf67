//! The answer to a question of a session: heard while it passes, told as clients of sessions read it, kept once it is whole.

use std::mem;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, header};
use pingora::Result;
use pingora::http::ResponseHeader;

use crate::chat::counting::Fitted;
use crate::chat::store::Taken;
use crate::config::Credential;
use crate::gateway::context::RequestContext;
use crate::gateway::downstream::is_stream;
use crate::gateway::forward::refused_answer;
use crate::metrics::SessionMetrics;
use crate::refusal::Refusal;
use crate::wire::chats::{Chunks, Whole};

/// A question of a session, under way. The next one waits for its end.
pub(in crate::gateway) struct Chat {
    /// None once its answer is kept.
    taken: Option<Taken>,
    question: Arc<str>,
    fitted: Fitted,
    metrics: SessionMetrics,
    /// The node's key that its client has brought.
    pub(in crate::gateway) credential: Option<Credential>,
    heard: Heard,
}

/// What was heard of the answer to this try.
#[derive(Default)]
enum Heard {
    /// Nothing that could be an answer.
    #[default]
    Nothing,
    Chunks(Chunks),
    Whole(Whole),
}

impl Chat {
    /// What is asked, and how much of what was said is shown with it.
    pub(super) fn new(
        taken: Taken,
        (question, fitted): (Arc<str>, Fitted),
        credential: Option<Credential>,
        metrics: SessionMetrics,
    ) -> Self {
        let heard = Heard::Nothing;
        Self { taken: Some(taken), question, fitted, metrics, credential, heard }
    }

    /// The answer to this try begins; true where its client is told of it in other words.
    pub(in crate::gateway) fn begin(&mut self, head: &mut ResponseHeader) -> Result<bool> {
        self.heard = match head.status.is_success() {
            _ if is_stream(head) => Heard::Chunks(Chunks::default()),
            true => Heard::Whole(Whole::default()),
            false => Heard::Nothing,
        };
        let retold = matches!(self.heard, Heard::Whole(_));
        if retold {
            head.insert_header(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))?;
            head.remove_header(&header::CONTENT_LENGTH);
            head.insert_header(header::TRANSFER_ENCODING, "chunked")?;
        }
        Ok(retold)
    }

    /// A piece of it; `over` where no more comes, and it is `well`. Puts in its place what the client is told.
    ///
    /// # Errors
    /// What has come is no answer.
    fn hear(&mut self, body: &mut Option<Bytes>, over: bool, well: bool) -> Result<(), Refusal> {
        let strange = Refusal::UpstreamError("The node's answer is no chat.");
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
                    return Err(strange);
                }
                if over {
                    let reply = mem::take(whole).reply().ok_or(strange)?;
                    self.compare(reply.prompt_tokens());
                    self.heard = Heard::Nothing;
                    let told = serde_json::to_vec(&reply).map_err(|_| Refusal::Internal)?;
                    self.keep(reply.text().into());
                    *body = Some(told.into());
                }
            }
        }
        Ok(())
    }

    /// Whether the node counts as was counted here: if not, it has another template or tokenizer, and prompts are too short or too
    /// long.
    fn compare(&self, told: u64) {
        let Some(counted) = self.fitted.counted.filter(|counted| told > 0 && *counted != told)
        else {
            return;
        };
        if self.metrics.miscounts.get() == 0 {
            log::warn!(
                "chat sessions: a prompt was counted as {counted} tokens, and its node says {told}: is `session_model` its model?"
            );
        }
        self.metrics.miscounts.inc();
    }

    /// Whoever asks next in this session goes on from here.
    fn keep(&mut self, answer: Arc<str>) {
        let Some(taken) = self.taken.take() else { return };
        let mut session = taken.session.clone();
        session.go_on(self.fitted.dropped, self.question.clone(), answer);
        session.kept = mem::take(&mut self.fitted.kept);
        taken.keep(session);
    }
}

/// A piece of the answer to a question of a session, if this is one.
///
/// # Errors
/// What has come is no answer.
pub(in crate::gateway) fn hear(
    body: &mut Option<Bytes>,
    end: bool,
    ctx: &mut RequestContext,
) -> Result<()> {
    let Some(chat) = &mut ctx.chat else { return Ok(()) };
    let guard = ctx.answer.guard.as_ref();
    let (over, well) = guard.map_or((end, true), |guard| (end || guard.is_over(), guard.is_well()));
    chat.hear(body, over, well).map_err(|refusal| {
        ctx.failure = Some(refusal);
        refused_answer(502, "no chat")
    })
}
