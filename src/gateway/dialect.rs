//! Nodes that speak another dialect than their clients: a request is translated before it goes up, an answer as it comes down,
//! so that nothing else of the gateway knows of it.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::{HeaderValue, header};
use pingora::Result;
use pingora::http::ResponseHeader;

use super::Gateway;
use super::context::RequestContext;
use super::forward::refused_answer;
use super::held::HeldBody;
use crate::refusal::Refusal;
use crate::upstream::Upstream;
use crate::wire::ollama::{self, Call, Shape};
use crate::wire::splice::{Edit, Pieces};

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
        let asked = match edited.as_slice() {
            [] => ollama::request(call, &body, &upstream.load_options),
            [one] => ollama::request(call, one, &upstream.load_options),
            pieces => ollama::request(call, &pieces.concat(), &upstream.load_options),
        };
        let asked = asked?;
        let mut share = self.held.share();
        if !share.grow(asked.body.len()) {
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
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let answer = translated.shape.begin(ctx.id.as_str(), head.status.as_u16(), now.as_secs());
    let told = HeaderValue::from_static(answer.content_type());
    head.insert_header(header::CONTENT_TYPE, told)?;
    // How long it will be nobody knows.
    head.remove_header(&header::CONTENT_LENGTH);
    head.insert_header(header::TRANSFER_ENCODING, "chunked")?;
    ctx.answer.translation = Some(Box::new(answer));
    Ok(())
}

/// A piece of the answer's body, likewise.
///
/// # Errors
/// What has come in one piece is no answer.
pub(super) fn body(body: &mut Option<Bytes>, end: bool, ctx: &mut RequestContext) -> Result<()> {
    let Some(answer) = &mut ctx.answer.translation else { return Ok(()) };
    let mut told = body.take().map_or(Bytes::new(), |piece| answer.push(&piece));
    if end {
        let rest = answer.finish();
        told = if told.is_empty() { rest } else { [told, rest].concat().into() };
    }
    if answer.is_none() {
        ctx.failure = Some(Refusal::UpstreamError("The node's answer is none that Ollama gives."));
        return Err(refused_answer(502, "no answer of Ollama's"));
    }
    *body = (!told.is_empty()).then_some(told);
    Ok(())
}
