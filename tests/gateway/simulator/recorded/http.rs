//! A recorded exchange, and an answer taken apart.

use std::path::Path;

use super::json::{Json, differences};

const REQUEST: &[u8] = b"### REQUEST (bytes as sent)\n";
const RESPONSE: &[u8] = b"\n\n### RESPONSE (bytes as received)\n";

/// Headers that tell of a moment, or are as long as what a model makes up.
const PASSING: [&str; 2] = ["date", "content-length"];

/// A request, and what a real node answered.
pub(super) struct Sample {
    /// Folder and name.
    pub(super) name: String,
    pub(super) request: Vec<u8>,
    pub(super) answer: Answer,
}

/// An answer.
pub(super) struct Answer {
    status: String,
    /// In the order of their names.
    headers: Vec<(String, String)>,
    body: Body,
}

enum Body {
    Json(Json),
    Events(Vec<Event>),
    Text(String),
}

/// One event of a stream.
#[derive(Clone)]
struct Event {
    name: String,
    data: Json,
}

impl Sample {
    /// The sample in a file.
    pub(super) fn read(path: &Path) -> Self {
        let bytes = std::fs::read(path).unwrap();
        let at = find(&bytes, RESPONSE).unwrap();
        let folder = path.parent().unwrap().file_name().unwrap().to_str().unwrap();
        Self {
            name: format!("{folder}/{}", path.file_stem().unwrap().to_str().unwrap()),
            request: bytes[REQUEST.len()..at].to_vec(),
            answer: Answer::parse(&bytes[at + RESPONSE.len()..]),
        }
    }
}

impl Answer {
    /// Takes an answer apart; interim ones are skipped.
    pub(super) fn parse(mut bytes: &[u8]) -> Self {
        let (head, body) = loop {
            let end = find(bytes, b"\r\n\r\n").unwrap();
            let head = std::str::from_utf8(&bytes[..end]).unwrap();
            bytes = &bytes[end + 4..];
            if !head.starts_with("HTTP/1.1 1") {
                break (head, bytes);
            }
        };
        let (status, lines) = head.split_once("\r\n").unwrap();
        let headers = lines.split("\r\n").map(|line| line.split_once(": ").unwrap());
        let mut headers: Vec<_> =
            headers.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        headers.sort();
        let header = |name: &str| {
            let found = headers.iter().find(|(own, _)| own == name);
            found.map_or("", |(_, value)| value)
        };
        let body = match header("transfer-encoding") {
            "chunked" => chunks(body),
            _ => vec![String::from_utf8(body.to_vec()).unwrap()],
        };
        let body = match header("content-type").split(';').next().unwrap() {
            // Each event is a chunk of its own, here as there.
            "text/event-stream" => {
                Body::Events(body.iter().map(|chunk| Event::parse(chunk)).collect())
            }
            "application/json" if body != [""] => Body::Json(Json::parse(&body.concat()).unwrap()),
            _ => Body::Text(body.concat()),
        };
        Self { status: status.to_owned(), headers, body }
    }

    /// What is different in `ours`.
    pub(super) fn differences(&self, ours: &Self) -> Vec<String> {
        let mut wrong = Vec::new();
        if self.status != ours.status {
            wrong.push(format!("{} instead of {}", ours.status, self.status));
        }
        let lasting = |answer: &Self| -> Vec<(String, String)> {
            // Shown by `--enable-request-id-headers` alone.
            let shown = answer.headers.iter().filter(|(name, _)| name != "x-request-id");
            let headers = shown.cloned().map(|(name, value)| {
                let value = if PASSING.contains(&name.as_str()) { String::new() } else { value };
                (name, value)
            });
            headers.collect()
        };
        if lasting(self) != lasting(ours) {
            wrong.push(format!("headers {:?} instead of {:?}", lasting(ours), lasting(self)));
        }
        match (&self.body, &ours.body) {
            (Body::Json(theirs), Body::Json(ours)) => differences(theirs, ours, "", &mut wrong),
            (Body::Text(theirs), Body::Text(ours)) if theirs == ours => {}
            (Body::Events(theirs), Body::Events(ours)) => sequences(theirs, ours, &mut wrong),
            _ => wrong.push("a body of another type".to_owned()),
        }
        wrong
    }
}

impl Event {
    fn parse(chunk: &str) -> Self {
        let event = chunk.strip_suffix("\n\n").expect("an event ends in its chunk");
        assert!(!event.contains("\n\n"), "one event a chunk: {chunk}");
        let (name, data) = event.split_once('\n').unwrap_or(("", event));
        let data = data.strip_prefix("data: ").unwrap();
        let data = Json::parse(data).unwrap_or_else(|| Json::Text(data.to_owned()));
        Self { name: name.to_owned(), data }
    }

    fn is_like(&self, other: &Self) -> bool {
        let mut wrong = Vec::new();
        differences(&self.data, &other.data, "", &mut wrong);
        self.name == other.name && wrong.is_empty()
    }

    /// The choice that it belongs to; choices take turns as they like.
    fn choice(&self) -> Option<&Json> {
        match self.data.field("choices")? {
            Json::List(choices) => choices.first()?.field("index"),
            _ => None,
        }
    }

    /// Without its number: how many events of one kind there are depends on what a model makes up.
    fn unnumbered(mut self) -> Self {
        if let Json::Object(fields) = &mut self.data {
            for (name, value) in fields {
                if name == "sequence_number" {
                    *value = Json::Whole(0);
                }
            }
        }
        self
    }
}

/// The events of each choice in turn, those that are alike and follow one another taken for one.
fn told(events: &[Event]) -> Vec<Event> {
    let mut groups: Vec<Vec<Event>> = Vec::new();
    for event in events.iter().cloned().map(Event::unnumbered) {
        match groups.iter_mut().find(|group| group[0].choice() == event.choice()) {
            Some(group) if group.last().unwrap().is_like(&event) => {}
            Some(group) => group.push(event),
            None => groups.push(vec![event]),
        }
    }
    groups.concat()
}

fn sequences(theirs: &[Event], ours: &[Event], wrong: &mut Vec<String>) {
    let (theirs, ours) = (told(theirs), told(ours));
    if theirs.len() != ours.len() {
        let list = |events: &[Event]| -> String {
            events.iter().map(|event| format!("\n      {} {:?}", event.name, event.data)).collect()
        };
        wrong.push(format!("events {}\n    instead of {}", list(&ours), list(&theirs)));
        return;
    }
    for (theirs, ours) in theirs.iter().zip(&ours) {
        if theirs.name != ours.name {
            wrong.push(format!("{} instead of {}", ours.name, theirs.name));
        }
        differences(&theirs.data, &ours.data, "", wrong);
    }
}

/// The chunks of a body.
fn chunks(mut body: &[u8]) -> Vec<String> {
    let mut chunks = Vec::new();
    loop {
        let end = find(body, b"\r\n").unwrap();
        let size = usize::from_str_radix(std::str::from_utf8(&body[..end]).unwrap(), 16).unwrap();
        if size == 0 {
            return chunks;
        }
        let chunk = &body[end + 2..end + 2 + size];
        chunks.push(String::from_utf8(chunk.to_vec()).unwrap());
        body = &body[end + 2 + size + 2..];
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}
