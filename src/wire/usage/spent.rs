//! What a request cost in tokens, and how that is known.

use super::Tally;

/// Tokens of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spent {
    /// Of the prompt.
    pub prompt: u64,
    /// Of those, found in a cache; none where nobody told.
    pub cached: Option<u64>,
    /// Of the answer, as far as it came.
    pub answer: u64,
    /// How they are known.
    pub source: Source,
}

/// How tokens are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The node told.
    Reported,
    /// Events were counted, about one for each token.
    Counted,
    /// Nothing was told or seen: by the prompt's bytes, and by the time that the node had.
    Estimated,
}

impl Source {
    /// Its word in logs and the ledger.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reported => "reported",
            Self::Counted => "counted",
            Self::Estimated => "estimated",
        }
    }
}

impl Spent {
    /// Of a request whose prompt is about `estimated` tokens long. `stream`: its answer comes in events. `whole`: all of it came.
    pub fn of(tally: &Tally, estimated: u64, stream: bool, whole: bool) -> Self {
        let usage = tally.usage();
        let told = usage.of_prompt();
        let prompt = told.map_or(estimated, |told| told.prompt);
        let cached = told.and_then(|told| told.cached);
        let answer = usage.answer.unwrap_or(0);
        // Events behind the last that told of usage.
        let since = if stream && !whole { tally.events_since } else { 0 };
        let (answer, source) = match told {
            Some(_) if since == 0 => (answer, Source::Reported),
            Some(_) => (answer.saturating_add(since), Source::Counted),
            None if stream => return Self::counted(tally, prompt),
            None => return Self::estimated(prompt, 0),
        };
        Self { prompt, cached, answer, source }
    }

    /// Of a stream whose events alone count.
    pub fn counted(tally: &Tally, prompt: u64) -> Self {
        Self { prompt, cached: None, answer: tally.events(), source: Source::Counted }
    }

    /// Of a request for which no node has made anything.
    pub fn nothing() -> Self {
        Self { prompt: 0, cached: None, answer: 0, source: Source::Counted }
    }

    /// Of a request of which nothing was told or seen.
    pub fn estimated(prompt: u64, answer: u64) -> Self {
        Self { prompt, cached: None, answer, source: Source::Estimated }
    }

    /// Prompt and answer.
    pub fn total(&self) -> u64 {
        self.prompt.saturating_add(self.answer)
    }
}
