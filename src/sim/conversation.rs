//! A chat as the model reads it: messages set between marks, as the templates of instruction models do.

use serde_json::Value;

use super::tokens;

const START: &str = "<|im_start|>";
const END: &str = "<|im_end|>";
const NEW_LINE: &str = "\n";
const ASSISTANT: &str = "assistant";

/// Messages of a chat, ready to be counted and answered.
#[derive(Default)]
pub(super) struct Conversation {
    /// Role and text, in order.
    messages: Vec<(String, String)>,
}

impl Conversation {
    /// The messages of a body: `content` is a text, or parts of which those with a `text` count.
    pub(super) fn of(messages: &[Value]) -> Self {
        let mut chat = Self::default();
        chat.say_all(messages);
        chat
    }

    /// More messages, after those that are there.
    pub(super) fn say_all(&mut self, messages: &[Value]) {
        for message in messages {
            let role = message.get("role").and_then(Value::as_str).unwrap_or("user");
            self.say(role, text_of(message.get("content")));
        }
    }

    /// One more message.
    pub(super) fn say(&mut self, role: &str, text: String) {
        self.messages.push((role.to_owned(), text));
    }

    /// What the model is to answer: the last message of the user.
    pub(super) fn last_user(&self) -> &str {
        let mut from_last = self.messages.iter().rev();
        from_last.find(|(role, _)| role == "user").map_or("", |(_, text)| text)
    }

    /// The prompt's tokens as ids, with the beginning of an answer.
    pub(super) fn ids(&self) -> Vec<u32> {
        tokens::ids(self.tokens(true))
    }

    /// The tokens of the prompt, with the beginning of an answer or without.
    pub(super) fn tokens(&self, open_answer: bool) -> impl Iterator<Item = &str> {
        let said = self.messages.iter().flat_map(|(role, text)| {
            let before = [START].into_iter().chain(tokens::split(role)).chain([NEW_LINE]);
            before.chain(tokens::split(text)).chain([END, NEW_LINE])
        });
        let opening = open_answer.then_some([START, ASSISTANT, NEW_LINE]);
        said.chain(opening.into_iter().flatten())
    }
}

/// The text of `content`: itself, or that of its parts.
pub(super) fn text_of(content: Option<&Value>) -> String {
    match content {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(parts)) => {
            parts.iter().filter_map(|part| part.get("text").and_then(Value::as_str)).collect()
        }
        _ => String::new(),
    }
}
