//! A mark that is cut in two by the end of a piece.

/// How many of the last bytes of `piece` are the begin of `mark`, which may go on in the next piece: fewer than all of it.
pub fn begun(piece: &[u8], mark: &[u8]) -> usize {
    let Some(last) = piece.last() else { return 0 };
    let longest = piece.len().min(mark.len().saturating_sub(1));
    // Most pieces end with a byte that the mark does not have.
    let fits = |length: &usize| mark[length - 1] == *last && piece.ends_with(&mark[..*length]);
    (1..=longest).rev().find(fits).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_begin_counts_but_never_the_whole() {
        for (piece, begin) in [
            ("", 0),
            ("x", 0),
            ("a", 1),
            ("xab", 2),
            ("aba", 3),
            ("xabab", 2),
            ("b", 0),
            ("abac", 0),
            ("abacaba", 3),
        ] {
            assert_eq!(begun(piece.as_bytes(), b"abac"), begin, "{piece}");
        }
        assert_eq!(begun(b"a", b"a"), 0);
        assert_eq!(begun(b"a", b""), 0);
    }
}
