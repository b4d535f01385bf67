//! What is shown: the answer as it comes, thoughts dimmed, a footer; on anything but a terminal the answer alone.

use std::borrow::Cow;
use std::io::{self, IsTerminal, Write};

use super::super::{say, shows_colours};
use crate::config::Environment;

const DIM: &str = "\x1b[2m";
const PLAIN: &str = "\x1b[0m";

/// Standard output, and where the answer on it stands.
pub(super) struct Screen {
    pub(super) terminal: bool,
    colour: bool,
    /// Thoughts are shown, on a terminal.
    pub(super) thoughts: bool,
    thinking: bool,
    /// The last character was a line feed, or there was none.
    at_begin: bool,
}

impl Screen {
    /// The screen of this process: no colour where `NO_COLOR` is set (no-color.org) or the terminal is a dumb one.
    pub(super) fn new(environment: &Environment, thoughts: bool) -> Self {
        let (terminal, colour) = (io::stdout().is_terminal(), shows_colours(environment));
        Self { terminal, colour, thoughts, thinking: false, at_begin: true }
    }

    /// More of the answer.
    ///
    /// # Errors
    /// Nobody reads it any more.
    pub(super) fn text(&mut self, text: &str) -> io::Result<()> {
        if text.is_empty() {
            return Ok(());
        }
        self.stop_thinking()?;
        self.put(text)
    }

    /// More of what the model thinks.
    ///
    /// # Errors
    /// As [`Self::text`].
    pub(super) fn thought(&mut self, thought: &str) -> io::Result<()> {
        if thought.is_empty() || !self.terminal || !self.thoughts {
            return Ok(());
        }
        if !self.thinking {
            self.end()?;
            self.thinking = true;
            self.write(if self.colour { DIM } else { "" })?;
            self.put("Thinking…\n")?;
        }
        self.put(thought)
    }

    /// The answer ends here, also where it was cut: the next line is a new one.
    ///
    /// # Errors
    /// As [`Self::text`].
    pub(super) fn end(&mut self) -> io::Result<()> {
        self.stop_thinking()?;
        if !self.at_begin {
            self.put("\n")?;
        }
        Ok(())
    }

    /// A line beside the answer, dimmed.
    pub(super) fn aside(&self, line: &str) {
        let (begin, end) = if self.colour { (DIM, PLAIN) } else { ("", "") };
        say(&format!("{begin}{}{end}", printable(line)));
    }

    /// What was asked for.
    pub(super) fn page(&self, text: &str) {
        say(&printable(text));
    }

    fn stop_thinking(&mut self) -> io::Result<()> {
        if !self.thinking {
            return Ok(());
        }
        self.thinking = false;
        if !self.at_begin {
            self.put("\n")?;
        }
        self.put("…done thinking.\n")?;
        self.write(if self.colour { PLAIN } else { "" })?;
        self.put("\n")
    }

    fn put(&mut self, text: &str) -> io::Result<()> {
        self.at_begin = text.ends_with('\n');
        self.write(&printable(text))
    }

    fn write(&self, text: &str) -> io::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()
    }
}

/// `text` without what would control a terminal: line feeds and tabs stay, each other control character becomes `U+FFFD`.
pub(super) fn printable(text: &str) -> Cow<'_, str> {
    let controls = |c: char| c.is_control() && c != '\n' && c != '\t';
    match text.contains(controls) {
        true => text.replace(controls, "\u{fffd}").into(),
        false => text.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_model_says_controls_the_terminal() {
        assert_eq!(printable("a\tb\nДа"), "a\tb\nДа");
        let sent = "\x1b[2J\x1b]0;title\x07\r\x08\x7f\u{9b}31m";
        let shown = printable(sent);
        assert!(!shown.contains(|c: char| c.is_control()), "{shown:?}");
        assert!(shown.contains("[2J"));
    }
}
