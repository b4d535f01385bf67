//! The KV cache: blocks of keys and values that running requests hold, and what is kept of those that are over.

use std::collections::HashMap;

use super::lru::Lru;
use super::sequence::Sequence;

/// Blocks, counted by their users. One without users keeps what it holds until the room is needed: then it goes first that
/// holds nothing anyone could ask for, and after it that whose last use is the longest ago, as in vLLM 0.32.
pub(super) struct Cache {
    total: usize,
    /// Those that were ever used.
    blocks: Vec<Block>,
    by_name: HashMap<u64, u32>,
    /// Without users and without a name.
    empty: Vec<u32>,
    /// Without users, with a name.
    kept: Lru,
    queries: Queries,
}

/// How often the cache helped, in tokens of prompts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::sim) struct Queries {
    /// Looked for.
    pub(in crate::sim) asked: u64,
    /// Found.
    pub(in crate::sim) hit: u64,
}

#[derive(Clone, Copy, Default)]
struct Block {
    users: u32,
    name: Option<u64>,
}

/// The blocks of one running sequence. They must be given back.
#[derive(Debug)]
pub(super) struct Share {
    /// In the order of the sequence.
    blocks: Vec<u32>,
    /// Of those, how many were found and need not be computed.
    found: usize,
}

impl Share {
    /// Blocks that need not be computed.
    pub(super) fn found(&self) -> usize {
        self.found
    }
}

impl Cache {
    /// An empty cache of `total` blocks, fewer than `u32::MAX`.
    pub(super) fn new(total: u32) -> Self {
        Self {
            total: total as usize,
            blocks: Vec::new(),
            by_name: HashMap::new(),
            empty: Vec::new(),
            kept: Lru::default(),
            queries: Queries::default(),
        }
    }

    /// Blocks in use, and all there are.
    pub(super) fn usage(&self) -> (usize, usize) {
        (self.blocks.len() - self.empty.len() - self.kept.len(), self.total)
    }

    /// Since the start.
    pub(super) fn queries(&self) -> Queries {
        self.queries
    }

    /// Room for the prompt and the whole answer of `sequence`; none if there is not enough now. What needs more than the
    /// whole cache (a batch of prompts) gets the whole cache: it would pass through it in parts.
    pub(super) fn take(&mut self, sequence: &Sequence) -> Option<Share> {
        let wanted = sequence.blocks().min(self.total);
        let known = sequence.findable().iter().map_while(|name| self.by_name.get(name).copied());
        let mut blocks: Vec<u32> = known.take(wanted).collect();
        let found = blocks.len();
        let unused = self.total - self.usage().0;
        let revived = blocks.iter().filter(|block| self.blocks[**block as usize].users == 0);
        if wanted - found > unused - revived.count() {
            return None;
        }
        blocks.reserve_exact(wanted - found);
        for block in &blocks {
            let users = &mut self.blocks[*block as usize].users;
            *users += 1;
            if *users == 1 {
                self.kept.remove(*block);
            }
        }
        while blocks.len() < wanted {
            blocks.push(self.vacant()?);
        }
        // Whoever comes next may find the prompt: it is computed before theirs is.
        for (block, name) in blocks.iter().zip(sequence.full(sequence.prompt)).skip(found) {
            self.give_name(*block, *name);
        }
        if sequence.is_named() {
            self.queries.asked += sequence.prompt as u64;
            self.queries.hit += sequence.tokens_in(found) as u64;
        }
        Some(Share { blocks, found })
    }

    /// Takes back what was given for `sequence`, of which the first `computed` tokens are computed. The blocks that these
    /// fill can be found from now on.
    pub(super) fn give_back(&mut self, sequence: &Sequence, share: Share, computed: usize) {
        let computed = sequence.full(computed).len().max(share.found);
        for (place, (block, name)) in share.blocks.iter().zip(sequence.full(usize::MAX)).enumerate()
        {
            if place < computed {
                self.give_name(*block, *name);
            } else if self.blocks[*block as usize].users == 1 {
                self.take_name(*block);
            }
        }
        // The tail first, so that it goes before the head without which it could not be found.
        for block in share.blocks.into_iter().rev() {
            let Block { users, name } = &mut self.blocks[block as usize];
            *users -= 1;
            match (*users, name) {
                (0, None) => self.empty.push(block),
                (0, Some(_)) => self.kept.push(block),
                _ => {}
            }
        }
    }

    /// A block for one user, without a name; none if all are in use.
    fn vacant(&mut self) -> Option<u32> {
        if let Some(block) = self.empty.pop() {
            self.blocks[block as usize].users = 1;
            return Some(block);
        }
        if self.blocks.len() < self.total {
            self.blocks.push(Block { users: 1, name: None });
            return u32::try_from(self.blocks.len() - 1).ok();
        }
        let block = self.kept.pop()?;
        self.take_name(block);
        self.blocks[block as usize].users = 1;
        Some(block)
    }

    /// From now on `block`, which is in use, is found by `name`. Of two blocks with one name the one in use keeps it, and
    /// if none is, the newer.
    fn give_name(&mut self, block: u32, name: u64) {
        match self.by_name.get(&name).copied() {
            Some(other) if other == block || self.blocks[other as usize].users > 0 => return,
            Some(other) => {
                self.kept.remove(other);
                self.blocks[other as usize].name = None;
                self.empty.push(other);
            }
            None => {}
        }
        self.by_name.insert(name, block);
        self.blocks[block as usize].name = Some(name);
    }

    fn take_name(&mut self, block: u32) {
        if let Some(name) = self.blocks[block as usize].name.take() {
            self.by_name.remove(&name);
        }
    }
}

#[cfg(test)]
impl Cache {
    /// Users of each block that was ever used.
    pub(super) fn users(&self) -> impl Iterator<Item = u32> {
        self.blocks.iter().map(|block| block.users)
    }

    /// Blocks without users that can be found, the one to go first first.
    pub(super) fn kept(&self) -> Vec<u32> {
        self.kept.iter().collect()
    }
}

#[cfg(test)]
impl Share {
    pub(super) fn blocks(&self) -> &[u32] {
        &self.blocks
    }
}
