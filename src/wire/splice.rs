//! A body with one stretch of it replaced, as pieces that share the original's memory.

use std::ops::Range;

use bytes::Bytes;

/// What goes to a node: at most three pieces, none of them empty.
///
/// Three, because the proxy's channel to the node holds four: were it full when the body ends, nobody would watch the
/// client until the node's first byte.
#[derive(Debug, Clone, Default)]
pub struct Pieces {
    pieces: [Bytes; 3],
    next: usize,
}

/// Below this many bytes a piece is cheaper to copy to its neighbour than to send on its own.
const JOIN_BELOW: usize = 4 * 1024;

impl Pieces {
    /// The body as it is.
    pub fn whole(body: Bytes) -> Self {
        Self::of([body, Bytes::new(), Bytes::new()])
    }

    /// `body` with `at` replaced by `new`. Only `new` and small neighbours of it are copied.
    pub fn spliced(body: &Bytes, at: Range<usize>, new: &[u8]) -> Self {
        let (before, after) = (body.slice(..at.start), body.slice(at.end..));
        let (join_before, join_after) = (before.len() <= JOIN_BELOW, after.len() <= JOIN_BELOW);
        let mut middle = Vec::with_capacity(
            new.len()
                + if join_before { before.len() } else { 0 }
                + if join_after { after.len() } else { 0 },
        );
        if join_before {
            middle.extend_from_slice(&before);
        }
        middle.extend_from_slice(new);
        if join_after {
            middle.extend_from_slice(&after);
        }
        let keep = |joined: bool, piece: Bytes| if joined { Bytes::new() } else { piece };
        Self::of([keep(join_before, before), middle.into(), keep(join_after, after)])
    }

    fn of(pieces: [Bytes; 3]) -> Self {
        let mut pieces = Self { pieces, next: 0 };
        pieces.skip_empty();
        pieces
    }

    fn skip_empty(&mut self) {
        while self.pieces.get(self.next).is_some_and(Bytes::is_empty) {
            self.next += 1;
        }
    }

    /// Bytes that are left.
    pub fn len(&self) -> usize {
        self.pieces.iter().skip(self.next).map(Bytes::len).sum()
    }

    /// Nothing is left.
    pub fn is_empty(&self) -> bool {
        self.next >= self.pieces.len()
    }
}

impl Iterator for Pieces {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let piece = self.pieces.get_mut(self.next).map(std::mem::take)?;
        self.next += 1;
        self.skip_empty();
        Some(piece)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_pieces_are_the_body_with_the_new_stretch(
            before in 0..3 * JOIN_BELOW, old in 0..20_usize, after in 0..3 * JOIN_BELOW, new in 0..20_usize)
        {
            let body = Bytes::from([vec![b'a'; before], vec![b'b'; old], vec![b'c'; after]].concat());
            let new = vec![b'N'; new];
            let pieces = Pieces::spliced(&body, before..before + old, &new);
            let expected = [vec![b'a'; before], new, vec![b'c'; after]].concat();
            prop_assert_eq!(pieces.len(), expected.len());
            let sent: Vec<Bytes> = pieces.collect();
            prop_assert!(sent.len() <= 3 && sent.iter().all(|piece| !piece.is_empty()));
            prop_assert_eq!(sent.concat(), expected);
        }
    }

    #[test]
    fn a_whole_body_is_one_piece_and_an_empty_one_none() {
        assert_eq!(Pieces::whole(Bytes::from_static(b"x")).collect::<Vec<_>>().len(), 1);
        assert!(Pieces::whole(Bytes::new()).is_empty());
    }
}
