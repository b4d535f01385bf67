//! A simulated vLLM 0.32 node: a real HTTP server with the node's paths, shapes and faults, but without a model.
//!
//! What it says is an echo of the prompt, one token for each word, so that the same request has the same answer. A
//! request goes through these modules: `server` accepts it, `http` reads it and fails it if told to, one module of `vllm`
//! for each API answers or refuses it, `engine` says when, and `events` sends a stream at the pace of a model.
//!
//! # Where it differs from vLLM
//!
//! - One node has every API at once: that of models that generate, embed, score, classify and hear. vLLM has the paths of
//!   its one model. `/pause`, `/resume` and `/is_paused` are there without `VLLM_SERVER_DEV_MODE=1`.
//! - An upload may be as large as any body. vLLM takes 25 MiB, unless `VLLM_MAX_AUDIO_CLIP_FILESIZE_MB` says otherwise, and
//!   ten minutes of sound. What it holds is not listened to: the answer is its length and a hash.
//! - Vectors have 64 numbers of 32 bits and can be cut to any length (`dimensions`). One request has 2,048 inputs at most.
//! - Errors inside a chat that is to be embedded are not found, and pictures are refused.
//! - `/scale_elastic_ep` takes any size, and no time.

mod call;
mod engine;
mod events;
mod faults;
mod http;
mod node;
mod reply;
mod seen;
mod server;
mod settings;
mod text;
mod tokens;
mod vllm;
mod wire;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;

pub use self::faults::{Fault, NotAFault};
pub use self::node::Counts;
use self::node::Node;
pub use self::seen::Seen;
use self::server::Course;
pub use self::settings::Settings;
use crate::names::ModelName;

/// A running node. Dropped, it stops and lets go of its connections.
pub struct Simulator {
    addr: SocketAddr,
    node: Arc<Node>,
    course: watch::Sender<Course>,
    /// One task; dropping it ends all connections.
    task: JoinSet<()>,
}

impl Simulator {
    /// Serves on `listener`, whatever [`Settings::listen`] says, on the caller's tokio runtime.
    ///
    /// # Errors
    /// The listener has no address or cannot be made non-blocking.
    pub async fn start(listener: TcpListener, settings: Settings) -> io::Result<Self> {
        let addr = listener.local_addr()?;
        let listener = server::listener(listener)?;
        let node = Arc::new(Node::new(settings));
        let (course, told) = watch::channel(Course::Serve);
        let mut task = JoinSet::new();
        task.spawn(server::run(listener, node.clone(), told));
        Ok(Self { addr, node, course, task })
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

    /// The same for every other method: `/health`, `/v1/models`, `/metrics` and the like.
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

    /// How many requests there are and were, as of now.
    pub fn counts(&self) -> Counts {
        *self.node.counts.borrow()
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
    pub async fn shutdown(mut self) {
        self.course.send_replace(Course::Finish);
        while self.task.join_next().await.is_some() {}
    }

    /// Stops at once, as a killed process does: when this returns, the port is closed, and so are all connections.
    pub async fn kill(mut self) {
        self.course.send_replace(Course::Stop);
        while self.task.join_next().await.is_some() {}
    }
}
