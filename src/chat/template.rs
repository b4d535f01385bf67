//! A model's chat template: what of a conversation it is given, and the prompt that it makes, as with vLLM.

use std::sync::Arc;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Value;
use minijinja::{Environment, Error, context};
use serde_json::{Map, Value as Json};

use super::python::{self, Raised};
use super::tokens::Uncountable;
use super::{Conversation, Role, content};

/// Steps of one rendering, and bytes of it by 64: some hundred times what a prompt of a million tokens needs, and a second at most.
const FUEL: u64 = 20_000_000;

/// Fields of a body that change a prompt in a way that the node alone knows.
const NODES_OWN: [&str; 5] = [
    "add_special_tokens",
    "chat_template",
    "continue_final_message",
    "kv_transfer_params",
    "truncate_prompt_tokens",
];

/// `chat_template_kwargs` that are no variables of a template but parameters of what renders it.
const PARAMETERS: [&str; 13] = [
    "chat_template",
    "conversation",
    "max_length",
    "messages",
    "padding",
    "processor_kwargs",
    "return_assistant_tokens_mask",
    "return_dict",
    "return_tensors",
    "tokenize",
    "tokenizer_kwargs",
    "tools",
    "truncation",
];

/// A system prompt that begins so loses its first line in vLLM.
const BILLING_HEADER: &str = "x-anthropic-billing-header";

/// From 2^64 on a number is a float here whatever it was written as, and Python writes the two apart.
const WHOLE_MAX: f64 = 18_446_744_073_709_551_616.0;

/// A compiled template.
pub(super) struct Template {
    environment: Environment<'static>,
    /// `bos_token`, `eos_token` and such.
    special: Vec<(String, String)>,
    /// Whether content is given as a list of parts.
    in_parts: bool,
}

impl Template {
    pub(super) fn new(source: &str, special: Vec<(String, String)>) -> Result<Self, Error> {
        let source = without_generation(source);
        let in_parts = content::in_parts(&source);
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?;
        environment.set_syntax(syntax);
        environment.set_fuel(Some(FUEL));
        python::add_to(&mut environment);
        environment.add_template_owned(NAME, source)?;
        Ok(Self { environment, special, in_parts })
    }

    /// The prompt.
    pub(super) fn render(&self, conversation: &Conversation<'_>) -> Result<String, Uncountable> {
        let variables = self.variables(conversation)?;
        let template = self.environment.get_template(NAME).map_err(|error| failed(&error))?;
        template.render(variables).map_err(|error| failed(&error))
    }

    /// Later ones win: the special tokens, what the caller adds, what vLLM gives to every template.
    fn variables(&self, conversation: &Conversation<'_>) -> Result<Value, Uncountable> {
        let extra = conversation.extra;
        if let Some(name) = NODES_OWN.iter().find(|name| extra.get(**name).is_some_and(is_set)) {
            return Err(Uncountable::Unknown(format!("`{name}` is the node's to know")));
        }
        let special = self.special.iter().map(|(name, text)| (name.clone(), Value::from(text)));
        let mut variables: Vec<(String, Value)> = special.collect();
        variables.extend(added(extra)?);
        let content = |text: &Arc<str>| match self.in_parts {
            true => Value::from(vec![context! { type => "text", text => Value::from(text) }]),
            false => Value::from(text),
        };
        let mut messages = Vec::with_capacity(conversation.messages.len());
        for message in conversation.messages {
            let role = match message.role {
                Role::System if message.text.starts_with(BILLING_HEADER) => {
                    return Err(Uncountable::Unknown("a billing header".to_owned()));
                }
                Role::System => "system",
                Role::User => "user",
                Role::Assistant => "assistant",
            };
            messages.push(context! { role, content => content(&message.text) });
        }
        let prompt = extra.get("add_generation_prompt").and_then(Json::as_bool).unwrap_or(true);
        variables.push(("messages".to_owned(), messages.into()));
        variables.push(("tools".to_owned(), tools(extra)?));
        variables.push(("add_generation_prompt".to_owned(), prompt.into()));
        Ok(Value::from_pairs(variables))
    }
}

/// What the template is called in its environment; nothing in it is escaped, as the name ends in nothing.
const NAME: &str = "chat";

/// `{% generation %}` marks what a model said, for training: a block of its own, and no more.
fn without_generation(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(begin) = rest.find("{%") {
        let begin = begin + 2;
        let Some(length) = rest[begin..].find("%}") else { break };
        let tag = &rest[begin..begin + length];
        let word = tag.trim_matches(|c: char| c.is_whitespace() || c == '-' || c == '+');
        out.push_str(&rest[..begin]);
        match word {
            "generation" => out.push_str(&tag.replace(word, "with")),
            "endgeneration" => out.push_str(&tag.replace(word, "endwith")),
            _ => out.push_str(tag),
        }
        rest = &rest[begin + length..];
    }
    out.push_str(rest);
    out
}

