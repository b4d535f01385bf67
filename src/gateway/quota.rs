//! What a key may ask for: taken when a request is about to go to a node, and given back where nothing came of it.

use std::time::Instant;

use http::HeaderName;
use pingora::Result;
use pingora::http::ResponseHeader;
use pingora_proxy::Session;

use super::Gateway;
use super::authz::CHECKED;
use super::context::RequestContext;
use crate::access::keys::Key;
use crate::access::limits::{Admitted, Part, Standing};
use crate::refusal::{Refusal, in_words};

/// OpenAI's headers: how many requests there may be, how many are left, and until all are there again.
const LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit-requests");
const REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining-requests");
const RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset-requests");

/// What a request took of what its key may.
#[derive(Default)]
pub(super) struct Quota {
    admitted: Option<Admitted>,
    standing: Option<Standing>,
}

impl Quota {
    /// Tells how the key stands, where it has a limit.
    pub(super) fn tell(&self, head: &mut ResponseHeader) -> Result<()> {
        let Some(Standing { limit, remaining, reset }) = self.standing else { return Ok(()) };
        head.insert_header(LIMIT, limit)?;
        head.insert_header(REMAINING, remaining)?;
        head.insert_header(RESET, in_words(reset))
    }
}

impl Gateway {
    /// Counts a request of `key` that is about to go to a node, unless it was counted before it came.
    ///
    /// # Errors
    /// [`Refusal::Exceeded`].
    pub(super) fn take_quota(
        &self,
        session: &Session,
        ctx: &mut RequestContext,
        key: &Key,
    ) -> std::result::Result<(), Refusal> {
        let request = session.req_header();
        let pass = request.headers.get(CHECKED).and_then(|value| value.to_str().ok());
        let counted = pass.and_then(|pass| {
            let now = self.clock.at(Instant::now());
            self.passes.take(pass, &key.name, request.uri.path(), now)
        });
        self.take_part(ctx, key, counted.map_or(Part::All, Part::Place))
    }

    /// Takes a part of what `key` may.
    ///
    /// # Errors
    /// [`Refusal::Exceeded`].
    pub(super) fn take_part(
        &self,
        ctx: &mut RequestContext,
        key: &Key,
        part: Part,
    ) -> std::result::Result<(), Refusal> {
        if key.limits.is_none() {
            return Ok(());
        }
        let now = self.clock.at(Instant::now());
        let (admitted, standing) = key.account.take(&key.limits, part, now);
        ctx.quota.standing = standing;
        ctx.quota.admitted = Some(admitted.map_err(Refusal::Exceeded)?);
        Ok(())
    }
}

/// The request is over. One that failed before its first byte, or whose client left before a node was asked, counts for nothing.
pub(super) fn settle(ctx: &mut RequestContext) {
    let Some(admitted) = ctx.quota.admitted.take() else { return };
    let failed = ctx.refused.is_some() || (ctx.client_left && ctx.counted_tries() == 0);
    if failed && ctx.answer.first_byte.is_none() {
        admitted.give_back();
    }
}
