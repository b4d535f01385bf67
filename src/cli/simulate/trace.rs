//! Requests as they came: an access log that tells prompts (the setting `log_prompts`), or a trace by hand; one JSON object a
//! line.
//!
//! ```json
//! {"at": 0.25, "session": "c17", "prompt": [["tools and system prompt", 4096], ["c17, turn 1", 512]], "answer": 200}
//! ```
//!
//! `at`: seconds. `prompt`: what it is made of, as a name and a length in bytes; two prompts share the parts that they begin
//! with alike; a part without a name is nobody else's. `answer`: tokens. `session` may be absent. In an access log these
//! are `time` and `duration_ms`, `key`, and `bytes_out`.

use std::io::BufRead;
use std::time::Duration;

use chrono::DateTime;
use serde::Deserialize;
use xxhash_rust::xxh3::xxh3_64;

use crate::upstream::prefix::chain::{Chain, mixed};

/// Bytes of one prompt: what a gateway lets through by default.
const PROMPT_BYTES_MAX: usize = 100 << 20;

/// Bytes of an answer to a token: of a stream's chunk, and of text with what is around it.
const STREAMED_BYTES: u64 = 200;
const WHOLE_BYTES: u64 = 5;

/// One request.
pub(super) struct Request {
    pub(super) at: Duration,
    pub(super) chain: Chain,
    pub(super) session: u64,
    /// In tokens.
    pub(super) answer: u32,
}

/// A line of either kind; other fields of an access log say nothing here.
#[derive(Deserialize)]
struct Line {
    at: Option<f64>,
    time: Option<String>,
    #[serde(default)]
    duration_ms: f64,
    #[serde(alias = "key")]
    session: Option<String>,
    model: Option<String>,
    prompt: Option<Vec<(String, usize)>>,
    answer: Option<u32>,
    #[serde(default)]
    bytes_out: u64,
    #[serde(default)]
    stream: bool,
}

/// Reads requests, in the order in which they came. Lines without a prompt are left out.
///
/// # Errors
/// What is wrong, and in which line.
pub(super) fn read(lines: impl BufRead) -> Result<Vec<Request>, String> {
    let mut requests = Vec::new();
    for (number, line) in (1_u64..).zip(lines.lines()) {
        let told = |why: String| format!("line {number}: {why}");
        let line = line.map_err(|error| told(error.to_string()))?;
        if line.trim().is_empty() {
            continue;
        }
        let line: Line = serde_json::from_str(&line).map_err(|error| told(error.to_string()))?;
        if let Some(prompt) = &line.prompt {
            requests
                .push((line.began().map_err(told)?, line.request(prompt, number).map_err(told)?));
        }
    }
    requests.sort_by(|(one, _), (other, _)| one.total_cmp(other));
    let first = requests.first().map_or(0.0, |(at, _)| *at);
    let since = |(at, request): (f64, Request)| {
        let at = Duration::try_from_secs_f64(at - first).map_err(|_| "that is too long a time")?;
        Ok(Request { at, ..request })
    };
    requests.into_iter().map(since).collect()
}

impl Line {
    /// In seconds.
    fn began(&self) -> Result<f64, String> {
        let ended = match (self.at, &self.time) {
            (Some(at), _) => at,
            (None, Some(time)) => {
                let time = DateTime::parse_from_rfc3339(time).map_err(|error| error.to_string())?;
                time.timestamp_micros() as f64 / 1e6
            }
            (None, None) => return Err("neither `at` nor `time` is there".to_owned()),
        };
        let began = ended - self.duration_ms / 1e3;
        began.is_finite().then_some(began).ok_or_else(|| "that is no time".to_owned())
    }

    fn request(&self, prompt: &[(String, usize)], number: u64) -> Result<Request, String> {
        let bytes = prompt.iter().try_fold(0_usize, |sum, (_, bytes)| sum.checked_add(*bytes));
        if bytes.is_none_or(|bytes| bytes > PROMPT_BYTES_MAX) {
            return Err(format!("a prompt has {PROMPT_BYTES_MAX} bytes at most"));
        }
        let mut text = Vec::new();
        for (name, bytes) in prompt {
            let seed = if name.is_empty() { mixed(number) } else { xxh3_64(name.as_bytes()) };
            text.extend(letters(seed).take(*bytes));
        }
        let model = self.model.as_deref().unwrap_or_default();
        let session = self.session.as_deref().map_or(0, |session| xxh3_64(session.as_bytes()));
        let token_bytes = if self.stream { STREAMED_BYTES } else { WHOLE_BYTES };
        let tokens = || u32::try_from(self.bytes_out / token_bytes).unwrap_or(u32::MAX);
        Ok(Request {
            at: Duration::ZERO,
            chain: Chain::new(model, [&text[..]]),
            session,
            answer: self.answer.unwrap_or_else(tokens),
        })
    }
}

/// Endless bytes, others for each seed (Marsaglia, Xorshift RNGs).
fn letters(seed: u64) -> impl Iterator<Item = u8> {
    let mut state = seed | 1;
    std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    })
    .flatten()
}
