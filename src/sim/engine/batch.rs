//! Who waits and who runs: slots, room in the cache, and prefills one after the other. The clock is an argument.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::PAUSE_MAX;
use super::cache::{Cache, Share};
use super::sequence::Sequence;
use super::signal::Signal;

/// The place of a request in the order of arrival.
pub(super) type Ticket = u64;

/// A request that arrived.
pub(super) struct Request {
    /// Its tokens.
    pub(super) sequence: Sequence,
    /// When its model is there: its prefill does not begin before.
    pub(super) ready: Instant,
    /// From the end of its prefill to its first token, at most [`PAUSE_MAX`].
    pub(super) first_token: Duration,
    /// To reach it.
    pub(super) signal: Arc<Signal>,
    /// When it came.
    pub(super) arrived: Instant,
}

/// A request in the batch.
pub(super) struct Running {
    /// What arrived.
    pub(super) request: Request,
    /// When it left the queue.
    pub(super) admitted: Instant,
    /// Tokens of its prompt that were found in the cache.
    pub(super) cached: usize,
    /// When its first token was there; none before.
    pub(super) answered: Option<Instant>,
    share: Share,
    prefill_begins: Instant,
    prefill_ends: Instant,
}

impl Running {
    /// When its first token is due. It may be earlier if others leave.
    pub(super) fn due(&self) -> Instant {
        self.prefill_ends + self.request.first_token
    }

    /// When its prefill begins and ends.
    #[cfg(test)]
    pub(super) fn prefill(&self) -> (Instant, Instant) {
        (self.prefill_begins, self.prefill_ends)
    }

    /// Tokens of which there are keys and values, `made` tokens of the answer included.
    fn computed(&self, made: usize, now: Instant) -> usize {
        let took = (self.prefill_ends - self.prefill_begins).as_secs_f64();
        let done = now.saturating_duration_since(self.prefill_begins).as_secs_f64();
        if done >= took {
            return self.request.sequence.computed(made);
        }
        let prompt = self.request.sequence.prompt;
        self.cached + ((prompt - self.cached) as f64 * done / took) as usize
    }
}

/// All requests of an engine, first come, first served.
pub(super) struct Batch {
    slots: usize,
    /// Tokens per second; 0: prefills take no time.
    prefill_rate: u32,
    cache: Cache,
    /// By arrival. They are no more than the requests that connections hold, which are bounded.
    waiting: BTreeMap<Ticket, Request>,
    running: HashMap<Ticket, Running>,
    /// Those whose prefill is not over, in order: each begins when the one before ends.
    prefills: VecDeque<Ticket>,
    next: Ticket,
    /// The engine is paused, and this was the next ticket when that began.
    paused_at: Option<Ticket>,
}

impl Batch {
    /// An idle engine with so many slots, at least 1.
    pub(super) fn new(slots: usize, prefill_rate: u32, cache: Cache) -> Self {
        Self {
            slots,
            prefill_rate,
            cache,
            waiting: BTreeMap::new(),
            running: HashMap::new(),
            prefills: VecDeque::new(),
            next: 0,
            paused_at: None,
        }
    }

    /// Takes a request into the queue, and from there into the batch if it can be.
    pub(super) fn arrive(&mut self, request: Request, now: Instant) -> Ticket {
        let ticket = self.next;
        self.next += 1;
        self.waiting.insert(ticket, request);
        self.admit(now);
        ticket
    }

    /// Lets go of a request in whatever phase it is, with so many tokens of its answer made; those that wait move up. It
    /// is returned if it was in the batch.
    pub(super) fn leave(&mut self, ticket: Ticket, made: usize, now: Instant) -> Option<Left> {
        if self.waiting.remove(&ticket).is_some() {
            // It may have been the one for which there was no room.
            self.admit(now);
            return None;
        }
        let running = self.running.remove(&ticket)?;
        self.end_prefill(ticket, &running, now);
        let computed = running.computed(made, now);
        let Running { request, admitted, cached, answered, share, .. } = running;
        self.cache.give_back(&request.sequence, share, computed);
        self.admit(now);
        Some(Left { request, admitted, cached, answered })
    }

    /// A request in the batch.
    pub(super) fn running(&mut self, ticket: Ticket) -> Option<&mut Running> {
        self.running.get_mut(&ticket)
    }

