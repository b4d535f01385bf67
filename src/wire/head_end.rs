//! Where a head of HTTP/1 ends, while it comes and without a copy of it, and whether a body in chunks follows.
//!
//! A head that [`super::raw_head::check`] lets pass ends where this says; of any other nothing is believed.

use memchr::memchr;

/// What a line begins with that says so, in small letters.
const ENCODING: &[u8] = b"transfer-encoding:";

/// A head, as far as it has come.
#[derive(Debug, Default)]
pub struct HeadEnd {
    at: At,
    lines: usize,
    names_encoding: bool,
}

/// Where in a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// After so many bytes, which are those of [`ENCODING`].
    Begin(usize),
    /// After a CR that the line began with.
    Return,
    Rest,
    /// Behind the head.
    Over,
}

impl Default for At {
    fn default() -> Self {
        Self::Begin(0)
    }
}

impl HeadEnd {
    /// Takes the next bytes; gives how many of them belong to the head, once it ends.
    pub fn push(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut place = 0;
        while let Some(byte) = bytes.get(place).filter(|_| self.at != At::Over) {
            place += 1;
            self.at = match self.at {
                At::Begin(0) if *byte == b'\r' => At::Return,
                // An empty line before a request is ignored (RFC 9112, 2.2).
                At::Return if *byte == b'\n' && self.lines == 0 => At::Begin(0),
                At::Return if *byte == b'\n' => At::Over,
                At::Begin(seen) if ENCODING[seen] == byte.to_ascii_lowercase() => {
                    self.named(seen + 1)
                }
                At::Begin(_) | At::Return | At::Rest => match memchr(b'\n', &bytes[place - 1..]) {
                    Some(end) => {
                        place += end;
                        self.lines += 1;
                        At::Begin(0)
                    }
                    None => {
                        place = bytes.len();
                        At::Rest
                    }
                },
                At::Over => At::Over,
            };
        }
        (self.at == At::Over).then_some(place)
    }

    fn named(&mut self, seen: usize) -> At {
        if seen < ENCODING.len() {
            return At::Begin(seen);
        }
        self.names_encoding = true;
        At::Rest
    }

    /// Lines that came, with the first.
    pub fn lines(&self) -> usize {
        self.lines
    }

    /// The whole head has come.
    pub fn is_over(&self) -> bool {
        self.at == At::Over
    }

    /// A line names an encoding of the body's transfer.
    pub fn names_encoding(&self) -> bool {
        self.names_encoding
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::raw_head;
    use super::*;

    /// Where the head ends, and whether it names an encoding.
    fn read(bytes: &[u8], piece_bytes: usize) -> (Option<usize>, bool) {
        let (mut head, mut before) = (HeadEnd::default(), 0);
        for piece in bytes.chunks(piece_bytes) {
            if let Some(end) = head.push(piece) {
                return (Some(before + end), head.names_encoding());
            }
            before += piece.len();
        }
        (None, head.names_encoding())
    }

    #[test]
    fn a_head_ends_with_its_empty_line_however_it_is_cut() {
        for (head, rest, named) in [
            ("GET / HTTP/1.1\r\nhost: h\r\n\r\n", "", false),
            ("GET / HTTP/1.1\r\nhost: h\r\n\r\n", "transfer-encoding: chunked\r\n\r\n", false),
            ("\r\n\r\nPOST / HTTP/1.1\r\nTransfer-ENCODING: chunked\r\n\r\n", "0\r\n\r\n", true),
            ("POST / HTTP/1.1\r\nx: y\r\ntransfer-encoding:chunked\r\na: b\r\n\r\n", "0", true),
            (
                "POST / HTTP/1.1\r\ntransfer-encodin: chunked\r\nt\r\ntr: x\r\n\r\n",
                "0\r\n\r\n",
                false,
            ),
            ("POST / HTTP/1.1\r\nx-transfer-encoding: chunked\r\n\r\n", "", false),
            ("POST / HTTP/1.1\r\nx: transfer-encoding: chunked\r\n\r\n", "", false),
        ] {
            let bytes = format!("{head}{rest}");
            for piece_bytes in 1..=bytes.len() {
                let told = read(bytes.as_bytes(), piece_bytes);
                assert_eq!(told, (Some(head.len()), named), "{bytes:?} by {piece_bytes}");
            }
        }
        let unended = b"GET / HTTP/1.1\r\nhost: h\r\n\r";
        assert_eq!(read(unended, 5), (None, false));
    }

    #[test]
    fn lines_are_counted_over_all_reads() {
        let mut head = HeadEnd::default();
        for piece in ["\r\nGET / HT", "TP/1.1\r", "\na: b\r\n", "c: d\r\n\r\n"] {
            head.push(piece.as_bytes());
        }
        assert_eq!((head.lines(), head.is_over()), (3, true));
    }

    proptest! {
        #[test]
        fn a_head_that_passes_ends_where_this_says(
            text in "(\r\n){0,2}POST / HTTP/1.1\r?\n(host: h\r\n|(T|t)ransfer-(E|e)ncoding: chunked\r\n|x: [a-z\r\n]{0,3}\r?\n|\r\n){0,5}",
            piece_bytes in 1_usize..20,
        ) {
            let passes = |end: &usize| raw_head::check(&text.as_bytes()[..*end]).is_ok();
            if let Some(end) = (0..=text.len()).find(passes) {
                let named = text[..end].to_lowercase().contains("\ntransfer-encoding:");
                prop_assert_eq!(read(text.as_bytes(), piece_bytes), (Some(end), named));
            }
        }
    }
}
