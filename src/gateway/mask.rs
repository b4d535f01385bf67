//! A node that repeats our key in an error: the key's bytes are blotted out, the length stays.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use crate::wire::overlap::begun;

/// Goes over a body in arbitrary pieces. Bytes that may be the beginning of the key wait for the next piece.
pub(super) struct Mask {
    key: Arc<str>,
    waiting: BytesMut,
}

impl Mask {
    /// Blots out `key`, which is not empty.
    pub(super) fn new(key: Arc<str>) -> Self {
        Self { key, waiting: BytesMut::new() }
    }

    /// The next piece of the body, as it may go on.
    pub(super) fn pass(&mut self, piece: Option<&[u8]>, end: bool) -> Bytes {
        let key = self.key.as_bytes();
        self.waiting.extend_from_slice(piece.unwrap_or_default());
        let mut from = 0;
        while let Some(found) = memchr::memmem::find(&self.waiting[from..], key) {
            let at = from + found;
            self.waiting[at..at + key.len()].fill(b'*');
            from = at + key.len();
        }
        let kept = if end { 0 } else { begun(&self.waiting[from..], key) };
        let whole = self.waiting.len();
        self.waiting.split_to(whole - kept).freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_blotted_out_however_it_is_cut() {
        let body = b"{\"error\":\"bad key sk-sk-node, sk-node\"}";
        for cut in 0..body.len() {
            let mut mask = Mask::new("sk-node".into());
            let mut sent = mask.pass(Some(&body[..cut]), false).to_vec();
            sent.extend_from_slice(&mask.pass(Some(&body[cut..]), false));
            sent.extend_from_slice(&mask.pass(None, true));
            assert_eq!(sent, b"{\"error\":\"bad key sk-*******, *******\"}", "{cut}");
        }
    }
}