/// What of the body, beside messages and tools, a template may read.
fn added(extra: &Map<String, Json>) -> Result<Vec<(String, Value)>, Uncountable> {
    let mut variables = vec![("documents".to_owned(), Value::from(()))];
    let keywords = match extra.get("chat_template_kwargs") {
        None | Some(Json::Null) => None,
        Some(Json::Object(keywords)) => Some(keywords),
        Some(_) => return Err(unlike("chat_template_kwargs")),
    };
    for (name, value) in keywords.into_iter().flatten() {
        if PARAMETERS.contains(&name.as_str()) {
            return Err(Uncountable::Unknown(format!("`{name}` is no variable of a template")));
        }
        variables.push((name.clone(), exact(value)?));
    }
    if let Some(documents) = extra.get("documents").filter(|value| !value.is_null()) {
        let known = documents.as_array().is_some_and(|list| list.iter().all(Json::is_object));
        variables.push(("documents".to_owned(), exact(documents)?));
        if !known {
            return Err(unlike("documents"));
        }
    }
    if let Some(effort) = extra.get("reasoning_effort").filter(|value| !value.is_null()) {
        let effort = effort.as_str().ok_or_else(|| unlike("reasoning_effort"))?;
        variables.push(("reasoning_effort".to_owned(), effort.into()));
        if keywords.is_none_or(|known| !known.contains_key("enable_thinking")) {
            variables.push(("enable_thinking".to_owned(), (effort != "none").into()));
        }
    }
    Ok(variables)
}

/// Tools as vLLM reads and writes them: known fields in its order, and null for what is left out.
fn tools(extra: &Map<String, Json>) -> Result<Value, Uncountable> {
    let list = match extra.get("tools") {
        None | Some(Json::Null) => return Ok(Value::from(())),
        Some(Json::Array(list)) if !list.is_empty() => list,
        Some(_) => return Err(unlike("tools")),
    };
    list.iter().map(|tool| tool_of(tool).unwrap_or_else(|| Err(unlike("tools")))).collect()
}

/// None of what has other fields than those that are known, or other values.
fn tool_of(tool: &Json) -> Option<Result<Value, Uncountable>> {
    let tool = tool.as_object()?;
    let function = tool.get("function")?.as_object()?;
    let kind = tool.get("type").is_none_or(|kind| kind == "function");
    let known = tool.keys().all(|key| ["type", "function"].contains(&key.as_str()));
    let fields = ["name", "description", "parameters", "strict"];
    if !kind || !known || !function.keys().all(|key| fields.contains(&key.as_str())) {
        return None;
    }
    let (name, strict) = (function.get("name")?.as_str()?, function.get("strict"));
    let mut written = vec![("name", Value::from(name))];
    written.push(match function.get("description") {
        None | Some(Json::Null) => ("description", Value::from(())),
        Some(text) => ("description", text.as_str()?.into()),
    });
    match function.get("parameters") {
        None | Some(Json::Null) => written.push(("parameters", Value::from(()))),
        Some(parameters) if !parameters.is_object() => return None,
        Some(parameters) => match exact(parameters) {
            Ok(value) => written.push(("parameters", value)),
            Err(error) => return Some(Err(error)),
        },
    }
    if let Some(strict) = strict.filter(|strict| !strict.is_null()) {
        written.push(("strict", strict.as_bool()?.into()));
    }
    let function = Value::from_pairs(written);
    Some(Ok(Value::from_pairs([("type", Value::from("function")), ("function", function)])))
}

/// A value of the body as a template sees it.
fn exact(value: &Json) -> Result<Value, Uncountable> {
    let too_large = || Uncountable::Unknown("a number that may have been written otherwise".into());
    Ok(match value {
        Json::Null => Value::from(()),
        Json::Bool(value) => (*value).into(),
        Json::String(text) => text.as_str().into(),
        Json::Array(list) => list.iter().map(exact).collect::<Result<Vec<_>, _>>()?.into(),
        Json::Object(fields) => {
            let pairs = fields.iter().map(|(name, value)| Ok((name.as_str(), exact(value)?)));
            Value::from_pairs(pairs.collect::<Result<Vec<_>, _>>()?)
        }
        Json::Number(number) => match (number.as_u64(), number.as_i64(), number.as_f64()) {
            (Some(number), ..) => number.into(),
            (_, Some(number), _) => number.into(),
            (.., Some(number)) if number.abs() < WHOLE_MAX => number.into(),
            _ => return Err(too_large()),
        },
    })
}

fn is_set(value: &Json) -> bool {
    !matches!(value, Json::Null | Json::Bool(false))
}

fn unlike(field: &str) -> Uncountable {
    Uncountable::Unknown(format!("`{field}` is not as vLLM documents it"))
}

/// What a template raises is its answer; any other failure may be this engine's alone.
fn failed(error: &Error) -> Uncountable {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(known) = cause {
        if let Some(Raised(text)) = known.downcast_ref() {
            return Uncountable::Refused(text.clone());
        }
        cause = known.source();
    }
    Uncountable::Unknown(format!("the chat template: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_of_generation_become_blocks_and_no_text_makes_it_panic() {
        let with = without_generation("a{%- generation -%}b{% endgeneration %}{{ c }}");
        assert_eq!(with, "a{%- with -%}b{% endwith %}{{ c }}");
        for text in ["{%}", "{%%}", "{%", "%}", "{% generation", "{%}{%}"] {
            assert_eq!(without_generation(text), text);
        }
    }
}
