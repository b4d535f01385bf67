//! Tools that the model may call, and whether it does.

use serde_json::{Value, json};

use super::instance::{instance_of, python_json};

/// What a call begins with in the text of the model, as vLLM's parser `hermes` finds it.
const OPENS: &str = "<tool_call>\n";

/// What it ends with.
const CLOSES: &str = "\n</tool_call>";

/// A function that the caller offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tool<'a> {
    /// By which the model calls it.
    pub(super) name: &'a str,
    /// Of its arguments.
    pub(super) schema: Option<&'a Value>,
}

/// Whether the model calls a tool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Choice<'a> {
    /// It does not.
    Never,
    /// As it likes: if the last thing said is the user's, and names a tool.
    Auto,
    /// It does.
    Any,
    /// It calls this one.
    Named(&'a str),
}

impl<'a> Choice<'a> {
    /// The tool that is called when the user said `said`; none was `answered` since.
    pub(super) fn of(self, tools: &[Tool<'a>], said: &str, answered: bool) -> Option<Tool<'a>> {
        let mut tools = tools.iter().copied();
        match self {
            Self::Never => None,
            Self::Auto => tools.find(|tool| !answered && names(said, tool.name)),
            Self::Any => tools.next(),
            Self::Named(name) => tools.find(|tool| tool.name == name),
        }
    }
}

/// Whether `name` stands in `said` as a word of its own.
fn names(said: &str, name: &str) -> bool {
    let in_word = |letter: char| letter.is_alphanumeric() || letter == '_';
    !name.is_empty()
        && said.match_indices(name).any(|(at, _)| {
            let (before, after) = (&said[..at], &said[at + name.len()..]);
            !before.ends_with(in_word) && !after.starts_with(in_word)
        })
}

/// A call as the model writes it, in three pieces: up to its arguments, these, and what closes it.
pub(super) struct Called {
    /// `<tool_call>` and the name.
    pub(super) before: String,
    /// A JSON object, as Python writes it.
    pub(super) arguments: String,
    /// The rest.
    pub(super) after: String,
}

impl Called {
    /// The call of `tool` when the user said `said`.
    pub(super) fn new(tool: Tool<'_>, said: &str) -> Self {
        let arguments = match tool.schema {
            Some(schema) => instance_of(schema, said),
            None => json!({}),
        };
        Self::with(tool.name, &python_json(&arguments))
    }

    /// A call that was made before, which is part of the prompt.
    pub(super) fn with(name: &str, arguments: &str) -> Self {
        Self {
            before: format!("{OPENS}{{\"name\": {}, \"arguments\": ", Value::from(name)),
            arguments: arguments.to_owned(),
            after: format!("}}{CLOSES}"),
        }
    }

    /// All of it.
    pub(super) fn text(&self) -> String {
        [self.before.as_str(), &self.arguments, &self.after].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOOLS: [Tool<'_>; 2] =
        [Tool { name: "add", schema: None }, Tool { name: "add_all", schema: None }];

    fn called(choice: Choice<'_>, said: &str, answered: bool) -> Option<String> {
        choice.of(&TOOLS, said, answered).map(|tool| tool.name.to_owned())
    }

    #[test]
    fn a_tool_is_called_when_its_name_was_said() {
        assert_eq!(called(Choice::Auto, "use add_all now", false).as_deref(), Some("add_all"));
        assert_eq!(called(Choice::Auto, "please add: 1", false).as_deref(), Some("add"));
        assert_eq!(called(Choice::Auto, "an address", false), None);
        assert_eq!(called(Choice::Auto, "add", true), None);
    }

    #[test]
    fn a_tool_that_must_be_called_is() {
        assert_eq!(called(Choice::Any, "", true).as_deref(), Some("add"));
        assert_eq!(called(Choice::Named("add_all"), "add", false).as_deref(), Some("add_all"));
        assert_eq!(called(Choice::Never, "add", false), None);
    }

    #[test]
    fn a_call_is_written_as_models_are_taught_to() {
        let schema = json!({"type": "object", "properties": {"city": {"type": "string"}}});
        let call = Called::new(Tool { name: "weather", schema: Some(&schema) }, "Oslo");
        assert_eq!(
            call.text(),
            "<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\": \"Oslo\"}}\n</tool_call>"
        );
    }
}
