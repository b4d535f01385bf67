//! Route tables that a file can ask for by name.

use http::Method;

use super::report::Fault;
use super::values::one_of;

/// Paths and their methods.
pub(super) type Preset = &'static [(&'static str, &'static [Method])];

const GET: &[Method] = &[Method::GET];
const POST: &[Method] = &[Method::POST];
const GET_POST: &[Method] = &[Method::GET, Method::POST];

/// The name of [`VLLM`].
pub(super) const VLLM_NAME: &str = "vllm";

/// What vLLM's server has, but for `/health` and `/v1/models`: those the gateway answers itself.
const VLLM: Preset = &[
    ("/scale_elastic_ep", POST),
    ("/is_scaling_elastic_ep", POST),
    ("/tokenize", POST),
    ("/detokenize", POST),
    ("/inference/v1/generate", POST),
    ("/pause", POST),
    ("/resume", POST),
    ("/is_paused", GET),
    ("/metrics", GET),
    ("/load", GET),
    ("/version", GET),
    ("/v1/responses", POST),
    ("/v1/responses/{response_id}", GET),
    ("/v1/responses/{response_id}/cancel", POST),
    ("/v1/messages", POST),
    ("/v1/messages/count_tokens", POST),
    ("/v1/chat/completions", POST),
    ("/v1/completions", POST),
    ("/v1/audio/transcriptions", POST),
    ("/v1/audio/translations", POST),
    ("/ping", GET_POST),
    ("/invocations", POST),
    ("/classify", POST),
    ("/v1/embeddings", POST),
    ("/score", POST),
    ("/v1/score", POST),
    ("/rerank", POST),
    ("/v1/rerank", POST),
    ("/v2/rerank", POST),
    ("/pooling", POST),
];

/// The preset of that name.
pub(super) fn preset(name: &str) -> Result<Preset, Fault> {
    one_of(name, &[(VLLM_NAME, VLLM)])
}

/// The preset of nodes that come from a flag or the environment.
pub(super) fn vllm() -> Preset {
    VLLM
}
