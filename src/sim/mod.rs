//! A simulated node, vLLM 0.32 or Ollama ([`Kind`]): a real HTTP server with the node's paths, shapes and faults, but
//! without a model.
//!
//! What it says is an echo of the prompt, one token for each word, so that the same request has the same answer. A
//! request goes through these modules: `server` accepts it, `http` reads it and fails it if told to, one module of `vllm`
//! or `ollama` for each API answers or refuses it, `engine` says when, and `events` sends a stream at the pace of a model.
//! What both kinds read and say alike is beside them: `conversation`, `prompt`, `said`, `tools`, `instance`, `tensor`.
//!
//! Where it differs from Ollama is told on the page of `ollama`.
//!
//! Answers are compared with recorded ones of a real vLLM (`tests/gateway/simulator/recorded`).
//!
//! # Where it differs from vLLM
//!
//! - One node has every API at once: that of models that generate, embed, score, classify and hear. vLLM has the paths of
//!   its one model. `/pause`, `/resume` and `/is_paused` are there without `VLLM_SERVER_DEV_MODE=1`. Other paths of vLLM's
//!   (`/v1/chat/completions/batch`, `*/render`, `/generative_scoring`, `/v1/systemone`, `/kv_event_sources` …) are not.
//! - An upload may be as large as any body. vLLM takes 25 MiB, unless `VLLM_MAX_AUDIO_CLIP_FILESIZE_MB` says otherwise, and
//!   ten minutes of sound. What it holds is not listened to: the answer is its length and a hash.
//! - Vectors have 64 numbers of 32 bits and can be cut to any length (`dimensions`). One request has 2,048 inputs at most.
//! - Errors inside the messages of a chat and the prompts of a completion are not found, nor is a format that is none, nor
//!   those of fields that change nothing here; where a chat is to be embedded, pictures are refused.
//! - A prompt that is too long is always counted in tokens; vLLM refuses the longest by their letters.
//! - A completion has 1,024 prompts at most, an answer 128 choices and 200,000 likelihoods; `logit_bias` and the like
//!   change nothing, and how likely tokens were is made up.
//! - An answer that ends by itself has no token for its end, unless it is JSON or a call.
//! - What could become a stop string is sent at once; vLLM holds back as many letters as the string has, but one.
//! - `/scale_elastic_ep` takes any size, and no time.
//! - Who is admitted has room in the KV cache for the prompt and the whole answer, so nobody is ever preempted, and
//!   `vllm:kv_cache_usage_perc` tells of room that is taken, if not yet written to.
//! - Several choices or prompts of one request share a slot, and one choice's tokens stand for all in the cache.
//! - A prompt is computed in one stretch, not in chunks between the tokens of others, and does not slow these down.
//! - A client that reads slowly holds up its own answer; vLLM would have made it already.
//! - `vllm:inter_token_latency_seconds` has the mean of each request, as many times as there were steps.
//! - Answers of `/v1/responses` are kept, as with `VLLM_ENABLE_RESPONSES_API_STORE=1`: the last 1,000, or fewer if large.
//! - Tools are called as with `--enable-auto-tool-choice --tool-call-parser hermes`, one at a time, when one must be (the
//!   first) or the user names it; its arguments are the first that fit its schema. Tools are part of every prompt.
//! - Every model takes images, each a mark in the prompt, and is told to think without doing so.
//! - Objects that an answer repeats of its request have their fields sorted.
//! - `/load` counts requests without `--enable-server-load-tracking`.
//! - Each model of several has prompts of its own in the cache; in vLLM they are names of one model.

mod background;
mod call;
mod conversation;
mod engine;
mod events;
mod faults;
mod http;
mod instance;
mod kind;
mod node;
mod ollama;
mod prompt;
mod reply;
mod said;
mod seen;
mod server;
mod settings;
mod tensor;
mod text;
mod tokens;
mod tools;
mod vllm;
mod wire;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use self::background::Background;
use self::engine::PAUSE_MAX;
pub use self::faults::{Fault, NotAFault};
pub use self::kind::Kind;
pub use self::node::Counts;
use self::node::Node;
pub use self::seen::Seen;
use self::server::Course;
pub use self::settings::{BadSettings, Settings};
use crate::names::ModelName;

/// How long a node that was told to end waits for its clients to read the last words of their streams.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// A running node. Dropped, it stops and lets go of its connections.
pub struct Simulator {
    addr: SocketAddr,
    node: Arc<Node>,
    /// One task; dropping it ends all connections.
    task: JoinSet<()>,
    /// Answers that are made in the background.
    background: Arc<Background>,
}

