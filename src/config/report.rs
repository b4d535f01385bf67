//! Collects what is wrong with one source while it is read, and finds the lines afterwards.

use std::borrow::Cow;
use std::collections::HashSet;

pub(super) use super::at::{At, Step};
use super::defaults::{HINT_WORDS_MAX, NAME_CHARS_MAX, PROBLEMS_MAX, QUOTE_CHARS_MAX};
use super::locate;
use super::problem::{Location, Origin, Problem, Problems};

/// Why a text is not the value that it should be. Never holds the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    /// What is wrong.
    pub(super) message: Cow<'static, str>,
    /// What to do.
    pub(super) hint: Option<String>,
}

impl Fault {
    /// A fault with advice.
    pub(super) fn with_hint(
        message: impl Into<Cow<'static, str>>,
        hint: impl Into<String>,
    ) -> Self {
        Self { message: message.into(), hint: Some(hint.into()) }
    }
}

impl<T: Into<Cow<'static, str>>> From<T> for Fault {
    fn from(message: T) -> Self {
        Self { message: message.into(), hint: None }
    }
}

/// Which part of an entry a problem points at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Place {
    /// The value.
    Value,
    /// Its key.
    Key,
    /// The key where it stands a second time.
    Repeat,
}

/// A problem whose line is not known yet.
pub(super) struct Draft {
    /// The way to the node.
    pub(super) steps: Vec<Step>,
    /// Which part of it.
    pub(super) place: Place,
    /// Whether the last step may be shown: a key that is no known word may be a secret that lost its place.
    last_shown: bool,
    message: Cow<'static, str>,
    hint: Option<String>,
    quote: Option<String>,
}

impl Draft {
    /// Says what to do.
    pub(super) fn hint(&mut self, hint: impl Into<String>) -> &mut Self {
        self.hint = Some(hint.into());
        self
    }

    /// Keeps the value for the terminal of `sluice check`. Not for keys.
    pub(super) fn quote(&mut self, value: &str) -> &mut Self {
        self.quote = Some(value.chars().take(QUOTE_CHARS_MAX + 1).collect());
        self
    }

    /// Keeps a key of a map for the terminal, if it looks like a word: `key:secret` without its space is a key, too.
    pub(super) fn quote_word(&mut self, key: &str) -> &mut Self {
        let word = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        if key.len() <= NAME_CHARS_MAX && key.bytes().all(word) {
            self.quote(key);
        }
        self
    }

    /// Points at `place` instead of the value.
    pub(super) fn place(&mut self, place: Place) -> &mut Self {
        self.place = place;
        self
    }

    /// Leaves the last step out of the path that is shown.
    pub(super) fn hide_last(&mut self) -> &mut Self {
        self.last_shown = false;
        self
    }

    fn path(&self) -> String {
        let shown = self.steps.len() - usize::from(!self.last_shown && !self.steps.is_empty());
        path_of(&self.steps[..shown])
    }
}

/// `routes[3].upstream_url`.
pub(super) fn path_of(steps: &[Step]) -> String {
    let mut path = String::new();
    for step in steps {
        match step {
            Step::Index(index) => path.push_str(&format!("[{index}]")),
            Step::Key(key) => {
                if !path.is_empty() {
                    path.push('.');
                }
                path.extend(key.chars().take(QUOTE_CHARS_MAX).flat_map(char::escape_debug));
            }
        }
    }
    path
}

/// The problems of one source.
pub(super) struct Report {
    origin: Origin,
    drafts: Vec<Draft>,
    more: usize,
    syntax: Option<(Option<Location>, String)>,
}

impl Report {
    /// Nothing found yet.
    pub(super) fn new(origin: Origin) -> Self {
        Self { origin, drafts: Vec::new(), more: 0, syntax: None }
    }

    /// Nothing found yet in the file `name`.
    pub(super) fn of_file(name: &str) -> Self {
        Self::new(Origin::File(name.to_owned()))
    }

    /// Records a problem; the answer takes its hint and its quote.
    pub(super) fn problem(
        &mut self,
        at: &At<'_>,
        message: impl Into<Cow<'static, str>>,
    ) -> &mut Draft {
        self.problem_at(at.steps(), message)
    }

