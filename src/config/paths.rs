//! Paths of routes: exact, but for whole segments that are parameters.

use super::defaults::{NAME_CHARS_MAX, PATH_BYTES_MAX};
use super::environment::variable_name;
use super::report::Fault;

/// A path that passed every check: begins with `/`, no empty or dot segment inside, no `;` `%` `?` `#`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RoutePath {
    text: String,
    parameters: Vec<String>,
}

impl RoutePath {
    /// Reads the path of a route.
    pub(super) fn parse(text: &str) -> Result<Self, Fault> {
        Self::of(text, "")
    }

    /// Reads the path of an `upstream_url`, where escapes (`%20`) may stand: it is sent as it is.
    pub(super) fn parse_target(text: &str) -> Result<Self, Fault> {
        for (at, _) in text.match_indices('%') {
            let hex = text.as_bytes().get(at + 1..at + 3);
            if !hex.is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit)) {
                return Err("`%` must be followed by two hexadecimal digits".into());
            }
        }
        Self::of(text, "%")
    }

    fn of(text: &str, also: &str) -> Result<Self, Fault> {
        let Some(rest) = text.strip_prefix('/') else {
            return Err(Fault::with_hint(
                "a path begins with `/`",
                "write it without host and query",
            ));
        };
        if text.len() > PATH_BYTES_MAX {
            return Err(format!("a path is at most {PATH_BYTES_MAX} bytes long").into());
        }
        let mut parameters: Vec<String> = Vec::new();
        let mut segments = rest.split('/').peekable();
        while let Some(segment) = segments.next() {
            let last = segments.peek().is_none();
            if segment.is_empty() && !last {
                return Err("`//` in a path means different things to different servers".into());
            }
            if segment == "." || segment == ".." {
                return Err("a path has no `.` and `..` segments".into());
            }
            match parameter(segment)? {
                Some(name) if parameters.iter().any(|known| known == name) => {
                    return Err("a parameter stands twice".into());
                }
                Some(name) => parameters.push(name.to_owned()),
                None => plain(segment, also)?,
            }
        }
        Ok(Self { text: text.to_owned(), parameters })
    }

    /// The path as written.
    pub(super) fn as_str(&self) -> &str {
        &self.text
    }

    /// The path with its parameters' names left out: what two routes have in common when they match the same requests.
    pub(super) fn shape(&self) -> String {
        let segment = |segment: &str| match segment.starts_with('{') {
            true => "{}".to_owned(),
            false => segment.to_owned(),
        };
        self.text.split('/').map(segment).collect::<Vec<_>>().join("/")
    }

    /// The first parameter of this path that `other` does not have.
    pub(super) fn parameter_not_in(&self, other: &Self) -> Option<&str> {
        let missing = |name: &&String| !other.parameters.contains(name);
        self.parameters.iter().find(missing).map(String::as_str)
    }
}

/// The name of a segment that is a parameter as a whole.
fn parameter(segment: &str) -> Result<Option<&str>, Fault> {
    if !segment.contains(['{', '}']) {
        return Ok(None);
    }
    let inner = segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
    match inner {
        Some(name) if name.len() <= NAME_CHARS_MAX && variable_name(name) => Ok(Some(name)),
        _ => Err(Fault::with_hint(
            "a parameter is a whole segment, with letters, digits and `_` in its name",
            "write `/v1/responses/{response_id}`",
        )),
    }
}

/// Checks the characters of a segment.
fn plain(segment: &str, also: &str) -> Result<(), Fault> {
    let fits =
        |c: char| c.is_ascii_alphanumeric() || "-._~!$&'()*+,=:@".contains(c) || also.contains(c);
    match segment.chars().find(|c| !fits(*c)) {
        None => Ok(()),
        Some('?' | '#') => Err("a path has no query and no fragment".into()),
        Some('%') => Err("paths are compared as they are sent: `%` cannot stand in one".into()),
        Some(';') => Err("`;` in a path means different things to different servers".into()),
        Some(_) => Err("a path has letters, digits and `-._~!$&'()*+,=:@` only".into()),
    }
}
