//! Ollama's own API behind OpenAI's: requests and answers translated, as Ollama itself does it on `/v1`, and what that leaves out.
//!
//! A request is read into the fields that have a twin, and written anew with those: what only hints is left out, and what
//! would make another answer than the one asked for is refused. Of an answer nothing is read that is not needed: texts
//! pass as they stand, with their escapes.

mod answer;
mod content;
mod embeddings;
mod error;
mod events;
mod fields;
mod keep_alive;
mod line;
mod logprobs;
mod messages;
mod models;
mod options;
mod request;
mod tools;

pub use answer::Answer;
pub use models::{full_name, models};
pub use request::request;

/// A request of OpenAI's API that has a twin in Ollama's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// A chat.
    Chat,
    /// A text that is gone on from.
    Completion,
    /// Texts that become vectors.
    Embedding,
}

impl Call {
    /// What a POST on this path of OpenAI's API is.
    pub fn of_path(path: &str) -> Option<Self> {
        Some(match path {
            "/v1/chat/completions" => Self::Chat,
            "/v1/completions" => Self::Completion,
            "/v1/embeddings" => Self::Embedding,
            _ => return None,
        })
    }

    /// Its path in Ollama's own API.
    pub fn path(self) -> &'static str {
        match self {
            Self::Chat => "/api/chat",
            Self::Completion => "/api/generate",
            Self::Embedding => "/api/embed",
        }
    }
}

/// A translated request.
#[derive(Debug, Clone)]
pub struct Asked {
    /// What the node gets.
    pub body: Vec<u8>,
    /// How its answer is to be read.
    pub answer: Shape,
}

/// What of a request shapes its answer.
#[derive(Debug, Clone)]
pub struct Shape {
    call: Call,
    /// Events are wanted.
    stream: bool,
    /// With an event that tells of usage.
    usage: bool,
    /// Vectors are wanted in base64.
    base64: bool,
    /// The model as JSON: for answers that do not name it.
    model: Box<str>,
}

impl Shape {
    /// The translation of one answer, whose head has `status`. `id` is without prefix, `created` in seconds since 1970.
    pub fn begin(&self, id: &str, status: u16, created: u64) -> Answer {
        Answer::new(self, id, status, created)
    }
}

/// A text as JSON.
fn quoted(text: &str) -> String {
    // Text always has a JSON form.
    serde_json::to_string(text).unwrap_or_default()
}
