//! What stands in for the model and its GPU: who is answered when, and at what pace.
//!
//! A request (`Flight`) waits in `batch` for a slot and for room in `cache`; then its prompt is computed, but for what is
//! found there, after the prompts before it; then its tokens come. All of it is arithmetic under one lock, taken when a
//! request arrives, has its first token, and ends; nobody waits with the lock in hand.

mod batch;
mod cache;
mod flight;
mod lru;
mod sequence;
mod signal;
#[cfg(test)]
mod tests;
mod totals;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use self::batch::{Batch, Left, Request, Ticket};
use self::cache::Cache;
pub(super) use self::cache::Queries;
pub(super) use self::flight::{Finish, Flight, Job, Start};
use self::sequence::Sequence;
pub(super) use self::sequence::salt;
use self::signal::Signal;
use self::totals::Finished;
pub(super) use self::totals::{Histogram, Totals};
use super::node::Counts;
use super::settings::Settings;

/// The longest pause: nobody waits for a day, and the clock does not overflow.
pub(super) const PAUSE_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Whether an engine takes requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Health {
    /// It does.
    Serves,
    /// It does, but as many as may wait do so already.
    Full,
    /// It is being shut down: it finishes what it has, and takes nothing.
    Drains,
    /// It is dead.
    Dead,
}

/// The engine of a node.
pub(super) struct Engine {
    state: Mutex<State>,
    /// Tokens of answers, counted as they are made.
    generated: AtomicU64,
    counts: watch::Sender<Counts>,
    /// Requests that may wait.
    waiting_max: usize,
    /// As it was started.
    pub(super) cache: CacheConfig,
}

/// What the cache of an engine is like.
pub(super) struct CacheConfig {
    /// Tokens of one block.
    pub(super) block_size: usize,
    /// Whether blocks are found again.
    pub(super) prefix_caching: bool,
    /// Blocks, where the operator named them.
    pub(super) blocks_named: Option<u32>,
}

/// Times to first tokens that are kept: the last ones, more than a bench has.
const FIRST_TOKENS_MAX: usize = 100_000;

struct State {
    batch: Batch,
    totals: Totals,
    health: Health,
    /// Times to first tokens, oldest first. None: they are not kept.
    first_tokens: Option<VecDeque<Duration>>,
}

/// What an engine is doing, at one moment.
pub(super) struct Snapshot {
    /// Requests in the batch.
    pub(super) running: usize,
    /// Requests in the queue, without those that came while the engine was paused: vLLM keeps these before it.
    pub(super) waiting: usize,
    /// Blocks of the cache in use.
    pub(super) blocks_used: usize,
    /// Blocks of the cache.
    pub(super) blocks: usize,
    /// How often the cache helped, since the start.
    pub(super) queries: Queries,
    /// Tokens of answers since the start.
    pub(super) generated: u64,
    /// The other sums since the start.
    pub(super) totals: Totals,
}

/// How far a request has come.
enum Progress {
    /// It is in the queue.
    Queued,
    /// Its prompt is computed until then, unless others leave.
    Prefill(Instant),
    /// Its first token is there; so many tokens of the prompt were found in the cache.
    Answers(usize),
}

impl Engine {
    /// An idle engine. Its counts are shown by `counts`.
    pub(super) fn new(settings: &Settings, counts: watch::Sender<Counts>) -> Self {
        let cache = Cache::new(settings.num_gpu_blocks());
        let state = State {
            batch: Batch::new(settings.slots(), settings.prefill_rate, cache),
            totals: Totals::new(settings.max_model_len),
            health: Health::Serves,
            first_tokens: settings.record.then(VecDeque::new),
        };
        Self {
            state: Mutex::new(state),
            generated: AtomicU64::new(0),
            counts,
            waiting_max: settings.waiting_max(),
            cache: CacheConfig {
                block_size: settings.block_size,
                prefix_caching: settings.prefix_caching,
                blocks_named: settings.num_gpu_blocks_override,
            },
        }
    }

    /// From now on nobody is admitted: new requests hang. Those in the batch go on.
    pub(super) fn pause(&self) {
        self.lock().batch.pause();
    }

    /// Requests are admitted again, those that hang first.
    pub(super) fn resume(&self) {
        let mut state = self.lock();
        state.batch.resume(Instant::now());
        self.show(&state, |_| {});
    }

    /// Whether it is paused.
    pub(super) fn is_paused(&self) -> bool {
        self.lock().batch.is_paused()
    }

