//! The tokens of one stream as they go by: when the first came, how long each took after the one before.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Gateway;
use super::access_log::short;
use super::context::RequestContext;
use super::streams::{Shown, Stream};
use crate::metrics::{Traffic, between_tokens};
use crate::wire::token_events::TokenEvents;

/// Of one try's answer.
pub(super) struct Flow {
    events: TokenEvents,
    began: Instant,
    first_token: Option<Instant>,
    last_token: Option<Instant>,
    /// Tokens of several choices come by turns: how long one took nobody can tell.
    has_choices: bool,
    model: Arc<Traffic>,
    shown: Shown,
}

impl Flow {
    /// A piece goes to the client.
    pub(super) fn push(&mut self, piece: &[u8], now: Instant) {
        let brought = self.events.look(piece, self.first_token.is_some());
        let both = [&*self.shown.stream.node.traffic, &*self.model];
        if brought.begins {
            self.first_token = Some(now);
            let took = now.saturating_duration_since(self.began);
            both.iter().for_each(|traffic| traffic.first_token(took));
        }
        if brought.tokens == 0 {
            return;
        }
        if let Some(last) = self.last_token.replace(now).filter(|_| !self.has_choices) {
            // Those that come together were made one after the other.
            let each = now.saturating_duration_since(last)
                / u32::try_from(brought.tokens).unwrap_or(u32::MAX);
            let each = between_tokens(each);
            both.iter().for_each(|traffic| traffic.next_tokens(each, brought.tokens));
        }
        both.iter().for_each(|traffic| traffic.made(brought.tokens));
        self.shown.stream.brought(brought.tokens, now);
    }

    /// From the request's first byte to the first token.
    pub(super) fn first_token(&self) -> Option<Duration> {
        self.first_token.map(|at| at.saturating_duration_since(self.began))
    }

    /// Events with tokens so far.
    pub(super) fn tokens(&self) -> u64 {
        self.shown.stream.tokens()
    }
}

impl Gateway {
    /// A stream that a node has begun well is watched.
    pub(super) fn watch_flow(&self, ctx: &mut RequestContext) {
        let (Some(forward), Some(place)) = (&ctx.forward, &ctx.place) else { return };
        let model = forward.model.as_ref().map(short);
        let traffic = self.traffic_of(forward, true);
        let made_by = (model, place.node().clone());
        let stream = Stream::new(ctx.id.clone(), made_by, ctx.key.clone(), ctx.started);
        ctx.flow = Some(Box::new(Flow {
            events: TokenEvents::of_path(forward.asked.path()),
            began: ctx.started,
            first_token: None,
            last_token: None,
            has_choices: ctx.has_choices,
            model: traffic,
            shown: self.streams.show(stream),
        }));
    }
}
