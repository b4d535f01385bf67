//! What a node of vLLM's says with a 500: a fault of the request's, or that the node is shutting down.

use bytes::{Bytes, BytesMut};

/// What vLLM 0.32 answers between SIGTERM and its end, while its health is still well.
const SHUTTING_DOWN: &[u8] = b"cannot schedule new futures after shutdown";

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
    /// The node is shutting down. The body so far, if it is to go on nevertheless.
    ShuttingDown(Bytes),
    /// Something else: the body so far goes on.
    Other(Bytes),
}

impl LastWords {
    /// The next piece.
    pub(super) fn hear(&mut self, piece: Option<&Bytes>, end: bool) -> Said {
        self.kept.extend_from_slice(piece.map_or(&[], |piece| piece));
        if memchr::memmem::find(&self.kept, SHUTTING_DOWN).is_some() {
            return Said::ShuttingDown(self.kept.split().freeze());
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
            assert!(matches!(said, Said::ShuttingDown(_)), "{cut}");
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
