//! The environment as captured once: nothing below reads variables of the process.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;

use super::defaults::FILE_BYTES_MAX;
use super::files;
use super::problem::{Location, Problems};
use super::report::Report;

/// Variables by name. An empty variable counts as unset. Its `Debug` shows no value.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Environment {
    variables: HashMap<String, String>,
}

impl Environment {
    /// The variables of this process. What is no UTF-8 keeps its place with replacement characters, so that the check
    /// of the value refuses it, instead of the gateway running as if it were unset.
    pub fn of_process() -> Self {
        let text = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
        std::env::vars_os().map(|(name, value)| (text(name), text(value))).collect()
    }

    /// Adds the variables of an env file (`KEY=VALUE`, `#` comments, quotes, `export `). What is set already stays,
    /// as with docker compose.
    ///
    /// # Errors
    /// The file cannot be read, is too large, is no UTF-8, or has lines of another form.
    pub fn with_file(mut self, path: &Path) -> Result<Self, Problems> {
        let name = path.display().to_string();
        let mut report = Report::of_file(&name);
        let text = match files::read_text(path, FILE_BYTES_MAX) {
            Ok(Some(text)) => text,
            Ok(None) => return Err(Problems::one(report.origin(), "there is no such file")),
            Err(message) => return Err(Problems::one(report.origin(), message)),
        };
        let mut added = HashMap::new();
        for (number, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
            match assignment(line) {
                Ok(Some((name, value))) => {
                    added.insert(name.to_owned(), value);
                }
                Ok(None) => {}
                Err(message) => {
                    report.syntax(Some(Location { line: number + 1, column: 1 }), message);
                    return Err(report.finish(None));
                }
            }
        }
        for (name, value) in added {
            if self.get(&name).is_none() {
                self.variables.insert(name, value);
            }
        }
        Ok(self)
    }

    /// The value of `name`, if it is set to more than nothing.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(variables: I) -> Self {
        let owned = |(name, value): (N, V)| (name.into(), value.into());
        Self { variables: variables.into_iter().map(owned).collect() }
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Environment({} variables)", self.variables.len())
    }
}

/// Whether `name` is what shells call a name.
pub(super) fn variable_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// The name and value that one line of an env file sets; nothing for blank lines and comments.
fn assignment(line: &str) -> Result<Option<(&str, String)>, &'static str> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let line = line.strip_prefix("export ").map_or(line, str::trim_start);
    let (name, value) = line.split_once('=').ok_or("a line must read `NAME=value`")?;
    let name = name.trim_end();
    if !variable_name(name) {
        return Err("the name before `=` may hold letters, digits and `_` only");
    }
    Ok(Some((name, unquoted(value.trim_start())?)))
}

/// A value without its quotes and without a comment behind it.
fn unquoted(value: &str) -> Result<String, &'static str> {
    let quote = match value.chars().next() {
        Some(quote @ ('"' | '\'')) => quote,
        _ => {
            let end = [" #", "\t#"].iter().filter_map(|comment| value.find(comment)).min();
            return Ok(value[..end.unwrap_or(value.len())].trim_end().to_owned());
        }
    };
    let (mut text, mut rest) = (String::new(), value[1..].chars());
    while let Some(next) = rest.next() {
        match next {
            next if next == quote => {
                let rest = rest.as_str().trim_start();
                return match rest.is_empty() || rest.starts_with('#') {
                    true => Ok(text),
                    false => Err("nothing but a comment may stand after the closing quote"),
                };
            }
            '\\' if quote == '"' => match rest.next() {
                Some('n') => text.push('\n'),
                Some(escaped @ ('"' | '\\' | '$')) => text.push(escaped),
                Some(other) => text.extend(['\\', other]),
                None => break,
            },
            next => text.push(next),
        }
    }
    Err("a quote is never closed")
}
