//! The chunks of a chat's or completion's stream: what they tell of tokens is noted, and what of that their client did not ask
//! for is cut out. Every other byte passes as it came.
//!
//! With the event that has nothing but usage goes vLLM's `system_fingerprint`: who asks for usage gets it there, others in the
//! last chunk with choices, which has passed by then.

use std::ops::Range;
use std::sync::LazyLock;

use bytes::{Buf as _, Bytes, BytesMut};
use memchr::memmem::Finder;
use memchr::{memchr, memchr2, memrchr};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use smallvec::SmallVec;

use super::ask::Hidden;
use super::{FIND_NAME, NAME, Tally};

/// Longest line that waits to be read whole, in bytes: the first chunk may bring all tokens of a prompt, 6 bytes each. A longer
/// one passes as it is.
const LINE_BYTES_MAX: usize = 1024 * 1024;

/// Stretches of a piece that pass, at once: two for each event whose usage is cut out.
const STRETCHES: usize = 4;

/// As vLLM writes the begin of choices.
const CHOICE: &[u8] = b"\"choices\":[{\"index\":";

static FIND_CHOICE: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(CHOICE));

/// Over one stream.
#[derive(Debug)]
pub struct Chunks {
    hidden: Hidden,
    /// Where the last chunk had its choice: the next has it there, too, mostly.
    choice_at: usize,
    /// The begin of a line whose end has not come.
    held: Vec<u8>,
    /// In a line that is too long to wait for.
    passing: bool,
    /// The line before this place was cut out: with it goes the blank line that ends its event.
    gone: bool,
    /// A line feed at this place would belong to the end of the line before, and pass if that did.
    after_cr: Option<bool>,
}

/// What of a piece passes.
type Kept = SmallVec<[Range<usize>; STRETCHES]>;

/// What a chunk says, as far as it is looked at.
#[derive(Deserialize)]
struct Chunk<'a> {
    #[serde(borrow, default, deserialize_with = "there")]
    usage: Option<&'a RawValue>,
    choices: Option<Vec<Choice>>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Choice {
    index: Option<usize>,
}

/// Also where it is `null`.
fn there<'a, D: Deserializer<'a>>(value: D) -> Result<Option<&'a RawValue>, D::Error> {
    <&RawValue>::deserialize(value).map(Some)
}

impl Chunks {
    /// For a stream whose node was asked for more than its client shall see.
    pub fn new(hidden: Hidden) -> Self {
        Self { hidden, choice_at: 0, held: Vec::new(), passing: false, gone: false, after_cr: None }
    }

    /// The next piece: what of it passes, and what `tally` is told.
    pub fn push(&mut self, piece: Bytes, tally: &mut Tally) -> Bytes {
        if self.is_between_events()
            && let Some(cut) = self.cut_plain(&piece, tally)
        {
            return without(piece, cut);
        }
        let mut bytes = piece;
        if !self.held.is_empty() {
            let mut both = std::mem::take(&mut self.held);
            both.extend_from_slice(&bytes);
            bytes = both.into();
        }
        let kept = self.walk(&bytes, tally);
        left_of(bytes, &kept)
    }

    /// The stream has ended: what passes of a last line that has no end.
    pub fn finish(&mut self, tally: &mut Tally) -> Bytes {
        let line = Bytes::from(std::mem::take(&mut self.held));
        match self.cut(&line, tally) {
            None => line,
            Some(cut) => without(line, cut),
        }
    }

    fn is_between_events(&self) -> bool {
        self.held.is_empty() && !self.passing && !self.gone && self.after_cr.is_none()
    }

