//! Why an answer has ended, in its own words: looked for in an answer of JSON, or of events, that comes in whatever pieces.

use std::sync::LazyLock;

use memchr::memchr;
use memchr::memmem::Finder;
use smallvec::SmallVec;

use super::overlap::begun;

/// Longest reason, in bytes. The longest of vLLM, OpenAI and Anthropic has 14: `content_filter`.
const REASON_BYTES_MAX: usize = 32;

/// The names of the fields, with the colon behind. Inside of a text their quotes would be escaped.
const FINISH_REASON: &[u8] = b"\"finish_reason\":";
const STOP_REASON: &[u8] = b"\"stop_reason\":";
const STATUS: &[u8] = b"\"status\":";

/// The longest of the names, in bytes.
const NAME_BYTES_MAX: usize = FINISH_REASON.len();

static FIND_FINISH_REASON: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(FINISH_REASON));
static FIND_STOP_REASON: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(STOP_REASON));
static FIND_STATUS: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(STATUS));

/// A reason: at most 32 small letters and underscores.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason(SmallVec<[u8; REASON_BYTES_MAX]>);

impl Reason {
    /// `stop`, `length`, `tool_calls`, `end_turn`, `completed` and the like.
    pub fn as_str(&self) -> &str {
        // Small letters and underscores are UTF-8.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    fn of(text: &[u8]) -> Option<Self> {
        let plain = text.iter().all(|byte| byte.is_ascii_lowercase() || *byte == b'_');
        (plain && text.len() <= REASON_BYTES_MAX).then(|| Self(SmallVec::from_slice(text)))
    }
}

/// The search in one answer. The last reason counts: that of the last choice, of the whole message.
#[derive(Debug, Clone)]
pub struct Finish {
    finder: &'static Finder<'static>,
    place: Place,
    /// The begin of that text: more than [`REASON_BYTES_MAX`] where it is too long, and no more than has room.
    text: SmallVec<[u8; 2 * REASON_BYTES_MAX]>,
    found: Option<Reason>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// So many bytes of the name stand at the end of what came.
    Name(usize),
    /// The name was there: the value comes.
    Value,
    /// In a value that is a text.
    Text,
}

impl Finish {
    /// For the answer to a POST on `path`, where it tells why it ended.
    pub fn of_path(path: &str) -> Option<Self> {
        let finder = match path {
            "/v1/chat/completions" | "/v1/completions" => &*FIND_FINISH_REASON,
            "/v1/messages" => &*FIND_STOP_REASON,
            "/v1/responses" => &*FIND_STATUS,
            _ => return None,
        };
        Some(Self { finder, place: Place::Name(0), text: SmallVec::new(), found: None })
    }

    /// The reason, once it is whole.
    pub fn reason(&self) -> Option<Reason> {
        self.found.clone()
    }

    /// What comes does not go on from what came.
    pub fn begin_anew(&mut self) {
        self.place = Place::Name(0);
    }

    /// The next piece. True where a reason that is neither null nor empty begins in it.
    pub fn push(&mut self, mut piece: &[u8]) -> bool {
        let mut begins = false;
        while let Some((&byte, rest)) = piece.split_first() {
            piece = match self.place {
                Place::Name(0) => self.find(piece),
                Place::Name(matched) => {
                    self.matched(self.after(matched, byte));
                    rest
                }
                Place::Value => {
                    match byte {
                        b'"' => {
                            self.text.clear();
                            self.place = Place::Text;
                        }
                        _ if byte.is_ascii_whitespace() => {}
                        _ => {
                            begins |= byte != b'n';
                            self.place = Place::Name(0);
                        }
                    }
                    rest
                }
                Place::Text => {
                    begins |= byte != b'"';
                    self.read(piece)
                }
            };
        }
        begins
    }

