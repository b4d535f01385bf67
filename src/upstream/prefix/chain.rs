//! A prompt as a chain of blocks: two prompts have a name in common exactly as far as they begin alike.

use smallvec::SmallVec;
use xxhash_rust::xxh3::xxh3_64;

/// Bytes of a block that ends at or before a depth: long prompts are cut more coarsely the deeper they go, so that what is
/// lost at their end stays a small part of them, and a prompt of 128 KB has about 150 blocks.
const SIZES: [(usize, usize); 3] = [(8 * 1024, 256), (64 * 1024, 1024), (usize::MAX, 2048)];

/// Blocks of one prompt: two megabytes of it. What is behind them is nobody's to find: an index is locked while a prompt is
/// looked up, and lines of a log that tell prompts may wait by the thousand.
const BLOCKS_MAX: usize = 1_024;

/// Blocks that are on the stack: a prompt of 8 KiB.
const BLOCKS: usize = 32;

/// Of the hash that mixes a block's with the one before (Stafford's variant 13 of MurmurHash3's finalizer).
const MIX: [u64; 2] = [0xBF58_476D_1CE4_E5B9, 0x94D0_49BB_1331_11EB];

/// One block of a prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block {
    /// A hash of all bytes up to its end.
    pub name: u64,
    /// Its own.
    pub bytes: u32,
}

/// The full blocks of a prompt, from the first on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Chain {
    blocks: SmallVec<[Block; BLOCKS]>,
    bytes: u64,
}

impl Chain {
    /// Of a prompt for `model`, to its 1,024th block, in the parts that a node puts together in this order. What stands behind the last full
    /// block of the last part is nothing that another prompt could share.
    pub fn new<'p>(model: &str, parts: impl IntoIterator<Item = &'p [u8]>) -> Self {
        let mut chain = Self::default();
        let mut name = xxh3_64(model.as_bytes());
        let mut parts = parts.into_iter().peekable();
        while let Some(part) = parts.next() {
            let (mut rest, is_last) = (part, parts.peek().is_none());
            if is_last {
                // A list goes on where it ended before.
                rest = rest.strip_suffix(b"]").unwrap_or(rest);
            }
            chain.bytes += len(part.len());
            let mut depth = 0;
            loop {
                let size = size_at(depth);
                let ends = rest.len() < size && (is_last || rest.is_empty());
                if ends || chain.blocks.len() == BLOCKS_MAX {
                    break;
                }
                let (block, behind) = rest.split_at(size.min(rest.len()));
                name = mixed(name ^ xxh3_64(block));
                let bytes = u32::try_from(block.len()).unwrap_or(u32::MAX);
                chain.blocks.push(Block { name, bytes });
                (rest, depth) = (behind, depth + size);
            }
        }
        chain
    }

    /// Its blocks.
    pub fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    /// Bytes of the whole prompt.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

fn size_at(depth: usize) -> usize {
    SIZES.iter().find(|(until, _)| depth < *until).map_or(usize::MAX, |(_, size)| *size)
}

/// A hash of a hash, all of whose bits depend on all.
pub fn mixed(mut hash: u64) -> u64 {
    hash = (hash ^ (hash >> 30)).wrapping_mul(MIX[0]);
    hash = (hash ^ (hash >> 27)).wrapping_mul(MIX[1]);
    hash ^ (hash >> 31)
}

fn len(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shared(one: &Chain, other: &Chain) -> usize {
        one.blocks().iter().zip(other.blocks()).take_while(|(one, other)| one == other).count()
    }

    #[test]
    fn a_chat_that_goes_on_begins_with_what_it_was() {
        let turn = |said: &str| format!(r#"{{"role":"user","content":"{}"}}"#, said.repeat(300));
        let (first, second) = (turn("one "), turn("two "));
        let before = format!("[{first}]");
        let after = format!("[{first},{second}]");
        let before = Chain::new("m", [before.as_bytes()]);
        let after = Chain::new("m", [after.as_bytes()]);
        assert_eq!(before.blocks().len(), 4);
        assert_eq!(shared(&before, &after), 4);
    }

    #[test]
    fn another_model_or_other_tools_share_nothing() {
        let (tools, messages) = ([b't'; 300], [b'm'; 3000]);
        let one = Chain::new("m", [&tools[..], &messages[..]]);
        // The rest of the tools is a block of its own: nothing behind it is shared unless it is.
        assert_eq!(
            one.blocks().iter().map(|block| block.bytes).collect::<Vec<_>>()[..3],
            [256, 44, 256]
        );
        assert_eq!(one.bytes(), 3300);
        assert_eq!(shared(&one, &Chain::new("n", [&tools[..], &messages[..]])), 0);
        assert_eq!(shared(&one, &Chain::new("m", [&tools[..299], &messages[..]])), 1);
        assert_eq!(shared(&one, &Chain::new("m", [&tools[..], &messages[..600]])), 4);
    }

    #[test]
    fn a_long_prompt_has_few_blocks() {
        let text = vec![b'x'; 128 * 1024];
        let chain = Chain::new("m", [&text[..]]);
        assert_eq!(chain.blocks().len(), 32 + 56 + 32);
        assert_eq!(
            chain.blocks().iter().map(|block| block.bytes as usize).sum::<usize>(),
            text.len()
        );
    }

    #[test]
    fn a_prompt_without_end_has_an_end() {
        let text = vec![b'x'; 32 << 20];
        let chain = Chain::new("m", [&text[..1000], &text[..]]);
        assert_eq!(chain.blocks().len(), BLOCKS_MAX);
        assert_eq!(chain.bytes(), 1000 + (32 << 20));
    }

    proptest! {
        #[test]
        fn two_prompts_share_names_as_far_as_they_begin_alike(
            common in 0_usize..40_000, one in 1_usize..5_000, other in 1_usize..5_000,
        ) {
            let mut first = vec![b'c'; common];
            let mut second = first.clone();
            first.extend(vec![b'1'; one]);
            second.extend(vec![b'2'; other]);
            let (one, other) = (Chain::new("m", [&first[..]]), Chain::new("m", [&second[..]]));
            let same = shared(&one, &other);
            let bytes: u32 = one.blocks()[..same].iter().map(|block| block.bytes).sum();
            prop_assert!(bytes as usize <= common);
            prop_assert!(common - (bytes as usize) < 2048);
            prop_assert!(one.blocks()[same..].iter().zip(&other.blocks()[same..]).all(|(a, b)| a.name != b.name));
        }
    }
}
