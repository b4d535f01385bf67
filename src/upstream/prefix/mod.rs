//! Which node holds how much of a prompt in its cache, as far as that can be told from what was sent where.
//!
//! A node keeps the keys and values of prompts that it computed, and whoever comes with the same beginning need not wait for
//! it (vLLM: automatic prefix caching). What passes through here is enough to know nearly all of it: a prompt is cut into
//! blocks, each named by a hash of all that stands up to its end ([`chain`]), and for each node there is a model of its cache:
//! the blocks that it got, the one used last the last to go ([`index`]).

pub mod chain;
pub mod index;
pub mod room;
mod slab;
mod table;

use std::sync::OnceLock;

use parking_lot::Mutex;

use chain::Chain;
use index::{Held, Index, Number};

/// The index of all nodes. It lives through reloads.
pub struct Prefixes {
    budget: usize,
    /// Made when it is first needed.
    index: OnceLock<Mutex<Index>>,
}

impl Prefixes {
    /// An index of at most `budget` bytes.
    pub fn new(budget: usize) -> Self {
        Self { budget, index: OnceLock::new() }
    }

    /// How much of the prompt each node holds.
    pub fn held(&self, chain: &Chain) -> Held {
        self.index.get().map(|index| index.lock().held(chain)).unwrap_or_default()
    }

    /// The prompt goes to `node`, whose cache holds `room` bytes of prompts, where that is known. Gives how many are in there now.
    pub fn note(&self, node: Number, chain: &Chain, room: Option<u64>) -> u64 {
        if room == Some(0) {
            // It finds nothing again.
            return 0;
        }
        let index = self.index.get_or_init(|| Mutex::new(Index::new(self.budget)));
        index.lock().note(node, chain, room.unwrap_or(u64::MAX))
    }

    /// What `node` held is gone.
    pub fn forget(&self, node: Number) {
        // A part at a time: requests need the lock, too.
        while self.index.get().is_some_and(|index| index.lock().forget_some(node)) {}
    }

    /// Bytes that the index uses.
    pub fn bytes(&self) -> usize {
        self.index.get().map_or(0, |index| index.lock().bytes())
    }
}
