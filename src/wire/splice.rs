//! A body with one stretch of it replaced, as pieces that share the original's memory.

use std::ops::Range;

use bytes::Bytes;

/// A stretch of a body, and what stands there for the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edit {
    /// The stretch; an empty one is a place to insert at.
    pub at: Range<usize>,
    /// What takes its place.
    pub new: Vec<u8>,
}

impl Edit {
    /// One edit of `body` in the place of two that do not overlap, with all that lies between them. So a body stays in three
    /// pieces; edits that are far apart are rare.
    pub fn joined(body: &[u8], one: Self, other: Self) -> Self {
        let (first, second) =
            if one.at.end <= other.at.start { (one, other) } else { (other, one) };
        let between = body.get(first.at.end..second.at.start).unwrap_or_default();
        let at = first.at.start..second.at.end;
        Self { at, new: [first.new.as_slice(), between, &second.new].concat() }
    }
}

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

    /// `body` with an edit. Only what is new and small neighbours of it are copied.
    pub fn edited(body: &Bytes, Edit { at, new }: &Edit) -> Self {
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
            let edit = Edit { at: before..before + old, new: new.clone() };
            let pieces = Pieces::edited(&body, &edit);
            let expected = [vec![b'a'; before], new, vec![b'c'; after]].concat();
            prop_assert_eq!(pieces.len(), expected.len());
            let sent: Vec<Bytes> = pieces.collect();
            prop_assert!(sent.len() <= 3 && sent.iter().all(|piece| !piece.is_empty()));
            prop_assert_eq!(sent.concat(), expected);
        }
    }

    #[test]
    fn two_edits_are_one() {
        let edit = |at, new: &str| Edit { at, new: new.into() };
        let (first, second) = (edit(1..3, "x"), edit(3..3, "yz"));
        assert_eq!(Edit::joined(b"abcdef", first.clone(), second.clone()), edit(1..3, "xyz"));
        assert_eq!(Edit::joined(b"abcdef", second, first.clone()), edit(1..3, "xyz"));
        let last = edit(5..6, "");
        assert_eq!(Edit::joined(b"abcdef", last, first), edit(1..6, "xde"));
    }

    #[test]
    fn a_whole_body_is_one_piece_and_an_empty_one_none() {
        assert_eq!(Pieces::whole(Bytes::from_static(b"x")).collect::<Vec<_>>().len(), 1);
        assert!(Pieces::whole(Bytes::new()).is_empty());
    }
}
