//! The caches of all nodes, as models of them: within one budget of bytes, and nothing in it is older than what had to go.

use super::chain::{Block, Chain};
use super::slab::Slab;
use super::table::Table;

/// Nodes that the index tells apart. Of more, nothing is known.
pub const NODES_MAX: usize = 256;

/// Copies of blocks for each block that there is room for: a prompt that many begin with spreads over nodes.
const COPIES: usize = 2;

/// What is forgotten at a time, in blocks: about a tenth of a millisecond.
const FORGOTTEN_AT_ONCE: usize = 2_048;

/// No copy: the end of a list.
const NONE: u32 = u32::MAX;

/// By which the index knows a node.
pub type Number = u8;

/// Bytes of one prompt that each node holds, from its beginning on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held([u32; NODES_MAX]);

/// A block that some node holds.
#[derive(Debug, Clone, Copy, Default)]
struct Known {
    name: u64,
    holders: [u64; NODES_MAX / 64],
    bytes: u32,
}

/// A block in the cache of one node, in the order of use.
#[derive(Debug, Clone, Copy)]
struct Copy {
    block: u32,
    node: Number,
    newer: u32,
    older: u32,
}

/// Bytes for each block, and for each copy.
const BLOCK_BYTES: usize = Slab::<Known>::BYTES_EACH + Table::BYTES_EACH;
const COPY_BYTES: usize = Slab::<Copy>::BYTES_EACH + Table::BYTES_EACH;

/// The cache of one node.
#[derive(Debug, Clone, Copy)]
struct Cache {
    newest: u32,
    oldest: u32,
    copies: u32,
    bytes: u64,
}

/// See [`super`].
pub struct Index {
    blocks: Slab<Known>,
    by_name: Table,
    copies: Slab<Copy>,
    by_place: Table,
    caches: Vec<Cache>,
}

impl Default for Held {
    fn default() -> Self {
        Self([0; NODES_MAX])
    }
}

impl Held {
    /// What `node` holds.
    pub fn at(&self, node: Number) -> u64 {
        u64::from(self.0[usize::from(node)])
    }

    fn set(&mut self, word: usize, mut nodes: u64, bytes: u32) {
        while nodes != 0 {
            self.0[word * 64 + nodes.trailing_zeros() as usize] = bytes;
            nodes &= nodes - 1;
        }
    }
}

impl Index {
    /// An index that never takes more than `budget` bytes.
    pub fn new(budget: usize) -> Self {
        let blocks =
            (budget / (BLOCK_BYTES + COPIES * COPY_BYTES)).clamp(1, NONE as usize / COPIES);
        Self {
            blocks: Slab::new(blocks),
            by_name: Table::new(blocks),
            copies: Slab::new(blocks * COPIES),
            by_place: Table::new(blocks * COPIES),
            caches: vec![Cache { newest: NONE, oldest: NONE, copies: 0, bytes: 0 }; NODES_MAX],
        }
    }

    /// How much of a prompt each node holds.
    pub fn held(&self, chain: &Chain) -> Held {
        let mut held = Held::default();
        let mut holders = [u64::MAX; NODES_MAX / 64];
        let mut bytes = 0;
        for block in chain.blocks() {
            let Some(id) = self.find(block.name) else { break };
            let of_block = &self.blocks.get(id).holders;
            for (word, (holders, of_block)) in holders.iter_mut().zip(of_block).enumerate() {
                if bytes > 0 {
                    held.set(word, *holders & !of_block, bytes);
                }
                *holders &= of_block;
            }
            if holders.iter().all(|word| *word == 0) {
                return held;
            }
            bytes = bytes.saturating_add(block.bytes);
        }
        if bytes > 0 {
            holders.iter().enumerate().for_each(|(word, nodes)| held.set(word, *nodes, bytes));
        }
        held
    }

    /// `node`, whose cache holds `room` bytes, gets a prompt. Gives how many bytes are in there now.
    pub fn note(&mut self, node: Number, chain: &Chain, room: u64) -> u64 {
        // The end first, so that it goes before the beginning without which it is of no use.
        for block in chain.blocks().iter().rev() {
            self.use_block(node, block);
        }
        while self.cache(node).bytes > room {
            self.drop_oldest(node);
        }
        self.cache(node).bytes
    }

    /// Forgets some of what `node` holds; true where there is more.
    pub fn forget_some(&mut self, node: Number) -> bool {
        for _ in 0..FORGOTTEN_AT_ONCE {
            if !self.drop_oldest(node) {
                return false;
            }
        }
        true
    }

