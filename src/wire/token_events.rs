//! Which events of a stream bring tokens: by a mark that stands once in each, and in no text, where its quotes would be
//! escaped.

use std::sync::LazyLock;

use memchr::memmem::Finder;

use super::paths;

/// Of chats, and of audio.
static DELTA: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"delta\":{"));

/// Of completions.
static TEXT: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"text\":\""));

/// Of Anthropic's messages.
static BLOCK: LazyLock<Finder<'static>> =
    LazyLock::new(|| Finder::new(b"\"type\":\"content_block_delta\""));

/// Of responses: text, reasoning, arguments.
static RESPONSE: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b".delta\""));

/// Of anything else.
static ANY: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"data: "));

/// Looks at the pieces of one stream. A mark that is cut in two is not seen: nodes send whole events, and seldom does one lie
/// across two reads.
#[derive(Clone, Copy)]
pub struct TokenEvents {
    mark: &'static Finder<'static>,
    /// The first event with a mark says who speaks, and no more.
    opens: bool,
}

/// What a piece brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Brought {
    /// The first token is there.
    pub begins: bool,
    /// Events with tokens.
    pub tokens: u64,
}

impl TokenEvents {
    /// Of the answer to a request for `path`.
    pub fn of_path(path: &str) -> Self {
        let (mark, opens) = match path {
            // vLLM sends it with the first token, and the token in the next (`serving_chat.py`).
            paths::CHAT => (&*DELTA, true),
            "/v1/completions" => (&*TEXT, false),
            "/v1/messages" => (&*BLOCK, false),
            _ if paths::makes_response(path) => (&*RESPONSE, false),
            _ if path.starts_with("/v1/audio/") => (&*DELTA, false),
            _ => (&*ANY, false),
        };
        Self { mark, opens }
    }

    /// The next piece; `begun`: the first token was there before.
    pub fn look(&mut self, piece: &[u8], begun: bool) -> Brought {
        let marks = self.mark.find_iter(piece).count() as u64;
        let opening = u64::from(marks > 0 && std::mem::take(&mut self.opens));
        Brought { begins: !begun && marks > 0, tokens: marks - opening }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn looks(path: &str, pieces: &[&str]) -> Vec<(bool, u64)> {
        let (mut events, mut begun) = (TokenEvents::of_path(path), false);
        let look = |piece: &&str| {
            let Brought { begins, tokens } = events.look(piece.as_bytes(), begun);
            begun |= begins;
            (begins, tokens)
        };
        pieces.iter().map(look).collect()
    }

    #[test]
    fn a_chat_begins_with_who_speaks_and_each_delta_is_a_token() {
        let role =
            "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n";
        let word = "data: {\"choices\":[{\"delta\":{\"content\":\"\\\"delta\\\":{\"}}]}\n\n";
        let end = "data: {\"choices\":[],\"usage\":{}}\n\ndata: [DONE]\n\n";
        let both = format!("{role}{word}");
        assert_eq!(
            looks(paths::CHAT, &[": ping\n\n", role, word, word, end]),
            [(false, 0), (true, 0), (false, 1), (false, 1), (false, 0)]
        );
        assert_eq!(looks(paths::CHAT, &[&both, &both]), [(true, 1), (false, 2)]);
    }

    #[test]
    fn other_dialects_have_other_marks() {
        let created = "event: response.created\ndata: {\"type\":\"response.created\"}\n\n";
        let delta = "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\"}\n\n";
        assert_eq!(looks("/v1/responses", &[created, delta]), [(false, 0), (true, 1)]);
        let start = "event: message_start\ndata: {\"type\":\"message_start\"}\n\n";
        let block = "event: content_block_delta\ndata: {\"type\":\"content_block_delta\"}\n\n";
        assert_eq!(looks("/v1/messages", &[start, block]), [(false, 0), (true, 1)]);
        assert_eq!(looks("/v1/completions", &["data: {\"text\":\"a\"}\n\n"]), [(true, 1)]);
        assert_eq!(looks("/custom", &["data: 1\n\ndata: 2\n\n"]), [(true, 2)]);
    }
}
