//! What the model says: a text, or the call of a tool; and how much of it there is room for.

use std::ops::Range;

use super::refusal::Refusal;
use super::sampling::Stops;
use super::tools::{Called, Tool};
use crate::sim::call::{Call, Length};
use crate::sim::engine::{Finish, Flight};
use crate::sim::text::{Text, within_quotes};
use crate::sim::tokens;

/// What the model says, and how much of it is shown.
pub(super) struct Said {
    text: Text,
    /// Tokens made, shown or not, and why there are no more.
    pub(super) length: Length,
    /// The tokens that are shown: all, or the arguments of a call.
    shown: Range<usize>,
    /// What the last of them shows, if it is not all of it: as it is, and as JSON within quotes.
    last: Option<(String, Box<str>)>,
    /// The text that ended it, if one did.
    pub(super) stopped_by: Option<String>,
    /// The tool that is called, if one is, and the tokens up to its arguments.
    called: Option<(String, usize)>,
}

impl Said {
    /// The echo of `prompt`.
    pub(super) fn echo(prompt: &str, length: Length) -> Self {
        let text = Text::answering(prompt, length.tokens);
        let shown = 0..length.tokens;
        Self { text, length, shown, last: None, stopped_by: None, called: None }
    }

    /// A text with an end, of which there are no more than `most` tokens.
    pub(super) fn whole(text: &str, most: usize) -> Self {
        let text = Text::of([text]);
        let length = length_of(&text, most);
        let shown = 0..length.tokens.min(text.length());
        Self { text, length, shown, last: None, stopped_by: None, called: None }
    }

    /// The call of `tool` when the user said `said`, of which there are no more than `most` tokens.
    pub(super) fn call(tool: Tool<'_>, said: &str, most: usize) -> Self {
        let Called { before, arguments, after } = Called::new(tool, said);
        let count = |text: &str| tokens::split(text).count();
        let (opens, closes) = (count(&before), count(&before) + count(&arguments));
        let text = Text::of([before.as_str(), &arguments, &after]);
        let length = length_of(&text, most);
        let shown = opens.min(length.tokens)..closes.min(length.tokens);
        let called = Some((tool.name.to_owned(), opens));
        Self { text, length, shown, last: None, stopped_by: None, called }
    }

    /// The same, but ended by the first of `stops` that comes up.
    pub(super) fn until(mut self, stops: &Stops) -> Self {
        if stops.texts.is_empty() || self.called.is_some() {
            return self;
        }
        let mut text = String::new();
        for place in self.shown.clone() {
            let before = text.len();
            text.push_str(self.text.plain(place));
            let Some((stop, at)) =
                stops.texts.iter().find_map(|stop| Some((stop, ends(&text, before, stop)?)))
            else {
                continue;
            };
            self.length = Length { tokens: place + 1, finish: Finish::Stop };
            self.stopped_by = Some(stop.clone());
            self.show_bytes(if stops.shown { at + stop.len() } else { at });
            break;
        }
        self
    }

    /// Shows no more than so many bytes of the text.
    fn show_bytes(&mut self, bytes: usize) {
        let mut left = bytes;
        for place in self.shown.clone() {
            let token = self.text.plain(place);
            if token.len() > left {
                let last = &token[..left];
                self.last = (left > 0).then(|| (last.to_owned(), within_quotes(last)));
                self.shown.end = place + usize::from(left > 0);
                return;
            }
            left -= token.len();
        }
    }

    /// The ids of all its tokens.
    pub(super) fn ids(&self) -> Vec<u32> {
        self.text.ids(self.length.tokens)
    }

    /// Tokens before the first that is shown.
    pub(super) fn before(&self) -> usize {
        self.shown.start
    }

    /// Tokens that are shown.
    pub(super) fn deltas(&self) -> usize {
        self.shown.len()
    }

    /// Tokens after the last that is shown.
    pub(super) fn after(&self) -> usize {
        self.length.tokens - self.shown.end
    }

    /// The token at `place` of those that are shown, as JSON within quotes.
    pub(super) fn delta(&self, place: usize) -> &str {
        match &self.last {
            Some((_, last)) if place + 1 == self.deltas() => last,
            _ => self.text.token(self.shown.start + place),
        }
    }

    /// The name of the token at `place` of all that were made: what it is, or the mark that it is.
    pub(super) fn made_name(&self, place: usize) -> &str {
        self.text.name(place)
    }

    /// What the token at `place` of all that were made shows, as JSON within quotes; none, if nothing.
    pub(super) fn made_delta(&self, place: usize) -> Option<&str> {
        self.shown.contains(&place).then(|| self.delta(place - self.shown.start))
    }

    /// The id of the same token.
    pub(super) fn made_id(&self, place: usize) -> u32 {
        self.text.id(place)
    }

    /// All that is shown, as JSON within quotes.
    pub(super) fn shown(&self) -> String {
        (0..self.deltas()).map(|place| self.delta(place)).collect()
    }

    /// The same as it is.
    pub(super) fn plain(&self) -> String {
        let whole = self.deltas() - usize::from(self.last.is_some());
        let shown = (0..whole).map(|place| self.text.plain(self.shown.start + place));
        let mut text: String = shown.collect();
        text.push_str(self.last.as_ref().map_or("", |(last, _)| last));
        text
    }

    /// All that was made, as JSON within quotes.
    pub(super) fn made(&self) -> String {
        self.text.first(self.length.tokens)
    }

