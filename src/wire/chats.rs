//! Requests of chat sessions, and their answers (SPEC 8): what is read of them, and the chat that a node is asked for in their place.

use std::borrow::Cow;

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::error::Category;
use serde_json::{Map, Number, Value};

use crate::refusal::Refusal;
use crate::wire::lines::Lines;

/// What `extra` cannot set: the gateway does.
const RESERVED: [&str; 6] = ["model", "messages", "stream", "stream_options", "max_tokens", "n"];

/// Longest answer in one piece, in bytes: a million tokens, with all that their node tells of them.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// Longest event that is looked at, in bytes. vLLM's have some hundred; one with a tool call some thousand.
const EVENT_BYTES_MAX: usize = 8 << 20;

/// What clients of sessions ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// To begin a session.
    Init,
    /// To have it begin otherwise.
    SystemPrompt,
    /// A question.
    Chat,
    /// To end it.
    Stop,
}

impl Call {
    /// Of a POST to `path`.
    pub fn of_path(path: &str) -> Option<Self> {
        match path {
            "/init_session" => Some(Self::Init),
            "/set_system_prompt" => Some(Self::SystemPrompt),
            "/chat" => Some(Self::Chat),
            "/stop_session" => Some(Self::Stop),
            _ => None,
        }
    }
}

/// `POST /init_session`.
#[derive(Deserialize)]
pub struct Init {
    /// A key of the gateway's, or of the node's. Never shown.
    pub vllm_api_key: String,
}

/// `POST /set_system_prompt`.
#[derive(Deserialize)]
pub struct SystemPrompt {
    /// Which session.
    pub session_id: String,
    /// What it begins with from now on.
    pub system_prompt: String,
}

/// `POST /stop_session`.
#[derive(Deserialize)]
pub struct Stop {
    /// Which session.
    pub session_id: String,
}

/// `POST /chat`.
#[derive(Deserialize)]
pub struct Question {
    /// Which session.
    pub session_id: String,
    /// What is asked.
    pub message: String,
    /// Tokens that the answer may have.
    pub max_tokens: Option<u64>,
    /// As its node judges it.
    pub temperature: Option<Number>,
    /// The answer comes as the node's own chunks.
    #[serde(default)]
    pub stream: Option<bool>,
    /// What else its node is told.
    #[serde(default)]
    pub extra: Option<Map<String, Value>>,
}

/// Reads the body of a request.
///
/// # Errors
/// It is no such object.
pub fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    // A list would pass for an object.
    if body.trim_ascii_start().first() == Some(&b'[') {
        return Err(Refusal::malformed("invalid_json", "The request body is no JSON object."));
    }
    serde_json::from_slice(body).map_err(|error| {
        let (told, at) =
            (error.to_string(), format!("line {} column {}", error.line(), error.column()));
        // Which field, and nothing of what stands in it.
        let is_field = told.starts_with("missing field") || told.starts_with("duplicate field");
        let (code, what) = match error.classify() {
            Category::Data if told.starts_with("duplicate field") => ("duplicate_field", told),
            Category::Data if is_field => ("invalid_json", told),
            Category::Data => ("invalid_json", format!("a value of another type at {at}")),
            _ => ("invalid_json", format!("not JSON at {at}")),
        };
        Refusal::malformed(code, format!("The request body does not fit: {what}."))
    })
}

impl Question {
    /// What else its node is told.
    ///
    /// # Errors
    /// It is not for the client to say.
    pub fn take_extra(&mut self) -> Result<Map<String, Value>, Refusal> {
        let extra = self.extra.take().unwrap_or_default();
        let twice = self.temperature.as_ref().map(|_| "temperature");
        match RESERVED.into_iter().chain(twice).find(|name| extra.contains_key(*name)) {
            None => Ok(extra),
            Some(name) => Err(Refusal::Malformed {
                code: "reserved_field",
                message: format!("`extra` cannot set `{name}`.").into(),
                param: Some("extra"),
            }),
        }
    }
}

/// The body of the chat that a node is asked for.
#[derive(Serialize)]
pub struct Asked<'a, M> {
    /// Whom; none: whoever is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<&'a str>,
    /// What was said, and the question.
    pub messages: M,
    /// As chunks.
    pub stream: bool,
    /// As the client says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u64>,
    /// As the client says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temperature: Option<Number>,
    /// What else the client says.
    #[serde(flatten)]
    pub extra: &'a Map<String, Value>,
}

