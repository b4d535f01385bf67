//! A hash table of ids that never grows: what it takes is known when it is made.

/// Open addressing with linear probing (Knuth, 6.4, algorithms L and R), half full at most. What an id stands for, and its hash, its
/// user knows.
#[derive(Debug)]
pub(super) struct Table {
    /// An id and 1; 0 where there is none.
    slots: Vec<u32>,
}

impl Table {
    /// Bytes for each id that it has room for, at most.
    pub(super) const BYTES_EACH: usize = 4 * size_of::<u32>();

    /// Room for `ids`.
    pub(super) fn new(ids: usize) -> Self {
        Self { slots: vec![0; (2 * ids).next_power_of_two()] }
    }

    /// The id with this hash that `is` the one.
    pub(super) fn find(&self, hash: u64, is: impl Fn(u32) -> bool) -> Option<u32> {
        let mut at = self.home(hash);
        loop {
            match self.slots[at].checked_sub(1)? {
                id if is(id) => return Some(id),
                _ => at = self.after(at),
            }
        }
    }

    /// Adds an id that is not there.
    pub(super) fn insert(&mut self, hash: u64, id: u32) {
        let mut at = self.home(hash);
        while self.slots[at] != 0 {
            at = self.after(at);
        }
        self.slots[at] = id + 1;
    }

    /// Takes out an id that is there; `hash_of` tells the hashes of the others.
    pub(super) fn remove(&mut self, hash: u64, id: u32, hash_of: impl Fn(u32) -> u64) {
        let mut hole = self.home(hash);
        while self.slots[hole] != id + 1 {
            hole = self.after(hole);
        }
        let mut at = hole;
        loop {
            at = self.after(at);
            let Some(other) = self.slots[at].checked_sub(1) else { break };
            // It moves up, unless its search begins behind the hole.
            let home = self.home(hash_of(other));
            let mask = self.slots.len() - 1;
            if at.wrapping_sub(home) & mask >= at.wrapping_sub(hole) & mask {
                self.slots[hole] = self.slots[at];
                hole = at;
            }
        }
        self.slots[hole] = 0;
    }

    #[expect(clippy::cast_possible_truncation, reason = "the low bits are what is wanted")]
    fn home(&self, hash: u64) -> usize {
        hash as usize & (self.slots.len() - 1)
    }

    fn after(&self, at: usize) -> usize {
        (at + 1) & (self.slots.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Hashes that collide, as they never do in earnest.
        #[test]
        fn it_knows_what_was_added_and_not_taken_out(
            steps in prop::collection::vec((any::<bool>(), 0_u32..48), 0..400),
        ) {
            let hash = |id: u32| u64::from(id % 7) * 9;
            let (mut table, mut known) = (Table::new(48), HashSet::new());
            for (adds, id) in steps {
                match (adds, known.contains(&id)) {
                    (true, false) => {
                        table.insert(hash(id), id);
                        known.insert(id);
                    }
                    (false, true) => {
                        table.remove(hash(id), id, hash);
                        known.remove(&id);
                    }
                    _ => {}
                }
                for id in 0..48 {
                    let found = table.find(hash(id), |other| other == id);
                    prop_assert_eq!(found, known.contains(&id).then_some(id));
                }
            }
        }
    }
}
