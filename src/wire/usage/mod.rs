//! What an answer says of its tokens, in whatever pieces it comes: of JSON, or of events.

pub mod ask;
pub mod chunks;
pub mod spent;

use std::sync::LazyLock;

use memchr::memmem::Finder;
use serde::Deserialize;
use smallvec::SmallVec;

use super::overlap::begun;

/// Bytes of JSON to a token of a prompt, where nobody has counted: a little under what English text has.
const TOKEN_BYTES: u64 = 4;

/// So many bytes of base64 without a gap are no text: an image, or sound.
const ATTACHED_BYTES: usize = 1_024;

/// Where such a block is looked at, and how far: no word is so long. To look at all of it would cost as much again as to read
/// the body.
const SAMPLES: [usize; 3] = [0, 480, 960];
const SAMPLE_BYTES: usize = 64;

/// Tokens of one of them: models make some hundred to some thousand of an image, whatever its bytes.
const ATTACHMENT_TOKENS: u64 = 1_024;

/// Longest usage that is kept while it is not whole, in bytes. vLLM's is about 200.
const CUT_BYTES_MAX: usize = 4 * 1024;

/// Choices of a stream that are counted apart: what OpenAI allows.
const CHOICES_MAX: usize = 128;

/// In a text the quotes would have a `\` before them.
const NAME: &[u8] = b"\"usage\"";

/// Made once: to make one costs more than to look through an event.
static FIND_NAME: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(NAME));

/// What every event of a chat or completion begins with.
static FIND_EVENT: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"data: {"));

/// The usage of one request, as far as it is about the prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PromptUsage {
    /// Tokens of the prompt.
    pub prompt: u64,
    /// Of those, found in the cache; none where the node does not say (vLLM without `--enable-prompt-tokens-details`).
    pub cached: Option<u64>,
}

/// The usage of one request, as far as it was told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    prompt: Option<u64>,
    cached: Option<u64>,
    answer: Option<u64>,
}

impl Usage {
    /// What it says of the prompt.
    pub fn of_prompt(&self) -> Option<PromptUsage> {
        self.prompt.map(|prompt| PromptUsage { prompt, cached: self.cached })
    }

    /// Tokens of prompt and answer; none where nothing was told of the prompt.
    pub fn total(&self) -> Option<u64> {
        self.prompt.map(|prompt| prompt.saturating_add(self.answer.unwrap_or(0)))
    }

    /// What is told later counts: Anthropic's streams begin with the prompt's tokens, and end with the answer's.
    fn add(&mut self, later: Self) {
        self.prompt = later.prompt.or(self.prompt);
        self.cached = later.cached.or(self.cached);
        self.answer = later.answer.or(self.answer);
    }
}

/// How many tokens a part of a prompt may be, as it stands in a JSON body.
pub fn estimated(part: &[u8]) -> u64 {
    let (mut attached, mut attachments, mut before) = (0, 0, false);
    for block in part.chunks_exact(ATTACHED_BYTES) {
        let looks = SAMPLES.map(|at| block.get(at..at + SAMPLE_BYTES));
        let is_attached = looks.iter().flatten().all(|sample| sample.iter().all(is_base64));
        attached += if is_attached { block.len() } else { 0 };
        attachments += u64::from(is_attached && !before);
        before = is_attached;
    }
    let text = u64::try_from(part.len() - attached).unwrap_or(u64::MAX);
    text / TOKEN_BYTES + attachments * ATTACHMENT_TOKENS
}

fn is_base64(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'-' | b'_' | b'=')
}

/// As chats and completions have it; and as responses and messages do.
#[derive(Deserialize)]
struct Written {
    prompt_tokens: Option<u64>,
    completion_tokens: Option<u64>,
    prompt_tokens_details: Option<Details>,
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    input_tokens_details: Option<Details>,
}

#[derive(Deserialize)]
struct Details {
    cached_tokens: Option<u64>,
}

impl From<Written> for Usage {
    fn from(written: Written) -> Self {
        let details = written.prompt_tokens_details.or(written.input_tokens_details);
        Self {
            prompt: written.prompt_tokens.or(written.input_tokens),
            cached: details.and_then(|details| details.cached_tokens),
            answer: written.completion_tokens.or(written.output_tokens),
        }
    }
}