    /// Takes nothing more, and finishes what it has.
    pub(super) fn drain(&self) {
        self.lock().health = Health::Drains;
    }

    /// Takes nothing more, and makes nothing more: requests that are being answered are told so.
    pub(super) fn die(&self) {
        let mut state = self.lock();
        state.health = Health::Dead;
        state.batch.signals().for_each(|signal| signal.stop());
    }

    /// As of now.
    pub(super) fn snapshot(&self) -> Snapshot {
        let state = self.lock();
        let (blocks_used, blocks) = state.batch.cache().usage();
        Snapshot {
            running: state.batch.running_count(),
            waiting: state.batch.waiting_count() - state.batch.held_count(),
            blocks_used,
            blocks,
            queries: state.batch.cache().queries(),
            generated: self.generated.load(Ordering::Relaxed),
            totals: state.totals.clone(),
        }
    }

    /// Times to first tokens, oldest first, where they are kept.
    pub(super) fn first_tokens(&self) -> Vec<Duration> {
        self.lock().first_tokens.iter().flatten().copied().collect()
    }

    /// Takes a request.
    ///
    /// # Errors
    /// It takes none.
    fn begin(&self, sequence: Sequence, start: Start) -> Result<Begun, Health> {
        let mut state = self.lock();
        if state.health != Health::Serves {
            return Err(state.health);
        }
        if state.batch.is_busy() && state.batch.waiting_count() >= self.waiting_max {
            return Err(Health::Full);
        }
        let signal = Arc::<Signal>::default();
        let arrived = Instant::now();
        let request = Request {
            sequence,
            ready: start.ready,
            first_token: start.first_token.min(PAUSE_MAX),
            signal: signal.clone(),
            arrived,
        };
        let ticket = state.batch.arrive(request, arrived);
        self.show(&state, |_| {});
        Ok(Begun { ticket, signal })
    }

    /// How far a request has come. It must not have left.
    fn progress(&self, ticket: Ticket) -> Progress {
        let now = Instant::now();
        let State { batch, totals, first_tokens, .. } = &mut *self.lock();
        let Some(running) = batch.running(ticket) else { return Progress::Queued };
        if running.answered.is_none() {
            if now < running.due() {
                return Progress::Prefill(running.due());
            }
            running.answered = Some(now);
            let prompt = (running.request.sequence.prompt, running.cached);
            let after = now - running.request.arrived;
            totals.first_token(prompt, after);
            if let Some(kept) = first_tokens {
                kept.push_back(after);
                while kept.len() > FIRST_TOKENS_MAX {
                    kept.pop_front();
                }
            }
        }
        Progress::Answers(running.cached)
    }

    /// So many tokens of answers were made.
    fn made(&self, tokens: usize) {
        self.generated.fetch_add(tokens as u64, Ordering::Relaxed);
    }

    /// Lets go of a request, with so many tokens of its answer made; without a finish its client left.
    fn end(&self, ticket: Ticket, made: usize, finish: Option<Finish>) {
        let now = Instant::now();
        let mut state = self.lock();
        let left = state.batch.leave(ticket, made, now);
        if let (Some(left), Some(finish)) = (left, finish) {
            state.totals.finished(&finished(&left, (made, finish), now));
        }
        self.show(&state, |counts| match finish {
            Some(_) => counts.finished += 1,
            None => counts.aborted += 1,
        });
    }

    /// Brings the counts up to date, under the lock: who sees them sees all that led to them.
    fn show(&self, state: &State, also: impl FnOnce(&mut Counts)) {
        self.counts.send_modify(|counts| {
            counts.running = state.batch.running_count();
            counts.waiting = state.batch.waiting_count();
            also(counts);
        });
    }

    /// A panic elsewhere leaves nothing half done that is looked at here.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request that was taken.
struct Begun {
    ticket: Ticket,
    signal: Arc<Signal>,
}

/// What the totals want to know of a request that ended.
fn finished(left: &Left, (made, finish): (usize, Finish), now: Instant) -> Finished {
    let sequence = &left.request.sequence;
    let answered = left.answered.unwrap_or(now);
    Finished {
        finish,
        prompt_tokens: sequence.prompt,
        cached_tokens: left.cached,
        tokens: made,
        steps: made.min(sequence.answer),
        queued: left.admitted - left.request.arrived,
        prefilled: answered - left.admitted,
        decoded: now - answered,
    }
}
