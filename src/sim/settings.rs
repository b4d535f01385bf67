//! What a simulated node is told when it starts.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::names::ModelName;

/// Where vLLM listens, but on loopback: a simulator is nobody else's business.
const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8000);

/// The model of a node that was told none.
const MODEL: &str = "sim-llama";

/// A context that fits any prompt written by hand and is soon exceeded by a test.
const MAX_MODEL_LEN: usize = 8192;

/// vLLM's own default for `/v1/completions`.
const TOKENS: usize = 16;

/// A simulated node: its address, its models and its pace.
#[derive(Clone, clap::Args)]
pub struct Settings {
    /// Address to listen on
    #[arg(long, default_value_t = LISTEN)]
    pub listen: SocketAddr,
    /// Model to serve; repeat for several. The first answers requests that name none
    #[arg(long = "model", value_name = "NAME", default_value = MODEL)]
    pub models: Vec<ModelName>,
    /// Key to ask for as `Authorization: Bearer`; repeat for several. None: everyone is served
    #[arg(long = "api-key", value_name = "KEY")]
    pub api_keys: Vec<String>,
    /// Time from the request to the first token, such as `50ms`
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = humantime::parse_duration)]
    pub first_token: Duration,
    /// Time from each token to the next, such as `10ms`
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = humantime::parse_duration)]
    pub token_delay: Duration,
    /// Longest prompt and answer together, in tokens
    #[arg(long, value_name = "TOKENS", default_value_t = MAX_MODEL_LEN)]
    pub max_model_len: usize,
    /// Length of an answer, in tokens, when the request names none
    #[arg(long, value_name = "TOKENS", default_value_t = TOKENS)]
    pub tokens: usize,
    /// Answer `/inference/v1/generate`, token ids for token ids, instead of refusing it
    #[arg(long)]
    pub enable_scale_out: bool,
    /// Whether requests are kept for [`Simulator::requests`](super::Simulator::requests). Default: no.
    #[arg(skip)]
    pub record: bool,
}

impl Default for Settings {
    /// What `sluice sim` without arguments uses.
    fn default() -> Self {
        Self {
            listen: LISTEN,
            models: vec![MODEL.into()],
            api_keys: Vec::new(),
            first_token: Duration::ZERO,
            token_delay: Duration::ZERO,
            max_model_len: MAX_MODEL_LEN,
            tokens: TOKENS,
            enable_scale_out: false,
            record: false,
        }
    }
}