/// Watches one answer: piece by piece, or as [`chunks::Chunks`] tells of it.
#[derive(Debug, Default)]
pub struct Tally {
    usage: Usage,
    /// Events that may hold a token.
    events: u64,
    /// Of those, after the last that told of usage.
    events_since: u64,
    /// The begin of a usage, or of its name, whose rest has not come.
    cut: Vec<u8>,
    /// What a chunk told last, as it stands there: read when somebody wants to know.
    last: Vec<u8>,
    /// The choice which that is about; none where it is about all.
    choice: Option<usize>,
    /// Tokens of the other choices: vLLM's chunks each tell of their own.
    others: SmallVec<[u64; 1]>,
}

impl Tally {
    /// The next piece.
    pub fn push(&mut self, piece: &[u8]) {
        let events = count(piece);
        self.events += events;
        let behind = if self.cut.is_empty() {
            self.read(piece)
        } else {
            let mut both = std::mem::take(&mut self.cut);
            both.extend_from_slice(piece);
            self.read(&both)
        };
        self.events_since = match behind {
            Some(length) => count(&piece[piece.len().saturating_sub(length)..]),
            None => self.events_since + events,
        };
    }

    /// A chunk came.
    fn event(&mut self) {
        self.events += 1;
        self.events_since += 1;
    }

    /// The chunk that came has this usage, of one choice, or of all.
    fn told(&mut self, choice: Option<usize>, usage: &[u8]) {
        if self.choice != choice {
            if let Some(before) = self.choice.filter(|before| *before < CHOICES_MAX) {
                self.others.resize(self.others.len().max(before + 1), 0);
                let answer = self.last_told().answer.unwrap_or(0);
                if let Some(other) = self.others.get_mut(before) {
                    *other = answer;
                }
            }
            if let Some(own) = choice.and_then(|now| self.others.get_mut(now)) {
                *own = 0;
            }
            self.choice = choice;
        }
        self.events_since = 0;
        self.last.clear();
        self.last.extend_from_slice(usage);
    }

    fn last_told(&self) -> Usage {
        serde_json::from_slice::<Written>(&self.last).map(Usage::from).unwrap_or_default()
    }

    /// What was told so far.
    pub fn usage(&self) -> Usage {
        if self.last.is_empty() {
            return self.usage;
        }
        let mut usage = self.last_told();
        if self.choice.is_some() {
            let others: u64 = self.others.iter().sum();
            usage.answer = usage.answer.map(|answer| answer.saturating_add(others));
        }
        usage
    }

    /// Events that came: in vLLM's streams each but the first has a token, or some.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// Bytes that are left behind the last usage that was found, if one was.
    fn read(&mut self, mut bytes: &[u8]) -> Option<usize> {
        let mut rest = None;
        while let Some(at) = FIND_NAME.find(bytes) {
            let whole = &bytes[at..];
            bytes = &whole[NAME.len()..];
            match written(bytes) {
                Found::Usage(usage) => {
                    self.usage.add(usage);
                    rest = Some(bytes.len());
                }
                Found::Nothing => {}
                Found::Cut if whole.len() > CUT_BYTES_MAX => {}
                Found::Cut => {
                    self.cut.extend_from_slice(whole);
                    return rest;
                }
            }
        }
        self.cut.extend_from_slice(&NAME[..begun(bytes, NAME)]);
        rest
    }
}

fn count(piece: &[u8]) -> u64 {
    FIND_EVENT.find_iter(piece).count() as u64
}

/// What stands behind the name.
enum Found {
    Usage(Usage),
    Nothing,
    /// Not all of it.
    Cut,
}

