//! What a request asks of the model, whatever API it came by, and what the model says to it.

use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use super::answer::{Answer, Call as Called, Prompt};
use super::go;
use super::names::Model;
use super::options::Options;
use super::refusal::Refusal;
use crate::sim::call::{Call, Length};
use crate::sim::engine::Finish;
use crate::sim::instance::{instance_of, python_json};
use crate::sim::prompt::{Turn, asked, called};
use crate::sim::said::{Said, Stops};
use crate::sim::tools::{Choice, Tool};

/// What a model thinks, once or several times.
const THOUGHT: &str = "The user wants an answer. ";

/// A request for an answer of the model.
#[derive(Debug, Default)]
pub(super) struct Asked {
    /// The model, as it was named.
    pub(super) model: String,
    /// What was said before.
    pub(super) turns: Vec<Turn>,
    /// What tools there are.
    pub(super) tools: Vec<Value>,
    /// `"json"` or a schema.
    pub(super) format: Option<Value>,
    /// Not yet checked: Ollama looks for the model first.
    pub(super) options: Map<String, Value>,
    /// How long the model stays loaded.
    pub(super) keep_alive: Option<Duration>,
    /// Whether it thinks, if the request says so.
    pub(super) think: Option<Think>,
    /// A prompt that is too long is an error.
    pub(super) no_truncate: bool,
    /// So is an answer that is.
    pub(super) no_shift: bool,
    /// How many other tokens are shown beside each.
    pub(super) logprobs: Option<usize>,
    /// Whether the answer is a stream.
    pub(super) stream: bool,
}

/// How much a model thinks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Think {
    /// Not at all.
    Off,
    /// `"low"`
    Low,
    /// `"medium"`, or true.
    Medium,
    /// `"high"`
    High,
    /// `"max"`
    Max,
}

impl Think {
    /// The level of this name.
    pub(super) fn level(name: &str) -> Option<Self> {
        Some(match name {
            "low" => Self::Low,
            "medium" => Self::Medium,
            "high" => Self::High,
            "max" => Self::Max,
            _ => return None,
        })
    }

    /// `think` of Ollama's own API.
    ///
    /// # Errors
    /// It is something else.
    pub(super) fn read(value: Option<&Value>) -> Result<Option<Self>, Refusal> {
        match value {
            None => Ok(None),
            Some(Value::Bool(false)) => Ok(Some(Self::Off)),
            Some(Value::Bool(true)) => Ok(Some(Self::Medium)),
            Some(Value::String(name)) => Self::level(name).map(Some).ok_or_else(|| {
                let name = go::quote(name);
                Refusal::bad(format!(
                    r#"invalid think value: {name} (must be "high", "medium", "low", "max", true, or false)"#
                ))
            }),
            Some(_) => Err(Refusal::bad(
                r#"think must be a boolean or string ("high", "medium", "low", "max", true, or false)"#,
            )),
        }
    }

    /// How often [`THOUGHT`] is thought.
    fn thoughts(self) -> usize {
        match self {
            Self::Off => 0,
            Self::Low => 1,
            Self::Medium => 2,
            Self::High => 3,
            Self::Max => 4,
        }
    }
}

impl Asked {
    /// Refuses what the model cannot do.
    ///
    /// # Errors
    /// It cannot do it.
    pub(super) fn check(&self, model: &Model, what: &str) -> Result<(), Refusal> {
        let name = go::quote(&self.model);
        let thinks = self.think.is_some_and(|think| think != Think::Off);
        if thinks && !model.thinks {
            return Err(Refusal::bad(format!("{name} does not support thinking")));
        }
        if !model.completes {
            return Err(Refusal::bad(format!("{name} does not support {what}")));
        }
        if !self.tools.is_empty() && !model.tools {
            return Err(model.cannot("tools"));
        }
        Ok(())
    }

    /// What the model says to `prompt`.
    ///
    /// # Errors
    /// It is to say it in no format that there is.
    pub(super) fn answer(
        &self,
        call: &Call,
        (model, options): (&Model, &Options),
        prompt: Prompt,
    ) -> Result<Answer, Refusal> {
        let context = call.node.max_model_len.min(options.shape.num_ctx);
        let room = context.saturating_sub(prompt.ids.len());
        let named = usize::try_from(options.num_predict).ok();
        let most = named.map_or(room, |named| named.min(room));
        let thoughts = self.thoughts(model, most);
        let left = most - thoughts.as_ref().map_or(0, |thoughts| thoughts.length.tokens);
        let said = asked(&self.turns);
        let tools: Vec<_> = self.tools.iter().filter_map(tool).collect();
        let said = match (called(Choice::Auto, &tools, &self.turns), self.instance(said)?) {
            (Some(tool), _) => Said::call(tool, said, left),
            (None, Some(instance)) => Said::whole(&python_json(&instance), left),
            (None, None) => {
                let own = call.node.tokens.min(left);
                let length = match named {
                    None if own == call.node.tokens => Length { tokens: own, finish: Finish::Stop },
                    None => Length { tokens: own, finish: Finish::Length },
                    Some(_) => Length { tokens: left, finish: Finish::Length },
                };
                let stops = Stops { texts: options.stop.clone(), shown: false };
                Said::echo(said, length).until(&stops)
            }
        };
        let called = said.whole_call().map(|name| Called {
            id: format!("call_{}", letters(call.node.fresh_number())),
            name: go::string(name),
            arguments: serde_json::from_str(&said.plain()).unwrap_or_default(),
        });
        Ok(Answer {
            model: go::string(&self.model),
            reason: said.length.finish.reason(),
            prompt,
            thoughts,
            said,
            called,
            called_last: model.calls_last,
            logprobs: self.logprobs,
            first_token: Instant::now(),
        })
    }

    /// What it thinks before, and the mark at the end of it. A model that can think does so unless told not to.
    fn thoughts(&self, model: &Model, most: usize) -> Option<Said> {
        let times = self.think.unwrap_or(Think::Medium).thoughts();
        let thinks = model.thinks && times > 0;
        thinks.then(|| Said::whole(THOUGHT.repeat(times).trim_end(), most))
    }

    /// What the model is to say, if it is held to a format.
    fn instance(&self, said: &str) -> Result<Option<Value>, Refusal> {
        match &self.format {
            None => Ok(None),
            Some(Value::String(name)) if name.is_empty() => Ok(None),
            Some(Value::String(name)) if name == "json" => Ok(Some(json!({"said": said}))),
            Some(schema @ Value::Object(_)) => Ok(Some(instance_of(schema, said))),
            Some(other) => {
                let other = go::quote(&other.to_string());
                Err(Refusal::internal(format!(
                    r#"invalid format: {other}; expected "json" or a valid JSON Schema object"#
                )))
            }
        }
    }
}

/// A function that is offered.
fn tool(tool: &Value) -> Option<Tool<'_>> {
    let function = tool.get("function")?;
    Some(Tool { name: function.get("name")?.as_str()?, schema: function.get("parameters") })
}

/// Eight letters or digits, as Ollama makes ids of calls.
fn letters(mut number: u64) -> String {
    const LETTERS: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
    let mut next = || {
        let letter = LETTERS[(number % 36) as usize];
        number /= 36;
        char::from(letter)
    };
    (0..8).map(|_| next()).collect()
}
