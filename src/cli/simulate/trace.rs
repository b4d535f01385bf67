//! Requests as they came: one JSON object a line.
//!
//! ```json
//! {"at": 0.25, "session": "c17", "prompt": [["tools and system prompt", 4096], ["c17, turn 1", 512]], "answer": 200}
//! ```
//!
//! `at`: seconds since the first. `prompt`: what it is made of, as a name and a length in bytes; two prompts share the parts
//! that they begin with alike. `answer`: tokens. `session` may be absent.

use std::io::BufRead;
use std::time::Duration;

use serde::Deserialize;
use xxhash_rust::xxh3::xxh3_64;

use crate::upstream::prefix::chain::Chain;

/// Bytes of one prompt: what a gateway lets through by default.
const PROMPT_BYTES_MAX: usize = 100 << 20;

/// One request.
pub(super) struct Request {
    pub(super) at: Duration,
    pub(super) chain: Chain,
    pub(super) session: u64,
    /// In tokens.
    pub(super) answer: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    at: f64,
    #[serde(default)]
    session: Option<String>,
    prompt: Vec<(String, usize)>,
    answer: u32,
}

/// Reads a trace.
///
/// # Errors
/// What is wrong, and in which line.
pub(super) fn read(lines: impl BufRead) -> Result<Vec<Request>, String> {
    let mut requests = Vec::new();
    for (number, line) in (1..).zip(lines.lines()) {
        let told = |why: String| format!("line {number}: {why}");
        let line = line.map_err(|error| told(error.to_string()))?;
        if line.trim().is_empty() {
            continue;
        }
        let line: Line = serde_json::from_str(&line).map_err(|error| told(error.to_string()))?;
        requests.push(request(&line).map_err(told)?);
    }
    requests.sort_by_key(|request| request.at);
    Ok(requests)
}

fn request(line: &Line) -> Result<Request, String> {
    let at = Duration::try_from_secs_f64(line.at).map_err(|_| "`at` is no time".to_owned())?;
    let bytes = line.prompt.iter().try_fold(0_usize, |sum, (_, bytes)| sum.checked_add(*bytes));
    if bytes.is_none_or(|bytes| bytes > PROMPT_BYTES_MAX) {
        return Err(format!("a prompt has {PROMPT_BYTES_MAX} bytes at most"));
    }
    let mut text = Vec::new();
    for (name, bytes) in &line.prompt {
        text.extend(letters(name).take(*bytes));
    }
    let session = line.session.as_deref().map_or(0, |session| xxh3_64(session.as_bytes()));
    Ok(Request { at, chain: Chain::new("", [&text[..]]), session, answer: line.answer })
}

/// Endless bytes, others for each name (Marsaglia, Xorshift RNGs).
fn letters(name: &str) -> impl Iterator<Item = u8> {
    let mut state = xxh3_64(name.as_bytes()) | 1;
    std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    })
    .flatten()
}
