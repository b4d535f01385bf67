//! Event streams: whether the bytes sent so far end between two events, however they were cut.

/// The last bytes of a stream.
#[derive(Debug, Default, Clone, Copy)]
pub struct Tail {
    last: [u8; 4],
    begun: bool,
}

impl Tail {
    /// Takes note of `chunk`, which was sent.
    pub fn push(&mut self, chunk: &[u8]) {
        let taken = chunk.len().min(4);
        self.last.rotate_left(taken);
        self.last[4 - taken..].copy_from_slice(&chunk[chunk.len() - taken..]);
        self.begun |= taken > 0;
    }

    /// True where another event may begin: at the start, or after a blank line (WHATWG HTML, "Server-sent events").
    pub fn between_events(&self) -> bool {
        !self.begun || self.last.ends_with(b"\n\n") || self.last == *b"\r\n\r\n"
    }

    /// Something was sent.
    pub fn begun(&self) -> bool {
        self.begun
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_ends_with_a_blank_line_however_it_is_cut() {
        for stream in [&b"data: 1\n\n"[..], b"data: 1\r\n\r\n"] {
            for cut in 0..stream.len() {
                let mut tail = Tail::default();
                assert!(tail.between_events());
                tail.push(&stream[..cut]);
                assert_eq!(tail.between_events(), cut == 0, "{cut}");
                tail.push(&stream[cut..]);
                assert!(tail.between_events());
            }
        }
    }
}
