//! What a node says in one object, of a stream or in one piece: borrowed from its bytes, and read only as far as it must be.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error};
use serde_json::value::RawValue;

/// A text as it stands, with its quotes and escapes: so it goes on.
#[derive(Clone, Copy)]
pub(super) struct Text<'a>(&'a RawValue);

impl<'a> Text<'a> {
    /// With its quotes.
    pub(super) fn json(self) -> &'a str {
        self.0.get()
    }

    /// Nothing is between the quotes.
    fn is_empty(self) -> bool {
        self.json().len() == 2
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = <&RawValue>::deserialize(deserializer)?;
        if value.get().starts_with('"') {
            Ok(Self(value))
        } else {
            Err(D::Error::custom("no text"))
        }
    }
}

/// What `/api/chat` and `/api/generate` say.
#[derive(Deserialize)]
pub(super) struct Line<'a> {
    #[serde(borrow)]
    pub(super) model: Option<Text<'a>>,
    #[serde(borrow)]
    message: Option<Message<'a>>,
    #[serde(borrow)]
    response: Option<Text<'a>>,
    #[serde(borrow)]
    thinking: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) logprobs: Option<&'a RawValue>,
    #[serde(default)]
    pub(super) done: bool,
    #[serde(borrow)]
    done_reason: Option<Text<'a>>,
    #[serde(default)]
    prompt_eval_count: u64,
    #[serde(default)]
    eval_count: u64,
    #[serde(borrow)]
    pub(super) error: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    content: Option<Text<'a>>,
    #[serde(borrow)]
    thinking: Option<Text<'a>>,
    #[serde(borrow)]
    tool_calls: Option<Vec<ToolCall<'a>>>,
}

/// A call of a tool: it comes whole.
#[derive(Deserialize)]
pub(super) struct ToolCall<'a> {
    #[serde(borrow)]
    pub(super) id: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) function: Function<'a>,
}

/// What is called.
#[derive(Deserialize)]
pub(super) struct Function<'a> {
    #[serde(borrow)]
    pub(super) name: Text<'a>,
    /// An object.
    #[serde(borrow)]
    pub(super) arguments: Option<&'a RawValue>,
}

impl<'a> Line<'a> {
    /// What is said, if anything is.
    pub(super) fn content(&self) -> Option<Text<'a>> {
        let content = self.message.as_ref().and_then(|message| message.content);
        content.or(self.response).filter(|text| !text.is_empty())
    }

    /// What is thought, if anything is.
    pub(super) fn thinking(&self) -> Option<Text<'a>> {
        let thinking = self.message.as_ref().and_then(|message| message.thinking);
        thinking.or(self.thinking).filter(|text| !text.is_empty())
    }

    /// The tools that are called.
    pub(super) fn tool_calls(&self) -> &[ToolCall<'a>] {
        let calls = self.message.as_ref().and_then(|message| message.tool_calls.as_deref());
        calls.unwrap_or_default()
    }

    /// Why the answer ends, of one in which tools were called or not: a model that was only loaded has said all that it had to.
    pub(super) fn finish_reason(&self, called: bool) -> &'static str {
        match self.done_reason.map(Text::json) {
            Some("\"length\"") => "length",
            _ if called => "tool_calls",
            _ => "stop",
        }
    }

    /// How many tokens came in and out; a count of none is left out by the node.
    pub(super) fn usage(&self) -> Usage {
        Usage { prompt: self.prompt_eval_count, answer: self.eval_count }
    }
}

/// Tokens of a prompt and of its answer, as OpenAI's API writes them.
#[derive(Clone, Copy)]
pub(super) struct Usage {
    prompt: u64,
    answer: u64,
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { prompt, answer } = self;
        let total = prompt.saturating_add(*answer);
        write!(
            f,
            r#"{{"prompt_tokens":{prompt},"completion_tokens":{answer},"total_tokens":{total}}}"#
        )
    }
}
