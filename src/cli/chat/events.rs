//! The answer of a chat as it streams: pieces of bytes in, what each event says out.

use serde::Deserialize;
use serde_json::Value;

/// Longest line, in bytes: no event of a chat is near it, and memory has an end.
const LINE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The event that ends a stream.
const DONE: &str = "[DONE]";

/// The bytes of a stream that are not read yet.
#[derive(Debug, Default)]
pub(super) struct Events {
    held: Vec<u8>,
}

/// What one event says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Event {
    /// More of the answer.
    pub(super) text: String,
    /// More of what the model thinks before it answers.
    pub(super) thought: String,
    /// Why the answer ends.
    pub(super) finish: Option<String>,
    /// What it cost.
    pub(super) usage: Option<Usage>,
    /// The stream is at its end.
    pub(super) done: bool,
}

/// Tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(super) struct Usage {
    #[serde(default)]
    pub(super) prompt_tokens: u64,
    #[serde(default)]
    pub(super) completion_tokens: u64,
}

#[derive(Deserialize)]
struct Chunk {
    choices: Option<Vec<Choice>>,
    usage: Option<Usage>,
    error: Option<Value>,
}

#[derive(Deserialize)]
struct Choice {
    delta: Option<Delta>,
    finish_reason: Option<String>,
}

#[derive(Default, Deserialize)]
struct Delta {
    content: Option<String>,
    reasoning: Option<String>,
    reasoning_content: Option<String>,
}

/// What cannot be gone on from.
#[derive(Debug, PartialEq)]
pub(super) enum Bad {
    /// The server says what went wrong.
    Error(Value),
    /// It is no chat that streams.
    NoChat,
}

impl Events {
    /// Takes the next bytes.
    pub(super) fn push(&mut self, piece: &[u8]) {
        self.held.extend_from_slice(piece);
    }

    /// The next event that is there whole.
    ///
    /// # Errors
    /// It tells of an error, or is none of a chat's.
    pub(super) fn next(&mut self) -> Result<Option<Event>, Bad> {
        while let Some(end) = memchr::memchr(b'\n', &self.held) {
            let line: Vec<u8> = self.held.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            // Comments, names of events and blank lines say nothing here.
            if let Some(data) = line.trim_end().strip_prefix("data:") {
                return event(data.trim_start()).map(Some);
            }
        }
        if self.held.len() > LINE_BYTES_MAX { Err(Bad::NoChat) } else { Ok(None) }
    }
}

fn event(data: &str) -> Result<Event, Bad> {
    if data == DONE {
        return Ok(Event { done: true, ..Event::default() });
    }
    let chunk: Chunk = serde_json::from_str(data).map_err(|_| Bad::NoChat)?;
    if let Some(error) = chunk.error {
        return Err(Bad::Error(error));
    }
    let mut event = Event { usage: chunk.usage, ..Event::default() };
    if let Some(choice) = chunk.choices.into_iter().flatten().next() {
        let delta = choice.delta.unwrap_or_default();
        event.text = delta.content.unwrap_or_default();
        event.thought = delta.reasoning.or(delta.reasoning_content).unwrap_or_default();
        event.finish = choice.finish_reason;
    }
    Ok(event)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pieces: &[&[u8]]) -> Result<Vec<Event>, Bad> {
        let (mut events, mut read) = (Events::default(), Vec::new());
        for piece in pieces {
            events.push(piece);
            while let Some(event) = events.next()? {
                read.push(event);
            }
        }
        Ok(read)
    }

    #[test]
    fn an_answer_is_the_same_however_it_is_cut() {
        let stream = concat!(
            ": a comment\r\n\r\n",
            "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n",
            "data: {\"choices\":[{\"delta\":{\"reasoning\":\"hm\"},\"finish_reason\":null}]}\r\n\r\n",
            "data:{\"choices\":[{\"delta\":{\"content\":\"Да\"},\"finish_reason\":\"stop\"}]}\n\n",
            "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":2}}\n\n",
            "data: [DONE]\n\n",
        );
        let whole = read(&[stream.as_bytes()]).unwrap();
        assert_eq!((&*whole[1].thought, &*whole[2].text), ("hm", "Да"));
        assert_eq!(whole[2].finish.as_deref(), Some("stop"));
        assert_eq!(whole[3].usage, Some(Usage { prompt_tokens: 3, completion_tokens: 2 }));
        assert!(whole[4].done);
        for cut in 0..stream.len() {
            let (begin, end) = stream.as_bytes().split_at(cut);
            assert_eq!(read(&[begin, end]).unwrap(), whole, "{cut}");
        }
    }

    #[test]
    fn an_error_in_the_midst_is_told() {
        let told = read(&[b"data: {\"error\":{\"message\":\"gone\"}}\n\n"]).unwrap_err();
        assert_eq!(told, Bad::Error(serde_json::json!({"message": "gone"})));
        assert_eq!(read(&[b"data: <html>\n"]).unwrap_err(), Bad::NoChat);
        assert_eq!(read(&[&vec![b'x'; LINE_BYTES_MAX + 1]]).unwrap_err(), Bad::NoChat);
    }
}
