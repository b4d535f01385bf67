//! Faults on demand: what a node does wrong, by header, by flag or by call.

use std::str::FromStr;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, StatusCode};

/// The header that asks for a fault. No real node knows it.
pub(super) const FAULT_HEADER: &str = "x-sim-fault";

/// How long vLLM 0.32 lives on when its engine has died.
const EXIT_AFTER: Duration = Duration::from_secs(1);

/// One way to fail. Over HTTP/2 a closed or reset connection is a reset stream instead.
///
/// The faults that count events (`...After`) hold for streams; an answer that is not streamed breaks in the middle of
/// its body, whatever the count, and a death is a 500. An event of an Ollama node is what it makes of one line of the
/// model: the last one ends the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// `status=503` or `status=429,retry-after=2`: an error body in the shape of the API.
    Status {
        /// 200 to 599.
        status: StatusCode,
        /// `retry-after`, in seconds.
        retry_after: Option<u32>,
    },
    /// `refuse` or `refuse=5s`: at this request the port closes and all connections go, as when a process crashes. It
    /// opens again after that time; without a time it never does.
    Refuse(Option<Duration>),
    /// `reset`: TCP RST before any byte.
    Reset,
    /// `close`: the connection ends cleanly before any byte.
    Close,
    /// `stall`: no byte, ever.
    Stall,
    /// `slow=2s`: the first token comes so much later; a request that is no POST is answered so much later.
    Slow(Duration),
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
    /// `die-after=N`: after N events the error that a node of its kind sends when its engine dies, then a clean end.
    DieAfter(usize),
    /// `kill-after=N` or `kill-after=N,exit=200ms`: the same, and the engine is dead indeed: all other answers end so too,
    /// new requests get a 500, and after that time (1 s, as with vLLM 0.32) the process is gone.
    KillAfter {
        /// Events.
        events: usize,
        /// From the engine's death.
        exit: Duration,
    },
}

/// A text that names no fault.
#[derive(Debug, thiserror::Error)]
#[error(
    "`{0}` is no fault: write status=CODE[,retry-after=SECONDS], refuse[=TIME], reset, close, stall, slow=TIME, garbage, \
     redirect=URL, stall-after=N, cut-after=N, reset-after=N, die-after=N or kill-after=N[,exit=TIME]"
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
            "refuse" => Some(Fault::Refuse(None)),
            "reset" => Some(Fault::Reset),
            "close" => Some(Fault::Close),
            "stall" => Some(Fault::Stall),
            "garbage" => Some(Fault::Garbage),
            _ => None,
        };
    };
    match name {
        "status" => status(value),
        "refuse" => Some(Fault::Refuse(Some(time(value)?))),
        "slow" => Some(Fault::Slow(time(value)?)),
        "redirect" => Some(Fault::Redirect(HeaderValue::from_str(value).ok()?)),
        "stall-after" => Some(Fault::StallAfter(value.parse().ok()?)),
        "cut-after" => Some(Fault::CutAfter(value.parse().ok()?)),
        "reset-after" => Some(Fault::ResetAfter(value.parse().ok()?)),
        "die-after" => Some(Fault::DieAfter(value.parse().ok()?)),
        "kill-after" => kill(value),
        _ => None,
    }
}

/// `503` or `429,retry-after=2`. A 1xx cannot be an answer.
fn status(value: &str) -> Option<Fault> {
    let (code, retry_after) = with_option(value, "retry-after=")?;
    let status: StatusCode = code.parse().ok()?;
    if !(200..600).contains(&status.as_u16()) {
        return None;
    }
    let retry_after = match retry_after {
        Some(seconds) => Some(seconds.parse().ok()?),
        None => None,
    };
    Some(Fault::Status { status, retry_after })
}

/// `3` or `3,exit=200ms`.
fn kill(value: &str) -> Option<Fault> {
    let (events, exit) = with_option(value, "exit=")?;
    let exit = exit.map_or(Some(EXIT_AFTER), time)?;
    Some(Fault::KillAfter { events: events.parse().ok()?, exit })
}

/// The value before a comma, and what comes after `name` behind it.
fn with_option<'a>(value: &'a str, name: &str) -> Option<(&'a str, Option<&'a str>)> {
    match value.split_once(',') {
        None => Some((value, None)),
        Some((value, rest)) => Some((value, Some(rest.trim().strip_prefix(name)?))),
    }
}

fn time(value: &str) -> Option<Duration> {
    humantime::parse_duration(value).ok()
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
        let kill = |exit| Fault::KillAfter { events: 3, exit: Duration::from_millis(exit) };
        for (text, fault) in [
            ("status=429,retry-after=2", slow_down),
            ("cut-after=3", Fault::CutAfter(3)),
            ("reset", Fault::Reset),
            ("refuse", Fault::Refuse(None)),
            ("refuse=5s", Fault::Refuse(Some(Duration::from_secs(5)))),
            ("slow=1m", Fault::Slow(Duration::from_secs(60))),
            ("kill-after=3", kill(1000)),
            ("kill-after=3, exit=200ms", kill(200)),
        ] {
            assert_eq!(text.parse::<Fault>().unwrap(), fault);
        }
    }

    #[test]
    fn what_is_no_fault_is_told_what_is() {
        let wrong =
            ["", "rest", "reset=1", "status=", "status=100", "status=503,2", "cut-after=-1"];
        let times = ["slow", "slow=1", "refuse=", "kill-after", "kill-after=1,2s"];
        for text in wrong.into_iter().chain(times) {
            let error = text.parse::<Fault>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("`{text}` is no fault: write status=")), "{error}");
        }
    }
}