    /// Records a problem of the value that `steps` lead to.
    pub(super) fn problem_at(
        &mut self,
        steps: Vec<Step>,
        message: impl Into<Cow<'static, str>>,
    ) -> &mut Draft {
        self.drop_surplus();
        self.drafts.push(Draft {
            steps,
            place: Place::Value,
            last_shown: true,
            message: message.into(),
            hint: None,
            quote: None,
        });
        let last = self.drafts.len() - 1;
        &mut self.drafts[last]
    }

    /// Records a fault of the value at `at`.
    pub(super) fn fault(&mut self, at: &At<'_>, fault: Fault) -> &mut Draft {
        let draft = self.problem(at, fault.message);
        draft.hint = fault.hint;
        draft
    }

    /// Only counts what came past the bound.
    fn drop_surplus(&mut self) {
        if self.drafts.len() > PROBLEMS_MAX {
            self.drafts.truncate(PROBLEMS_MAX);
            self.more += 1;
        }
    }

    /// The value, or its fault recorded with the text it was read from.
    pub(super) fn take<T>(
        &mut self,
        at: &At<'_>,
        text: &str,
        result: Result<T, Fault>,
    ) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(fault) => {
                self.fault(at, fault).quote(text);
                None
            }
        }
    }

    /// The value, or its fault recorded without any text: for keys.
    pub(super) fn take_secret<T>(&mut self, at: &At<'_>, result: Result<T, Fault>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(fault) => {
                self.fault(at, fault);
                None
            }
        }
    }

    /// What is read.
    pub(super) fn origin(&self) -> Origin {
        self.origin.clone()
    }

    /// The document cannot be read at all: this is then told alone.
    pub(super) fn syntax(&mut self, location: Option<Location>, message: impl Into<String>) {
        self.syntax = Some((location, message.into()));
    }

    /// Whether further problems will only be counted.
    pub(super) fn full(&self) -> bool {
        self.drafts.len() > PROBLEMS_MAX
    }

    /// How many were found.
    pub(super) fn found(&self) -> usize {
        self.drafts.len() + self.more + usize::from(self.syntax.is_some())
    }

    /// The problems, in the order of their lines in `text`.
    pub(super) fn finish(mut self, text: Option<&str>) -> Problems {
        if let Some((location, message)) = self.syntax.take() {
            let mut problems = Problems::one(self.origin, message);
            problems.list.iter_mut().for_each(|problem| problem.location = location);
            return problems;
        }
        self.drop_surplus();
        // The first thing that is wrong with a value explains the others.
        let mut seen = HashSet::new();
        self.drafts.retain(|draft| seen.insert((draft.steps.clone(), draft.place)));
        let locations = match text {
            Some(text) if !self.drafts.is_empty() => {
                let drafts = self.drafts.iter();
                let nodes: Vec<_> = drafts.map(|d| (d.steps.as_slice(), d.place)).collect();
                locate::locate(text, &nodes)
            }
            _ => vec![None; self.drafts.len()],
        };
        let problem_of = |(draft, location): (Draft, Option<Location>)| Problem {
            origin: self.origin.clone(),
            path: draft.path(),
            location,
            message: draft.message.into_owned(),
            hint: draft.hint,
            quote: draft.quote,
        };
        let mut list: Vec<Problem> =
            self.drafts.into_iter().zip(locations).map(problem_of).collect();
        list.sort_by_key(|problem| problem.location);
        Problems { list, more: self.more }
    }
}

/// The word of `words` that `word` probably meant.
pub fn nearest<'w>(word: &str, words: impl IntoIterator<Item = &'w str>) -> Option<&'w str> {
    // A third of the letters may be wrong: `upstream_urll` and `methodz`, but not any short word for any other.
    let bound = (word.chars().count() / 3).max(1);
    if word.len() > QUOTE_CHARS_MAX {
        return None;
    }
    words
        .into_iter()
        .take(HINT_WORDS_MAX)
        .map(|known| (strsim::damerau_levenshtein(word, known), known))
        .filter(|(distance, _)| *distance <= bound)
        .min()
        .map(|(_, known)| known)
}

/// The hint that goes with [`nearest`].
pub(super) fn did_you_mean(word: &str) -> String {
    format!("did you mean `{word}`?")
}
