//! Chat sessions (SPEC 8): what was said, who may go on with it, where it is kept, and how much of it fits a prompt, whose tokens are
//! counted as its node does.

mod content;
pub mod counting;
mod folder;
pub mod id;
pub mod memory;
mod merges;
mod pieces;
mod python;
mod scripts;
pub mod session;
pub mod sessions;
pub mod shared;
pub mod store;
mod template;
#[cfg(test)]
mod tests;
pub mod tokens;
mod turn;
pub mod window;
mod words;

use std::sync::Arc;

use serde::{Deserialize, Serialize};
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
    #[serde(rename = "content")]
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
