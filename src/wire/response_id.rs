//! The id of a response that a node makes, read from the head of its answer while that passes by in arbitrary pieces.

use memchr::memchr2;

use super::field::{FieldSearch, Look};

/// Longest id that is kept, in bytes. One that vLLM makes of a request's id has up to 142, one that another gateway wraps
/// around a provider's about 300.
pub const ID_BYTES_MAX: usize = 512;

/// How much of an answer is looked at, in bytes. vLLM and OpenAI write the id first; a server may write the instructions
/// before it.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// Where the id stands in an answer that is one object.
const IN_OBJECT: &[&str] = &["id"];

/// Where it stands in the first event of a stream, `response.created`.
const IN_EVENT: &[&str] = &["response", "id"];

/// What begins a line of an event's data.
const DATA: &[u8] = b"data:";

/// A search through one answer.
pub struct IdSearch {
    bytes_left: usize,
    /// None: the answer is one object.
    line: Option<Line>,
    id: FieldSearch,
}

/// Where in a line of an event stream the search stands (WHATWG HTML, "Server-sent events").
#[derive(Clone, Copy)]
enum Line {
    /// At its begin, after so many bytes of [`DATA`]. `after_cr`: a line feed would belong to the line before.
    Begin {
        matched: usize,
        after_cr: bool,
    },
    /// After `data:`, where one space is no data.
    Space,
    Data,
    /// In a comment, or another field.
    Other,
}

impl IdSearch {
    /// In an answer that is one object: its `id`.
    pub fn in_object() -> Self {
        Self {
            bytes_left: HEAD_BYTES_MAX,
            line: None,
            id: FieldSearch::new(IN_OBJECT, ID_BYTES_MAX),
        }
    }

    /// In an event stream: the `id` of the `response` of the first event that has one.
    pub fn in_events() -> Self {
        let line = Line::Begin { matched: 0, after_cr: false };
        Self {
            bytes_left: HEAD_BYTES_MAX,
            line: Some(line),
            id: FieldSearch::new(IN_EVENT, ID_BYTES_MAX),
        }
    }

    /// Looks at the next piece. Nothing is to be pushed after another answer than [`Look::On`].
    pub fn push(&mut self, piece: &[u8]) -> Look {
        let piece = &piece[..piece.len().min(self.bytes_left)];
        self.bytes_left -= piece.len();
        let look = match self.line {
            None => self.id.push(piece),
            Some(line) => self.read_lines(line, piece),
        };
        if look == Look::On && self.bytes_left == 0 { Look::Over } else { look }
    }

    fn read_lines(&mut self, mut line: Line, mut piece: &[u8]) -> Look {
        while let Some(&byte) = piece.first() {
            let (taken, next) = match line {
                Line::Begin { after_cr: true, .. } if byte == b'\n' => {
                    (1, Line::Begin { matched: 0, after_cr: false })
                }
                Line::Begin { matched, .. } if DATA.get(matched) == Some(&byte) => {
                    match matched + 1 {
                        all if all == DATA.len() => (1, Line::Space),
                        matched => (1, Line::Begin { matched, after_cr: false }),
                    }
                }
                Line::Begin { matched: 0, .. } if is_line_end(byte) => {
                    // A blank line ends the event.
                    self.id = FieldSearch::new(IN_EVENT, ID_BYTES_MAX);
                    (1, after(byte))
                }
                Line::Begin { .. } => (0, Line::Other),
                Line::Space => (usize::from(byte == b' '), Line::Data),
                Line::Data | Line::Other => {
                    let end = memchr2(b'\r', b'\n', piece).unwrap_or(piece.len());
                    if matches!(line, Line::Data)
                        && let found @ Look::Found(_) = self.id.push(&piece[..end])
                    {
                        return found;
                    }
                    piece.get(end).map_or((end, line), |byte| (end + 1, after(*byte)))
                }
            };
            (piece, line) = (&piece[taken..], next);
        }
        self.line = Some(line);
        Look::On
    }
}

fn is_line_end(byte: u8) -> bool {
    byte == b'\n' || byte == b'\r'
}