    /// The same as [`Self::walk`], of a piece that is one event with its usage at the end, as nearly all of vLLM's are: at less than half
    /// the cost. None of any other.
    fn cut_plain(&mut self, piece: &[u8], tally: &mut Tally) -> Option<Range<usize>> {
        let line = piece.strip_suffix(b"\n\n")?;
        let json = line.strip_prefix(b"data: ").filter(|json| json.starts_with(b"{"))?;
        let inside = line.strip_suffix(b"}}")?;
        let open = memrchr(b'{', inside)?;
        let before = line.get(..open)?.strip_suffix(b",\"usage\":")?;
        let flat = inside.get(open..)?;
        if memchr(b'}', flat).is_some() || line_end(line).is_some() || piece.len() > LINE_BYTES_MAX
        {
            return None;
        }
        let choice = self.plain_choice(json)?;
        tally.event();
        tally.told(Some(choice), line.get(open..line.len() - 1)?);
        Some(match self.hidden {
            Hidden::Nothing => 0..0,
            Hidden::All | Hidden::Each => before.len()..line.len() - 1,
        })
    }

    fn walk(&mut self, bytes: &[u8], tally: &mut Tally) -> Kept {
        let (mut kept, mut at) = (Kept::new(), 0);
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            if let Some(passes) = self.after_cr.take().filter(|_| rest.starts_with(b"\n")) {
                keep(&mut kept, at..at + usize::from(passes));
                at += 1;
                continue;
            }
            let end = line_end(rest);
            let is_blank = end == Some(0);
            if std::mem::take(&mut self.gone) && is_blank {
                self.after_cr = rest.starts_with(b"\r").then_some(false);
                at += 1;
                continue;
            }
            let Some(end) = end else {
                self.wait(rest, at, &mut kept);
                break;
            };
            let next = at + end + 1;
            let line = rest.get(..end).unwrap_or_default();
            // As if it had come in pieces.
            let is_long = std::mem::take(&mut self.passing) || line.len() > LINE_BYTES_MAX;
            match (!is_long).then(|| self.cut(line, tally)).flatten() {
                None => keep(&mut kept, at..next),
                Some(cut) if cut == (0..end) => self.gone = true,
                Some(cut) => {
                    keep(&mut kept, at..at + cut.start);
                    keep(&mut kept, at + cut.end..next);
                }
            }
            self.after_cr = (rest.get(end) == Some(&b'\r')).then_some(!self.gone);
            at = next;
        }
        kept
    }

    /// The line that begins with `rest` has no end yet.
    fn wait(&mut self, rest: &[u8], at: usize, kept: &mut Kept) {
        if self.passing || rest.len() > LINE_BYTES_MAX {
            self.passing = true;
            keep(kept, at..at + rest.len());
        } else {
            self.held.extend_from_slice(rest);
        }
    }

    /// What of a line is to be cut out.
    fn cut(&mut self, line: &[u8], tally: &mut Tally) -> Option<Range<usize>> {
        let json = line.strip_prefix(b"data:")?.trim_ascii_start();
        if !json.starts_with(b"{") {
            return None;
        }
        tally.event();
        FIND_NAME.find(json)?;
        let Chunk { usage, choices, error } = serde_json::from_slice(json).ok()?;
        let usage =
            usage.map(RawValue::get).filter(|usage| *usage == "null" || usage.starts_with('{'))?;
        let choice =
            choices.as_ref().map(|choices| choices.first().map(|first| first.index.unwrap_or(0)));
        if usage != "null" {
            tally.told(choice.flatten(), usage.as_bytes());
        }
        let begin = line.len() - json.len();
        match (choice, self.hidden) {
            (_, Hidden::Nothing) | (Some(None), Hidden::Each) => None,
            (Some(None), Hidden::All) if usage != "null" && error.is_none() => Some(0..line.len()),
            _ => member(json, usage).map(|member| begin + member.start..begin + member.end),
        }
    }

    /// Which choice a chunk is about that has it where vLLM writes it.
    fn plain_choice(&mut self, json: &[u8]) -> Option<usize> {
        if !json.get(self.choice_at..).is_some_and(|rest| rest.starts_with(CHOICE)) {
            self.choice_at = FIND_CHOICE.find(json)?;
        }
        let before = json.get(1..self.choice_at)?;
        let is_at_top = memchr2(b'{', b'[', before).is_none();
        let digits = json.get(self.choice_at + CHOICE.len()..).filter(|_| is_at_top)?;
        let digits = digits.iter().take_while(|byte| byte.is_ascii_digit());
        Some(digits.fold(0, |number: usize, digit| {
            number.saturating_mul(10).saturating_add(usize::from(digit - b'0'))
        }))
    }
}

