//! A stream of server-sent events at the pace of a model, one HTTP chunk each.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use tokio::time::{Instant, Sleep};

use super::engine::{Finish, Flight, PAUSE_MAX};
use super::reply::{Break, Broken};

/// Room for many events at once, so that not every event asks for memory.
const BUFFER_BYTES: usize = 16 * 1024;

/// What must happen before an event is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pause {
    /// Nothing: it goes with the one before.
    None,
    /// The first token.
    FirstToken,
    /// One more token.
    Token,
    /// So many more tokens, of which only the last is seen.
    Tokens(usize),
}

/// One event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Step {
    /// When it is sent.
    pub(super) pause: Pause,
    /// Tokens in it.
    pub(super) tokens: usize,
}

/// The events of one API, in order.
pub(super) trait Script: Send {
    /// Appends the next event to `out`; none after the last. The flight knows what was found in the cache, from the first
    /// token on.
    fn next(&mut self, flight: &Flight, out: &mut BytesMut) -> Option<Step>;

    /// Why the answer ends when the script does.
    fn finish(&self) -> Finish;

    /// What is sent instead of the rest when the engine dies. Nothing at all: the connection goes.
    fn last_words(&self) -> &'static [&'static str];

    /// What is sent before those, where it differs from answer to answer.
    fn last_event(&self) -> Option<Bytes> {
        None
    }
}

/// What goes wrong after a number of events.
enum Fate {
    Breaks(Break),
    Dies,
    /// The engine dies, and the process so long after it.
    Kills(Duration),
}

/// The body of a stream.
pub(super) struct Events {
    script: Box<dyn Script>,
    token_delay: Duration,
    buffer: BytesMut,
    /// Written, but not yet due.
    held: Option<(Bytes, usize)>,
    /// Due and counted, but not yet asked for by the connection.
    unread: Option<Bytes>,
    due: Instant,
    /// The event held is the first token, and the engine has not made it yet.
    at_first_token: bool,
    sleep: Option<Pin<Box<Sleep>>>,
    sent: usize,
    fate: Option<(usize, Fate)>,
    died: bool,
    flight: Flight,
}

impl Events {
    /// The events of `script`, with this pause between tokens.
    pub(super) fn new(script: Box<dyn Script>, token_delay: Duration, flight: Flight) -> Self {
        Self {
            script,
            token_delay,
            buffer: BytesMut::with_capacity(BUFFER_BYTES),
            held: None,
            unread: None,
            due: Instant::now(),
            at_first_token: false,
            sleep: None,
            sent: 0,
            fate: None,
            died: false,
            flight,
        }
    }

    /// The same, but broken off after so many events.
    pub(super) fn breaking_after(self, events: usize, then: Break) -> Self {
        Self { fate: Some((events, Fate::Breaks(then))), ..self }
    }

    /// The same, but the engine dies after so many events.
    pub(super) fn dying_after(self, events: usize) -> Self {
        Self { fate: Some((events, Fate::Dies)), ..self }
    }

    /// The same, but after so many events the whole engine dies, and after `exit` the process ends.
    pub(super) fn killing_after(self, events: usize, exit: Duration) -> Self {
        Self { fate: Some((events, Fate::Kills(exit))), ..self }
    }

    /// Returns when the first event is there, for heads that come with it.
    ///
    /// # Errors
    /// The connection is to end before it.
    pub(super) async fn wait_for_first(&mut self) -> Result<(), Broken> {
        self.unread = poll_fn(|cx| self.poll_event(cx)).await.transpose()?;
        Ok(())
    }

    /// Whether the engine has died under it.
    pub(super) fn has_died(&self) -> bool {
        self.died
    }

    /// The next event when it is due.
    pub(super) fn poll_event(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Broken>>> {
        if let Some(event) = self.unread.take() {
            return Poll::Ready(Some(Ok(event)));
        }
        loop {
            if self.flight.stopped() {
                self.die();
            }
            if self.at_first_token {
                ready!(self.flight.poll_first_token(cx));
                self.at_first_token = false;
                self.due = Instant::now();
                continue;
            }
            if let Some(sleep) = &mut self.sleep {
                if self.flight.poll_stopped(cx).is_ready() {
                    continue;
                }
                ready!(sleep.as_mut().poll(cx));
                self.sleep = None;
            }
            if let Some((event, tokens)) = self.held.take() {
                self.flight.made(tokens);
                self.sent += 1;
                return Poll::Ready(Some(Ok(event)));
            }
            if let Some(broken) = ready!(self.poll_fate(cx)) {
                return Poll::Ready(Some(Err(broken)));
            }
            let Some(step) = self.script.next(&self.flight, &mut self.buffer) else {
                self.flight.finish(self.script.finish());
                return Poll::Ready(None);
            };
            self.hold(step);
        }
    }

    /// Takes the event just written, and sets the clock for it.
    fn hold(&mut self, step: Step) {
        self.held = Some((self.buffer.split().freeze(), step.tokens));
        self.at_first_token = step.pause == Pause::FirstToken;
        let tokens = match step.pause {
            Pause::None | Pause::FirstToken => 0,
            Pause::Token => 1,
            Pause::Tokens(tokens) => u32::try_from(tokens).unwrap_or(u32::MAX),
        };
        if tokens > 0 && !self.token_delay.is_zero() {
            // From when the event before was due, not from when it was sent: the pace does not drift.
            self.due += self.token_delay.saturating_mul(tokens).min(PAUSE_MAX);
            self.sleep = Some(Box::pin(tokio::time::sleep_until(self.due)));
        }
    }

    /// Ready without a value: no fault is due yet.
    fn poll_fate(&mut self, cx: &mut Context<'_>) -> Poll<Option<Broken>> {
        match &mut self.fate {
            Some((after, Fate::Breaks(then))) if self.sent >= *after => {
                if matches!(then, Break::End(..)) {
                    self.flight.finish(Finish::Error);
                }
                then.poll(cx).map(Some)
            }
            Some((after, Fate::Dies)) if self.sent >= *after => {
                self.die();
                self.poll_fate(cx)
            }
            Some((after, Fate::Kills(exit))) if self.sent >= *after => {
                self.flight.node().die(*exit);
                self.die();
                self.poll_fate(cx)
            }
            _ => Poll::Ready(None),
        }
    }

    /// What is said from now on is that the engine has died.
    fn die(&mut self) {
        self.flight.finish(Finish::Error);
        let (event, words) = (self.script.last_event(), self.script.last_words());
        let silent = event.is_none() && words.is_empty();
        self.script = Box::new(LastWords { event, words: words.iter() });
        self.died = true;
        self.held = None;
        self.sleep = None;
        self.at_first_token = false;
        self.fate = silent.then_some((0, Fate::Breaks(Break::EndSoon)));
    }
}

/// The rest of a stream whose engine died.
struct LastWords {
    event: Option<Bytes>,
    words: std::slice::Iter<'static, &'static str>,
}

impl Script for LastWords {
    fn next(&mut self, _: &Flight, out: &mut BytesMut) -> Option<Step> {
        match self.event.take() {
            Some(event) => out.put_slice(&event),
            None => out.put_slice(self.words.next()?.as_bytes()),
        }
        Some(Step { pause: Pause::None, tokens: 0 })
    }

    fn finish(&self) -> Finish {
        Finish::Error
    }

    fn last_words(&self) -> &'static [&'static str] {
        &[]
    }
}
