//! What a scripted node answers: the echo that a simulated one would give.

use serde_json::{Value, json};

/// A chat, as far as a scripted node understands it.
pub(crate) struct Chat {
    pub(crate) mark: String,
    pub(crate) stream: bool,
    pub(crate) pieces: Vec<String>,
    usage: bool,
}

impl Chat {
    pub(crate) fn read(body: &[u8]) -> Option<Self> {
        let asked: Value = serde_json::from_slice(body).ok()?;
        let prompt = asked["messages"][0]["content"].as_str()?;
        let tokens = usize::try_from(asked["max_tokens"].as_u64()?).ok()?;
        let words = ["You", "said:"].into_iter().chain(prompt.split(' ').cycle());
        let piece = |(at, word)| if at == 0 { String::from(word) } else { format!(" {word}") };
        Some(Self {
            mark: prompt.split(' ').next()?.to_owned(),
            pieces: words.take(tokens).enumerate().map(piece).collect(),
            stream: asked["stream"] == true,
            usage: asked["stream_options"]["include_usage"] == true,
        })
    }

    fn spent(&self) -> Value {
        let tokens = self.pieces.len();
        json!({ "prompt_tokens": 9, "completion_tokens": tokens, "total_tokens": tokens + 9 })
    }

    pub(crate) fn whole(&self) -> String {
        let message = json!({ "role": "assistant", "content": self.pieces.concat() });
        let choice = json!({ "index": 0, "message": message, "finish_reason": "length" });
        json!({ "id": "chatcmpl-bad", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": self.spent() })
            .to_string()
    }

    /// All of them, `[DONE]` as well.
    pub(crate) fn events(&self) -> Vec<String> {
        let chunk = |choices: Value, usage: Value| {
            let mut chunk = json!({ "id": "chatcmpl-bad", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": choices });
            if self.usage {
                chunk["usage"] = usage;
            }
            format!("data: {chunk}\n\n")
        };
        let last = self.pieces.len() - 1;
        let part = |(at, piece): (usize, &String)| {
            let finish = if at == last { json!("length") } else { Value::Null };
            let choice =
                json!([{ "index": 0, "delta": { "content": piece }, "finish_reason": finish }]);
            chunk(choice, Value::Null)
        };
        let mut events: Vec<String> = self.pieces.iter().enumerate().map(part).collect();
        if self.usage {
            events.push(chunk(json!([]), self.spent()));
        }
        events.push("data: [DONE]\n\n".to_owned());
        events
    }
}