    /// Requests in the batch.
    pub(super) fn running_count(&self) -> usize {
        self.running.len()
    }

    /// Requests that arrived and are not in the batch.
    pub(super) fn waiting_count(&self) -> usize {
        self.waiting.len()
    }

    /// Whether whoever arrives now would have to wait for others.
    pub(super) fn is_busy(&self) -> bool {
        self.running.len() >= self.slots || !self.waiting.is_empty() || self.is_paused()
    }

    /// Of those that wait, how many came while the engine was paused.
    pub(super) fn held_count(&self) -> usize {
        self.paused_at.map_or(0, |first| self.waiting.range(first..).count())
    }

    /// The cache, to look at.
    pub(super) fn cache(&self) -> &Cache {
        &self.cache
    }

    /// Nobody is admitted until [`Batch::resume`].
    pub(super) fn pause(&mut self) {
        self.paused_at.get_or_insert(self.next);
    }

    /// Those that wait are admitted again.
    pub(super) fn resume(&mut self, now: Instant) {
        self.paused_at = None;
        self.admit(now);
    }

    /// Whether nobody is admitted.
    pub(super) fn is_paused(&self) -> bool {
        self.paused_at.is_some()
    }

    /// The signals of all requests.
    pub(super) fn signals(&self) -> impl Iterator<Item = &Arc<Signal>> {
        let running = self.running.values().map(|running| &running.request);
        self.waiting.values().chain(running).map(|request| &request.signal)
    }

    /// Moves up whoever waits, as far as there are slots and room: nobody overtakes.
    fn admit(&mut self, now: Instant) {
        while self.paused_at.is_none() && self.running.len() < self.slots {
            let Some(first) = self.waiting.first_entry() else { return };
            let Some(share) = self.cache.take(&first.get().sequence) else { return };
            let (ticket, request) = first.remove_entry();
            request.signal.wake();
            let cached = request.sequence.tokens_in(share.found());
            let (prefill_begins, prefill_ends) =
                self.prefill(ticket, request.sequence.prompt - cached, (now, request.ready));
            let admitted = Running {
                request,
                admitted: now,
                cached,
                answered: None,
                share,
                prefill_begins,
                prefill_ends,
            };
            self.running.insert(ticket, admitted);
        }
    }

    /// When a prefill of so many tokens begins and ends, if its model is `ready` then.
    fn prefill(
        &mut self,
        ticket: Ticket,
        tokens: usize,
        (now, ready): (Instant, Instant),
    ) -> (Instant, Instant) {
        if self.prefill_rate == 0 || tokens == 0 {
            return (now.max(ready), now.max(ready));
        }
        let running = &self.running;
        let ends = |ticket: &Ticket| running.get(ticket).map(|running| running.prefill_ends);
        while self.prefills.front().and_then(ends).is_some_and(|ends| ends <= now) {
            self.prefills.pop_front();
        }
        let begins = self.prefills.back().and_then(ends).unwrap_or(now).max(ready);
        let takes = Duration::from_secs_f64(tokens as f64 / f64::from(self.prefill_rate));
        self.prefills.push_back(ticket);
        (begins, begins + takes.min(PAUSE_MAX))
    }

    /// One prefill less: what it did not need any more is a gain for those behind it.
    fn end_prefill(&mut self, ticket: Ticket, left: &Running, now: Instant) {
        let Some(place) = self.prefills.iter().position(|other| *other == ticket) else { return };
        self.prefills.remove(place);
        let mut spared = left.prefill_ends.saturating_duration_since(left.prefill_begins.max(now));
        if spared.is_zero() {
            return;
        }
        for behind in self.prefills.range(place..) {
            if let Some(running) = self.running.get_mut(behind) {
                let Running { prefill_begins, request, .. } = &*running;
                spared = spared.min(prefill_begins.saturating_duration_since(request.ready));
                running.prefill_begins -= spared;
                running.prefill_ends -= spared;
                running.request.signal.wake();
            }
        }
    }
}

/// A request that was in the batch.
pub(super) struct Left {
    /// What arrived.
    pub(super) request: Request,
    /// When it left the queue.
    pub(super) admitted: Instant,
    /// Tokens of its prompt that were found in the cache.
    pub(super) cached: usize,
    /// When its first token was there; none if it never was.
    pub(super) answered: Option<Instant>,
}
