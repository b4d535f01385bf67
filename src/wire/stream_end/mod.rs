//! Event streams of inference: whether one has ended as its dialect says, and whether its node has told of its own death
//! inside of it.
//!
//! vLLM whose engine dies goes on with `data: {"error": …}`, says `[DONE]` and ends the body well. So the begin of each
//! line is looked at, and where it may tell of that, the rest of its event waits until it is whole; every other byte
//! passes as it comes. The search for a reason to finish goes through lines in whatever pieces they come.

mod fault;
mod line;

use bytes::{Bytes, BytesMut};
use memchr::memchr2;

use super::finish::{Finish, Reason};
use fault::{Fault, of_error};
use line::{Kind, kind};

/// Bytes of an event that wait to be read whole: all of it, or, where it is longer, from the line on that may tell something.
/// vLLM's have about 200.
const HELD_BYTES_MAX: usize = 16 * 1024;

/// What ends a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// `data: [DONE]`, or a choice that has a reason to finish.
    Choices,
    /// One of these events.
    Events(&'static [&'static [u8]]),
}

/// Watches one stream.
pub struct StreamEnd {
    form: Form,
    place: Place,
    /// The event under way would be a good end.
    ending: bool,
    /// A choice has had a reason to finish: as good an end as any, if no other comes. There may be other choices.
    finished: bool,
    /// The end has come.
    ended: bool,
    finish: Finish,
    /// What waits until its event is whole. Read again then, from its begin.
    held: BytesMut,
}

/// What of a piece goes on.
#[derive(Debug, PartialEq, Eq)]
pub struct Passed {
    /// These bytes.
    pub bytes: Bytes,
    /// After them the node told of its death: nothing that comes is to go on.
    pub died: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// At the begin of an event, or of a later line of one. `after_cr`: a line feed would belong to the line before.
    Begin { event: bool, after_cr: bool },
    /// In a line that tells nothing by its begin.
    Line,
}

/// One pass through bytes that are at hand.
struct Scan<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Where the event under way begins, if it does in these bytes.
    event_at: Option<usize>,
    /// Where the line begins that says that the event is an error.
    error_at: Option<usize>,
    /// The last line has its end from us. A reason that begins in it may be cut.
    unended: bool,
}

/// Why a pass ended, and where what it has not passed begins.
enum Stop {
    End,
    Hold(usize),
    Death(usize),
}

impl StreamEnd {
    /// For the answer to a POST on `path`, where it is known what ends it.
    pub fn of_path(path: &str) -> Option<Self> {
        let form = match path {
            "/v1/chat/completions" | "/v1/completions" => Form::Choices,
            "/v1/messages" => Form::Events(&[b"message_stop"]),
            "/v1/responses" => {
                Form::Events(&[b"response.completed", b"response.failed", b"response.incomplete"])
            }
            _ => return None,
        };
        Some(Self {
            finish: Finish::of_path(path)?,
            form,
            place: Place::Begin { event: true, after_cr: false },
            ending: false,
            finished: false,
            ended: false,
            held: BytesMut::new(),
        })
    }

    /// The next piece. Nothing is to be pushed after a death.
    pub fn push(&mut self, piece: Bytes) -> Passed {
        let mut bytes = piece;
        if !self.held.is_empty() {
            self.held.extend_from_slice(&bytes);
            bytes = self.held.split().freeze();
        }
        match self.scan(&bytes, false) {
            Stop::End => Passed { bytes, died: false },
            Stop::Death(from) => Passed { bytes: bytes.slice(..from), died: true },
            Stop::Hold(from) => {
                self.held.extend_from_slice(&bytes[from..]);
                Passed { bytes: bytes.slice(..from), died: false }
            }
        }
    }

    /// The stream is over: what still waited.
    pub fn finish(&mut self) -> Passed {
        let rest = self.held.split().freeze();
        if rest.is_empty() {
            return Passed { bytes: rest, died: false };
        }
        // A last line may lack its end.
        let line = [&rest, &b"\n"[..]].concat();
        match self.scan(&line, true) {
            Stop::Death(from) => Passed { bytes: rest.slice(..from.min(rest.len())), died: true },
            Stop::End | Stop::Hold(_) => Passed { bytes: rest, died: false },
        }
    }

    /// The stream has come to a good end.
    pub fn is_well(&self) -> bool {
        let last_line = self.form == Form::Choices && matches!(self.place, Place::Begin { .. });
        self.ended || self.finished || (self.ending && last_line)
    }

    /// The end has come: nothing that belongs to the stream can follow.
    pub fn is_over(&self) -> bool {
        self.ended
    }

    /// Why a stream that came to a good end has ended.
    pub fn reason(&self) -> Option<Reason> {
        if self.is_well() { self.finish.reason() } else { None }
    }

