//! What a node of vLLM's says with a 500: a fault of the request's, or that the node comes to its end.

use bytes::{Bytes, BytesMut};

use crate::upstream::breaker::Fault;

/// What vLLM 0.32 says, while its health is still well: between SIGTERM and its end, where it is given time for what runs;
/// and when its engine is gone, as at a SIGTERM without such time (seen on a real one).
const WORDS: [(&[u8], Fault); 2] = [
    (b"cannot schedule new futures after shutdown", Fault::ShuttingDown),
    (b"EngineCore encountered an issue", Fault::Gone),
];

/// Longest body that is kept back, in bytes. vLLM's is about 130.
const KEPT_BYTES_MAX: usize = 16 * 1024;

/// The body of a 500 so far.
#[derive(Default)]
pub(super) struct LastWords {
    kept: BytesMut,
}

/// What is known after a piece.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// Not all: nothing goes on.
    Part,
    /// The node comes to its end. The body so far, if it is to go on nevertheless.
    Last(Fault, Bytes),
    /// Something else: the body so far goes on.
    Other(Bytes),
}

impl LastWords {
    /// The next piece.
    pub(super) fn hear(&mut self, piece: Option<&Bytes>, end: bool) -> Said {
        self.kept.extend_from_slice(piece.map_or(&[], |piece| piece));
        let said = |words: &[u8]| memchr::memmem::find(&self.kept, words).is_some();
        if let Some((_, fault)) = WORDS.into_iter().find(|(words, _)| said(words)) {
            return Said::Last(fault, self.kept.split().freeze());
        }
        if end || self.kept.len() > KEPT_BYTES_MAX {
            return Said::Other(self.kept.split().freeze());
        }
        Said::Part
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &[u8] = br#"{"error":{"message":"cannot schedule new futures after shutdown"}}"#;

    #[test]
    fn the_words_are_heard_however_they_are_cut() {
        for cut in 0..BODY.len() {
            let mut words = LastWords::default();
            let first = words.hear(Some(&Bytes::from_static(&BODY[..cut])), false);
            let said = match first {
                Said::Part => words.hear(Some(&Bytes::from_static(&BODY[cut..])), true),
                said => said,
            };
            assert!(matches!(said, Said::Last(Fault::ShuttingDown, _)), "{cut}");
        }
    }

    #[test]
    fn other_words_go_on_as_they_are() {
        let mut words = LastWords::default();
        assert_eq!(words.hear(Some(&Bytes::from_static(b"no")), false), Said::Part);
        assert_eq!(words.hear(None, true), Said::Other(Bytes::from_static(b"no")));
        let long = Bytes::from(vec![b'x'; KEPT_BYTES_MAX + 1]);
        assert_eq!(LastWords::default().hear(Some(&long), false), Said::Other(long));
    }
}