/// What a client is told, in one piece.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Reply {
    reply: String,
    finish_reason: Option<String>,
    total_tokens: u64,
    input_tokens: u64,
    output_tokens: u64,
}

impl Reply {
    /// What was answered.
    pub fn text(&self) -> &str {
        &self.reply
    }

    /// Tokens of the prompt; 0 where the node has not told.
    pub fn prompt_tokens(&self) -> u64 {
        self.input_tokens
    }
}

/// Reads a node's answer in one piece.
#[derive(Debug, Default)]
pub struct Whole(Vec<u8>);

impl Whole {
    /// The next piece. False where the answer is longer than any can be.
    pub fn push(&mut self, piece: &[u8]) -> bool {
        let fits = self.0.len() + piece.len() <= ANSWER_BYTES_MAX;
        if fits {
            self.0.extend_from_slice(piece);
        }
        fits
    }

    /// What the client is told; none where it was no answer.
    pub fn reply(self) -> Option<Reply> {
        #[derive(Deserialize)]
        struct Answer<'a> {
            #[serde(borrow)]
            choices: Vec<Choice<'a>>,
            usage: Option<Usage>,
        }
        #[derive(Deserialize)]
        struct Choice<'a> {
            #[serde(borrow)]
            message: Said<'a>,
            finish_reason: Option<String>,
        }
        #[derive(Default, Deserialize)]
        struct Usage {
            prompt_tokens: Option<u64>,
            completion_tokens: Option<u64>,
        }
        let answer: Answer<'_> = serde_json::from_slice(&self.0).ok()?;
        let choice = answer.choices.into_iter().next()?;
        let usage = answer.usage.unwrap_or_default();
        let (input, output) =
            (usage.prompt_tokens.unwrap_or(0), usage.completion_tokens.unwrap_or(0));
        Some(Reply {
            reply: choice.message.content.unwrap_or_default().into_owned(),
            finish_reason: choice.finish_reason,
            total_tokens: input.saturating_add(output),
            input_tokens: input,
            output_tokens: output,
        })
    }
}

/// What is said in an answer, or in a part of one. Thoughts are no part of it: templates leave them out as well.
#[derive(Deserialize)]
struct Said<'a> {
    #[serde(borrow)]
    content: Option<Cow<'a, str>>,
}

/// Listens to a node's chunks, in whatever pieces they come.
#[derive(Debug, Default)]
pub struct Listener {
    lines: Lines<EVENT_BYTES_MAX>,
    said: String,
    /// More came than is kept.
    deaf: bool,
}

impl Listener {
    /// The next piece.
    pub fn push(&mut self, piece: &[u8]) {
        let Self { lines, said, deaf } = self;
        let fits = lines.push(piece, |line| {
            let Some(text) = text(line) else { return };
            *deaf |= said.len() + text.len() > ANSWER_BYTES_MAX;
            if !*deaf {
                said.push_str(&text);
            }
        });
        *deaf |= !fits;
    }

    /// What was said, if all of it was heard.
    pub fn said(&self) -> Option<&str> {
        (!self.deaf).then_some(&self.said)
    }
}

