//! Lines of a stream, in whatever pieces it comes.

use memchr::memchr;

/// What a stream has said of a line that has not ended. No line may have more than `MAX` bytes.
#[derive(Debug, Default)]
pub struct Lines<const MAX: usize> {
    held: Vec<u8>,
}

impl<const MAX: usize> Lines<MAX> {
    /// Tells `each` of every line that ends in `piece`, without its line feed; what is whole in it is not copied. False where a
    /// line is too long: it is let go, and nothing that comes after it is a line.
    #[must_use]
    pub fn push(&mut self, mut piece: &[u8], mut each: impl FnMut(&[u8])) -> bool {
        while let Some(end) = memchr(b'\n', piece) {
            let (line, rest) = (&piece[..end], &piece[end + 1..]);
            if self.held.is_empty() && line.len() <= MAX {
                each(line);
            } else if self.hold(line) {
                each(&self.held);
                self.held.clear();
            } else {
                return false;
            }
            piece = rest;
        }
        self.hold(piece)
    }

    /// The end of the stream: a last line that has none.
    pub fn finish(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.held)
    }

    /// Keeps a part of a line, if there is room for it.
    fn hold(&mut self, part: &[u8]) -> bool {
        let fits = self.held.len() + part.len() <= MAX;
        if fits {
            self.held.extend_from_slice(part);
        } else {
            self.held = Vec::new();
        }
        fits
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Longest line of these tests, in bytes.
    const MAX: usize = 4;

    /// The lines told, the rest, and whether all of them were short enough.
    fn told(pieces: &[&[u8]]) -> (Vec<Vec<u8>>, Vec<u8>, bool) {
        let (mut lines, mut told) = (Lines::<MAX>::default(), Vec::new());
        let fits = pieces.iter().all(|piece| lines.push(piece, |line| told.push(line.to_vec())));
        (told, lines.finish(), fits)
    }

    #[test]
    fn a_line_that_is_whole_in_its_piece_is_not_copied() {
        let mut lines = Lines::<MAX>::default();
        let piece = b"ab\n\ncd\n";
        let mut at = Vec::new();
        assert!(lines.push(piece, |line| at.push(line.as_ptr())));
        assert_eq!(at, [0, 3, 4].map(|place| piece[place..].as_ptr()));
        assert_eq!(lines.finish().capacity(), 0);
    }

    #[test]
    fn what_is_too_long_is_not_kept() {
        for pieces in [&[&b"abcde\nf\n"[..]][..], &[b"abcde"], &[b"abcd", b"e"], &[b"ab", b"cde\n"]]
        {
            let (told, rest, fits) = told(pieces);
            assert!(told.is_empty() && rest.capacity() == 0 && !fits, "{pieces:?}");
        }
        assert_eq!(told(&[b"abcd", b"\nefgh"]), (vec![b"abcd".to_vec()], b"efgh".to_vec(), true));
    }

    proptest! {
        #[test]
        fn any_cut_tells_the_same(stream in "[ab\n]{0,30}", cuts in prop::collection::vec(0_usize..30, 0..8)) {
            let stream = stream.as_bytes();
            let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(stream.len())).collect();
            cuts.extend([0, stream.len()]);
            cuts.sort_unstable();
            let pieces: Vec<_> = cuts.windows(2).map(|cut| &stream[cut[0]..cut[1]]).collect();
            let mut lines: Vec<_> = stream.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
            let long = lines.iter().position(|line| line.len() > MAX);
            lines.truncate(long.unwrap_or(lines.len()));
            let rest = if long.is_none() { lines.pop().unwrap() } else { Vec::new() };
            prop_assert_eq!(told(&pieces), (lines, rest, long.is_none()));
        }
    }
}
