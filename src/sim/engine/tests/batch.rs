//! The batch: first come, first served, within its slots and its cache; time is handed in.

use std::time::{Duration, Instant};

use proptest::collection::vec;
use proptest::prelude::*;

use super::{BLOCK, sequence};
use crate::sim::engine::batch::{Batch, Request, Ticket};
use crate::sim::engine::cache::Cache;

/// Tokens per second.
const RATE: u32 = 1_000;

const SLOTS: usize = 3;
const BLOCKS: u32 = 12;

/// One thing that happens to an engine.
#[derive(Debug, Clone)]
enum Step {
    Arrive(Vec<u32>, usize),
    /// One of those that are there, in thousandths, and the tokens it has made.
    Leave(usize, usize),
    /// Milliseconds go by.
    Wait(u64),
    Pause,
    Resume,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (vec(0_u32..2, 0..30), 0_usize..12).prop_map(|(p, a)| Step::Arrive(p, a)),
        3 => (0_usize..1000, 0_usize..12).prop_map(|(who, made)| Step::Leave(who, made)),
        2 => (0_u64..40).prop_map(Step::Wait),
        1 => Just(Step::Pause),
        1 => Just(Step::Resume),
    ];
    vec(step, 1..150)
}

/// An engine, its clock and those who are there.
struct Watched {
    batch: Batch,
    now: Instant,
    there: Vec<Ticket>,
}

impl Watched {
    fn new() -> Self {
        let batch = Batch::new(SLOTS, RATE, Cache::new(BLOCKS));
        Self { batch, now: Instant::now(), there: Vec::new() }
    }

    fn arrive(&mut self, prompt: &[u32], answer: usize) -> Ticket {
        let request = Request {
            sequence: sequence(prompt, &vec![5; answer], 0),
            ready: self.now,
            first_token: Duration::ZERO,
            signal: Default::default(),
            arrived: self.now,
        };
        let ticket = self.batch.arrive(request, self.now);
        self.there.push(ticket);
        ticket
    }

    fn leave(&mut self, ticket: Ticket, made: usize) {
        self.there.retain(|other| *other != ticket);
        self.batch.leave(ticket, made, self.now);
    }

    /// How long after now the first token of `ticket` is due, in milliseconds; none if it is not in the batch.
    fn due(&mut self, ticket: Ticket) -> Option<u128> {
        let now = self.now;
        self.batch.running(ticket).map(|running| (running.due() - now).as_millis())
    }

    fn run(&mut self, step: Step) {
        match step {
            Step::Arrive(prompt, answer) => drop(self.arrive(&prompt, answer)),
            Step::Leave(who, made) if !self.there.is_empty() => {
                self.leave(self.there[who * self.there.len() / 1000], made);
            }
            Step::Leave(..) => {}
            Step::Wait(milliseconds) => self.now += Duration::from_millis(milliseconds),
            Step::Pause => self.batch.pause(),
            Step::Resume => self.batch.resume(self.now),
        }
    }

    fn check(&mut self) {
        let (running, waiting) = (self.batch.running_count(), self.batch.waiting_count());
        assert_eq!(running + waiting, self.there.len());
        assert!(running <= SLOTS && self.batch.held_count() <= waiting);
        let (used, total) = self.batch.cache().usage();
        assert!(used <= total);
        assert!(running > 0 || waiting == 0 || self.batch.is_paused(), "all wait for nobody");
        if running == 0 {
            assert_eq!(used, 0);
        }
        let (admitted, queued): (Vec<_>, Vec<_>) =
            self.there.iter().partition(|ticket| self.batch.running(**ticket).is_some());
        assert!(admitted.last() < queued.first() || queued.is_empty(), "somebody overtook");
        let mut end = None;
        for ticket in admitted {
            let (from, to) = self.batch.running(ticket).unwrap().prefill();
            if from < to {
                assert!(end <= Some(from), "two prefills at a time");
                end = Some(to);
            }
        }
    }
}

proptest! {
    #[test]
    fn nobody_overtakes_and_all_is_given_back(steps in steps()) {
        let mut watched = Watched::new();
        for step in steps {
            watched.run(step);
            watched.check();
        }
        watched.run(Step::Resume);
        while let Some(first) = watched.there.first() {
            watched.leave(*first, 0);
            watched.check();
        }
        prop_assert_eq!(watched.batch.cache().usage(), (0, BLOCKS as usize));
    }
}

#[test]
fn a_request_waits_for_a_slot_and_one_for_room() {
    let mut engine = Watched::new();
    let tickets: Vec<_> = (0..5).map(|token| engine.arrive(&[token; 4], 4)).collect();
    assert_eq!((engine.batch.running_count(), engine.batch.waiting_count()), (SLOTS, 2));
    engine.leave(tickets[3], 0);
    engine.leave(tickets[0], 4);
    assert!(engine.due(tickets[4]).is_some());

    let mut engine = Watched::new();
    let large = engine.arrive(&[1; 8 * BLOCK], 0);
    let larger = engine.arrive(&[2; 6 * BLOCK], 0);
    let small = engine.arrive(&[3; BLOCK], 0);
    assert_eq!((engine.due(larger), engine.due(small)), (None, None), "nobody overtakes");
    engine.leave(large, 0);
    assert!(engine.due(larger).is_some() && engine.due(small).is_some());
}

#[test]
fn prompts_are_computed_one_after_the_other_and_what_is_cached_is_not() {
    let mut engine = Watched::new();
    let first = engine.arrive(&[1; 20], 0);
    let second = engine.arrive(&[2; 10], 0);
    let again = engine.arrive(&[1; 20], 0);
    assert_eq!(engine.due(first), Some(20));
    assert_eq!(engine.due(second), Some(30));
    assert_eq!(engine.due(again), Some(34), "four of five blocks are found");
}

#[test]
fn who_leaves_before_its_first_token_gives_its_time_to_those_behind() {
    let mut engine = Watched::new();
    let first = engine.arrive(&[1; 20], 0);
    let second = engine.arrive(&[2; 10], 0);
    let third = engine.arrive(&[3; 5], 0);
    engine.run(Step::Wait(5));
    engine.leave(second, 0);
    assert_eq!((engine.due(first), engine.due(third)), (Some(15), Some(20)));
    engine.leave(first, 0);
    assert_eq!(engine.due(third), Some(5));
    // Of the first, one block was computed in five milliseconds, and that can be found.
    let again = engine.arrive(&[1; 20], 0);
    assert_eq!(engine.due(again), Some(5 + 16));
}

#[test]
fn a_paused_engine_admits_nobody() {
    let mut engine = Watched::new();
    let before: Vec<_> = (0..SLOTS as u32 + 1).map(|token| engine.arrive(&[token], 1)).collect();
    engine.batch.pause();
    engine.arrive(&[9], 1);
    engine.leave(before[0], 1);
    assert_eq!((engine.batch.running_count(), engine.batch.waiting_count()), (SLOTS - 1, 2));
    assert_eq!(engine.batch.held_count(), 1);
    engine.batch.resume(engine.now);
    assert_eq!((engine.batch.running_count(), engine.batch.waiting_count()), (SLOTS, 1));
}