    fn scan(&mut self, bytes: &[u8], unended: bool) -> Stop {
        let at_event = matches!(self.place, Place::Begin { event: true, .. });
        let event_at = at_event.then_some(0);
        let mut scan = Scan { bytes, at: 0, event_at, error_at: None, unended };
        while scan.at < bytes.len() {
            let rest = &bytes[scan.at..];
            let Place::Begin { event, after_cr } = self.place else {
                self.read_on(&mut scan, memchr2(b'\r', b'\n', rest));
                continue;
            };
            if after_cr && rest[0] == b'\n' {
                scan.at += 1;
                if event {
                    scan.event_at = Some(scan.at);
                }
                self.place = Place::Begin { event, after_cr: false };
                continue;
            }
            if let Some(stop) = self.begin_line(&mut scan, memchr2(b'\r', b'\n', rest)) {
                return stop;
            }
        }
        match scan.error_at {
            // What waits at the end of all is not read again.
            Some(_) if !unended => self.hold(&mut scan),
            _ => Stop::End,
        }
    }

    /// Goes through a line that tells nothing by its begin, to its end if that is at hand.
    fn read_on(&mut self, scan: &mut Scan<'_>, end: Option<usize>) {
        let rest = &scan.bytes[scan.at..];
        let begins = self.finish.push(&rest[..end.unwrap_or(rest.len())]);
        let is_cut = scan.unended && end.is_some_and(|end| end + 1 == rest.len());
        self.ending |= begins && !is_cut && self.form == Form::Choices;
        match end {
            Some(end) => self.end_line(scan, scan.at + end),
            None => {
                self.place = Place::Line;
                scan.at = scan.bytes.len();
            }
        }
    }

    /// Looks at the line that begins here and ends at `end`, if that is at hand.
    fn begin_line(&mut self, scan: &mut Scan<'_>, end: Option<usize>) -> Option<Stop> {
        let rest = &scan.bytes[scan.at..];
        let line = &rest[..end.unwrap_or(rest.len())];
        if line.is_empty() {
            self.end_event(scan);
            return None;
        }
        let kind = match kind(self.form, (line, end.is_some()), scan.error_at.is_some()) {
            // As if it had come in pieces: it would have waited in vain.
            Kind::Error(_) if scan.waits_to(scan.at + line.len()) > HELD_BYTES_MAX => Kind::Other,
            kind => kind,
        };
        match kind {
            Kind::Open => return Some(self.hold(scan)),
            Kind::Done => self.ended = true,
            Kind::EndEvent => self.ending = true,
            Kind::ErrorEvent => scan.error_at = Some(scan.at),
            Kind::Error(data) => match of_error(data, scan.error_at.is_some()) {
                Some(Fault::Nodes) => return Some(Stop::Death(scan.begin())),
                // It has told its client all that there is to tell.
                Some(Fault::Clients) => (self.ended, scan.error_at) = (true, None),
                None => {}
            },
            Kind::Other => {}
        }
        self.read_on(scan, end);
        None
    }

    fn end_line(&mut self, scan: &mut Scan<'_>, end: usize) {
        self.finish.begin_anew();
        self.place = Place::Begin { event: false, after_cr: scan.bytes[end] == b'\r' };
        scan.at = end + 1;
    }

    /// A blank line.
    fn end_event(&mut self, scan: &mut Scan<'_>) {
        let after_cr = scan.bytes[scan.at] == b'\r';
        let ending = std::mem::take(&mut self.ending);
        match self.form {
            Form::Choices => self.finished |= ending,
            Form::Events(_) => self.ended |= ending,
        }
        self.place = Place::Begin { event: true, after_cr };
        scan.at += 1;
        (scan.event_at, scan.error_at) = (Some(scan.at), None);
    }

    /// What is not known yet waits, from where it can be read again.
    fn hold(&mut self, scan: &mut Scan<'_>) -> Stop {
        let end = scan.bytes.len();
        if scan.waits_to(end) > HELD_BYTES_MAX {
            if scan.at < end {
                self.read_on(scan, None);
            }
            return Stop::End;
        }
        // What a long event has before that line goes on.
        let whole = scan.event_at.filter(|at| end - at <= HELD_BYTES_MAX);
        let (from, event) = (whole.unwrap_or(scan.telling()), whole.is_some());
        // What waits is read again, and with it a good end that is in it.
        self.ending &= !event;
        self.finish.begin_anew();
        self.place = Place::Begin { event, after_cr: false };
        Stop::Hold(from)
    }
}

