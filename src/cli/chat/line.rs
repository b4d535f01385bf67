//! The line that is typed: its prompt, its keys, and the file that remembers it.

use std::borrow::Cow;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;

use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::DefaultHistory;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{Behavior, Config, Editor, Helper};

use super::super::complain;

/// Lines that are remembered: months of chats, and soon read.
const HISTORY_LINES_MAX: usize = 1000;

/// What several lines are put between.
const QUOTES: &str = "\"\"\"";

/// Words of the chat that take several lines, too.
const TAKES_LINES: &str = "/set system ";

/// The editor.
pub(super) struct Lines {
    editor: Editor<Quotes, DefaultHistory>,
    history: Option<PathBuf>,
}

/// What was typed.
pub(super) enum Typed {
    /// A message, or a word for the chat.
    Text(String),
    /// Ctrl-C.
    Interrupt,
    /// Ctrl-D.
    End,
}

impl Lines {
    /// An editor on the terminal, with what is in the file `history`.
    ///
    /// # Errors
    /// The terminal is none.
    pub(super) fn new(history: Option<PathBuf>) -> rustyline::Result<Self> {
        // The line goes to the terminal, also where the answers go into a file.
        let config = Config::builder().behavior(Behavior::PreferTerm);
        let config = config.max_history_size(HISTORY_LINES_MAX)?.build();
        let mut editor = Editor::with_config(config)?;
        editor.set_helper(Some(Quotes));
        if let Some(path) = &history {
            // There is none before the first chat.
            let _first_chat = editor.load_history(path);
        }
        Ok(Self { editor, history })
    }

    /// Waits for the next line, and remembers it.
    ///
    /// # Errors
    /// The terminal is gone.
    pub(super) fn next(&mut self) -> rustyline::Result<Typed> {
        match self.editor.readline(">>> ") {
            Ok(text) => {
                if !text.trim().is_empty() {
                    self.remember(&text)?;
                }
                Ok(Typed::Text(text))
            }
            Err(ReadlineError::Interrupted) => Ok(Typed::Interrupt),
            Err(ReadlineError::Eof) => Ok(Typed::End),
            Err(error) => Err(error),
        }
    }

    /// At once, so that it outlives a chat that is killed; the file is its owner's alone.
    fn remember(&mut self, text: &str) -> rustyline::Result<()> {
        if !self.editor.add_history_entry(text)? {
            return Ok(());
        }
        let Some(path) = &self.history else { return Ok(()) };
        let folder = path
            .parent()
            .map_or(Ok(()), |folder| DirBuilder::new().recursive(true).mode(0o700).create(folder));
        let written = folder.map_err(ReadlineError::from);
        if let Err(error) = written.and_then(|()| self.editor.append_history(path)) {
            complain(&format!("sluice: {}: {error}", path.display()));
            self.history = None;
        }
        Ok(())
    }
}

/// `text` without the quotes of several lines, and the line breaks next to them.
pub(super) fn unquoted(text: &str) -> Cow<'_, str> {
    let inner = text.trim().strip_prefix(QUOTES).and_then(|rest| rest.strip_suffix(QUOTES));
    inner.map_or(text, |inner| inner.trim_matches('\n')).into()
}

/// Whether `text` begins with quotes that nothing has closed yet.
fn is_open(text: &str) -> bool {
    let text = text.trim();
    let value = text.strip_prefix(TAKES_LINES).unwrap_or(text).trim_start();
    value.strip_prefix(QUOTES).is_some_and(|rest| !rest.ends_with(QUOTES))
}

/// Has Enter begin another line where quotes are open.
struct Quotes;

impl Validator for Quotes {
    fn validate(&self, context: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        Ok(match is_open(context.input()) {
            true => ValidationResult::Incomplete,
            false => ValidationResult::Valid(None),
        })
    }
}

impl Completer for Quotes {
    type Candidate = String;
}

impl Hinter for Quotes {
    type Hint = String;
}

impl Highlighter for Quotes {}

impl Helper for Quotes {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_take_several_lines() {
        for open in ["\"\"\"", "\"\"\"a", " \"\"\"a\nb", "/set system \"\"\"a"] {
            assert!(is_open(open), "{open}");
        }
        for whole in ["", "a", "a \"\"\" b", "\"\"\"a\"\"\"", "\"\"\"\na\n\"\"\"\n", "/show system"]
        {
            assert!(!is_open(whole), "{whole}");
        }
        assert_eq!(unquoted("\"\"\"\na\n\nb\n\"\"\" "), "a\n\nb");
        assert_eq!(unquoted("\"\"\"a\"\"\""), "a");
        assert_eq!(unquoted("say \"\"\""), "say \"\"\"");
    }
}
