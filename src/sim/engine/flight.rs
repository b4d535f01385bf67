//! One request for an answer of the model, from its arrival to its last byte.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::time::Sleep;

use super::sequence::Sequence;
use super::{Begun, Health, Progress};
use crate::sim::node::Node;

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::sim) enum Finish {
    /// It said all it had to say.
    Stop,
    /// It has as many tokens as were asked for.
    Length,
    /// A fault.
    Error,
}

impl Finish {
    /// `finish_reason` in OpenAI's API.
    pub(in crate::sim) fn reason(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::Error => "error",
        }
    }
}

/// What the engine is asked to make. Several choices, or prompts, of one request are one job: they share a slot, and one
/// choice's tokens stand for all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::sim) struct Job {
    /// Token ids of the prompt.
    pub(in crate::sim) prompt: Vec<u32>,
    /// Token ids of the answer; none where only the prompt is computed.
    pub(in crate::sim) answer: Vec<u32>,
}

/// What holds for a job beside its tokens.
#[derive(Debug, Clone, Copy)]
pub(in crate::sim) struct Start {
    /// With whom it shares blocks of the cache.
    pub(in crate::sim) salt: u64,
    /// When its model is there.
    pub(in crate::sim) ready: Instant,
    /// The least time from the end of the prefill to the first token.
    pub(in crate::sim) first_token: Duration,
}

/// A request, from its arrival until its last byte is handed to the connection. Dropped before it is finished, it is one
/// that its client left.
pub(in crate::sim) struct Flight {
    node: Arc<Node>,
    phase: Phase,
    /// Until the first token.
    sleep: Option<Pin<Box<Sleep>>>,
    /// Tokens of the prompt that were found in the cache.
    cached: usize,
    /// Tokens of the answer.
    made: AtomicUsize,
}

enum Phase {
    /// Before the first token.
    Waits(Begun),
    /// The first token is there.
    Answers(Begun),
    /// It has left the engine.
    Ended,
    /// The engine did not take it.
    Refused(Health),
}

impl Flight {
    /// One more request.
    pub(in crate::sim) fn begin(node: &Arc<Node>, job: &Job, start: Start) -> Self {
        let engine = &node.engine;
        let sequence = if engine.cache.prefix_caching {
            Sequence::named(job, start.salt, engine.cache.block_size)
        } else {
            Sequence::unnamed(job, engine.cache.block_size)
        };
        let phase = engine.begin(sequence, start).map_or_else(Phase::Refused, Phase::Waits);
        Self { node: node.clone(), phase, sleep: None, cached: 0, made: AtomicUsize::new(0) }
    }

    /// Why the engine did not take it, if so.
    pub(in crate::sim) fn refused(&self) -> Option<Health> {
        match self.phase {
            Phase::Refused(why) => Some(why),
            _ => None,
        }
    }

    /// Ready when the prompt is computed and the first token is there, or never will be; from then on always.
    pub(in crate::sim) fn poll_first_token(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Phase::Waits(begun) = &self.phase else { return Poll::Ready(()) };
        begun.signal.register(cx.waker());
        self.cached = loop {
            if begun.signal.stopped() {
                return Poll::Ready(());
            }
            match self.node.engine.progress(begun.ticket) {
                Progress::Queued => return Poll::Pending,
                Progress::Answers(cached) => break cached,
                Progress::Prefill(until) => {
                    let until = until.into();
                    let sleep =
                        self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
                    if sleep.deadline() != until {
                        sleep.as_mut().reset(until);
                    }
                    ready!(sleep.as_mut().poll(cx));
                }
            }
        };
        self.sleep = None;
        if let Phase::Waits(begun) = std::mem::replace(&mut self.phase, Phase::Ended) {
            self.phase = Phase::Answers(begun);
        }
        Poll::Ready(())
    }

    /// Tokens of the prompt that were found in the cache: known with the first token, 0 before.
    pub(in crate::sim) fn cached_tokens(&self) -> usize {
        self.cached
    }

    /// `prompt_tokens_details` of usage in OpenAI's API: only where the node shows them, and something was found.
    pub(in crate::sim) fn prompt_tokens_details(&self) -> Option<String> {
        let shown = self.node.prompt_tokens_details && self.cached > 0;
        shown.then(|| format!(r#"{{"cached_tokens":{}}}"#, self.cached))
    }

    /// Whose engine it is in.
    pub(in crate::sim) fn node(&self) -> &Node {
        &self.node
    }

    /// So many tokens of the answer were made.
    pub(in crate::sim) fn made(&self, tokens: usize) {
        self.made.fetch_add(tokens, Ordering::Relaxed);
        self.node.engine.made(tokens);
    }

    /// Whether the engine died under it.
    pub(in crate::sim) fn stopped(&self) -> bool {
        match &self.phase {
            Phase::Waits(begun) | Phase::Answers(begun) => begun.signal.stopped(),
            Phase::Ended | Phase::Refused(_) => false,
        }
    }

    /// Ready when the engine dies under it.
    pub(in crate::sim) fn poll_stopped(&self, cx: &mut Context<'_>) -> Poll<()> {
        if let Phase::Waits(begun) | Phase::Answers(begun) = &self.phase {
            begun.signal.register(cx.waker());
        }
        if self.stopped() { Poll::Ready(()) } else { Poll::Pending }
    }

    /// The answer has come to its end; a second end changes nothing.
    pub(in crate::sim) fn finish(&mut self, finish: Finish) {
        self.end(Some(finish));
    }

    fn end(&mut self, finish: Option<Finish>) {
        let phase = std::mem::replace(&mut self.phase, Phase::Ended);
        if let Phase::Waits(begun) | Phase::Answers(begun) = phase {
            let made = self.made.load(Ordering::Relaxed);
            self.node.engine.end(begun.ticket, made, finish);
        }
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.end(None);
    }
}
