//! An answer as Ollama makes it: one line for each token, then one with the sums; each API writes them in its own way.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use serde_json::Value;

use super::loaded::Lease;
use crate::sim::call::Length;
use crate::sim::engine::{Finish, Flight};
use crate::sim::events::{Pause, Script, Step};
use crate::sim::said::Said;

/// What was asked, in tokens.
pub(super) struct Prompt {
    /// Of all of it.
    pub(super) ids: Vec<u32>,
    /// Whether the answer tells them, as `context`.
    pub(super) told: bool,
    /// When the request came.
    pub(super) arrived: Instant,
    /// Keeps the model in memory.
    pub(super) lease: Lease,
}

/// The call of a tool.
pub(super) struct Call {
    /// Its id.
    pub(super) id: String,
    /// The tool's name, as JSON.
    pub(super) name: String,
    /// An object.
    pub(super) arguments: Value,
}

/// All that the model says.
pub(super) struct Answer {
    /// As it was asked for, as JSON.
    pub(super) model: String,
    /// Why it ends.
    pub(super) reason: &'static str,
    /// What was asked.
    pub(super) prompt: Prompt,
    /// What it thinks first.
    pub(super) thoughts: Option<Said>,
    /// What it says then.
    pub(super) said: Said,
    /// The call of a tool, instead of that.
    pub(super) called: Option<Call>,
    /// Whether the call comes with the sums.
    pub(super) called_last: bool,
    /// How many other tokens are shown beside each.
    pub(super) logprobs: Option<usize>,
    /// When the first token was there.
    pub(super) first_token: Instant,
}

/// The sums at the end of an answer. What is none is not told.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sums {
    pub(super) total: Duration,
    pub(super) load: Duration,
    pub(super) prompt_tokens: usize,
    pub(super) prompt: Duration,
    pub(super) tokens: usize,
    pub(super) eval: Duration,
}

/// What one line of an answer says; texts are JSON within quotes.
#[derive(Default)]
pub(super) struct Line<'a> {
    /// A thought.
    pub(super) thinking: &'a str,
    /// A part of the answer.
    pub(super) content: &'a str,
    /// The call of a tool.
    pub(super) called: Option<&'a Call>,
    /// The token behind it, where its probability is asked for, and how many others.
    pub(super) logprob: Option<(&'a str, usize)>,
}

/// How an API writes an answer.
pub(super) trait Voice: Send + 'static {
    /// The `content-type` of a stream.
    const STREAM: &'static str;
    /// That of an answer in one piece.
    const WHOLE: &'static str;

    /// Appends a line.
    fn line(&mut self, answer: &Answer, line: &Line<'_>, out: &mut BytesMut);

    /// Appends the last line, with the call if that comes last.
    fn done(&mut self, answer: &Answer, sums: &Sums, out: &mut BytesMut);

    /// The answer in one piece.
    fn whole(&mut self, answer: &Answer, sums: &Sums) -> String;

    /// What is sent instead of the rest when the model's process dies.
    fn last_words(&self) -> &'static [&'static str];

    /// The same where it differs from answer to answer.
    fn last_event(&self) -> Option<Bytes>;
}

impl Answer {
    /// All tokens made, shown or not.
    pub(super) fn length(&self) -> Length {
        let thoughts = self.thoughts.as_ref().map_or(0, |thoughts| thoughts.length.tokens);
        Length { tokens: thoughts + self.said.length.tokens, finish: self.said.length.finish }
    }

    /// The ids of them.
    pub(super) fn ids(&self) -> Vec<u32> {
        let mut ids = self.thoughts.as_ref().map(Said::ids).unwrap_or_default();
        ids.extend(self.said.ids());
        ids
    }

    /// What came out so far, which is all at the end.
    pub(super) fn sums(&self) -> Sums {
        let Prompt { ids, arrived, lease, .. } = &self.prompt;
        let loaded = lease.ready.max(*arrived);
        Sums {
            total: arrived.elapsed(),
            // To find it loaded takes a moment, too.
            load: (loaded - *arrived).max(Duration::from_nanos(1)),
            prompt_tokens: ids.len(),
            prompt: self.first_token.saturating_duration_since(loaded),
            tokens: self.length().tokens,
            eval: self.first_token.elapsed(),
        }
    }

