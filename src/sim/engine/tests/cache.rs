//! The cache: room is never counted wrongly, and only true prefixes are found, the one used longest ago goes first.

use std::collections::{BTreeSet, HashMap};

use proptest::collection::vec;
use proptest::prelude::*;

use super::{BLOCK, sequence};
use crate::sim::engine::cache::{Cache, Share};
use crate::sim::engine::sequence::Sequence;

/// One thing that happens to a cache.
#[derive(Debug, Clone)]
enum Step {
    /// A prompt, an answer and a salt.
    Take(Vec<u32>, Vec<u32>, u64),
    /// One of those that hold blocks, in thousandths, and how much of it was computed, too.
    GiveBack(usize, usize),
}

/// Steps in which at least so much of each sequence is computed, in thousandths.
fn steps(least: usize) -> impl Strategy<Value = Vec<Step>> {
    // Two different tokens, so that many sequences begin alike.
    let tokens = |most| vec(0_u32..2, 0..most);
    let take = (tokens(24), tokens(12), 0_u64..2).prop_map(|(p, a, salt)| Step::Take(p, a, salt));
    let give_back = (0_usize..1000, least..1200).prop_map(|(who, part)| Step::GiveBack(who, part));
    vec(prop_oneof![take, give_back], 1..120)
}

/// A sequence that holds blocks.
struct Held {
    tokens: Vec<u32>,
    prompt: usize,
    salt: u64,
    sequence: Sequence,
    share: Share,
}

/// A cache beside what must be true of it.
struct Watched {
    cache: Cache,
    held: Vec<Held>,
    /// What was computed and given back, by salt.
    computed: Vec<(u64, Vec<u32>)>,
    /// When a block lost its last user.
    freed: HashMap<u32, usize>,
    clock: usize,
}

impl Watched {
    fn new(total: u32) -> Self {
        Self {
            cache: Cache::new(total),
            held: Vec::new(),
            computed: Vec::new(),
            freed: HashMap::new(),
            clock: 0,
        }
    }

    /// Blocks of `tokens` that somebody has computed, or computes before.
    fn known_blocks(&self, tokens: &[u32], salt: u64) -> usize {
        let given_back = self.computed.iter().map(|(salt, known)| (*salt, &known[..]));
        let held = self.held.iter().map(|held| (held.salt, &held.tokens[..held.prompt]));
        let alike = |known: &[u32]| known.iter().zip(tokens).take_while(|(a, b)| a == b).count();
        let same = given_back.chain(held).filter(|(other, _)| *other == salt);
        same.map(|(_, known)| alike(known) / BLOCK).max().unwrap_or_default()
    }

    /// Takes room; the blocks that were found, or none without room.
    fn take(&mut self, prompt: &[u32], answer: &[u32], salt: u64) -> Option<usize> {
        let sequence = sequence(prompt, answer, salt);
        let (kept, (used, total)) = (self.cache.kept(), self.cache.usage());
        let findable = prompt.len().saturating_sub(1) / BLOCK;
        let Some(share) = self.cache.take(&sequence) else {
            assert!(used > 0 && used + sequence.blocks() > total, "there was room");
            assert_eq!(self.cache.usage(), (used, total));
            return None;
        };
        let found = share.found();
        assert!(
            found <= self.known_blocks(prompt, salt).min(findable),
            "found what nobody computed"
        );
        let (revived, new) = share.blocks().split_at(found);
        let left: Vec<u32> = kept.into_iter().filter(|block| !revived.contains(block)).collect();
        let evicted = left.iter().filter(|block| new.contains(block)).count();
        assert!(left[..evicted].iter().all(|block| new.contains(block)), "not the oldest went");
        let tokens = [prompt, answer].concat();
        self.held.push(Held { tokens, prompt: prompt.len(), salt, sequence, share });
        Some(found)
    }

    fn give_back(&mut self, who: usize, part: usize) {
        if self.held.is_empty() {
            return;
        }
        let Held { tokens, salt, sequence, share, .. } =
            self.held.remove(who * self.held.len() / 1000);
        let part = (tokens.len() * part / 1000).min(sequence.computed(usize::MAX));
        let computed = part.max(share.found() * BLOCK);
        let blocks = share.blocks().to_vec();
        self.cache.give_back(&sequence, share, computed);
        self.computed.push((salt, tokens[..computed].to_vec()));
        for block in blocks.into_iter().rev() {
            self.clock += 1;
            self.freed.insert(block, self.clock);
        }
    }

