//! A body in chunks of HTTP/1.1, byte by byte as it comes: what a parser may be lax about, and two programs may read
//! differently, is no such body (RFC 9112, 7.1).

use super::raw_head::is_token;
use crate::refusal::Refusal;

/// Bytes of the line before a chunk: its size, its extensions and the line's end. What anybody sends there, a signature,
/// has under 100.
pub const LINE_BYTES_MAX: usize = 4 * 1024;

/// Bytes of all that follows the last chunk: trailers are read over, nobody is told them.
pub const TRAILERS_BYTES_MAX: usize = 8 * 1024;

/// Digits of a size: those of 64 bits.
const SIZE_DIGITS_MAX: u8 = 16;

/// Bytes of a chunk: more than any body may have (1 TiB), and nobody's count of a few such overflows.
const CHUNK_BYTES_MAX: u64 = 1 << 40;

/// What came is no body in chunks; where it ends nobody knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Broken;

impl From<Broken> for Refusal {
    fn from(_: Broken) -> Self {
        Self::malformed("invalid_framing", "The request body is not framed as HTTP says.")
    }
}

/// A body, as far as it has come.
#[derive(Debug, Default)]
pub struct Chunked {
    at: At,
    /// Of a chunk's size what was read, then how many bytes of the chunk are to come.
    left: u64,
    /// Bytes of the line, or of the trailers.
    around: usize,
    bytes: u64,
}

/// What came last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// So many digits of a size.
    Size(u8),
    Extension,
    /// The CR after a size or an extension.
    SizeReturn,
    /// A part of a chunk.
    Data,
    /// A whole chunk.
    DataEnd,
    DataReturn,
    /// The last chunk, or a whole trailer.
    Line,
    /// A part of a trailer's name.
    Name,
    Value,
    ValueReturn,
    /// The CR of the empty line.
    LastReturn,
    Over,
    Broken,
}

impl Default for At {
    fn default() -> Self {
        Self::Size(0)
    }
}

impl Chunked {
    /// Takes the next bytes; gives how many of them belong to the body. What follows its end is not looked at.
    ///
    /// # Errors
    /// They do not go on with a body. Nothing does from then on.
    pub fn push(&mut self, bytes: &[u8]) -> Result<usize, Broken> {
        let mut rest = bytes;
        while let [byte, after @ ..] = rest {
            match self.at {
                At::Over => break,
                At::Data => {
                    rest = self.take(rest);
                    continue;
                }
                _ => {}
            }
            self.at = self.step(*byte);
            rest = after;
            if self.at == At::Broken {
                return Err(Broken);
            }
        }
        Ok(bytes.len() - rest.len())
    }

    /// How many bytes the body has without what is around its chunks, once all of it has come.
    pub fn whole(&self) -> Option<u64> {
        (self.at == At::Over).then_some(self.bytes)
    }

