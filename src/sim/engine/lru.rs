//! Blocks in the order of their last use; each of its operations takes the same time however many there are.

/// No block.
const NONE: u32 = u32::MAX;

/// A list whose links lie beside the blocks, so that one can leave it from the middle.
pub(super) struct Lru {
    links: Vec<Link>,
    oldest: u32,
    newest: u32,
    len: usize,
}

#[derive(Clone, Copy)]
struct Link {
    older: u32,
    newer: u32,
}

impl Default for Lru {
    fn default() -> Self {
        Self { links: Vec::new(), oldest: NONE, newest: NONE, len: 0 }
    }
}

impl Lru {
    /// Blocks in the list.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// `block` was used last. It must not be in the list.
    pub(super) fn push(&mut self, block: u32) {
        let place = block as usize;
        if self.links.len() <= place {
            self.links.resize(place + 1, Link { older: NONE, newer: NONE });
        }
        self.links[place] = Link { older: self.newest, newer: NONE };
        match self.newest {
            NONE => self.oldest = block,
            newest => self.links[newest as usize].newer = block,
        }
        self.newest = block;
        self.len += 1;
    }

    /// Takes out `block`, which must be in the list.
    pub(super) fn remove(&mut self, block: u32) {
        let Link { older, newer } = self.links[block as usize];
        match older {
            NONE => self.oldest = newer,
            older => self.links[older as usize].newer = newer,
        }
        match newer {
            NONE => self.newest = older,
            newer => self.links[newer as usize].older = older,
        }
        self.len -= 1;
    }

    /// Takes out the block whose last use is the longest ago.
    pub(super) fn pop(&mut self) -> Option<u32> {
        let oldest = self.oldest;
        (oldest != NONE).then(|| {
            self.remove(oldest);
            oldest
        })
    }

    /// The blocks, the oldest first.
    #[cfg(test)]
    pub(super) fn iter(&self) -> impl Iterator<Item = u32> {
        let next = |block: u32| (block != NONE).then_some(block);
        std::iter::successors(next(self.oldest), move |block| {
            next(self.links[*block as usize].newer)
        })
    }
}
