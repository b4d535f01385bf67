//! What a simulated node is told when it starts.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::faults::Fault;
use super::kind::Kind;
use super::ollama;
use crate::names::ModelName;

/// Where vLLM listens, but on loopback: a simulator is nobody else's business.
const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8000);

/// Where Ollama listens.
const LISTEN_OLLAMA: &str = "127.0.0.1:11434";

/// The model of a node that was told none.
const MODEL: &str = "sim-llama";

/// A context that fits any prompt written by hand and is soon exceeded by a test.
const MAX_MODEL_LEN: usize = 8192;

/// vLLM's own default for `/v1/completions`.
const TOKENS: usize = 16;

/// vLLM's own default for an API server on a middling GPU.
const MAX_NUM_SEQS: usize = 256;

/// Ollama's own default (`OLLAMA_NUM_PARALLEL`).
const NUM_PARALLEL: usize = 1;

/// Ollama's own default (`OLLAMA_MAX_QUEUE`).
const MAX_QUEUE: usize = 512;

/// vLLM's own default on GPUs.
const BLOCK_SIZE: usize = 16;

/// Blocks of the KV cache: with [`BLOCK_SIZE`] a quarter of a million tokens, what a middling GPU has beside a small
/// model. More where the longest request needs more.
const BLOCKS: u32 = 16_384;

/// A simulated node: its address, its models, its pace, its engine and what goes wrong with it.
#[derive(Clone, clap::Args)]
pub struct Settings {
    /// Whose API it speaks
    #[arg(long, value_enum, value_name = "KIND", default_value_t)]
    pub kind: Kind,
    /// Address to listen on; 127.0.0.1:11434 with `--kind ollama`
    #[arg(long, default_value_t = LISTEN, default_value_if("kind", "ollama", LISTEN_OLLAMA))]
    pub listen: SocketAddr,
    /// Model to serve; repeat for several. The first answers requests that name none
    #[arg(long = "model", value_name = "NAME", default_value = MODEL)]
    pub models: Vec<ModelName>,
    /// Key to ask for as `Authorization: Bearer`; repeat for several. None: everyone is served
    #[arg(long = "api-key", value_name = "KEY")]
    pub api_keys: Vec<String>,
    /// Time to the first token beside the waiting in the queue and the prefill, such as `50ms`
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = humantime::parse_duration)]
    pub first_token: Duration,
    /// Time from each token to the next, such as `10ms`
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = humantime::parse_duration)]
    pub token_delay: Duration,
    /// Tokens of prompts computed in a second, one prompt after the other, those found in the cache left out. 0: at once
    #[arg(long, value_name = "TOKENS", default_value_t = 0)]
    pub prefill_rate: u32,
    /// vLLM: requests answered at a time; the others wait in a queue
    #[arg(long, value_name = "N", default_value_t = MAX_NUM_SEQS)]
    pub max_num_seqs: usize,
    /// Ollama: requests answered at a time, as `OLLAMA_NUM_PARALLEL`; the others wait in a queue
    #[arg(long, value_name = "N", default_value_t = NUM_PARALLEL)]
    pub num_parallel: usize,
    /// Ollama: requests that may wait, as `OLLAMA_MAX_QUEUE`; more are refused with 503
    #[arg(long, value_name = "N", default_value_t = MAX_QUEUE)]
    pub max_queue: usize,
    /// Ollama: time to load a model that is not in memory, or is in another shape, such as `5s`
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = humantime::parse_duration)]
    pub load_time: Duration,
    /// Tokens in one block of the KV cache
    #[arg(long, value_name = "TOKENS", default_value_t = BLOCK_SIZE)]
    pub block_size: usize,
    /// Blocks of the KV cache. Default: 16384, or more if the longest request needs them
    #[arg(long, value_name = "N")]
    pub num_gpu_blocks_override: Option<u32>,
    /// Compute each prompt anew, whatever the cache holds
    #[arg(long = "no-enable-prefix-caching", action = clap::ArgAction::SetFalse)]
    pub prefix_caching: bool,
    /// Show `prompt_tokens_details` in usage: how many tokens were found in the cache
    #[arg(long)]
    pub enable_prompt_tokens_details: bool,
    /// Keep no answer of `/v1/responses`, as vLLM without `VLLM_ENABLE_RESPONSES_API_STORE=1`
    #[arg(long = "no-responses-api-store", action = clap::ArgAction::SetFalse)]
    pub responses_api_store: bool,
    /// Longest prompt and answer together, in tokens
    #[arg(long, value_name = "TOKENS", default_value_t = MAX_MODEL_LEN)]
    pub max_model_len: usize,
    /// Length of an answer, in tokens, when the request names none
    #[arg(long, value_name = "TOKENS", default_value_t = TOKENS)]
    pub tokens: usize,
    /// Answer `/inference/v1/generate`, token ids for token ids, instead of refusing it
    #[arg(long)]
    pub enable_scale_out: bool,
    /// What goes wrong with every POST, such as `status=503` or `cut-after=3`; any other word shows the list
    #[arg(long, value_name = "FAULT")]
    pub fault: Option<Fault>,
    /// The same for every other method: `/health`, `/v1/models`, `/api/tags` and the like
    #[arg(long, value_name = "FAULT")]
    pub probe_fault: Option<Fault>,
    /// Share of requests that meet their fault, from 0 to 1
    #[arg(long, value_name = "SHARE", default_value_t = 1.0)]
    pub fault_rate: f64,
    /// Where the dice of `--fault-rate` begin: the same number, the same requests. Default: anywhere
    #[arg(long, value_name = "NUMBER")]
    pub fault_seed: Option<u64>,
    /// Seconds for running answers to end after SIGTERM; in them new requests get a 500, and `/health` stays 200
    #[arg(long, value_name = "SECONDS", default_value = "0", value_parser = seconds)]
    pub shutdown_timeout: Duration,
    /// The machine's own name, which Ollama takes as a `Host` like `localhost`. Default: none.
    #[arg(skip)]
    pub host_name: Option<String>,
    /// Whether requests are kept for [`Simulator::requests`](super::Simulator::requests), and times for
    /// [`Simulator::first_tokens`](super::Simulator::first_tokens). Default: no.
    #[arg(skip)]
    pub record: bool,
}

