//! What a request must get: an echo of its own mark, whole, or a failure that says that it is one.

use serde_json::{Value, json};

use super::dice::Dice;
use super::seen::Outcome;

/// How every mark begins. One that is not the request's own is somebody else's answer.
pub(crate) const MARK: &str = "mk-";

/// Enough tokens for the mark to be among them, however it is cut up.
const TOKENS_MIN: usize = 24;

/// A chat with a mark of its own.
pub(crate) struct Asked {
    pub(crate) mark: String,
    pub(crate) stream: bool,
    prompt: String,
    tokens: usize,
    /// A stream shall end with its usage.
    usage: bool,
}

/// What came of a stream, in order.
#[derive(Default)]
struct Heard {
    text: String,
    /// Events with a part of the text.
    parts: usize,
    finished: bool,
    usage: bool,
    broken: bool,
    done: bool,
}

impl Asked {
    pub(crate) fn new(dice: &mut Dice) -> Self {
        let mark = format!("{MARK}{:016x}", dice.next());
        let prompt = format!("{mark} and {} words", dice.below(1_000));
        let (stream, usage) = (dice.of_hundred(60), dice.of_hundred(50));
        Self { mark, stream, prompt, tokens: TOKENS_MIN + dice.below(40), usage }
    }

    pub(crate) fn body(&self) -> Value {
        let messages = json!([{ "role": "user", "content": self.prompt }]);
        let mut body = json!({ "model": "m", "messages": messages, "max_tokens": self.tokens });
        if self.stream {
            body["stream"] = true.into();
        }
        if self.stream && self.usage {
            body["stream_options"] = json!({ "include_usage": true });
        }
        body
    }

    /// `text` begins as the echo does: `You said:` and the prompt, again and again.
    fn begins_echo(&self, text: &str) -> bool {
        let mut rest = text;
        let prompt = format!(" {}", self.prompt);
        let mut expected = "You said:";
        while let Some(after) = rest.strip_prefix(expected) {
            (rest, expected) = (after, &prompt);
        }
        expected.starts_with(rest)
    }

    /// No mark in it but this request's own.
    fn is_own(&self, text: &str) -> bool {
        text.match_indices(MARK).all(|(at, _)| self.mark.starts_with(own_part(&text[at..])))
    }

    /// An answer with this status, whose body came so far; `torn` tells that a node broke off in the midst.
    pub(crate) fn judge(
        &self,
        (status, events): (u16, bool),
        (body, cut): (&[u8], bool),
        torn: bool,
    ) -> Result<Outcome, String> {
        let text = String::from_utf8_lossy(body);
        let what = if !self.is_own(&text) {
            Err("somebody else's answer")
        } else if cut && !torn {
            Err("cut, and no node had torn it")
        } else if status != 200 {
            refused(status, &text, cut)
        } else if events != self.stream {
            Err("a stream that is none, or the other way round")
        } else if self.stream {
            self.judge_stream(&text, cut)
        } else if cut {
            Ok(Outcome::Cut)
        } else {
            self.judge_whole(&text)
        };
        what.map_err(|wrong| format!("{wrong}: {} {status} {text}", self.body()))
    }

    fn judge_whole(&self, text: &str) -> Result<Outcome, &'static str> {
        let answer: Value = serde_json::from_str(text).map_err(|_| "no JSON")?;
        let said = answer["choices"][0]["message"]["content"].as_str().ok_or("no content")?;
        if !self.begins_echo(said) || !said.contains(&self.mark) {
            return Err("another text");
        }
        if answer["usage"]["completion_tokens"] != self.tokens {
            return Err("another length");
        }
        Ok(Outcome::Well)
    }

    fn judge_stream(&self, text: &str, cut: bool) -> Result<Outcome, &'static str> {
        let mut heard = Heard::default();
        let whole = text.rfind("\n\n").map_or(0, |end| end + 2);
        let (whole, rest) = text.split_at(whole);
        for event in whole.split_terminator("\n\n").filter(|event| !event.starts_with(':')) {
            heard.event(event)?;
        }
        if !self.begins_echo(&heard.text) {
            return Err("another text");
        }
        match (heard.broken, heard.done) {
            _ if cut && (heard.done || heard.broken) => Err("cut after its end"),
            _ if cut => Ok(Outcome::Cut),
            _ if !rest.is_empty() => Err("bytes after the last event"),
            (true, _) => Ok(Outcome::BrokenStream),
            (false, false) => Err("no end"),
            (false, true) if heard.parts != self.tokens || !heard.finished => {
                Err("events are missing, or too many")
            }
            (false, true) if heard.usage != self.usage => {
                Err("usage that nobody asked for, or none")
            }
            (false, true) => Ok(Outcome::WellStreamed),
        }
    }
}

/// The part of a text that is a mark: up to its 16 digits.
fn own_part(text: &str) -> &str {
    let digits = text[MARK.len()..].bytes().take_while(u8::is_ascii_hexdigit).count();
    &text[..MARK.len() + digits]
}

/// A failure that is told: what a gateway says of its nodes, or a node of itself, in JSON.
fn refused(status: u16, text: &str, cut: bool) -> Result<Outcome, &'static str> {
    if ![500, 502, 503, 504].contains(&status) {
        return Err("a status that it must not have");
    }
    let error = serde_json::from_str::<Value>(text).ok();
    match error.is_some_and(|error| error["error"].is_object()) {
        true => Ok(Outcome::Refused),
        false if cut => Ok(Outcome::Cut),
        false => Err("an error that is no JSON"),
    }
}

impl Heard {
    fn event(&mut self, event: &str) -> Result<(), &'static str> {
        let data = event.strip_prefix("data: ").ok_or("no event")?;
        if self.done {
            return Err("an event after the end");
        }
        if data == "[DONE]" {
            self.done = true;
            return Ok(());
        }
        let data: Value = serde_json::from_str(data).map_err(|_| "an event that is no JSON")?;
        if self.broken {
            return Err("an event after the error");
        }
        if data["error"].is_object() {
            self.broken = true;
            return Ok(());
        }
        let choice = &data["choices"][0];
        self.usage |= choice.is_null() && data["usage"].is_object();
        if let Some(part) = choice["delta"]["content"].as_str().filter(|part| !part.is_empty()) {
            self.text.push_str(part);
            self.parts += 1;
        }
        self.finished |= choice["finish_reason"].is_string();
        Ok(())
    }
}