impl Simulator {
    /// Serves on `listener`, whatever [`Settings::listen`] says, on the caller's tokio runtime.
    ///
    /// # Errors
    /// The listener has no address or cannot be made non-blocking, or no node can be as the settings say
    /// ([`BadSettings`]).
    pub async fn start(listener: TcpListener, settings: Settings) -> io::Result<Self> {
        settings.check().map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let addr = listener.local_addr()?;
        let listener = server::listener(listener)?;
        let background = Arc::new(Background::default());
        let node = Arc::new(Node::new(settings, addr, background.spawner()));
        let mut task = JoinSet::new();
        task.spawn(server::run(listener, node.clone()));
        Ok(Self { addr, node, task, background })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// From now on every POST meets this fault, unless its `x-sim-fault` header names another. `GET`s are spared, so
    /// that health checks and answers can fail apart.
    pub fn set_fault(&self, fault: Option<Fault>) {
        self.node.change(|live| live.fault.clone_from(&fault));
    }

    /// The same for every other method: `/health`, `/v1/models`, `/api/tags` and the like.
    pub fn set_probe_fault(&self, fault: Option<Fault>) {
        self.node.change(|live| live.probe_fault.clone_from(&fault));
    }

    /// From now on it serves these models; the first answers requests that name none.
    pub fn set_models(&self, models: &[&str]) {
        let models: Vec<ModelName> = models.iter().map(|name| (*name).into()).collect();
        self.node.change(|live| live.models.clone_from(&models));
    }

    /// From now on answers take so long to their first token, and from each token to the next. Answers that have begun
    /// keep their pace.
    pub fn set_delays(&self, first_token: Duration, token_delay: Duration) {
        self.node.change(|live| {
            live.first_token = first_token;
            live.token_delay = token_delay;
        });
    }

    /// What arrived, oldest first: the last 1,000 requests, or fewer if their bodies are large. Empty unless
    /// [`Settings::record`] is on.
    pub fn requests(&self) -> Vec<Seen> {
        self.node.record.as_ref().map(seen::Record::all).unwrap_or_default()
    }

    /// How long the first token of each answer took from the arrival of its request, oldest first: of the last 100,000.
    /// Empty unless [`Settings::record`] is on.
    pub fn first_tokens(&self) -> Vec<Duration> {
        self.node.engine.first_tokens()
    }

    /// How many requests there are and were, as of now.
    pub fn counts(&self) -> Counts {
        *self.node.counts.borrow()
    }

    /// From now on requests for an answer of the model hang without one, and `/health` stays 200. Those that are being
    /// answered go on.
    pub fn pause(&self) {
        self.node.engine.pause();
    }

    /// Requests are answered again, those that hang first.
    pub fn resume(&self) {
        self.node.engine.resume();
    }

    /// Whether requests for an answer of the model hang.
    pub fn is_paused(&self) -> bool {
        self.node.engine.is_paused()
    }

    /// Closes the port and all connections; when this returns, whoever connects is refused.
    pub async fn refuse(&self) {
        self.steer(Course::Refuse(None)).await;
    }

    /// Opens the port again; when this returns, it is open.
    pub async fn accept(&self) {
        self.steer(Course::Serve).await;
    }

    /// Waits until the node has come to its end: its engine was killed by a fault and its process is gone.
    pub async fn gone(&self) {
        self.reached(Course::Stop).await;
    }

    async fn steer(&self, course: Course) {
        self.node.course.send_replace(course);
        self.reached(course).await;
    }

    async fn reached(&self, wanted: Course) {
        // It fails only when the sender is gone, which `self` holds. A node that is at its end goes nowhere any more.
        let there = |course: &Course| *course == wanted || *course == Course::Stop;
        let _ = self.node.reached.subscribe().wait_for(there).await;
    }

    /// Requests for an answer of the model that are being answered now.
    pub fn running(&self) -> usize {
        self.counts().running
    }

    /// Requests for an answer of the model whose client left before the end.
    pub fn aborted(&self) -> u64 {
        self.counts().aborted
    }

    /// Waits until the counts are as `wanted`. There is no deadline: the caller has one.
    pub async fn wait_until(&self, wanted: impl Fn(&Counts) -> bool) {
        // It fails only when the sender is gone, which `self` holds.
        let _ = self.node.counts.subscribe().wait_for(|counts| wanted(counts)).await;
    }

    /// Accepts nothing more, finishes what has begun, and returns when the last connection is gone. An answer that a
    /// fault has stalled is waited for too, until its client leaves.
    pub async fn shutdown(self) {
        self.end(Course::Finish).await;
    }

    /// Stops at once, as a killed process does: when this returns, the port is closed, and so are all connections.
    pub async fn kill(self) {
        self.end(Course::Stop).await;
    }

    /// Ends as its kind does on SIGTERM. Ollama lets go of everything at once. vLLM 0.32 lets answers go on up to `timeout`
    /// (its `--shutdown-timeout`): `/health` stays 200, and new requests for an answer get a 500. Then, without a timeout at
    /// once, the port closes and streams end with the error of a dead engine.
    pub async fn terminate(self, timeout: Duration) {
        if self.node.kind == Kind::Ollama {
            return self.kill().await;
        }
        if !timeout.is_zero() {
            self.node.engine.drain();
            let idle = self.wait_until(|counts| counts.waiting + counts.running == 0);
            let _late = tokio::time::timeout(timeout.min(PAUSE_MAX), idle).await;
        }
        self.node.engine.die();
        // Dropped, whatever is left ends too.
        let _unread = tokio::time::timeout(LAST_WORDS, self.end(Course::Finish)).await;
    }

    async fn end(mut self, course: Course) {
        self.node.course.send_replace(course);
        while self.task.join_next().await.is_some() {}
        match course {
            Course::Finish => self.background.finish().await,
            _ => self.background.stop().await,
        }
    }
}