    /// Looks for the name; what is left of `piece` behind it.
    fn find<'p>(&mut self, piece: &'p [u8]) -> &'p [u8] {
        let name = self.finder.needle();
        if let Some(at) = self.finder.find(piece) {
            self.place = Place::Value;
            return piece.get(at + name.len()..).unwrap_or_default();
        }
        self.matched(begun(piece, name));
        &[]
    }

    fn matched(&mut self, length: usize) {
        let whole = length == self.finder.needle().len();
        self.place = if whole { Place::Value } else { Place::Name(length) };
    }

    /// How much of the name is matched after one byte more.
    fn after(&self, matched: usize, byte: u8) -> usize {
        let name = self.finder.needle();
        let mut seen = [byte; NAME_BYTES_MAX];
        seen[..matched].copy_from_slice(&name[..matched]);
        let seen = &seen[..=matched];
        if seen == name { name.len() } else { begun(seen, name) }
    }

    /// Reads on in the text; what is left of `piece` behind it.
    fn read<'p>(&mut self, piece: &'p [u8]) -> &'p [u8] {
        let end = memchr(b'"', piece);
        let part = &piece[..end.unwrap_or(piece.len())];
        let room = 2 * REASON_BYTES_MAX - self.text.len();
        self.text.extend_from_slice(&part[..part.len().min(room)]);
        let Some(end) = end else { return &[] };
        if !self.text.is_empty() {
            self.found = Reason::of(&self.text);
        }
        self.place = Place::Name(0);
        &piece[end + 1..]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CHAT: &str = "/v1/chat/completions";

    fn by(path: &str, text: &str, piece_bytes: usize) -> (bool, Option<String>) {
        let mut finish = Finish::of_path(path).unwrap();
        let pieces = text.as_bytes().chunks(piece_bytes);
        let begins = pieces.fold(false, |begins, piece| finish.push(piece) | begins);
        (begins, finish.reason().map(|reason| reason.as_str().to_owned()))
    }

    #[test]
    fn the_last_reason_is_found_however_the_answer_is_cut() {
        for (path, text, reason) in [
            (
                CHAT,
                r#"{"choices":[{"index":0,"finish_reason":"stop","stop_reason":"x"}]}"#,
                Some("stop"),
            ),
            (
                CHAT,
                r#"[{"finish_reason":"length"},{"finish_reason" : "x","finish_reason": "tool_calls"}]"#,
                Some("tool_calls"),
            ),
            (
                CHAT,
                r#"{"finish_reason":"stop"}{"finish_reason":null}{"finish_reason":""}"#,
                Some("stop"),
            ),
            (CHAT, r#"{"content":"\"finish_reason\":\"stop\""}"#, None),
            (CHAT, r#"{"finish_reason":null,"finish_reason":"","finish_reason":"st"#, None),
            (CHAT, r#""finish_""finish_reason":"end""#, Some("end")),
            ("/v1/completions", r#"{"finish_reason":"length"}"#, Some("length")),
            (
                "/v1/messages",
                r#"{"stop_reason":null}{"delta":{"stop_reason":"end_turn"}}"#,
                Some("end_turn"),
            ),
            (
                "/v1/responses",
                r#"{"output":[{"status":"in_progress"}],"status":"completed"}"#,
                Some("completed"),
            ),
        ] {
            for piece_bytes in 1..=text.len() {
                assert_eq!(
                    by(path, text, piece_bytes).1.as_deref(),
                    reason,
                    "{text} by {piece_bytes}"
                );
            }
        }
    }

    #[test]
    fn what_is_no_plain_word_is_not_told() {
        let long = "a".repeat(REASON_BYTES_MAX + 1);
        for text in ["Stop", "a b", "\\u0061", "стоп", long.as_str()] {
            let told = by(CHAT, &format!(r#"{{"finish_reason":"{text}"}}"#), 3);
            assert_eq!(told, (true, None), "{text}");
        }
        assert_eq!(by(CHAT, r#"{"finish_reason":7}"#, 3), (true, None));
        let longest = "a".repeat(REASON_BYTES_MAX);
        assert_eq!(by(CHAT, &format!(r#""finish_reason":"{longest}""#), 3).1, Some(longest));
    }

    #[test]
    fn other_answers_tell_no_reason() {
        for path in ["/v1/embeddings", "/v1/messages/count_tokens", "/v1/models"] {
            assert!(Finish::of_path(path).is_none(), "{path}");
        }
    }

    proptest! {
        #[test]
        fn any_cutting_finds_the_same(
            text in "(\"finish_reason\":|\"finish|_reason|\"|:|null|stop|[ -~]| ){0,16}",
            piece_bytes in 1..9_usize)
        {
            prop_assert_eq!(by(CHAT, &text, piece_bytes), by(CHAT, &text, text.len().max(1)));
        }
    }
}
