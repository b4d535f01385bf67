//! Chat sessions: messages of a conversation, and how many tokens the prompt has that a node makes of them.

mod content;
mod folder;
mod merges;
mod pieces;
mod python;
mod template;
#[cfg(test)]
mod tests;
pub mod tokens;
mod words;

use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Whoever set the conversation up.
    System,
    /// The caller.
    User,
    /// The model.
    Assistant,
}

/// One message, as in the body of `/v1/chat/completions`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said.
    #[serde(rename = "content", serialize_with = "write_text", deserialize_with = "read_text")]
    pub text: Arc<str>,
}

/// What a prompt is made of.
#[derive(Debug, Clone, Copy)]
pub struct Conversation<'a> {
    /// In their order.
    pub messages: &'a [Message],
    /// What else of the body of `/v1/chat/completions` changes a prompt: `tools`, `chat_template_kwargs`, `documents`,
    /// `reasoning_effort` and such. Other fields are not looked at.
    pub extra: &'a Map<String, Value>,
}

fn write_text<S: Serializer>(text: &Arc<str>, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(text)
}

fn read_text<'de, D: Deserializer<'de>>(from: D) -> Result<Arc<str>, D::Error> {
    String::deserialize(from).map(Arc::from)
}
