//! What all connections of a node share: its settings of the moment, its counts and its record.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::faults::Fault;
use super::seen::Record;
use super::settings::Settings;
use super::tokens::Vocabulary;
use crate::names::ModelName;

/// How many requests there are and were.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Requests of any kind that arrived whole.
    pub arrived: u64,
    /// Requests for an answer of the model that are being answered now.
    pub running: usize,
    /// Of those, how many were answered to the end, or to a fault.
    pub finished: u64,
    /// Of those, how many were left by their client before the end.
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

/// Sums since the start, as `/metrics` shows them.
#[derive(Default)]
pub(super) struct Totals {
    /// Tokens of prompts.
    pub(super) prompt_tokens: AtomicU64,
    /// Tokens of answers, counted as they are made.
    pub(super) generation_tokens: AtomicU64,
    /// Answers that ended by themselves.
    pub(super) stopped: AtomicU64,
    /// Answers that reached the length asked for.
    pub(super) at_length: AtomicU64,
    /// Answers that a fault ended.
    pub(super) failed: AtomicU64,
}

/// A node.
pub(super) struct Node {
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
    /// Whether requests wait until it is resumed.
    pub(super) paused: watch::Sender<bool>,
    /// Texts behind token ids.
    pub(super) vocabulary: Vocabulary,
    /// None: nothing is kept.
    pub(super) record: Option<Record>,
    /// Watched by tests.
    pub(super) counts: watch::Sender<Counts>,
    /// For `/metrics`.
    pub(super) totals: Totals,
    id_seed: AtomicU64,
}

impl Node {
    /// A node that has seen nothing yet.
    pub(super) fn new(settings: Settings) -> Self {
        let live = Live {
            models: settings.models,
            first_token: settings.first_token,
            token_delay: settings.token_delay,
            fault: None,
            probe_fault: None,
        };
        Self {
            live: ArcSwap::from_pointee(live),
            api_keys: settings.api_keys,
            max_model_len: settings.max_model_len.max(1),
            tokens: settings.tokens.max(1),
            enable_scale_out: settings.enable_scale_out,
            paused: watch::Sender::default(),
            vocabulary: Vocabulary::default(),
            record: settings.record.then(Record::default),
            counts: watch::Sender::default(),
            totals: Totals::default(),
            id_seed: AtomicU64::new(RandomState::new().build_hasher().finish()),
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

    /// Sixteen hexadecimal digits that this node has not used before (splitmix64 is a bijection).
    pub(super) fn fresh_id(&self) -> String {
        let mut z = self.id_seed.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        format!("{:016x}", z ^ (z >> 31))
    }
}

/// Seconds since 1970, as `created` shows them.
pub(super) fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
