//! What all connections of a node share: its settings of the moment, its engine, its counts and its record.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use http::Method;
use tokio::sync::watch;
use tokio::time::Instant;

use super::background::Spawner;
use super::engine::{Engine, PAUSE_MAX};
use super::faults::Fault;
use super::kind::Kind;
use super::ollama::Loaded;
use super::seen::Record;
use super::server::Course;
use super::settings::Settings;
use super::tokens::Vocabulary;
use super::vllm::Store;
use crate::names::ModelName;

/// How many requests there are and were.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Requests of any kind that arrived whole.
    pub arrived: u64,
    /// Requests for an answer of the model that have no slot or no room yet.
    pub waiting: usize,
    /// Requests for an answer of the model that are being answered now.
    pub running: usize,
    /// Of those, how many were answered to the end, or to a fault.
    pub finished: u64,
    /// Requests for an answer of the model that were left by their client before the end, waiting or running.
    pub aborted: u64,
}

/// What can change while a node runs.
#[derive(Clone)]
pub(super) struct Live {
    /// What it serves; the first is the default.
    pub(super) models: Vec<ModelName>,
    /// Before the first token.
    pub(super) first_token: Duration,
    /// Between tokens.
    pub(super) token_delay: Duration,
    /// What every POST meets.
    pub(super) fault: Option<Fault>,
    /// What every GET meets.
    pub(super) probe_fault: Option<Fault>,
}

/// A node.
pub(super) struct Node {
    /// Whose API it speaks.
    pub(super) kind: Kind,
    /// Where it listens.
    pub(super) addr: SocketAddr,
    /// The machine's own name.
    pub(super) host_name: Option<String>,
    /// As of now.
    pub(super) live: ArcSwap<Live>,
    /// Empty: everyone is served.
    pub(super) api_keys: Vec<String>,
    /// Prompt and answer together, in tokens.
    pub(super) max_model_len: usize,
    /// Length of an answer when the request names none.
    pub(super) tokens: usize,
    /// Whether it gives out token ids.
    pub(super) enable_scale_out: bool,
    /// Whether usage tells what was found in the cache.
    pub(super) prompt_tokens_details: bool,
    /// Texts behind token ids.
    pub(super) vocabulary: Vocabulary,
    /// None: nothing is kept.
    pub(super) record: Option<Record>,
    /// Answers of `/v1/responses`. None: nothing is kept.
    pub(super) responses: Option<Arc<Store>>,
    /// What an Ollama node has in its memory.
    pub(super) loaded: Arc<Loaded>,
    /// For work that goes on when its request is answered.
    pub(super) background: Spawner,
    /// Watched by tests.
    pub(super) counts: watch::Sender<Counts>,
    /// Who makes the answers.
    pub(super) engine: Engine,
    /// Share of requests that meet their fault, from 0 to 1.
    fault_rate: f64,
    /// Seconds since 1970 when it was started.
    pub(super) started: f64,
    /// How the server shall go on.
    pub(super) course: watch::Sender<Course>,
    /// How it goes on indeed.
    pub(super) reached: watch::Sender<Course>,
    ids: Numbers,
    dice: Numbers,
}

impl Node {
    /// A node that has seen nothing yet. The settings were checked.
    pub(super) fn new(settings: Settings, addr: SocketAddr, background: Spawner) -> Self {
        let counts = watch::Sender::default();
        let engine = Engine::new(&settings, counts.clone());
        let live = Live {
            models: settings.models,
            first_token: settings.first_token,
            token_delay: settings.token_delay,
            fault: settings.fault,
            probe_fault: settings.probe_fault,
        };
        Self {
            kind: settings.kind,
            addr,
            host_name: settings.host_name,
            live: ArcSwap::from_pointee(live),
            api_keys: settings.api_keys,
            enable_scale_out: settings.enable_scale_out,
            max_model_len: settings.max_model_len,
            tokens: settings.tokens,
            prompt_tokens_details: settings.enable_prompt_tokens_details,
            vocabulary: Vocabulary::default(),
            record: settings.record.then(Record::default),
            responses: settings.responses_api_store.then(Arc::default),
            loaded: Arc::new(Loaded::new(settings.load_time)),
            background,
            counts,
            engine,
            fault_rate: settings.fault_rate,
            started: since_1970().as_secs_f64(),
            course: watch::Sender::new(Course::Serve),
            reached: watch::Sender::new(Course::Serve),
            ids: Numbers::any(),
            dice: settings.fault_seed.map_or_else(Numbers::any, Numbers::seeded),
        }
    }

    /// Changes what can change; requests being answered go on as they began.
    pub(super) fn change(&self, edit: impl Fn(&mut Live)) {
        self.live.rcu(|live| {
            let mut live = Live::clone(live);
            edit(&mut live);
            live
        });
    }

    /// What goes wrong with a request of this method, if the dice say so.
    pub(super) fn standing_fault(&self, live: &Live, method: &Method) -> Option<Fault> {
        let fault = if method == Method::POST { &live.fault } else { &live.probe_fault };
        let fault = fault.as_ref()?;
        (self.fault_rate >= 1.0 || self.dice.fraction() < self.fault_rate).then(|| fault.clone())
    }

    /// The engine dies, and after `exit` the process is gone.
    pub(super) fn die(&self, exit: Duration) {
        self.engine.die();
        self.course.send_replace(Course::ServeUntil(Instant::now() + exit.min(PAUSE_MAX)));
    }

    /// Sixteen hexadecimal digits that this node has not used before.
    pub(super) fn fresh_id(&self) -> String {
        format!("{:016x}", self.fresh_number())
    }

    /// A number that this node has not used before.
    pub(super) fn fresh_number(&self) -> u64 {
        self.ids.next()
    }
}

/// Numbers that look random and do not come twice (splitmix64 is a bijection).
struct Numbers(AtomicU64);

impl Numbers {
    /// From anywhere.
    fn any() -> Self {
        Self::seeded(RandomState::new().build_hasher().finish())
    }

    /// The same seed, the same numbers.
    fn seeded(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }

    fn next(&self) -> u64 {
        let mut z = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 to below 1.
    fn fraction(&self) -> f64 {
        // As many bits as a float holds exactly.
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// Seconds since 1970, as `created` shows them.
pub(super) fn unix_seconds() -> u64 {
    since_1970().as_secs()
}

fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
