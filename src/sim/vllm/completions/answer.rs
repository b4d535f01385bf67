//! One answer of `/v1/completions`, whole and in part.

use std::fmt::Write;

use serde_json::Value;

use super::prompts::Prompt;
use crate::sim::engine::Flight;
use crate::sim::text::within_quotes;
use crate::sim::vllm::logprobs::{self, Columns};
use crate::sim::vllm::openai::{Answer, FINGERPRINT, stop_reason};
use crate::sim::vllm::request::is_on;
use crate::sim::vllm::sampling::Told;
use crate::sim::vllm::schema::whole;

/// One answer.
pub(super) struct Completion {
    /// What it, or each of its events, begins with, up to the choices.
    pub(super) head: String,
    /// What it says.
    pub(super) answer: Answer,
    /// What it tells beside that.
    pub(super) told: Told,
    /// What was asked.
    pub(super) prompts: Vec<Prompt>,
    /// Whether it begins with what was asked.
    pub(super) echo: Echo,
}

/// Whether an answer begins with its prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Echo {
    /// It does not. vLLM's does not either where the ids of tokens are asked for.
    Never,
    /// It does.
    First,
    /// It has nothing else to say.
    Alone,
}

impl Echo {
    /// What a body asks for.
    pub(super) fn of(body: &Value) -> Self {
        match is_on(body, "echo") && !is_on(body, "return_token_ids") {
            false => Self::Never,
            true if body.get("max_tokens").and_then(whole) == Some(0) => Self::Alone,
            true => Self::First,
        }
    }
}

impl Completion {
    /// The prompt of a choice.
    pub(super) fn prompt(&self, choice: usize) -> &Prompt {
        &self.prompts[choice / self.answer.choices]
    }

    /// The ids of a choice's prompt as JSON.
    pub(super) fn prompt_ids(&self, choice: usize) -> String {
        Value::from_iter(self.prompt(choice).ids()).to_string()
    }

    /// The answer in one piece.
    pub(super) fn whole(&self, flight: &Flight) -> String {
        let mut out = self.head.clone();
        for choice in 0..self.answer.width() {
            out += if choice == 0 { "" } else { "," };
            self.write_choice(choice, &mut out);
        }
        let usage = self.answer.usage(flight);
        // Memory grows as needed, so writing cannot fail; the same holds for every `write!` to a buffer here.
        let _ = write!(
            out,
            r#"],"service_tier":null,"system_fingerprint":"{FINGERPRINT}","usage":{usage},"kv_transfer_params":null,"ec_transfer_params":null,"metrics":null}}"#
        );
        out
    }

    fn write_choice(&self, choice: usize, out: &mut String) {
        let (said, prompt) = (self.answer.said(choice), self.prompt(choice));
        let asked = match self.echo {
            Echo::Never => "".into(),
            Echo::First | Echo::Alone => within_quotes(&prompt.text),
        };
        let answered = if self.echo == Echo::Alone { String::new() } else { said.shown() };
        let logprobs = match self.told.logprobs {
            Some(top) => self.columns(choice, top).render(),
            None => "null".to_owned(),
        };
        let (ids, prompt_ids) = match self.told.ids {
            true => (Value::from(said.ids()).to_string(), self.prompt_ids(choice)),
            false => ("null".to_owned(), "null".to_owned()),
        };
        let prompt_logprobs = match self.told.prompt_logprobs {
            Some(top) => logprobs::of_prompt(&prompt.tokens, top),
            None => "null".to_owned(),
        };
        let (reason, stop) = (said.length.finish.reason(), stop_reason(said));
        let _ = write!(
            out,
            r#"{{"index":{choice},"text":"{asked}{answered}","logprobs":{logprobs},"finish_reason":"{reason}","stop_reason":{stop},"token_ids":{ids},"prompt_logprobs":{prompt_logprobs},"prompt_token_ids":{prompt_ids},"routed_experts":null}}"#
        );
    }

    /// How likely all tokens of a choice were, those of the prompt among them where this is echoed.
    fn columns(&self, choice: usize, top: usize) -> Columns {
        let (said, prompt) = (self.answer.said(choice), self.prompt(choice));
        let (mut columns, offset) = match self.echo {
            Echo::Never => (Columns::default(), 0),
            Echo::First | Echo::Alone => {
                (Columns::of_prompt(&prompt.tokens, top), prompt.text.chars().count())
            }
        };
        if self.echo != Echo::Alone {
            columns.add(said, 0..said.length.tokens, (top, offset));
        }
        columns
    }
}
