//! What `/v1/chat/completions` and `/v1/completions` have in common.

use std::fmt::Write;

use bytes::{BufMut, BytesMut};
use serde_json::Value;

use super::refusal::Refusal;
use super::request::{is_on, streamed};
use super::said::Said;
use super::turns::Turns;
use crate::sim::call::Length;
use crate::sim::engine::{Finish, Flight};
use crate::sim::events::{Pause, Step};
use crate::sim::text::quoted;

/// The version as vLLM 0.32 signs its answers.
pub(super) const FINGERPRINT: &str = "vllm-0.32.0-df802a1c";

/// What a stream says when the engine dies (vLLM 0.32): the status stays 200, and the end looks clean.
pub(super) const LAST_WORDS: [&str; 2] = [
    "data: {\"error\": {\"message\": \"EngineCore encountered an issue. See stack trace (above) for the root cause.\", \
     \"type\": \"InternalServerError\", \"param\": null, \"code\": 500}}\n\n",
    DONE,
];

const DONE: &str = "data: [DONE]\n\n";

/// Which events of a stream say how many tokens were used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StreamUsage {
    /// None of them.
    Never,
    /// One more event at the end.
    Last,
    /// That one and all others.
    Each,
}

/// One answer with all its choices.
pub(super) struct Answer {
    /// What each prompt is answered; choice `c` belongs to what is said at `c / choices`.
    pub(super) said: Vec<Said>,
    /// Choices of each prompt.
    pub(super) choices: usize,
    /// Of all prompts.
    pub(super) prompt_tokens: usize,
}

impl Answer {
    /// The number of choices of all prompts.
    pub(super) fn width(&self) -> usize {
        self.said.len() * self.choices
    }

    /// What a choice says.
    pub(super) fn said(&self, choice: usize) -> &Said {
        &self.said[choice / self.choices]
    }

    /// Tokens of all choices.
    pub(super) fn tokens(&self) -> usize {
        self.said.iter().map(|said| said.length.tokens).sum::<usize>() * self.choices
    }

    /// The length of the longest choice, and why it ends there.
    pub(super) fn longest(&self) -> Length {
        let lengths = self.said.iter().map(|said| said.length);
        let none = Length { tokens: 0, finish: Finish::Stop };
        lengths.max_by_key(|length| length.tokens).unwrap_or(none)
    }

    /// Whose token is next, from the first on.
    pub(super) fn turns(&self) -> Turns {
        Turns::new((0..self.width()).map(|choice| self.said(choice).length.tokens).collect())
    }

    /// `usage` of an answer that is not streamed.
    pub(super) fn usage(&self, flight: &Flight) -> String {
        let (prompt, answer) = (self.prompt_tokens, self.tokens());
        let details = flight.prompt_tokens_details();
        let details = details.as_deref().unwrap_or("null");
        format!(
            r#"{{"prompt_tokens":{prompt},"total_tokens":{},"completion_tokens":{answer},"prompt_tokens_details":{details},"completion_tokens_details":null}}"#,
            prompt + answer
        )
    }

    /// Appends `"usage":` with `{..}` that counts `answer` tokens of the answer.
    pub(super) fn write_usage(&self, answer: usize, details: &str, out: &mut BytesMut) {
        let prompt = self.prompt_tokens;
        // Memory grows as needed, so writing cannot fail; the same holds for every `write!` to a buffer here.
        let _ = write!(
            out,
            r#""usage":{{"prompt_tokens":{prompt},"total_tokens":{},"completion_tokens":{answer}{details}}}"#,
            prompt + answer
        );
    }

    /// Appends the event at `place` after the last token: usage when it was asked for, then `[DONE]`.
    pub(super) fn close(
        &self,
        mut place: usize,
        (usage, flight): (StreamUsage, &Flight),
        head: &str,
        out: &mut BytesMut,
    ) -> Option<Step> {
        if usage == StreamUsage::Never {
            place += 1;
        }
        match place {
            0 => {
                out.put_slice(head.as_bytes());
                out.put_slice(b"],");
                let details = flight.prompt_tokens_details();
                let details =
                    details.map(|details| format!(r#","prompt_tokens_details":{details}"#));
                self.write_usage(self.tokens(), details.as_deref().unwrap_or_default(), out);
                let _ = write!(out, ",\"system_fingerprint\":\"{FINGERPRINT}\"}}\n\n");
            }
            1 => out.put_slice(DONE.as_bytes()),
            _ => return None,
        }
        Some(Step { pause: Pause::None, tokens: 0 })
    }
}

/// `stop_reason` of a choice that has come to its end, as JSON.
pub(super) fn stop_reason(said: &Said) -> String {
    said.stopped_by.as_deref().map_or_else(|| "null".to_owned(), quoted)
}

/// What a stream says of usage.
///
/// # Errors
/// There are options for a stream, but no stream.
pub(super) fn stream_usage(body: &Value) -> Result<StreamUsage, Refusal> {
    let Some(options) = body.get("stream_options").filter(|options| !options.is_null()) else {
        return Ok(StreamUsage::Never);
    };
    if !streamed(body) {
        let says =
            "Stream options can only be defined when `stream=True`. (parameter=stream_options)";
        return Err(Refusal::value("stream_options", says.to_owned()));
    }
    let on = |name: &str| is_on(options, name);
    Ok(match (on("include_usage"), on("continuous_usage_stats")) {
        (false, _) => StreamUsage::Never,
        (true, false) => StreamUsage::Last,
        (true, true) => StreamUsage::Each,
    })
}