/// Where the line that begins here ends. Two looks for one byte cost less than one for either.
fn line_end(rest: &[u8]) -> Option<usize> {
    let feed = memchr(b'\n', rest);
    memchr(b'\r', &rest[..feed.unwrap_or(rest.len())]).or(feed)
}

/// A field of `json` by its value, with the comma before it, or else the one behind. None where its name is not written as it is.
fn member(json: &[u8], value: &str) -> Option<Range<usize>> {
    let start = (value.as_ptr() as usize).checked_sub(json.as_ptr() as usize)?;
    let end = start + value.len();
    let before = json.get(..start)?.trim_ascii_end().strip_suffix(b":")?.trim_ascii_end();
    let before = before.strip_suffix(NAME)?.trim_ascii_end();
    if let Some(before) = before.strip_suffix(b",") {
        return Some(before.len()..end);
    }
    let rest = json.get(end..)?;
    let behind = rest.trim_ascii_start();
    let comma = if behind.starts_with(b",") { rest.len() - behind.len() + 1 } else { 0 };
    Some(before.len()..end + comma)
}

fn keep(kept: &mut Kept, stretch: Range<usize>) {
    match kept.last_mut() {
        _ if stretch.is_empty() => {}
        Some(last) if last.end == stretch.start => last.end = stretch.end,
        _ => kept.push(stretch),
    }
}

/// `bytes` but for one stretch.
fn without(bytes: Bytes, cut: Range<usize>) -> Bytes {
    if cut.is_empty() {
        return bytes;
    }
    let (before, after) = (0..cut.start, cut.end..bytes.len());
    if before.is_empty() || after.is_empty() {
        return bytes.slice(if after.is_empty() { before } else { after });
    }
    left_of(bytes, &[before, after])
}

