//! A chat as the model reads it: messages set between marks, as the templates of instruction models do.

use crate::sim::tokens;

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
    /// One more message.
    pub(super) fn say(&mut self, role: &str, text: String) {
        self.messages.push((role.to_owned(), text));
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
