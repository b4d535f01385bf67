//! What ties a request to some nodes rather than others: its session, or its prompt.

use pingora_proxy::Session;
use xxhash_rust::xxh3::xxh3_64;

use super::context::RequestContext;
use crate::config::Balance;
use crate::names::ModelName;
use crate::upstream::balance::Affinity;
use crate::upstream::prefix::chain::Chain;

/// What a request has in common with others, as its upstream balances.
pub(super) enum Common {
    Nothing,
    Session(u64),
    Prompt(Box<Chain>),
}

impl Common {
    /// Of the request of `ctx`, on the way that it takes now.
    pub(super) fn of(session: &Session, ctx: &RequestContext) -> Self {
        let Some(forward) = &ctx.forward else { return Self::Nothing };
        let upstream = &forward.route.upstream;
        match upstream.balance {
            Balance::RoundRobin | Balance::LeastLoad => Self::Nothing,
            Balance::ConsistentHash => {
                let header = session.req_header().headers.get(&upstream.session_header);
                let header = header.map(|value| value.as_bytes());
                let field = ctx.prompt.shared_by.as_ref();
                let field = field.and_then(|at| body(ctx).get(at.clone()));
                let key = || ctx.key.as_ref().map(|key| key.name.as_str().as_bytes());
                header.or(field).or_else(key).map_or(Self::Nothing, |by| Self::Session(xxh3_64(by)))
            }
            Balance::PrefixAware => {
                let model = forward.model.as_ref().map_or("", ModelName::as_str);
                Self::Prompt(Box::new(chain(ctx, model)))
            }
        }
    }

    /// For the choice of a node.
    pub(super) fn affinity(&self) -> Affinity<'_> {
        match self {
            Self::Nothing => Affinity::None,
            Self::Session(hash) => Affinity::Session(*hash),
            Self::Prompt(chain) => Affinity::Prompt(chain),
        }
    }
}

/// Keeps the prompt for the access log, where the request has one.
pub(super) fn note_for_log(ctx: &mut RequestContext) {
    if !ctx.prompt.parts.is_empty() {
        let model = ctx.model.as_ref().map_or("", ModelName::as_str);
        ctx.logged_prompt = Some(Box::new(chain(ctx, model)));
    }
}

fn chain(ctx: &RequestContext, model: &str) -> Chain {
    let body = body(ctx);
    Chain::new(model, ctx.prompt.parts.iter().filter_map(|at| body.get(at.clone())))
}

fn body(ctx: &RequestContext) -> &[u8] {
    ctx.body.as_ref().map(|body| &body.bytes[..]).unwrap_or_default()
}