impl Scan<'_> {
    /// Where what is under way begins: its event, if that is at hand, or what of it tells something.
    fn begin(&self) -> usize {
        self.event_at.unwrap_or(self.telling())
    }

    /// Where the line begins that tells something, or may.
    fn telling(&self) -> usize {
        self.error_at.unwrap_or(self.at)
    }

    /// How many bytes would wait, from that line up to `end`.
    fn waits_to(&self, end: usize) -> usize {
        end - self.telling()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CHAT: &str = "/v1/chat/completions";
    const WORD: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"w\"},\"finish_reason\":null}]}\n\n";
    const STOP: &str =
        "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\": \"stop\"}]}\n\n";
    const USAGE: &str = "data: {\"choices\":[],\"usage\":{\"total_tokens\":3}}\n\n";
    const DEATH: &str = "data: {\"error\": {\"message\": \"EngineCore\", \"type\": \"InternalServerError\", \"param\": null, \"code\": 500}}\n\n";
    const REFUSAL: &str =
        "data: {\"error\":{\"message\":\"no\",\"type\":\"BadRequestError\",\"code\":400}}\n\n";
    const END: &str = "data: [DONE]\n\n";

    /// What passes of `stream` in pieces of so many bytes; whether it died, and whether it ended well.
    fn through(path: &str, stream: &str, piece_bytes: usize) -> (String, bool, bool) {
        let mut end = StreamEnd::of_path(path).unwrap();
        let mut passed = Vec::new();
        for piece in stream.as_bytes().chunks(piece_bytes.max(1)) {
            let next = end.push(Bytes::copy_from_slice(piece));
            passed.extend_from_slice(&next.bytes);
            if next.died {
                return (String::from_utf8(passed).unwrap(), true, false);
            }
        }
        let rest = end.finish();
        passed.extend_from_slice(&rest.bytes);
        (String::from_utf8(passed).unwrap(), rest.died, end.is_well() && !rest.died)
    }

    fn every_cut(path: &str, stream: &str, expected: (&str, bool, bool)) {
        for piece_bytes in 1..=stream.len() {
            let (passed, died, well) = through(path, stream, piece_bytes);
            assert_eq!((&*passed, died, well), expected, "{stream:?} by {piece_bytes}");
        }
    }

    #[test]
    fn a_chat_ends_with_done_or_a_reason() {
        for (events, well) in [
            (&[WORD, END][..], true),
            (&[WORD, STOP], true),
            (&[WORD, STOP, USAGE, END], true),
            (&[STOP, WORD, WORD, USAGE], true),
            (&[": ping\n\n", WORD, ": ping\n", END], true),
            (&[WORD, "data:[DONE]\r\n\r\n"], true),
            (&[WORD, "data: [DONE]"], true),
            (&[WORD, "data: [DONE] \t\r\n\r\n"], true),
            (&[WORD, WORD], false),
            (&[], false),
            (&[WORD, "data: {\"finish_reason\":\"st"], false),
            (&[WORD, STOP.trim_end(), "\r\nevent:error"], true),
            (&[WORD, "data: {\"error\":\t,\"finish_reason\":\"lo"], false),
            (&[WORD, "data: {\"error\":,\"finish_reason\":\"lo\"}\n"], true),
            // In a text it is escaped.
            (&["data: {\"content\":\"\\\"finish_reason\\\":\\\"stop\\\"\"}\n\n"], false),
            (&["data: {\"x\":\"\\\"\",\"finish_reason\":\"stop\"}\n\n"], true),
            (&[WORD, "data: \"[DONE]\"\n\n", "id: [DONE]\n\n"], false),
            (&[WORD, REFUSAL], true),
            (&[WORD, REFUSAL, END], true),
            (&["data: {\"error\":null,\"finish_reason\":\"stop\"}\n\n"], true),
        ] {
            let stream = events.concat();
            every_cut(CHAT, &stream, (&stream, false, well));
        }
    }

    #[test]
    fn a_death_told_inside_is_one_and_nothing_after_it_passes() {
        for death in [
            DEATH,
            "data: {\"error\":{\"message\":\"x\"}}\n\n",
            "data: { \"error\" : \"boom\" }\n\n",
            "data: \t \t{\"error\":\"boom\"}\n\n",
            "data:{\"error\":{\"code\":\"500\"}}\r\n\r\n",
            "event: error\ndata: {\"message\":\"x\"}\n\n",
            "event: error\r\ndata: not JSON\r\n\r\n",
        ] {
            every_cut(CHAT, &[death, END].concat(), ("", true, false));
            every_cut(
                CHAT,
                &[WORD, STOP, death, END].concat(),
                (&[WORD, STOP].concat(), true, false),
            );
        }
    }

    #[test]
    fn of_an_event_that_is_at_hand_whole_nothing_passes() {
        for line_end in ["\n", "\r\n", "\r"] {
            let event = "id: 1\ndata: {\"error\":\"boom\"}\n\n".replace('\n', line_end);
            let (passed, died, _) = through(CHAT, &event, event.len());
            assert!(passed.is_empty() && died, "{event:?}");
        }
    }

    #[test]
    fn messages_end_with_their_last_event() {
        let path = "/v1/messages";
        let delta = "event: content_block_delta\ndata: {\"type\":\"content_block_delta\"}\n\n";
        let stop = "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";
        let error = |kind: &str| {
            format!(
                "event: error\ndata: {{\"type\":\"error\",\"error\":{{\"type\":\"{kind}\",\"message\":\"\"}}}}\n\n"
            )
        };
        let stream = [delta, stop].concat();
        every_cut(path, &stream, (&stream, false, true));
        every_cut(path, &[delta, END].concat(), (&[delta, END].concat(), false, false));
        for kind in ["overloaded_error", "api_error", "internal_error"] {
            every_cut(path, &[delta, &error(kind)].concat(), (delta, true, false));
        }
        let stream = [delta, &error("invalid_request_error")].concat();
        every_cut(path, &stream, (&stream, false, true));
    }

    #[test]
    fn responses_end_completed_failed_or_incomplete() {
        let path = "/v1/responses";
        let event = |name: &str| format!("event: {name}\ndata: {{\"type\":\"{name}\"}}\n\n");
        let delta = event("response.output_text.delta");
        for (name, well) in [
            ("response.completed", true),
            ("response.failed", true),
            ("response.incomplete", true),
            ("response.in_progress", false),
        ] {
            let stream = [&*delta, &event(name)].concat();
            every_cut(path, &stream, (&stream, false, well));
        }
        every_cut(path, &[&*delta, DEATH, END].concat(), (&delta, true, false));
    }

    #[test]
    fn what_is_longer_than_is_kept_passes() {
        let long = "x".repeat(HELD_BYTES_MAX);
        for (event, well) in [
            (format!("data: {{\"error\":{{\"message\":\"{long}\"}}}}\n\n{END}"), true),
            (
                format!("data: {{\"error\":null,\"finish_reason\":\"stop\",\"x\":\"{long}\"}}\n\n"),
                true,
            ),
            (
                format!("data: {{\"error\":null,\"x\":\"{long}\",\"finish_reason\":\"stop\"}}\n\n"),
                true,
            ),
            (
                format!("data: {{\"error\":null,\"finish_reason\":null,\"x\":\"{long}\"}}\n\n"),
                false,
            ),
        ] {
            for piece_bytes in [1, 7, 1_000, HELD_BYTES_MAX, event.len()] {
                let (passed, died, ended) = through(CHAT, &event, piece_bytes);
                assert!(passed == event && !died);
                assert_eq!(ended, well, "{} by {piece_bytes}", &event[..60]);
            }
        }
        // What lies before the line that tells something does not count.
        let death = format!(": {long}\n{DEATH}{END}");
        for piece_bytes in [7, 1_000, death.len()] {
            let (_, died, _) = through(CHAT, &death, piece_bytes);
            assert!(died, "by {piece_bytes}");
        }
    }

    #[test]
    fn an_event_without_an_end_does_not_pile_up() {
        let mut end = StreamEnd::of_path(CHAT).unwrap();
        // Each piece ends in a line that may become one that tells something.
        let piece = Bytes::from(format!("ata: x\n: {}\nd", "y".repeat(1_000)));
        for _ in 0..100 {
            end.push(piece.clone());
            assert!(end.held.len() <= HELD_BYTES_MAX, "{} bytes", end.held.len());
        }
    }

    #[test]
    fn other_paths_are_not_watched() {
        for path in
            ["/v1/embeddings", "/v1/messages/count_tokens", "/v1/responses/r", "/invocations"]
        {
            assert!(StreamEnd::of_path(path).is_none(), "{path}");
        }
    }

    proptest! {
        #[test]
        fn any_cutting_gives_the_same_verdict(
            stream in "(data:|event:|: |id: 1| |\\{|\\}|\"error\"|\"code\":|500|400|null|:|\\[DONE\\]|error|message_stop|\"finish_reason\":|\"stop\"|\r\n|\r|\n|\n\n|[ -~]){0,24}",
            path in prop::sample::select(vec![CHAT, "/v1/messages", "/v1/responses"]),
            piece_bytes in 1..9_usize)
        {
            let whole = through(path, &stream, stream.len());
            let cut = through(path, &stream, piece_bytes);
            prop_assert_eq!((cut.1, cut.2), (whole.1, whole.2));
            prop_assert!(stream.starts_with(&cut.0) && cut.0.starts_with(&whole.0));
            prop_assert!(whole.1 || whole.0 == stream);
        }
    }
}