    /// Lines before the last.
    fn lines(&self) -> usize {
        let thoughts = self.thoughts.as_ref().map_or(0, Said::deltas);
        thoughts + self.deltas()
    }

    /// Those of them that are no thoughts. A call that was cut short is not shown.
    fn deltas(&self) -> usize {
        match &self.called {
            Some(_) => usize::from(!self.called_last),
            None if self.said.is_call() => 0,
            None => self.said.deltas(),
        }
    }

    /// The line at `place`, and how many tokens were made for it.
    fn line<'a>(&'a self, place: usize) -> (Line<'a>, usize) {
        let thoughts = self.thoughts.as_ref();
        let name = |said: &'a Said, place| said.made_name(said.before() + place);
        let of = |said, place| self.logprobs.map(|others| (name(said, place), others));
        if let Some(said) = thoughts.filter(|said| place < said.deltas()) {
            let logprob = of(said, place);
            return (Line { thinking: said.delta(place), logprob, ..Line::default() }, 1);
        }
        let place = place - thoughts.map_or(0, Said::deltas);
        // The mark that ends the thoughts is seen with what comes after it.
        let before = if place == 0 { thoughts.map_or(0, Said::after) } else { 0 };
        if let Some(called) = &self.called {
            let line = Line { called: Some(called), ..Line::default() };
            return (line, before + self.said.length.tokens);
        }
        let (said, logprob) = (&self.said, of(&self.said, place));
        (Line { content: said.delta(place), logprob, ..Line::default() }, before + 1)
    }

    /// All thoughts, as JSON within quotes.
    pub(super) fn thinking(&self) -> String {
        self.thoughts.as_ref().map(Said::shown).unwrap_or_default()
    }

    /// All that is said, as JSON within quotes; nothing where a tool is called.
    pub(super) fn content(&self) -> String {
        if self.said.is_call() { String::new() } else { self.said.shown() }
    }

    /// All probabilities that are asked for; none of a call.
    pub(super) fn logprobs(&self) -> Vec<(&str, usize)> {
        (0..self.lines()).filter_map(|place| self.line(place).0.logprob).collect()
    }
}

/// An answer as a stream of lines. Its first token is there before the first of them is asked for.
pub(super) struct Lines<V> {
    answer: Answer,
    voice: V,
    /// Lines before the last.
    lines: usize,
    /// Of the next line.
    place: usize,
    /// Tokens of the lines before it.
    made: usize,
}

impl<V: Voice> Lines<V> {
    /// All lines of `answer`.
    pub(super) fn new(answer: Answer, voice: V) -> Self {
        let lines = answer.lines();
        Self { answer, voice, lines, place: 0, made: 0 }
    }
}

impl<V: Voice> Script for Lines<V> {
    fn next(&mut self, _: &Flight, out: &mut BytesMut) -> Option<Step> {
        let (place, lines) = (self.place, self.lines);
        self.place += 1;
        let tokens = if place < lines {
            let (line, tokens) = self.answer.line(place);
            self.voice.line(&self.answer, &line, out);
            tokens
        } else if place == lines {
            self.voice.done(&self.answer, &self.answer.sums(), out);
            // Those that nobody sees: a text that ends the answer, a mark.
            self.answer.length().tokens - self.made
        } else {
            return None;
        };
        self.made += tokens;
        // The first of all tokens has been waited for.
        let pause = Pause::Tokens(if place == 0 { tokens.saturating_sub(1) } else { tokens });
        Some(Step { pause, tokens })
    }

    fn finish(&self) -> Finish {
        self.answer.said.length.finish
    }

    fn last_words(&self) -> &'static [&'static str] {
        self.voice.last_words()
    }

    fn last_event(&self) -> Option<Bytes> {
        self.voice.last_event()
    }
}
