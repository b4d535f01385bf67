//! What is wrong with a configuration: where, why, and what to do, without showing what may be secret.

use std::fmt;

use super::defaults::QUOTE_CHARS_MAX;

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A file, by the name that the operator knows it by: `routes.yaml`.
    File(String),
    /// The environment of the process, or the file of `--env-file`.
    Environment,
    /// A flag.
    CommandLine,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(name) => f.write_str(name),
            Self::Environment => f.write_str("environment"),
            Self::CommandLine => f.write_str("command line"),
        }
    }
}

/// A place in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Location {
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// One thing that is wrong. `Display` and `Debug` are fit for logs: they never show a configured value.
#[derive(Clone, PartialEq, Eq)]
pub struct Problem {
    /// What was read.
    pub origin: Origin,
    /// Which value: `routes[3].upstream_url`, `VLLM_BASE_URL`, `--listen`; empty for a file as a whole.
    pub path: String,
    /// Where in the file, as far as it is known.
    pub location: Option<Location>,
    /// What is wrong with it.
    pub message: String,
    /// What to do about it, or the word that was probably meant.
    pub hint: Option<String>,
    /// The value as written, for the terminal of `sluice check` alone; never a key.
    pub quote: Option<String>,
}

impl Problem {
    /// The line for the terminal of whoever owns the file: with the offending value.
    pub fn for_terminal(&self) -> String {
        let Some(quote) = &self.quote else { return self.to_string() };
        // Escaped: a value may hold control characters, and a terminal obeys them.
        let shown: String =
            quote.chars().take(QUOTE_CHARS_MAX).flat_map(char::escape_debug).collect();
        let more = if quote.chars().nth(QUOTE_CHARS_MAX).is_some() { "…" } else { "" };
        format!("{self} (found: \"{shown}{more}\")")
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.origin)?;
        if let Some(location) = self.location {
            write!(f, ":{location}")?;
        }
        if !self.path.is_empty() {
            write!(f, ": {}", self.path)?;
        }
        write!(f, ": {}", self.message)?;
        match &self.hint {
            Some(hint) => write!(f, "; {hint}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Problem({self})")
    }
}

/// Everything that is wrong, so that one edit mends it. Never empty when returned as an error.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Problems {
    /// In the order of the files, and of the lines in each.
    pub list: Vec<Problem>,
    /// How many were found beyond those in `list`.
    pub more: usize,
}

impl Problems {
    /// One problem alone.
    pub fn one(origin: Origin, message: impl Into<String>) -> Self {
        let problem = Problem {
            origin,
            path: String::new(),
            location: None,
            message: message.into(),
            hint: None,
            quote: None,
        };
        Self { list: vec![problem], more: 0 }
    }

    /// Adds those of another source after these.
    pub(super) fn append(&mut self, other: Self) {
        self.list.extend(other.list);
        self.more += other.more;
    }

    /// Both values, or all that is wrong with either.
    ///
    /// # Errors
    /// One of them is none.
    pub fn both<A, B>(one: Result<A, Self>, other: Result<B, Self>) -> Result<(A, B), Self> {
        match (one, other) {
            (Ok(one), Ok(other)) => Ok((one, other)),
            (Err(mut problems), Err(more)) => {
                problems.append(more);
                Err(problems)
            }
            (Err(problems), Ok(_)) | (Ok(_), Err(problems)) => Err(problems),
        }
    }

    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// One line each, with the offending values: see [`Problem::for_terminal`].
    pub fn for_terminal(&self) -> String {
        self.lines(Problem::for_terminal)
    }

    /// One line for each problem, as `line` writes it.
    fn lines(&self, line: impl Fn(&Problem) -> String) -> String {
        let mut lines: Vec<String> = self.list.iter().map(line).collect();
        if self.more > 0 {
            lines.push(format!("and {} more", self.more));
        }
        lines.join("\n")
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.lines(Problem::to_string))
    }
}

impl fmt::Debug for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Problems({self})")
    }
}

impl std::error::Error for Problems {}