    /// Bytes in use. Never more than the budget.
    pub fn bytes(&self) -> usize {
        self.blocks.used() * BLOCK_BYTES + self.copies.used() * COPY_BYTES
    }

    fn cache(&mut self, node: Number) -> &mut Cache {
        &mut self.caches[usize::from(node)]
    }

    fn find(&self, name: u64) -> Option<u32> {
        self.by_name.find(name, |id| self.blocks.get(id).name == name)
    }

    fn use_block(&mut self, node: Number, block: &Block) {
        let known = self.find(block.name);
        let copy = known.and_then(|id| {
            self.by_place.find(place(id, node), |copy| {
                let copy = self.copies.get(copy);
                (copy.block, copy.node) == (id, node)
            })
        });
        if let Some(copy) = copy {
            self.unlink(copy);
            self.link(copy);
            return;
        }
        if self.copies.is_full() || (known.is_none() && self.blocks.is_full()) {
            self.make_room();
        }
        // Room may have been made where the block was.
        let id = self.find(block.name).unwrap_or_else(|| {
            let id =
                self.blocks.add(Known { name: block.name, bytes: block.bytes, ..Known::default() });
            self.by_name.insert(block.name, id);
            id
        });
        let copy = self.copies.add(Copy { block: id, node, newer: NONE, older: NONE });
        self.by_place.insert(place(id, node), copy);
        let known = self.blocks.get_mut(id);
        known.holders[usize::from(node) / 64] |= 1 << (node % 64);
        let bytes = known.bytes;
        self.link(copy);
        let cache = self.cache(node);
        cache.bytes += u64::from(bytes);
        cache.copies += 1;
    }

    /// Drops what the fullest cache has not used for the longest, until there is room for a block and a copy.
    fn make_room(&mut self) {
        while self.copies.is_full() || self.blocks.is_full() {
            let fullest =
                (0..=Number::MAX).max_by_key(|node| self.caches[usize::from(*node)].copies);
            if !fullest.is_some_and(|node| self.drop_oldest(node)) {
                return;
            }
        }
    }

    /// False where there is nothing.
    fn drop_oldest(&mut self, node: Number) -> bool {
        let oldest = self.cache(node).oldest;
        if oldest == NONE {
            return false;
        }
        self.unlink(oldest);
        let Copy { block, .. } = *self.copies.get(oldest);
        let copies = &self.copies;
        self.by_place.remove(place(block, node), oldest, |copy| {
            let copy = copies.get(copy);
            place(copy.block, copy.node)
        });
        self.copies.remove(oldest);
        let known = self.blocks.get_mut(block);
        known.holders[usize::from(node) / 64] &= !(1 << (node % 64));
        let (name, bytes, is_held) =
            (known.name, known.bytes, known.holders.iter().any(|word| *word != 0));
        if !is_held {
            let blocks = &self.blocks;
            self.by_name.remove(name, block, |id| blocks.get(id).name);
            self.blocks.remove(block);
        }
        let cache = self.cache(node);
        cache.bytes -= u64::from(bytes);
        cache.copies -= 1;
        true
    }

    /// Makes a copy the newest of its node.
    fn link(&mut self, id: u32) {
        let node = self.copies.get(id).node;
        let newest = std::mem::replace(&mut self.cache(node).newest, id);
        let copy = self.copies.get_mut(id);
        (copy.newer, copy.older) = (NONE, newest);
        match newest {
            NONE => self.cache(node).oldest = id,
            newest => self.copies.get_mut(newest).newer = id,
        }
    }

    fn unlink(&mut self, id: u32) {
        let Copy { node, newer, older, .. } = *self.copies.get(id);
        match newer {
            NONE => self.cache(node).newest = older,
            newer => self.copies.get_mut(newer).older = older,
        }
        match older {
            NONE => self.cache(node).oldest = newer,
            older => self.copies.get_mut(older).newer = newer,
        }
    }
}

