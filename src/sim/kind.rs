//! Whose API a node speaks, and what differs with it before and after the API's own code.

use http::StatusCode;

use super::call::Call;
use super::reply::{Broken, Reply};
use super::vllm::{Refusal, Shape};
use super::{ollama, vllm};

/// Whose API a node speaks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// vLLM's.
    #[default]
    Vllm,
    /// Ollama's, its own and the one that is like OpenAI's.
    Ollama,
}

impl Kind {
    /// As the flag has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Vllm => "vllm",
            Self::Ollama => "ollama",
        }
    }

    /// As its makers write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Vllm => "vLLM",
            Self::Ollama => "Ollama",
        }
    }

    /// Answers one request.
    ///
    /// # Errors
    /// The connection is to end without an answer.
    pub(super) async fn answer(self, call: &Call) -> Result<Reply, Broken> {
        match self {
            Self::Vllm => Ok(vllm::answer(call).await),
            Self::Ollama => ollama::answer(call).await,
        }
    }

    /// An error that a fault wants.
    pub(super) fn fault(self, path: &str, status: StatusCode, says: String) -> Reply {
        match self {
            Self::Vllm => Refusal::Fault(status, says).reply(Shape::OpenAi),
            Self::Ollama => ollama::error(path, status, says),
        }
    }

    /// A body is larger than the simulator takes.
    pub(super) fn too_large(self, path: &str) -> Reply {
        match self {
            Self::Vllm => Refusal::TooLarge.reply(Shape::OpenAi),
            Self::Ollama => {
                let says = "http: request body too large".to_owned();
                ollama::error(path, StatusCode::PAYLOAD_TOO_LARGE, says)
            }
        }
    }

    /// A head as the server of this kind writes it.
    pub(super) fn head(self, reply: Reply) -> Reply {
        match self {
            Self::Vllm => reply,
            Self::Ollama => ollama::head(reply),
        }
    }
}
