//! What a key may ask for: taken when a request is about to go to a node, and given back where nothing came of it.

use http::HeaderName;
use pingora::Result;
use pingora::http::ResponseHeader;
use pingora_proxy::Session;

use super::Gateway;
use super::account::{came_to_nothing, spent};
use super::context::RequestContext;
use crate::access::keys::Key;
use crate::access::limits::{Part, Standing, Standings};
use crate::access::store::{Admitted, Decision};
use crate::answers::authz::CHECKED;
use crate::refusal::{Refusal, in_words};
use crate::wire::usage;
use crate::wire::usage::spent::Source;

/// OpenAI's headers: how much there may be, how much is left, and until all is there again.
const REQUESTS: [HeaderName; 3] = [
    HeaderName::from_static("x-ratelimit-limit-requests"),
    HeaderName::from_static("x-ratelimit-remaining-requests"),
    HeaderName::from_static("x-ratelimit-reset-requests"),
];
const TOKENS: [HeaderName; 3] = [
    HeaderName::from_static("x-ratelimit-limit-tokens"),
    HeaderName::from_static("x-ratelimit-remaining-tokens"),
    HeaderName::from_static("x-ratelimit-reset-tokens"),
];

/// What a request took of what its key may.
#[derive(Default)]
pub(super) struct Quota {
    /// Tokens of the prompt, as long as nobody has counted them.
    prompt: u64,
    admitted: Option<Admitted>,
    standings: Standings,
}

impl Quota {
    /// Tells how the key stands, where it has a limit.
    pub(super) fn tell(&self, head: &mut ResponseHeader) -> Result<()> {
        let Standings { requests, tokens } = self.standings;
        for (names, standing) in [(REQUESTS, requests), (TOKENS, tokens)] {
            let Some(Standing { limit, remaining, reset }) = standing else { continue };
            let [of_limit, of_remaining, of_reset] = names;
            head.insert_header(of_limit, limit)?;
            head.insert_header(of_remaining, remaining)?;
            head.insert_header(of_reset, in_words(reset))?;
        }
        Ok(())
    }

    /// Tokens of the prompt, as long as nobody has counted them.
    pub(super) fn prompt(&self) -> u64 {
        self.prompt
    }

    /// What was taken stays taken, whatever comes of this request.
    pub(super) fn keep(&mut self) {
        self.admitted = None;
    }
}

impl Gateway {
    /// Counts a request of `key` that is about to go to a node, unless it was counted before it came.
    ///
    /// # Errors
    /// [`Refusal::Exceeded`], [`Refusal::LimitsUnavailable`].
    pub(super) async fn take_quota(
        &self,
        session: &Session,
        ctx: &mut RequestContext,
        key: &Key,
    ) -> std::result::Result<(), Refusal> {
        let request = session.req_header();
        let pass = request.headers.get(CHECKED).and_then(|value| value.to_str().ok());
        let pass = pass.and_then(|pass| self.passes.read(pass, &key.name, request.uri.path()));
        if ctx.is_metered
            && let Some(body) = &ctx.body
        {
            let parts = ctx.prompt.parts.iter().filter_map(|part| body.bytes.get(part.clone()));
            ctx.quota.prompt = parts.map(usage::estimated).sum();
        }
        let tokens = ctx.quota.prompt.saturating_add(ctx.max_tokens.unwrap_or(0));
        let tokens = u32::try_from(tokens).unwrap_or(u32::MAX);
        let part = match pass {
            Some(pass) => Part::Counted(pass, tokens),
            None => Part::All(tokens),
        };
        self.take_part(ctx, key, part).await.map(drop)
    }

    /// Takes a part of what `key` may; gives the moment when it did, by the clock of the store.
    ///
    /// # Errors
    /// [`Refusal::Exceeded`], [`Refusal::LimitsUnavailable`].
    pub(super) async fn take_part(
        &self,
        ctx: &mut RequestContext,
        key: &Key,
        part: Part,
    ) -> std::result::Result<u64, Refusal> {
        if key.limits.is_none() {
            return Ok(self.store.now());
        }
        let decision = self.store.take(key, part).await;
        let Decision { admitted, standings, moment } =
            decision.ok_or(Refusal::LimitsUnavailable)?;
        ctx.quota.standings = standings;
        ctx.quota.admitted = Some(admitted.map_err(|exceeded| {
            self.metrics.limited(exceeded.limit.word());
            key.traffic.limited();
            Refusal::Exceeded(exceeded)
        })?);
        Ok(moment)
    }

    /// The request is over. One that failed before its first byte, or whose client left before a node was asked, counts for
    /// nothing; any other has the tokens that it had.
    pub(super) fn settle_quota(&self, ctx: &mut RequestContext) {
        let Some(admitted) = ctx.quota.admitted.take() else { return };
        if came_to_nothing(ctx) {
            return admitted.give_back();
        }
        let spent = spent(ctx);
        // Of an answer of which nothing came its node may have made all.
        let is_known =
            spent.source != Source::Estimated || ctx.answer.tally.is_some() && !ctx.client_left;
        if admitted.has_tokens() && is_known {
            admitted.settle(spent.total(), self.store.now());
        }
    }
}
