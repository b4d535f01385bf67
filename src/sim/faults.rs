//! Faults on demand: what a node does wrong, by header or by call.

use std::str::FromStr;

use http::{HeaderMap, HeaderValue, StatusCode};

/// The header that asks for a fault. No vLLM knows it.
pub(super) const FAULT_HEADER: &str = "x-sim-fault";

/// One way to fail. Over HTTP/2 a closed or reset connection is a reset stream instead.
///
/// The faults that count events (`...After`) hold for streams; an answer that is not streamed breaks in the middle of
/// its body, whatever the count, and a death is a 500.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// `status=503` or `status=429,retry-after=2`: an error body in OpenAI's shape.
    Status {
        /// 200 to 599.
        status: StatusCode,
        /// `retry-after`, in seconds.
        retry_after: Option<u32>,
    },
    /// `reset`: TCP RST before any byte.
    Reset,
    /// `close`: the connection ends cleanly before any byte.
    Close,
    /// `stall`: no byte, ever.
    Stall,
    /// `garbage`: bytes that are not HTTP, then the end.
    Garbage,
    /// `redirect=URL`: 307 with this `location`.
    Redirect(HeaderValue),
    /// `stall-after=N`: silence after N events.
    StallAfter(usize),
    /// `cut-after=N`: the connection ends after N events, without the last chunk.
    CutAfter(usize),
    /// `reset-after=N`: TCP RST after N events.
    ResetAfter(usize),
    /// `die-after=N`: after N events the error that vLLM 0.32 sends when its engine dies, then a clean end.
    DieAfter(usize),
}

/// A text that names no fault.
#[derive(Debug, thiserror::Error)]
#[error(
    "`{0}` is no fault: write status=CODE[,retry-after=SECONDS], reset, close, stall, garbage, redirect=URL, \
     stall-after=N, cut-after=N, reset-after=N or die-after=N"
)]
pub struct NotAFault(String);

impl FromStr for Fault {
    type Err = NotAFault;

    fn from_str(text: &str) -> Result<Self, NotAFault> {
        fault(text.trim()).ok_or_else(|| NotAFault(text.to_owned()))
    }
}

/// The fault that `text` names.
fn fault(text: &str) -> Option<Fault> {
    let Some((name, value)) = text.split_once('=') else {
        return match text {
            "reset" => Some(Fault::Reset),
            "close" => Some(Fault::Close),
            "stall" => Some(Fault::Stall),
            "garbage" => Some(Fault::Garbage),
            _ => None,
        };
    };
    match name {
        "status" => status(value),
        "redirect" => Some(Fault::Redirect(HeaderValue::from_str(value).ok()?)),
        "stall-after" => Some(Fault::StallAfter(value.parse().ok()?)),
        "cut-after" => Some(Fault::CutAfter(value.parse().ok()?)),
        "reset-after" => Some(Fault::ResetAfter(value.parse().ok()?)),
        "die-after" => Some(Fault::DieAfter(value.parse().ok()?)),
        _ => None,
    }
}

/// `503` or `429,retry-after=2`. A 1xx cannot be an answer.
fn status(value: &str) -> Option<Fault> {
    let (code, rest) =
        value.split_once(',').map_or((value, None), |(code, rest)| (code, Some(rest)));
    let status: StatusCode = code.parse().ok()?;
    if !(200..600).contains(&status.as_u16()) {
        return None;
    }
    let retry_after = match rest {
        Some(rest) => Some(rest.trim().strip_prefix("retry-after=")?.parse().ok()?),
        None => None,
    };
    Some(Fault::Status { status, retry_after })
}

/// The fault that a request asks for.
///
/// # Errors
/// The header is there and names none.
pub(super) fn asked_for(headers: &HeaderMap) -> Result<Option<Fault>, NotAFault> {
    headers
        .get(FAULT_HEADER)
        .map(|value| String::from_utf8_lossy(value.as_bytes()).parse())
        .transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_read_as_it_is_written() {
        let slow_down =
            Fault::Status { status: StatusCode::TOO_MANY_REQUESTS, retry_after: Some(2) };
        assert_eq!("status=429,retry-after=2".parse::<Fault>().unwrap(), slow_down);
        assert_eq!("cut-after=3".parse::<Fault>().unwrap(), Fault::CutAfter(3));
        assert_eq!("reset".parse::<Fault>().unwrap(), Fault::Reset);
    }

    #[test]
    fn what_is_no_fault_is_told_what_is() {
        for text in ["", "rest", "reset=1", "status=", "status=100", "status=503,2", "cut-after=-1"]
        {
            let error = text.parse::<Fault>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("`{text}` is no fault: write status=")), "{error}");
        }
    }
}
