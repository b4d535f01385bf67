//! The query of a request: the gateway's own parameters (`timeout`, and `node` where nodes are operated) are taken out, the
//! rest stays byte for byte.

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

/// A timeout that cannot be taken.
pub fn invalid_timeout(message: &'static str) -> Refusal {
    Refusal::malformed("invalid_timeout", message)
}

/// Takes `timeout=…` out of `query`.
///
/// # Errors
/// `invalid_timeout`: it is there twice, and which one counts is anybody's guess.
pub fn take_timeout(query: Option<&str>) -> Result<Query<'_>, Refusal> {
    let twice = |Twice| invalid_timeout("The parameter `timeout` is there twice.");
    let (rest, timeout) = take(query, "timeout=").map_err(twice)?;
    Ok(Query { rest, timeout })
}

/// A parameter was given twice.
#[derive(Debug, PartialEq, Eq)]
pub struct Twice;

/// What is left of a query, and the value of the parameter that was taken out.
pub type Taken<'a> = (Option<Cow<'a, str>>, Option<&'a str>);

/// Takes the parameter that begins with `name`, its `=` included, out of `query`; the value as it stands there.
///
/// # Errors
/// [`Twice`].
pub fn take<'a>(query: Option<&'a str>, name: &str) -> Result<Taken<'a>, Twice> {
    let Some(query) = query else { return Ok((None, None)) };
    let mut found = query.split('&').filter_map(|pair| pair.strip_prefix(name));
    let (first, second) = (found.next(), found.next());
    match (first, second) {
        (None, _) => Ok((Some(Cow::Borrowed(query)), None)),
        (Some(_), Some(_)) => Err(Twice),
        (value, None) => {
            let kept: Vec<&str> = query.split('&').filter(|pair| !pair.starts_with(name)).collect();
            let rest = (!kept.is_empty()).then(|| Cow::Owned(kept.join("&")));
            Ok((rest, value))
        }
    }
}

/// `text` with its `%` escapes undone; none where one is broken, or what comes out is no text.
pub fn decoded(text: &str) -> Option<String> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let high = char::from(bytes.next()?).to_digit(16)?;
            let low = char::from(bytes.next()?).to_digit(16)?;
            decoded.push(u8::try_from(high * 16 + low).ok()?);
        } else {
            decoded.push(byte);
        }
    }
    String::from_utf8(decoded).ok()
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
        let twice = take_timeout(Some("timeout=1&timeout=2")).unwrap_err();
        assert_eq!(twice.code(), "invalid_timeout");
    }

    #[test]
    fn escapes_are_undone_or_refused() {
        assert_eq!(decoded("org%2Fmodel").as_deref(), Some("org/model"));
        assert_eq!(decoded("org/model").as_deref(), Some("org/model"));
        for broken in ["%", "%2", "%zz", "%ff"] {
            assert_eq!(decoded(broken), None, "{broken}");
        }
    }
}
