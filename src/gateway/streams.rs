//! Event streams under way, for whoever asks which of them have stalled.

use std::array;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use prometheus::IntGauge;

use crate::access::keys::Key;
use crate::names::ModelName;
use crate::upstream::node::Node;
use crate::wire::ids::RequestId;

/// Parts of the table, each with a lock: two streams that begin at the same moment seldom meet.
const SHARDS: usize = 16;

/// All of them.
pub struct Streams {
    shards: [Mutex<HashMap<u64, Arc<Stream>>>; SHARDS],
    next: AtomicU64,
    gauge: IntGauge,
}

/// One of them.
pub struct Stream {
    /// What its request is called.
    pub id: RequestId,
    /// As its node knows it.
    pub model: Option<ModelName>,
    /// Who makes it.
    pub node: Arc<Node>,
    /// Who asked.
    pub key: Option<Arc<Key>>,
    /// When its request came.
    pub began: Instant,
    /// When its last token came, in nanoseconds after that.
    last: AtomicU64,
    tokens: AtomicU64,
}

impl Stream {
    /// A stream of which nothing has come.
    pub(super) fn new(
        id: RequestId,
        (model, node): (Option<ModelName>, Arc<Node>),
        key: Option<Arc<Key>>,
        began: Instant,
    ) -> Self {
        let [last, tokens] = [AtomicU64::new(0), AtomicU64::new(0)];
        Self { id, model, node, key, began, last, tokens }
    }

    /// Tokens came.
    pub(super) fn brought(&self, tokens: u64, at: Instant) {
        let since = at.saturating_duration_since(self.began).as_nanos();
        self.last.store(u64::try_from(since).unwrap_or(u64::MAX), Ordering::Relaxed);
        // Its one request writes it.
        self.tokens.store(self.tokens() + tokens, Ordering::Relaxed);
    }

    /// Events with tokens so far.
    pub fn tokens(&self) -> u64 {
        self.tokens.load(Ordering::Relaxed)
    }

    /// How long ago the last token came; before the first, how long ago the request did.
    pub fn silence(&self, now: Instant) -> Duration {
        let last = Duration::from_nanos(self.last.load(Ordering::Relaxed));
        now.saturating_duration_since(self.began).saturating_sub(last)
    }
}

/// A place in the table. Dropping it ends the stream.
pub(super) struct Shown {
    streams: Arc<Streams>,
    number: u64,
    pub(super) stream: Arc<Stream>,
}

impl Streams {
    /// None under way; counted by `gauge`.
    pub fn new(gauge: IntGauge) -> Arc<Self> {
        let shards = array::from_fn(|_| Mutex::default());
        Arc::new(Self { shards, next: AtomicU64::new(0), gauge })
    }

    /// One more.
    pub(super) fn show(self: &Arc<Self>, stream: Stream) -> Shown {
        let (number, stream) = (self.next.fetch_add(1, Ordering::Relaxed), Arc::new(stream));
        self.shard(number).lock().insert(number, stream.clone());
        self.gauge.inc();
        Shown { streams: self.clone(), number, stream }
    }

    /// The `most` that have been silent for the longest time, those first.
    pub fn slowest(&self, most: usize, now: Instant) -> Vec<Arc<Stream>> {
        let of_shard = |shard: &Mutex<HashMap<u64, Arc<Stream>>>| -> Vec<_> {
            shard.lock().values().cloned().collect()
        };
        let mut all: Vec<_> = self.shards.iter().flat_map(of_shard).collect();
        all.sort_by_cached_key(|stream| std::cmp::Reverse(stream.silence(now)));
        all.truncate(most);
        all
    }

    fn shard(&self, number: u64) -> &Mutex<HashMap<u64, Arc<Stream>>> {
        // The remainder is below SHARDS.
        &self.shards[(number % SHARDS as u64) as usize]
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        self.streams.shard(self.number).lock().remove(&self.number);
        self.streams.gauge.dec();
    }
}
