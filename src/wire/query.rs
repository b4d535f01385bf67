//! The query of a request: the gateway's own `timeout` is taken out, the rest stays byte for byte.

use std::borrow::Cow;
use std::time::Duration;

use crate::refusal::Refusal;

/// The query without our parameter, and the parameter.
#[derive(Debug, PartialEq, Eq)]
pub struct Query<'a> {
    /// What goes on; none where nothing is left.
    pub rest: Option<Cow<'a, str>>,
    /// The text of `timeout`.
    pub timeout: Option<&'a str>,
}

/// `timeout` was given twice: which one counts is anybody's guess.
#[derive(Debug, PartialEq, Eq)]
pub struct TwoTimeouts;

impl From<TwoTimeouts> for Refusal {
    fn from(TwoTimeouts: TwoTimeouts) -> Self {
        invalid_timeout("The parameter `timeout` is there twice.")
    }
}

/// A timeout that cannot be taken.
pub fn invalid_timeout(message: &'static str) -> Refusal {
    Refusal::malformed("invalid_timeout", message)
}

/// Takes `timeout=…` out of `query`.
///
/// # Errors
/// [`TwoTimeouts`].
pub fn take_timeout(query: Option<&str>) -> Result<Query<'_>, TwoTimeouts> {
    let Some(query) = query else { return Ok(Query { rest: None, timeout: None }) };
    let mut found = query.split('&').filter_map(|pair| pair.strip_prefix("timeout="));
    let (first, second) = (found.next(), found.next());
    match (first, second) {
        (None, _) => Ok(Query { rest: Some(Cow::Borrowed(query)), timeout: None }),
        (Some(_), Some(_)) => Err(TwoTimeouts),
        (timeout, None) => {
            let kept: Vec<&str> =
                query.split('&').filter(|pair| !pair.starts_with("timeout=")).collect();
            let rest = (!kept.is_empty()).then(|| Cow::Owned(kept.join("&")));
            Ok(Query { rest, timeout })
        }
    }
}

/// A timeout: a positive, finite number of seconds; `0.5` and `1e3` are numbers.
///
/// # Errors
/// `invalid_timeout` for anything else.
pub fn seconds(text: &str) -> Result<Duration, Refusal> {
    let wait = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    wait.filter(|wait| !wait.is_zero())
        .ok_or_else(|| invalid_timeout("A timeout must be a positive number of seconds."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_timeout_is_taken_out() {
        let taken = take_timeout(Some("a=1&timeout=2.5&b=%20")).unwrap();
        assert_eq!(taken.timeout, Some("2.5"));
        assert_eq!(taken.rest.as_deref(), Some("a=1&b=%20"));
        assert_eq!(take_timeout(Some("timeout=1")).unwrap().rest, None);
        assert_eq!(take_timeout(Some("x_timeout=1")).unwrap().rest.as_deref(), Some("x_timeout=1"));
        assert_eq!(take_timeout(None).unwrap(), Query { rest: None, timeout: None });
        assert_eq!(take_timeout(Some("timeout=1&timeout=2")), Err(TwoTimeouts));
    }
}
