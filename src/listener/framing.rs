//! Where a body in chunks stands among the bytes of a connection of HTTP/1, and whether it is one, told before Pingora reads it.

use super::link::Link;
use crate::wire::chunked::Chunked;
use crate::wire::head_end::HeadEnd;

/// A request, as far as it has come.
#[derive(Default)]
pub(super) struct Framing {
    head: HeadEnd,
    body: Option<Chunked>,
}

impl Framing {
    /// Looks at the next bytes, and tells `link` of chunks.
    pub(super) fn push(&mut self, mut bytes: &[u8], link: &Link) {
        if !self.head.is_over() {
            let Some(end) = self.head.push(bytes) else { return };
            bytes = &bytes[end..];
            self.body = self.head.names_encoding().then(Chunked::default);
        }
        let Some(body) = &mut self.body else { return };
        if body.push(bytes).is_err() {
            link.chunks_broke();
        } else if let Some(length) = body.whole() {
            link.chunks_came(length);
        }
    }

    /// Lines of the head that came.
    pub(super) fn lines(&self) -> usize {
        self.head.lines()
    }

    /// What follows the head must be chunks.
    pub(super) fn is_chunked(&self) -> bool {
        self.body.is_some()
    }
}