    /// The tool that is called, as far as its name was made.
    pub(super) fn tool(&self) -> Option<&str> {
        let (tool, opens) = self.called.as_ref()?;
        (self.length.tokens >= *opens).then_some(tool)
    }

    /// The tool that is called, if the call is complete.
    pub(super) fn whole_call(&self) -> Option<&str> {
        self.tool().filter(|_| self.length.finish == Finish::Stop)
    }

    /// Whether it is a call, complete or not.
    pub(super) fn is_call(&self) -> bool {
        self.called.is_some()
    }
}

/// Where `stop` begins, if it ends in the part of `text` that came after `before` bytes.
fn ends(text: &str, before: usize, stop: &str) -> Option<usize> {
    let from = (before + 1).saturating_sub(stop.len());
    let from = (0..=from).rev().find(|at| text.is_char_boundary(*at)).unwrap_or_default();
    text[from..].find(stop).map(|at| from + at)
}

/// All of `text` and the mark that ends it, or the first `most` tokens.
fn length_of(text: &Text, most: usize) -> Length {
    let tokens = text.length() + 1;
    if tokens <= most {
        Length { tokens, finish: Finish::Stop }
    } else {
        Length { tokens: most, finish: Finish::Length }
    }
}

impl Call {
    /// Tokens that the answer to a prompt of `prompt` tokens may have: those asked for by `name`, as far as there is room.
    ///
    /// # Errors
    /// It asks for none or for more than the context, or the prompt alone is longer than this.
    pub(super) fn room(
        &self,
        (name, named): (&'static str, Option<i64>),
        prompt: usize,
    ) -> Result<usize, Refusal> {
        let max = self.node.max_model_len;
        let asked = named.map(usize::try_from);
        if let Some(Ok(tokens)) = asked.filter(|asked| asked.is_ok_and(|tokens| tokens > max)) {
            let says = format!(
                "{name}={tokens} cannot be greater than max_model_len={max}. Please request fewer output tokens. \
                 (parameter={name}, value={tokens})"
            );
            return Err(Refusal::value(name, says));
        }
        self.length(None, prompt)?;
        let room = max - prompt;
        let tokens = asked.map_or(Ok(room), |asked| asked.map(|tokens| tokens.min(room)));
        match tokens {
            Ok(tokens @ 1..) => Ok(tokens),
            _ => {
                let got = named.filter(|_| room > 0).unwrap_or_default();
                let says = format!(
                    "max_tokens must be at least 1, got {got}. (parameter=max_tokens, value={got})"
                );
                Err(Refusal::value("max_tokens", says))
            }
        }
    }
}

/// Tokens of a prompt of `prompt` tokens that the cache did not have before, and has now: its whole blocks.
pub(super) fn cache_written(flight: &Flight, prompt: usize) -> usize {
    let cache = &flight.node().engine.cache;
    if !cache.prefix_caching {
        return 0;
    }
    let whole_blocks = prompt - prompt % cache.block_size;
    whole_blocks.saturating_sub(flight.cached_tokens())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn echo(tokens: usize) -> Said {
        Said::echo("one two", Length { tokens, finish: Finish::Length })
    }

    fn stops(texts: &[&str]) -> Stops {
        Stops { texts: texts.iter().map(|text| (*text).to_owned()).collect(), shown: false }
    }

    #[test]
    fn a_stop_string_ends_a_text_and_is_shown_if_that_is_asked_for() {
        let said = echo(9).until(&stops(&["xx", "id: o"]));
        assert_eq!((said.shown(), said.length.tokens), ("You sa".to_owned(), 4));
        assert_eq!(said.length.finish, Finish::Stop);
        assert_eq!(
            (said.stopped_by.as_deref(), said.deltas(), said.after()),
            (Some("id: o"), 2, 2)
        );
        assert_eq!((said.delta(0), said.delta(1)), ("You", " sa"));
        let said = echo(9).until(&stops(&["You"]));
        assert_eq!((said.shown(), said.deltas(), said.length.tokens), (String::new(), 0, 1));
        assert_eq!(echo(4).until(&stops(&["two"])).stopped_by, None);
        let shown = echo(9).until(&Stops { shown: true, ..stops(&["id: o"]) });
        assert_eq!((shown.shown(), shown.length.tokens), ("You said: o".to_owned(), 4));
    }

    #[test]
    fn a_text_with_an_end_is_cut_where_there_is_no_room() {
        let said = Said::whole("{\"a\"}", 9);
        assert_eq!((said.shown().as_str(), said.length.tokens), (r#"{\"a\"}"#, 6));
        assert_eq!((said.deltas(), said.after(), said.length.finish), (5, 1, Finish::Stop));
        let said = Said::whole("{\"a\"}", 2);
        assert_eq!((said.shown().as_str(), said.length.finish), (r#"{\""#, Finish::Length));
    }

    #[test]
    fn a_call_shows_its_arguments() {
        let tool = Tool { name: "f", schema: None };
        let said = Said::call(tool, "", 100);
        assert_eq!((said.whole_call(), said.shown().as_str()), (Some("f"), "{}"));
        assert_eq!(said.before() + said.deltas() + said.after(), said.length.tokens);
        let cut = Said::call(tool, "", said.before() + 1);
        assert_eq!((cut.shown().as_str(), cut.whole_call(), cut.tool()), ("{", None, Some("f")));
        let cut = Said::call(tool, "", 4);
        assert_eq!((cut.deltas(), cut.tool()), (0, None));
    }
}