/// The stretches of `bytes` that are kept, one behind the other: moved towards the end, so that the memory's begin is what is
/// let go of. To let go of its end would take new memory.
fn left_of(bytes: Bytes, kept: &[Range<usize>]) -> Bytes {
    match kept {
        [] => return Bytes::new(),
        [one] => return bytes.slice(one.clone()),
        _ => {}
    }
    let mut all = bytes.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]));
    let mut begin = kept.last().map_or(0, |last| last.end);
    all.truncate(begin);
    for stretch in kept.iter().rev() {
        begin -= stretch.len();
        all.copy_within(stretch.clone(), begin);
    }
    all.advance(begin);
    all.freeze()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ROLE: &str = r#"{"id":"c","choices":[{"index":0,"delta":{"role":"assistant","content":""}}],"usage":{"prompt_tokens":12,"total_tokens":12,"completion_tokens":0,"completion_tokens_details":null},"prompt_token_ids":null}"#;
    const WORD: &str = r#"{"id":"c","choices":[{"index":0,"delta":{"content":"кавы \"usage\":{} ,\\"},"token_ids":null}],"usage":{"prompt_tokens":12,"total_tokens":13,"completion_tokens":1}}"#;
    const LAST: &str = r#"{"id":"c","choices":[],"usage":{"prompt_tokens":12,"total_tokens":15,"completion_tokens":3},"system_fingerprint":"f"}"#;

    /// What passes of `stream` in pieces of so many bytes, and what is told.
    fn through(hidden: Hidden, stream: &str, piece_bytes: usize) -> (String, Tally) {
        let (mut chunks, mut tally, mut passed) = (Chunks::new(hidden), Tally::default(), vec![]);
        for piece in stream.as_bytes().chunks(piece_bytes.max(1)) {
            passed.extend(chunks.push(Bytes::copy_from_slice(piece), &mut tally));
        }
        passed.extend(chunks.finish(&mut tally));
        (String::from_utf8(passed).unwrap(), tally)
    }

    /// The same, in pieces of an event each.
    fn by_events(hidden: Hidden, stream: &str) -> (String, Tally) {
        let (mut chunks, mut tally, mut passed) = (Chunks::new(hidden), Tally::default(), vec![]);
        for piece in stream.split_inclusive("\n\n") {
            passed.extend(chunks.push(Bytes::copy_from_slice(piece.as_bytes()), &mut tally));
        }
        passed.extend(chunks.finish(&mut tally));
        (String::from_utf8(passed).unwrap(), tally)
    }

    fn every_cut(hidden: Hidden, stream: &str, wanted: &str) {
        for piece_bytes in 1..=stream.len() {
            let (passed, _) = through(hidden, stream, piece_bytes);
            assert_eq!(passed, wanted, "{stream:?} by {piece_bytes}");
        }
        assert_eq!(by_events(hidden, stream).0, wanted, "{stream:?} by events");
    }

    fn without(chunk: &str) -> String {
        let at = chunk.find(",\"usage\":{\"").unwrap();
        let end = at + chunk[at..].find('}').unwrap() + 1;
        format!("{}{}", &chunk[..at], &chunk[end..])
    }

    #[test]
    fn a_client_sees_what_it_would_have_seen_had_nobody_asked() {
        for end in ["\n", "\r\n", "\r"] {
            let stream = |chunks: &[&str]| -> String {
                let event = |chunk: &&str| format!("data: {chunk}{end}{end}");
                chunks.iter().map(event).collect::<String>()
            };
            let told = format!(": ping{end}{end}{}", stream(&[ROLE, WORD, WORD, LAST, "[DONE]"]));
            let (role, word) = (without(ROLE), without(WORD));
            let all = format!(": ping{end}{end}{}", stream(&[&role, &word, &word, "[DONE]"]));
            every_cut(Hidden::All, &told, &all);
            let each =
                format!(": ping{end}{end}{}", stream(&[&role, &word, &word, LAST, "[DONE]"]));
            every_cut(Hidden::Each, &told, &each);
            every_cut(Hidden::All, &each, &all);
            every_cut(Hidden::All, &all, &all);
            let (_, tally) = through(Hidden::All, &told, 7);
            assert_eq!((tally.events(), tally.usage().total()), (4, Some(15)));
        }
    }

    #[test]
    fn it_is_cut_wherever_it_stands_and_only_at_the_top() {
        for (told, wanted) in [
            (r#"{"usage":null,"choices":[{}]}"#, r#"{"choices":[{}]}"#),
            (r#"{ "choices": [ {} ], "usage": null }"#, r#"{ "choices": [ {} ] }"#),
            (r#"{ "usage" : {"a":{"b":"}"}} , "choices":[{}]}"#, r#"{ "choices":[{}]}"#),
            (r#"{"choices":[],"usage":null,"x":1}"#, r#"{"choices":[],"x":1}"#),
            (r#"{"choices":[{"usage":{"a":1}}]}"#, r#"{"choices":[{"usage":{"a":1}}]}"#),
            (
                r#"{"choices":[{"usage":{"a":1}}],"usage":{"a":2}}"#,
                r#"{"choices":[{"usage":{"a":1}}]}"#,
            ),
            (
                r#"{"model":"choices","choices":[{}],"usage":{"a":1}}"#,
                r#"{"model":"choices","choices":[{}]}"#,
            ),
            (
                r#"{"x":{"choices":[{"index":0}]},"choices":[{}],"usage":{"a":1}}"#,
                r#"{"x":{"choices":[{"index":0}]},"choices":[{}]}"#,
            ),
            (
                r#"{"error":{"code":400},"choices":[],"usage":{"a":1}}"#,
                r#"{"error":{"code":400},"choices":[]}"#,
            ),
            (r#"{"choices":[{"delta":"usage"}]}"#, r#"{"choices":[{"delta":"usage"}]}"#),
            (r#"{"choices":[{}],"usage":7}"#, r#"{"choices":[{}],"usage":7}"#),
            (r#"{"usage":{"a":1}"#, r#"{"usage":{"a":1}"#),
        ] {
            let event = |chunk: &str| format!("data:{chunk}\n\ndata: [DONE]\n\n");
            every_cut(Hidden::All, &event(told), &event(wanted));
        }
        every_cut(Hidden::All, "data: {\"choices\":[{}]", "data: {\"choices\":[{}]");
        every_cut(Hidden::All, "event: usage\ndata: x\n\n", "event: usage\ndata: x\n\n");
    }

    #[test]
    fn choices_that_are_told_of_apart_are_added() {
        let chunk = |index: usize, answer: u64| {
            format!(
                "data: {{\"choices\":[{{\"index\":{index}}}],\"usage\":{{\"prompt_tokens\":5,\"completion_tokens\":{answer}}}}}\n\n"
            )
        };
        let stream: String = [(0, 1), (1, 1), (0, 2), (1, 2), (0, 3)]
            .into_iter()
            .map(|(index, answer)| chunk(index, answer))
            .collect();
        let (_, tally) = through(Hidden::All, &stream, 11);
        assert_eq!(tally.usage().total(), Some(10));
    }

    #[test]
    fn what_is_nested_deeply_is_gone_through_once() {
        let (deep, end) = ("{\"usage\":".repeat(80_000), "}".repeat(80_000));
        let event = format!("data: {{\"x\":{deep}1{end},\"usage\":null}}\n\n");
        let (passed, _) = through(Hidden::All, &event, event.len());
        assert!(passed == event.replace(",\"usage\":null", ""));
    }

    #[test]
    fn a_line_too_long_to_wait_for_passes_as_it_is() {
        let long = "x".repeat(LINE_BYTES_MAX);
        let event = format!("data: {{\"choices\":[{{\"x\":\"{long}\"}}],\"usage\":null}}\n\n");
        let short = "data: {\"choices\":[{}],\"usage\":null}\n\n";
        let (passed, _) = through(Hidden::All, &[&event, short].concat(), 60_000);
        assert!(passed == [&event, "data: {\"choices\":[{}]}\n\n"].concat());
    }

    proptest! {
        #[test]
        fn any_cutting_gives_the_same(
            stream in "(data:|: |\\{|\\}|\\[|\\]|,|\"usage\"|\"choices\"|\"index\"|:|null|\"|\\\\|7|\\[DONE\\]|\r\n|\r|\n|\n\n| |[ -~]){0,40}",
            piece_bytes in 1..9_usize)
        {
            for hidden in [Hidden::All, Hidden::Each] {
                let whole = through(hidden, &stream, stream.len());
                let cut = through(hidden, &stream, piece_bytes);
                prop_assert_eq!(&cut.0, &whole.0);
                prop_assert_eq!(cut.1.events(), whole.1.events());
            }
        }

        #[test]
        fn an_event_at_once_and_any_other_cutting_give_the_same(
            events in prop::collection::vec("data: \\{(\"choices\":(\\[\\]|\\[\\{\"index\":[0-2](,\"x\":\\{\"usage\":\\{\\}\\})?\\}\\])|\"x\":\"(\\\\\"|[{},])*\")?(,\"usage\":(null|\\{(\"a\":[0-9],?|\"b\":\\{\\})*\\}))?\\}(\n|\r)?\n", 0..6))
        {
            let stream = events.concat();
            for hidden in [Hidden::All, Hidden::Each] {
                let whole = through(hidden, &stream, stream.len());
                let cut = by_events(hidden, &stream);
                prop_assert_eq!(&cut.0, &whole.0);
                prop_assert_eq!((cut.1.events(), &cut.1.last), (whole.1.events(), &whole.1.last));
            }
        }

        #[test]
        fn what_has_no_usage_passes_as_it_is(stream in "(data: |\\{|\\}|\"choices\":|\\[\\]|\r\n|\r|\n|[ -~]){0,40}", piece_bytes in 1..50_usize) {
            prop_assert_eq!(&through(Hidden::All, &stream, piece_bytes).0, &stream);
        }
    }
}