/// The begin of the line after one that ended with `end`.
fn after(end: u8) -> Line {
    Line::Begin { matched: 0, after_cr: end == b'\r' }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As vLLM 0.32 begins its stream.
    const CREATED: &str = concat!(
        "event: response.created\ndata: {\"response\":{\"id\":\"resp_965e7a33e24ca85c\",\"created_at\":1795201552,",
        "\"object\":\"response\",\"output\":[]},\"sequence_number\":0,\"type\":\"response.created\"}\n\n",
    );

    /// What comes of `answer`, cut into pieces of so many bytes.
    fn found(mut search: IdSearch, answer: &str, piece_bytes: usize) -> Look {
        let pieces = answer.as_bytes().chunks(piece_bytes);
        pieces.map(|piece| search.push(piece)).find(|look| *look != Look::On).unwrap_or(Look::On)
    }

    fn in_events(stream: &str, piece_bytes: usize) -> Look {
        found(IdSearch::in_events(), stream, piece_bytes)
    }

    #[test]
    fn the_id_is_known_when_its_last_quote_has_come() {
        let object =
            r#"{"id":"resp_8121d761e6de5eeb","created_at":1795201552,"output":[{"id":"msg_1"}]}"#;
        for piece_bytes in 1..=CREATED.len() {
            let look = found(IdSearch::in_object(), object, piece_bytes);
            assert_eq!(look, Look::Found("resp_8121d761e6de5eeb".into()));
            let look = in_events(CREATED, piece_bytes);
            assert_eq!(look, Look::Found("resp_965e7a33e24ca85c".into()));
        }
        let quote = CREATED.find("85c").unwrap() + 3;
        let mut search = IdSearch::in_events();
        assert_eq!(search.push(&CREATED.as_bytes()[..quote]), Look::On);
        assert_ne!(search.push(b"\""), Look::On);
    }

    #[test]
    fn lines_and_events_are_what_the_standard_says() {
        for stream in [
            "data:{\"response\":{\"id\":\"x\"}}\n\n",
            ": keep-alive\r\n\r\ndata: {\"response\":\r\ndata: {\"id\":\"x\"}}\r\n\r\n",
            "data\ndat: 1\r\rdata: [DONE]\r\rdata: {\"type\":\"ping\"}\r\rdata: {\"response\":{\"id\":\"x\"}}\r\r",
            "id: data: {\ndata: \n\ndata: {\"response\":{}}\n\ndata: {\"response\":{\"id\":\"x\"}}\n\n",
        ] {
            for piece_bytes in 1..=stream.len() {
                assert_eq!(in_events(stream, piece_bytes), Look::Found("x".into()), "{stream:?}");
            }
        }
        for stream in [
            "data: {\"id\":\"x\"}\n\n",
            "{\"response\":{\"id\":\"x\"}}",
            "data: {\"response\":\n\ndata: {\"id\":\"x\"}}\n",
        ] {
            assert_eq!(in_events(stream, 1), Look::On, "{stream:?}");
        }
    }

    #[test]
    fn only_the_head_of_an_answer_is_looked_at() {
        let object =
            |before: usize, id: &str| format!(r#"{{"x":"{}","id":"{id}"}}"#, " ".repeat(before));
        let last = HEAD_BYTES_MAX - r#"{"x":"","id":"y"}"#.len();
        for piece_bytes in [1_000, HEAD_BYTES_MAX + 10] {
            let found = |answer: &str| found(IdSearch::in_object(), answer, piece_bytes);
            assert_eq!(found(&object(last, "y")), Look::Found("y".into()));
            assert_eq!(found(&object(last + 3, "y")), Look::Over);
            let longest = "y".repeat(ID_BYTES_MAX);
            assert_eq!(found(&object(0, &longest)), Look::Found(longest.clone()));
            assert_eq!(found(&object(0, &(longest + "y"))), Look::Over);
        }
    }

    proptest! {
        #[test]
        fn no_stream_makes_it_panic_or_find_what_is_not_there(
            stream in "(data: ?|event:|\\{|\"response\":|\"id\":|\"x\"|\\}|\r|\n|,|[ -~]){0,24}",
            piece_bytes in 1..9_usize)
        {
            let whole = in_events(&stream, stream.len().max(1));
            prop_assert_eq!(&in_events(&stream, piece_bytes), &whole);
            if let Look::Found(id) = whole {
                let quoted = format!("\"{id}\"");
                prop_assert!(stream.contains(&quoted));
            }
        }
    }
}