    /// Takes what `bytes` have of the chunk; gives the others.
    fn take<'b>(&mut self, bytes: &'b [u8]) -> &'b [u8] {
        let wanted = usize::try_from(self.left).unwrap_or(usize::MAX);
        let (taken, rest) = bytes.split_at(wanted.min(bytes.len()));
        self.left -= taken.len() as u64;
        self.bytes += taken.len() as u64;
        if self.left == 0 {
            self.at = At::DataEnd;
        }
        rest
    }

    fn step(&mut self, byte: u8) -> At {
        let next = match (self.at, byte) {
            (At::Size(digits), _) if byte.is_ascii_hexdigit() => self.digit(digits, byte),
            (At::Size(1..), b';') | (At::Extension, b'\t' | b' '..=b'~') => At::Extension,
            (At::Size(1..) | At::Extension, b'\r') => At::SizeReturn,
            (At::SizeReturn, b'\n') if self.left == 0 => At::Line,
            (At::SizeReturn, b'\n') => At::Data,
            (At::DataEnd, b'\r') => At::DataReturn,
            (At::DataReturn, b'\n') => At::Size(0),
            (At::Line, b'\r') => At::LastReturn,
            (At::LastReturn, b'\n') => At::Over,
            (At::Line | At::Name, _) if is_token(&byte) => At::Name,
            (At::Name, b':') | (At::Value, b'\t' | b' '..=b'~' | 0x80..) => At::Value,
            (At::Value, b'\r') => At::ValueReturn,
            (At::ValueReturn, b'\n') => At::Line,
            _ => At::Broken,
        };
        let bound = match self.at {
            At::Size(_) | At::Extension | At::SizeReturn => LINE_BYTES_MAX,
            _ => TRAILERS_BYTES_MAX,
        };
        self.around += 1;
        if self.around > bound {
            return At::Broken;
        }
        if matches!(self.at, At::SizeReturn | At::DataReturn) {
            self.around = 0;
        }
        next
    }

    fn digit(&mut self, digits: u8, byte: u8) -> At {
        let value = char::from(byte).to_digit(16).map_or(0, u64::from);
        self.left = self.left << 4 | value;
        match digits < SIZE_DIGITS_MAX && self.left <= CHUNK_BYTES_MAX {
            true => At::Size(digits + 1),
            false => At::Broken,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// How many bytes belong to the body, and how many it has.
    fn read(bytes: &[u8], piece_bytes: usize) -> Result<(usize, Option<u64>), Broken> {
        let (mut body, mut taken) = (Chunked::default(), 0);
        for piece in bytes.chunks(piece_bytes.max(1)) {
            taken += body.push(piece)?;
        }
        Ok((taken, body.whole()))
    }

    fn whole(text: &str) -> Result<Option<u64>, Broken> {
        read(text.as_bytes(), usize::MAX).map(|(_, bytes)| bytes)
    }

    /// The grammar written down once more, for bytes that are all there: the body, and what follows it.
    fn reference(mut text: &[u8]) -> Option<(Vec<u8>, &[u8])> {
        fn line(text: &[u8]) -> Option<(&str, &[u8])> {
            let end = text.windows(2).position(|pair| pair == b"\r\n")?;
            Some((std::str::from_utf8(&text[..end]).ok()?, &text[end + 2..]))
        }
        let mut body = Vec::new();
        loop {
            let (size, rest) = line(text)?;
            let digits = size.split(';').next()?;
            let all_hex = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
            let visible = size.bytes().all(|byte| byte == b'\t' || (b' '..=b'~').contains(&byte));
            let size = u64::from_str_radix(digits, 16).ok().filter(|_| all_hex && visible)?;
            text = rest;
            if size == 0 {
                break;
            }
            let (data, rest) = text.split_at_checked(usize::try_from(size).ok()?)?;
            body.extend_from_slice(data);
            text = rest.strip_prefix(b"\r\n")?;
        }
        loop {
            let (trailer, rest) = line(text)?;
            text = rest;
            if trailer.is_empty() {
                return Some((body, text));
            }
            let (name, value) = trailer.split_once(':')?;
            let plain = |byte: u8| byte == b'\t' || byte >= b' ' && byte != 0x7f;
            (!name.is_empty() && name.bytes().all(|byte| is_token(&byte))).then_some(())?;
            value.bytes().all(plain).then_some(())?;
        }
    }

    #[test]
    fn chunks_are_counted_to_the_end_of_the_body() {
        assert_eq!(whole("0\r\n\r\n"), Ok(Some(0)));
        assert_eq!(whole("d\r\n{\"model\":\"m\"}\r\n0\r\n\r\n"), Ok(Some(13)));
        assert_eq!(whole("1\r\na\r\nA\r\n0123456789\r\n000\r\n\r\n"), Ok(Some(11)));
        assert_eq!(whole("0000000000000001\r\na\r\n0\r\n\r\n"), Ok(Some(1)));
        assert_eq!(whole("1;a=\"b\";c\t d\r\na\r\n0;e\r\n\r\n"), Ok(Some(1)));
        assert_eq!(whole("0\r\nx-a: b\r\nX-B:\r\nc: \u{e9}\r\n\r\n"), Ok(Some(0)));
        assert_eq!(whole("2\r\n\r\n\r\n0\r\n\r\n"), Ok(Some(2)), "what looks like an end is data");
        assert_eq!(read(b"1\r\na\r\n0\r\n\r\nGET /", 100), Ok((11, Some(1))));
    }

    #[test]
    fn a_body_that_is_cut_is_not_whole() {
        let body = "2;a\r\nab\r\n0\r\nx: y\r\n\r\n";
        for end in 0..body.len() {
            assert_eq!(whole(&body[..end]), Ok(None), "{:?}", &body[..end]);
        }
    }

    #[test]
    fn a_size_is_digits_and_nothing_else() {
        for line in [
            "",
            " 1",
            "\t1",
            "+1",
            "-1",
            "-0",
            "0x1",
            "1 ",
            "1\t",
            "1 ;a",
            "g",
            "1_",
            "1.0",
            "\"1\"",
            ";a",
            "\u{b}1",
            "1\0",
            "\x001",
            "\u{ff11}",
            "00000000000000001",
            "fffffffffffffffff",
            "8000000000000000",
            "10000000001",
        ] {
            assert_eq!(whole(&format!("{line}\r\na\r\n0\r\n\r\n")), Err(Broken), "{line:?}");
        }
    }

    #[test]
    fn a_line_ends_with_both_its_bytes() {
        for body in [
            "1\na\r\n0\r\n\r\n",
            "1\ra\r\n0\r\n\r\n",
            "1\r\r\na\r\n0\r\n\r\n",
            "1;a\nb\r\na\r\n0\r\n\r\n",
            "1;a\rb\r\na\r\n0\r\n\r\n",
            "1;a\0\r\na\r\n0\r\n\r\n",
            "1;\u{e9}\r\na\r\n0\r\n\r\n",
            "1;\u{7f}\r\na\r\n0\r\n\r\n",
            "1\r\na\n0\r\n\r\n",
            "1\r\na\r0\r\n\r\n",
            "1\r\na0\r\n\r\n",
            "1\r\naxx0\r\n\r\n",
            "1\r\nab\r\n0\r\n\r\n",
            "0\n\n",
            "0\n\r\n",
            "0\r\n\n",
            "0\r\n\r\r\n",
        ] {
            assert_eq!(whole(body), Err(Broken), "{body:?}");
        }
    }

    #[test]
    fn a_trailer_is_a_name_and_a_value() {
        for line in [
            "nonsense",
            "GET / HTTP/1.1",
            ": b",
            " a: b",
            "a : b",
            "a: b\r\n c",
            "a: b\0",
            "a: b\n",
            "a: b\rc",
            "\ta: b",
            "a: \u{7f}",
        ] {
            assert_eq!(whole(&format!("0\r\n{line}\r\n\r\n")), Err(Broken), "{line:?}");
        }
    }

    #[test]
    fn what_is_around_the_chunks_is_bounded() {
        let line = |bytes: usize| format!("1;{}\r\na\r\n0\r\n\r\n", "a".repeat(bytes - 4));
        assert_eq!(whole(&line(LINE_BYTES_MAX)), Ok(Some(1)));
        assert_eq!(whole(&line(LINE_BYTES_MAX + 1)), Err(Broken));
        let trailers = |bytes: usize| format!("0\r\na:{}\r\nb:c\r\n\r\n", "a".repeat(bytes - 11));
        assert_eq!(whole(&trailers(TRAILERS_BYTES_MAX)), Ok(Some(0)));
        assert_eq!(whole(&trailers(TRAILERS_BYTES_MAX + 1)), Err(Broken));
        let lines = "1000;aaaa\r\n".to_owned() + &"a".repeat(0x1000) + "\r\n";
        assert_eq!(whole(&(lines.repeat(9) + "0\r\n\r\n")), Ok(Some(9 * 0x1000)), "each line anew");
    }

    #[test]
    fn nothing_mends_a_broken_body() {
        let mut body = Chunked::default();
        assert_eq!(body.push(b" "), Err(Broken));
        assert_eq!(body.push(b"0\r\n\r\n"), Err(Broken));
        assert_eq!(body.whole(), None);
    }

    /// Bytes that are a body in chunks, or nearly.
    fn some() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            Just("1\r\na\r\n".to_owned()),
            "[0-9a-f]{1,2}(;[a-z\t =]{0,3})?\r\n",
            "[a-z\r\n]{1,3}\r\n",
            Just("0\r\n\r\n".to_owned()),
            Just("0\r\n".to_owned()),
            "[a-z:]{1,3}: [a-z]{0,2}\r\n",
            Just("\r\n".to_owned()),
            "[\r\n\t ;:0a\u{0}\u{e9}]{1,2}",
        ];
        proptest::collection::vec(piece, 0..6).prop_map(|pieces| pieces.concat().into_bytes())
    }

    proptest! {
        #[test]
        fn a_verdict_does_not_hang_on_how_the_bytes_are_cut(bytes in some(), piece_bytes in 1_usize..7) {
            prop_assert_eq!(read(&bytes, piece_bytes), read(&bytes, usize::MAX));
        }

        #[test]
        fn what_passes_is_what_the_grammar_says(bytes in some()) {
            let ours = match read(&bytes, usize::MAX) {
                Ok((taken, Some(length))) => Some((taken, length)),
                _ => None,
            };
            let told = reference(&bytes).map(|(body, rest)| (bytes.len() - rest.len(), body.len() as u64));
            prop_assert_eq!(ours, told);
        }

        #[test]
        fn what_is_sent_in_chunks_passes(parts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..40), 0..5)) {
            let mut bytes = Vec::new();
            for part in &parts {
                bytes.extend_from_slice(format!("{:x}\r\n", part.len()).as_bytes());
                bytes.extend_from_slice(part);
                bytes.extend_from_slice(b"\r\n");
            }
            bytes.extend_from_slice(b"0\r\n\r\n");
            prop_assert_eq!(read(&bytes, 3), Ok((bytes.len(), Some(parts.concat().len() as u64))));
            prop_assert_eq!(reference(&bytes), Some((parts.concat(), &[][..])));
        }
    }
}