/// A hash of where a copy is.
fn place(block: u32, node: Number) -> u64 {
    let place = u64::from(block) << 8 | u64::from(node);
    // Knuth, 6.4: multiplicative hashing; the good bits are the high ones.
    place.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 24
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Much more than any of these tests needs.
    const ROOMY: usize = 1 << 20;
    const ENDLESS: u64 = u64::MAX;

    /// A prompt whose every full block of 256 bytes is one letter.
    fn chain(letters: &str) -> Chain {
        let text: Vec<u8> = letters.bytes().flat_map(|letter| [letter; 256]).collect();
        Chain::new("m", [&text[..]])
    }

    fn blocks_held(index: &Index, letters: &str) -> [u64; 3] {
        let held = index.held(&chain(letters));
        [0, 1, 255].map(|node| held.at(node) / 256)
    }

    #[test]
    fn each_node_holds_what_it_got_as_far_as_prompts_begin_alike() {
        let mut index = Index::new(ROOMY);
        assert_eq!(blocks_held(&index, "abc"), [0, 0, 0]);
        index.note(0, &chain("abcd"), ENDLESS);
        index.note(255, &chain("abx"), ENDLESS);
        assert_eq!(blocks_held(&index, "abcde"), [4, 0, 2]);
        assert_eq!(blocks_held(&index, "abxy"), [2, 0, 3]);
        assert_eq!(blocks_held(&index, "bcd"), [0, 0, 0]);
        assert!(!index.forget_some(0));
        assert_eq!(blocks_held(&index, "abcd"), [0, 0, 2]);
        while index.forget_some(255) {}
        assert_eq!(index.bytes(), 0);
    }

    #[test]
    fn a_cache_that_is_full_loses_the_ends_of_what_was_not_used_for_the_longest() {
        let mut index = Index::new(ROOMY);
        index.note(0, &chain("abcd"), 6 * 256);
        index.note(0, &chain("xy"), 6 * 256);
        assert_eq!((blocks_held(&index, "abcd")[0], blocks_held(&index, "xy")[0]), (4, 2));
        index.note(0, &chain("ab"), 6 * 256);
        index.note(0, &chain("z"), 6 * 256);
        // `c` and `d` were used before `x` and `y`, and `d` is the end.
        assert_eq!((blocks_held(&index, "abcd")[0], blocks_held(&index, "xy")[0]), (3, 2));
        // What does not fit is there from its beginning on.
        index.note(0, &chain("123456789"), 6 * 256);
        assert_eq!(blocks_held(&index, "123456789"), [6, 0, 0]);
        assert_eq!(blocks_held(&index, "abcd"), [0, 0, 0]);
    }

    #[test]
    fn the_budget_holds_and_the_fullest_cache_pays() {
        let budget = 64 * 1024;
        let mut index = Index::new(budget);
        index.note(1, &chain("small"), ENDLESS);
        for number in 0..20_000_u32 {
            let text = format!("{number:0512}").repeat(8);
            index.note(0, &Chain::new("m", [text.as_bytes()]), ENDLESS);
            assert!(index.bytes() <= budget);
        }
        assert!(index.bytes() > budget / 4, "{}", index.bytes());
        assert_eq!(blocks_held(&index, "small"), [0, 5, 0]);
        // An index for next to nothing knows next to nothing.
        let mut index = Index::new(0);
        index.note(0, &chain("abc"), ENDLESS);
        index.note(1, &chain("abc"), ENDLESS);
        assert!(blocks_held(&index, "abc").iter().sum::<u64>() <= 1);
    }

    /// The cache of one node as a list of what it holds, the newest first.
    #[derive(Default)]
    struct Plain(Vec<Block>);

    impl Plain {
        fn note(&mut self, chain: &Chain, room: u64) {
            self.0.retain(|known| chain.blocks().iter().all(|block| block.name != known.name));
            self.0.splice(0..0, chain.blocks().iter().copied());
            while self.0.iter().map(|block| u64::from(block.bytes)).sum::<u64>() > room {
                self.0.pop();
            }
        }

        fn held(&self, chain: &Chain) -> u64 {
            let holds = |block: &&Block| self.0.iter().any(|known| known.name == block.name);
            chain.blocks().iter().take_while(holds).map(|block| u64::from(block.bytes)).sum()
        }
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_plain_list(
            steps in prop::collection::vec((0_u8..3, "[ab]{0,6}", any::<bool>()), 1..60),
            room in 0_u64..12,
        ) {
            let (mut index, mut plain) = (Index::new(ROOMY), [(); 3].map(|()| Plain::default()));
            for (node, letters, forgets) in steps {
                let chain = chain(&letters);
                let at = usize::from(node);
                if forgets && letters.is_empty() {
                    while index.forget_some(node) {}
                    plain[at].0.clear();
                }
                index.note(node, &chain, room * 256);
                plain[at].note(&chain, room * 256);
                let held = index.held(&chain);
                for (node, plain) in (0..3).zip(&plain) {
                    prop_assert_eq!(held.at(node), plain.held(&chain));
                }
            }
        }
    }
}
