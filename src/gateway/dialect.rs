//! Nodes that speak another dialect than their clients: a request is translated before it goes up, an answer as it comes down,
//! so that nothing else of the gateway knows of it.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use pingora::Result;
use pingora::http::ResponseHeader;

use super::Gateway;
use super::context::RequestContext;
use super::forward::refused_answer;
use super::guard::joined;
use super::held::HeldBody;
use crate::refusal::Refusal;
use crate::upstream::Upstream;
use crate::wire::ollama::{self, Call, Shape};
use crate::wire::splice::{Edit, Pieces};

/// What a client is told of an answer that is none.
const NO_ANSWER: Refusal = Refusal::UpstreamError("The node's answer is none that Ollama gives.");

/// A request as its node understands it.
pub(super) struct Translated {
    /// Where the node is asked.
    pub(super) path: &'static str,
    /// What it is asked; none once nobody can need it again.
    pub(super) body: Option<HeldBody>,
    /// How its answer is to be read.
    shape: Shape,
}

impl Gateway {
    /// The request of `ctx` with `edit`, for nodes of `upstream`.
    ///
    /// # Errors
    /// It has no twin there, or no memory is left for it.
    pub(super) fn translate(
        &self,
        ctx: &RequestContext,
        (upstream, call): (&Upstream, Call),
        edit: Option<&Edit>,
    ) -> std::result::Result<Translated, Refusal> {
        let body = ctx.body.as_ref().map(|held| held.bytes.clone()).unwrap_or_default();
        let edited: Vec<Bytes> =
            edit.map_or(Vec::new(), |edit| Pieces::edited(&body, edit).collect());
        // Before it is there: it is about as long.
        let mut share = self.held.share();
        if !share.grow(body.len()) {
            return Err(Refusal::Overloaded);
        }
        let asked = match edited.as_slice() {
            [] => ollama::request(call, &body, &upstream.load_options),
            [one] => ollama::request(call, one, &upstream.load_options),
            pieces => ollama::request(call, &pieces.concat(), &upstream.load_options),
        };
        let asked = asked?;
        if !share.grow(asked.body.len().saturating_sub(body.len())) {
            return Err(Refusal::Overloaded);
        }
        let body = Some(share.hold(asked.body.into()));
        Ok(Translated { path: call.path(), body, shape: asked.answer })
    }
}

/// The head of an answer, as a node of the client's dialect would have sent it.
pub(super) fn head(head: &mut ResponseHeader, ctx: &mut RequestContext) -> Result<()> {
    let translated = ctx.forward.as_ref().and_then(|forward| forward.edits.translated.as_ref());
    let Some(translated) = translated.filter(|_| !head.status.is_informational()) else {
        ctx.answer.translation = None;
        return Ok(());
    };
    if is_empty(head) {
        ctx.answer.translation = None;
        // An error without words is told as it is.
        if head.status.is_success() {
            ctx.failure = Some(NO_ANSWER);
            return Err(refused_answer(502, "an answer without a body"));
        }
        return Ok(());
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let answer = translated.shape.begin(ctx.id.as_str(), head.status.as_u16(), now.as_secs());
    retell(head, answer.content_type())?;
    ctx.answer.translation = Some(Box::new(answer));
    Ok(())
}

/// The head of an answer whose body is told in other words: how long that will be nobody knows.
pub(super) fn retell(head: &mut ResponseHeader, content_type: &'static str) -> Result<()> {
    head.insert_header(header::CONTENT_TYPE, HeaderValue::from_static(content_type))?;
    head.remove_header(&header::CONTENT_LENGTH);
    head.insert_header(header::TRANSFER_ENCODING, "chunked")
}

/// Nothing comes after this head, and no hook is called for it.
pub(super) fn is_empty(head: &ResponseHeader) -> bool {
    let length = head.headers.get(header::CONTENT_LENGTH);
    head.status == StatusCode::NO_CONTENT || length.is_some_and(|length| length == "0")
}

impl Gateway {
    /// A piece of the answer's body, likewise.
    ///
    /// # Errors
    /// What has come in one piece is no answer, or no memory is left for it.
    pub(super) fn translate_answer(
        &self,
        body: &mut Option<Bytes>,
        end: bool,
        ctx: &mut RequestContext,
    ) -> Result<()> {
        if ctx.answer.translation.as_ref().is_some_and(|answer| answer.is_whole()) {
            self.hold_answer(body.as_ref(), ctx)?;
        }
        translated(body, end, ctx)
    }

    /// Takes memory for a piece of an answer that is kept until it is whole.
    ///
    /// # Errors
    /// None is left.
    pub(super) fn hold_answer(
        &self,
        piece: Option<&Bytes>,
        ctx: &mut RequestContext,
    ) -> Result<()> {
        let share = ctx.answer.held.get_or_insert_with(|| self.held.share());
        if share.grow(piece.map_or(0, Bytes::len)) {
            return Ok(());
        }
        ctx.failure = Some(Refusal::Overloaded);
        Err(refused_answer(503, "no memory for an answer"))
    }
}

fn translated(body: &mut Option<Bytes>, end: bool, ctx: &mut RequestContext) -> Result<()> {
    let Some(answer) = &mut ctx.answer.translation else { return Ok(()) };
    let now = body.take().map(|piece| answer.push(&piece)).filter(|told| !told.is_empty());
    let told = joined(now, if end { answer.finish() } else { Bytes::new() });
    if answer.is_none() {
        log::debug!("request {}: {}", ctx.id.as_str(), String::from_utf8_lossy(&told));
        ctx.failure = Some(NO_ANSWER);
        return Err(refused_answer(502, "no answer of Ollama's"));
    }
    *body = (!told.is_empty()).then_some(told);
    Ok(())
}