/// What a line of a stream says. What is no chunk says nothing: `[DONE]`, the usage.
fn text(line: &[u8]) -> Option<Cow<'_, str>> {
    #[derive(Deserialize)]
    struct Chunk<'a> {
        #[serde(borrow)]
        choices: Vec<Choice<'a>>,
    }
    #[derive(Deserialize)]
    struct Choice<'a> {
        #[serde(borrow)]
        delta: Said<'a>,
    }
    let data = line.strip_prefix(b"data:")?;
    let chunk: Chunk<'_> = serde_json::from_slice(data).ok()?;
    chunk.choices.into_iter().next()?.delta.content
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_question_is_read_and_what_is_not_the_clients_is_refused() {
        let body = json!({"session_id": "s", "message": "м", "max_tokens": 5, "temperature": 0.5, "stream": null,
                          "extra": {"top_p": 0.9}, "other": 1});
        let mut question: Question = read(body.to_string().as_bytes()).unwrap();
        assert_eq!((question.message.as_str(), question.max_tokens), ("м", Some(5)));
        let extra = question.take_extra().unwrap();
        let asked = Asked {
            model: Some("m"),
            messages: json!([{"role": "user", "content": question.message}]),
            stream: false,
            max_tokens: question.max_tokens,
            temperature: question.temperature,
            extra: &extra,
        };
        let wanted = json!({"model": "m", "messages": [{"role": "user", "content": "м"}], "stream": false,
                            "max_tokens": 5, "temperature": 0.5, "top_p": 0.9});
        assert_eq!(serde_json::to_value(&asked).unwrap(), wanted);
        for name in RESERVED {
            let body = json!({"session_id": "s", "message": "m", "extra": {name: 1}}).to_string();
            let mut question: Question = read(body.as_bytes()).unwrap();
            assert_eq!(question.take_extra().unwrap_err().code(), "reserved_field", "{name}");
        }
    }

    #[test]
    fn nothing_is_said_twice() {
        let body = r#"{"session_id":"s","message":"m","temperature":1,"extra":{"temperature":0}}"#;
        let mut question: Question = read(body.as_bytes()).unwrap();
        assert_eq!(question.take_extra().unwrap_err().code(), "reserved_field");
    }

    #[test]
    fn what_does_not_fit_is_told_without_what_stood_there() {
        let of = |body: &str| read::<Init>(body.as_bytes()).err().unwrap();
        assert_eq!(of("{").code(), "invalid_json");
        assert_eq!(of(r#"{"vllm_api_key":"a","vllm_api_key":"b"}"#).code(), "duplicate_field");
        assert_eq!(of(r#" ["sk-secret"]"#).code(), "invalid_json");
        assert!(of("{}").message().contains("missing field `vllm_api_key`"));
        assert!(of(r#"{"vllm_api_key":7}"#).message().contains("another type at line 1"));
        for body in [
            r#"{"vllm_api_key":"sk-secret","#,
            r#""sk-secret""#,
            r#"{"vllm_api_key":{"sk-secret":1}}"#,
        ] {
            assert!(!of(body).message().contains("secret"), "{body}");
        }
    }

    #[test]
    fn an_answer_in_one_piece_is_told_in_short() {
        let reply = |body: Value| {
            let mut whole = Whole::default();
            let body = body.to_string();
            let (first, rest) = body.as_bytes().split_at(body.len() / 2);
            assert!(whole.push(first) && whole.push(rest));
            whole.reply().map(|reply| serde_json::to_value(reply).unwrap())
        };
        let answer = json!({"choices": [{"message": {"content": "да"}, "finish_reason": "length"}],
                            "usage": {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}});
        let told = json!({"reply": "да", "finish_reason": "length", "total_tokens": 9, "input_tokens": 7, "output_tokens": 2});
        assert_eq!(reply(answer), Some(told));
        let silent = json!({"choices": [{"message": {"content": null, "tool_calls": []}, "finish_reason": null}]});
        assert_eq!(reply(silent).unwrap()["reply"], "");
        assert_eq!((reply(json!({"choices": []})), reply(json!("x"))), (None, None));
    }

    #[test]
    fn an_answer_of_which_a_line_is_too_long_was_not_heard() {
        let mut listener = Listener::default();
        listener.push(&vec![b' '; EVENT_BYTES_MAX]);
        assert_eq!(listener.said(), Some(""));
        listener.push(b" \ndata: {}\n\n");
        assert_eq!(listener.said(), None);
    }

    proptest! {
        #[test]
        fn what_is_said_is_heard_however_it_is_cut(texts in proptest::collection::vec(any::<String>(), 0..6), cut in 1..40_usize) {
            let mut stream = String::from(": keep-alive\n\n");
            for text in &texts {
                let chunk = json!({"choices": [{"index": 0, "delta": {"content": text, "reasoning": "hm"}}]});
                stream.push_str(&format!("data: {chunk}\n\n"));
            }
            stream.push_str("data: {\"choices\":[],\"usage\":{}}\r\n\r\ndata: [DONE]\n\n");
            let mut listener = Listener::default();
            stream.as_bytes().chunks(cut).for_each(|piece| listener.push(piece));
            let said = texts.concat();
            prop_assert_eq!(listener.said(), Some(said.as_str()));
        }

        #[test]
        fn no_bytes_make_it_panic(pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..6)) {
            let (mut listener, mut whole) = (Listener::default(), Whole::default());
            for piece in &pieces {
                listener.push(piece);
                whole.push(piece);
            }
            let _said = (listener.said().map(str::len), whole.reply());
            let _read = (read::<Question>(&pieces.concat()).is_ok(), read::<Init>(&pieces.concat()).is_ok());
        }
    }
}