    fn check(&self) {
        let users: u32 = self.cache.users().sum();
        let held: Vec<u32> =
            self.held.iter().flat_map(|held| held.share.blocks()).copied().collect();
        assert_eq!(users as usize, held.len(), "users do not balance");
        let (used, total) = self.cache.usage();
        assert_eq!(used, held.iter().collect::<BTreeSet<_>>().len());
        assert!(used <= total);
        for held in &self.held {
            let once: BTreeSet<_> = held.share.blocks().iter().collect();
            assert_eq!(once.len(), held.sequence.blocks(), "a block serves twice in one sequence");
        }
        let stamps: Vec<_> = self.cache.kept().iter().map(|block| self.freed[block]).collect();
        assert!(stamps.is_sorted(), "not in the order of last use: {stamps:?}");
    }

    fn run(&mut self, steps: Vec<Step>) {
        for step in steps {
            match step {
                Step::Take(prompt, answer, salt) => drop(self.take(&prompt, &answer, salt)),
                Step::GiveBack(who, part) => self.give_back(who, part),
            }
            self.check();
        }
    }
}

proptest! {
    #[test]
    fn a_full_cache_never_gives_what_it_has_not(total in 9_u32..24, steps in steps(0)) {
        let mut watched = Watched::new(total);
        watched.run(steps);
        while !watched.held.is_empty() {
            watched.give_back(0, 1000);
            watched.check();
        }
        prop_assert_eq!(watched.cache.usage(), (0, total as usize));
    }

    #[test]
    fn with_room_for_all_whatever_was_computed_is_found(steps in steps(1000), prompt in vec(0_u32..2, 1..40)) {
        let mut watched = Watched::new(4_096);
        watched.run(steps);
        let known = watched.known_blocks(&prompt, 1).min((prompt.len() - 1) / BLOCK);
        prop_assert_eq!(watched.take(&prompt, &[], 1), Some(known));
    }
}

#[test]
fn a_prompt_comes_back_but_for_its_last_token() {
    let mut watched = Watched::new(8);
    let prompt: Vec<u32> = (0..12).collect();
    assert_eq!(watched.take(&prompt, &[], 0), Some(0));
    watched.give_back(0, 1000);
    assert_eq!(watched.take(&prompt, &[], 0), Some(2), "the last token is always computed");
    assert_eq!(watched.take(&[&prompt[..], &[99]].concat(), &[], 0), Some(3));
    assert_eq!(watched.take(&prompt, &[], 7), Some(0), "another salt, another cache");
}

#[test]
fn an_answer_is_found_in_the_next_turn() {
    let mut watched = Watched::new(8);
    let (prompt, answer): (Vec<u32>, Vec<u32>) = ((0..6).collect(), (6..13).collect());
    watched.take(&prompt, &answer, 0);
    watched.give_back(0, 1000);
    let next = [&prompt[..], &answer[..], &[99, 98, 97, 96]].concat();
    assert_eq!(watched.take(&next, &[], 0), Some(3));
    let more = [&prompt[..], &answer[..5], &[50, 51, 52]].concat();
    assert_eq!(watched.take(&more, &[], 0), Some(2));
}

#[test]
fn the_tail_of_a_prompt_goes_before_its_head() {
    let mut watched = Watched::new(4);
    let prompt: Vec<u32> = (0..17).collect();
    watched.take(&prompt[..16], &[], 0);
    watched.give_back(0, 1000);
    watched.take(&[90, 91, 92, 93, 94], &[], 0);
    watched.give_back(0, 1000);
    assert_eq!(watched.take(&prompt[..13], &[], 0), Some(2));
}

#[test]
fn what_needs_more_than_the_cache_gets_all_of_it() {
    let mut cache = Cache::new(2);
    let huge = sequence(&[1; 100], &[], 0);
    let share = cache.take(&huge).unwrap();
    assert_eq!((share.blocks().len(), cache.usage()), (2, (2, 2)));
    cache.give_back(&huge, share, 100);
    assert_eq!(cache.usage(), (0, 2));
}

#[test]
fn without_names_nothing_is_found_and_nothing_asked() {
    let mut cache = Cache::new(8);
    let job = crate::sim::engine::Job { prompt: vec![1; 16], answer: Vec::new() };
    let sequence = Sequence::unnamed(&job, BLOCK);
    for _ in 0..2 {
        let share = cache.take(&sequence).unwrap();
        assert_eq!(share.found(), 0);
        cache.give_back(&sequence, share, 16);
    }
    assert_eq!(cache.queries(), Default::default());
}