fn written(behind: &[u8]) -> Found {
    let value = behind.trim_ascii_start();
    if value.is_empty() {
        return Found::Cut;
    }
    let Some(value) = value.strip_prefix(b":") else { return Found::Nothing };
    let mut values = serde_json::Deserializer::from_slice(value).into_iter::<Option<Written>>();
    match values.next() {
        Some(Ok(Some(written))) => Found::Usage(written.into()),
        Some(Err(error)) if error.is_eof() => Found::Cut,
        None => Found::Cut,
        Some(Ok(None) | Err(_)) => Found::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(pieces: &[&[u8]]) -> Usage {
        let mut tally = Tally::default();
        pieces.iter().for_each(|piece| tally.push(piece));
        tally.usage()
    }

    fn told(text: &str) -> (Option<u64>, Option<u64>, Option<u64>) {
        let Usage { prompt, cached, answer } = of(&[text.as_bytes()]);
        (prompt, cached, answer)
    }

    const CHAT: &str = r#"{"choices":[{"message":{"content":"\"usage\":{\"prompt_tokens\":9}"}}],"usage":{"prompt_tokens":7,"total_tokens":8,"completion_tokens":1,"prompt_tokens_details":{"cached_tokens":4}},"prompt_logprobs":null}"#;
    const EVENTS: &str = "data: {\"choices\":[{\"delta\":{\"content\":\"w\"}}],\"usage\":null}\n\ndata: {\"choices\":[],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":3,\"prompt_tokens_details\":null}}\n\ndata: [DONE]\n\n";
    const MESSAGE: &str = "event: message_start\ndata: {\"message\":{\"usage\":{\"input_tokens\":7,\"output_tokens\":0}}}\n\nevent: message_delta\ndata: {\"usage\":{\"output_tokens\":5}}\n\n";

    #[test]
    fn it_is_found_in_every_form() {
        assert_eq!(told(CHAT), (Some(7), Some(4), Some(1)));
        assert_eq!(told(EVENTS), (Some(7), None, Some(3)));
        let response = "{\"usage\" : { \"input_tokens\": 5, \"output_tokens\": 2, \"input_tokens_details\": {\"cached_tokens\": 0}}}";
        assert_eq!(told(response), (Some(5), Some(0), Some(2)));
        assert_eq!(told(MESSAGE), (Some(7), None, Some(5)));
    }

    #[test]
    fn it_is_found_however_it_is_cut() {
        for text in [CHAT, EVENTS, MESSAGE] {
            let whole = of(&[text.as_bytes()]);
            for cut in 0..text.len() {
                let (before, after) = text.as_bytes().split_at(cut);
                assert_eq!(of(&[before, after]), whole, "{cut}");
            }
            let bytes: Vec<&[u8]> = text.as_bytes().chunks(1).collect();
            assert_eq!(of(&bytes), whole);
        }
    }

    #[test]
    fn a_prompt_is_a_fourth_of_its_bytes_but_for_what_is_attached() {
        let text = "some words ".repeat(1_000);
        assert_eq!(estimated(text.as_bytes()), 2_750);
        let image =
            format!(r#"{{"url":"data:image/png;base64,{}"}}"#, "iVBORw0KGgo/".repeat(100_000));
        let both = [text.as_str(), &image, &text, &image].concat();
        let tokens = estimated(both.as_bytes());
        assert!((2 * 2_750 + 2 * 1_024..2 * 2_750 + 4_096).contains(&tokens), "{tokens}");
        assert_eq!(estimated(b""), 0);
    }

    #[test]
    fn events_are_counted_while_nothing_is_told() {
        let mut tally = Tally::default();
        (0..5).for_each(|_| tally.push(b"data: {\"choices\":[]}\n\n"));
        assert_eq!((tally.events(), tally.usage().total()), (5, None));
    }

    #[test]
    fn what_is_none_is_none_and_what_never_ends_is_let_go_of() {
        for text in [
            "",
            "usage",
            "\"usage\"",
            "\"usage\":",
            "\"usage\":null",
            "\"usage\":{}",
            "\"usage\":{\"prompt_tokens\":-1}",
            "\"usage\":{\"prompt_tokens\":7",
        ] {
            assert_eq!(told(text), (None, None, None), "{text}");
        }
        let mut tally = Tally::default();
        tally.push(b"\"usage\":{");
        (0..CUT_BYTES_MAX).for_each(|_| tally.push(b"   "));
        assert!(tally.cut.len() <= CUT_BYTES_MAX);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(before in prop::collection::vec(any::<u8>(), 0..40), after in prop::collection::vec(any::<u8>(), 0..40)) {
            let piece = [before, b"\"usage\":".to_vec(), after].concat();
            let _told = of(&[&piece]);
        }
    }
}
