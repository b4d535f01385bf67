//! One request for an answer of the model, from its arrival to its last byte.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::Sleep;

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

/// What the engine is asked to make.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::sim) struct Job {
    /// Token ids of the prompt.
    pub(in crate::sim) prompt: Vec<u32>,
    /// Token ids of the answer; none where only the prompt is computed.
    pub(in crate::sim) answer: Vec<u32>,
}

/// A request, from its arrival until its last byte is handed to the connection. Dropped before it is finished, it is one
/// that its client left.
pub(in crate::sim) struct Flight {
    node: Arc<Node>,
    /// Until the first token.
    wait: Option<Pin<Box<Sleep>>>,
    finished: bool,
}

impl Flight {
    /// One more request is being answered; its first token takes at least `first_token`.
    pub(in crate::sim) fn begin(node: &Arc<Node>, job: &Job, first_token: Duration) -> Self {
        node.totals.prompt_tokens.fetch_add(job.prompt.len() as u64, Ordering::Relaxed);
        node.counts.send_modify(|counts| counts.running += 1);
        let wait = (!first_token.is_zero()).then(|| Box::pin(tokio::time::sleep(first_token)));
        Self { node: node.clone(), wait, finished: false }
    }

    /// Ready when the prompt is computed and the first token is there; from then on always.
    pub(in crate::sim) fn poll_first_token(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(wait) = &mut self.wait {
            ready!(wait.as_mut().poll(cx));
            self.wait = None;
        }
        Poll::Ready(())
    }

    /// Tokens of the prompt that were found in the cache: known with the first token, 0 before.
    pub(in crate::sim) fn cached_tokens(&self) -> usize {
        0
    }

    /// So many tokens of the answer were made.
    pub(in crate::sim) fn made(&self, tokens: usize) {
        self.node.totals.generation_tokens.fetch_add(tokens as u64, Ordering::Relaxed);
    }

    /// The answer has come to its end; a second end changes nothing.
    pub(in crate::sim) fn finish(&mut self, finish: Finish) {
        if self.finished {
            return;
        }
        self.finished = true;
        let totals = &self.node.totals;
        let total = match finish {
            Finish::Stop => &totals.stopped,
            Finish::Length => &totals.at_length,
            Finish::Error => &totals.failed,
        };
        total.fetch_add(1, Ordering::Relaxed);
        self.node.counts.send_modify(|counts| {
            counts.running -= 1;
            counts.finished += 1;
        });
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        if !self.finished {
            self.node.counts.send_modify(|counts| {
                counts.running -= 1;
                counts.aborted += 1;
            });
        }
    }
}