/// Settings that no node can have.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct BadSettings(String);

impl Settings {
    /// Blocks of the KV cache.
    pub(super) fn num_gpu_blocks(&self) -> u32 {
        self.num_gpu_blocks_override.unwrap_or_else(|| {
            let needed = u32::try_from(self.blocks_of_longest()).unwrap_or(u32::MAX);
            needed.max(BLOCKS)
        })
    }

    /// Requests answered at a time.
    pub(super) fn slots(&self) -> usize {
        match self.kind {
            Kind::Vllm => self.max_num_seqs,
            Kind::Ollama => self.num_parallel,
        }
    }

    /// Requests that may wait for a slot. vLLM has no bound.
    pub(super) fn waiting_max(&self) -> usize {
        match self.kind {
            Kind::Vllm => usize::MAX,
            Kind::Ollama => self.max_queue,
        }
    }

    /// Checks what no flag alone can tell. As in vLLM the longest request must fit into the cache: else it would wait for
    /// ever.
    ///
    /// # Errors
    /// A node of these settings could not answer everyone.
    pub(super) fn check(&self) -> Result<(), BadSettings> {
        let least = [
            ("max-num-seqs", self.max_num_seqs),
            ("num-parallel", self.num_parallel),
            ("block-size", self.block_size),
            ("max-model-len", self.max_model_len),
            ("tokens", self.tokens),
        ];
        if let Some((flag, _)) = least.into_iter().find(|(_, value)| *value == 0) {
            return Err(BadSettings(format!("--{flag} must be at least 1")));
        }
        if !(0.0..=1.0).contains(&self.fault_rate) {
            return Err(BadSettings("--fault-rate must be from 0 to 1".to_owned()));
        }
        self.check_kind()?;
        let (needed, blocks) = (self.blocks_of_longest(), self.num_gpu_blocks());
        if needed > blocks as usize || blocks == u32::MAX {
            return Err(BadSettings(format!(
                "a request of --max-model-len {} needs {needed} blocks of {} tokens, and the KV cache has {blocks}: \
                 raise --num-gpu-blocks-override or lower --max-model-len",
                self.max_model_len, self.block_size
            )));
        }
        Ok(())
    }

    /// Refuses what means nothing to a node of this kind.
    fn check_kind(&self) -> Result<(), BadSettings> {
        let refused = match self.kind {
            Kind::Vllm => [
                ("num-parallel", self.num_parallel != NUM_PARALLEL, "set --max-num-seqs"),
                ("max-queue", self.max_queue != MAX_QUEUE, "vLLM's queue has no bound"),
                ("load-time", !self.load_time.is_zero(), "vLLM loads its model before it serves"),
            ]
            .to_vec(),
            Kind::Ollama => {
                let answers = "it is about an answer that Ollama does not give";
                [
                    ("api-key", !self.api_keys.is_empty(), "Ollama has no authentication"),
                    ("max-num-seqs", self.max_num_seqs != MAX_NUM_SEQS, "set --num-parallel"),
                    ("shutdown-timeout", !self.shutdown_timeout.is_zero(), "Ollama ends at once"),
                    ("enable-prompt-tokens-details", self.enable_prompt_tokens_details, answers),
                    ("no-responses-api-store", !self.responses_api_store, answers),
                    ("enable-scale-out", self.enable_scale_out, answers),
                ]
                .to_vec()
            }
        };
        let unnameable = |model: &&ModelName| !ollama::is_name(model.as_str());
        if self.kind == Kind::Ollama
            && let Some(model) = self.models.iter().find(unnameable)
        {
            return Err(BadSettings(format!("--model {model}: Ollama takes no such name")));
        }
        match refused.into_iter().find(|(_, given, _)| *given) {
            None => Ok(()),
            Some((flag, _, why)) => {
                let kind = self.kind.as_str();
                Err(BadSettings(format!("--{flag} means nothing with --kind {kind}: {why}")))
            }
        }
    }

    fn blocks_of_longest(&self) -> usize {
        self.max_model_len.div_ceil(self.block_size)
    }
}

fn seconds(text: &str) -> Result<Duration, std::num::ParseIntError> {
    text.parse().map(Duration::from_secs)
}

impl Default for Settings {
    /// What `sluice sim` without arguments uses.
    fn default() -> Self {
        Self {
            kind: Kind::default(),
            listen: LISTEN,
            models: vec![MODEL.into()],
            api_keys: Vec::new(),
            first_token: Duration::ZERO,
            token_delay: Duration::ZERO,
            prefill_rate: 0,
            max_num_seqs: MAX_NUM_SEQS,
            num_parallel: NUM_PARALLEL,
            max_queue: MAX_QUEUE,
            load_time: Duration::ZERO,
            block_size: BLOCK_SIZE,
            num_gpu_blocks_override: None,
            prefix_caching: true,
            enable_prompt_tokens_details: false,
            responses_api_store: true,
            max_model_len: MAX_MODEL_LEN,
            tokens: TOKENS,
            enable_scale_out: false,
            fault: None,
            probe_fault: None,
            fault_rate: 1.0,
            fault_seed: None,
            shutdown_timeout: Duration::ZERO,
            host_name: None,
            record: false,
        }
    }
}
