//! What went wrong, in words for whoever sits at the terminal.

use http::StatusCode;
use serde_json::Value;

/// Most of a server's own words that are shown, in characters: more is a page, not a message.
const MESSAGE_CHARS_MAX: usize = 400;

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Failure {
    /// The prompt is longer than the model can read.
    TooLong(String),
    /// The server does not have the model.
    NoModel(String),
    /// Anything else, in words.
    Told(String),
}

impl Failure {
    /// The words.
    pub(super) fn into_words(self) -> String {
        match self {
            Self::TooLong(words) | Self::NoModel(words) | Self::Told(words) => words,
        }
    }
}

/// An answer that is not 200.
pub(super) struct Refused<'r> {
    pub(super) url: &'r str,
    pub(super) status: StatusCode,
    /// In seconds.
    pub(super) retry_after: Option<u64>,
    pub(super) body: &'r [u8],
    /// A key was sent.
    pub(super) with_key: bool,
}

impl Refused<'_> {
    /// What it comes to.
    pub(super) fn failure(&self) -> Failure {
        let body: Value = serde_json::from_slice(self.body).unwrap_or_default();
        let error = body.get("error").unwrap_or(&body);
        let said =
            message(error).unwrap_or_else(|| shortened(String::from_utf8_lossy(self.body).trim()));
        let said = if said.is_empty() { String::new() } else { format!(": {said}") };
        let code = error["code"].as_str().unwrap_or_default();
        match self.status {
            StatusCode::BAD_REQUEST
                if code == "context_length_exceeded" || said.contains("maximum context length") =>
            {
                Failure::TooLong(format!("this does not fit the model's context{said}"))
            }
            StatusCode::UNAUTHORIZED if self.with_key => {
                Failure::Told(format!("the server does not take this key{said}"))
            }
            StatusCode::UNAUTHORIZED => Failure::Told(
                "the server wants a key: give it as SLUICE_API_KEY or --api-key".to_owned(),
            ),
            StatusCode::NOT_FOUND if code == "model_not_found" || error["param"] == "model" => {
                Failure::NoModel(format!("the server does not have this model{said}"))
            }
            StatusCode::NOT_FOUND => Failure::Told(format!(
                "nothing is served at {}{said} (most base URLs end in /v1)",
                self.url
            )),
            StatusCode::TOO_MANY_REQUESTS => {
                let wait = self.retry_after.map(|wait| format!(" (again in {wait} s)"));
                Failure::Told(format!("too many requests{said}{}", wait.unwrap_or_default()))
            }
            status => Failure::Told(format!("the server answers {}{said}", status.as_u16())),
        }
    }
}

/// The words of an error object: OpenAI's and vLLM's, Ollama's, FastAPI's.
pub(super) fn message(error: &Value) -> Option<String> {
    let text = [error, &error["message"], &error["detail"]].into_iter().find_map(Value::as_str);
    text.map(shortened)
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(MESSAGE_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(status: u16, body: &str, with_key: bool) -> Failure {
        let status = StatusCode::from_u16(status).unwrap();
        let url = "http://h/v1/chat/completions";
        Refused { url, status, retry_after: Some(12), body: body.as_bytes(), with_key }.failure()
    }

    #[test]
    fn a_context_that_is_too_long_is_told_from_other_bad_requests() {
        let vllm = r#"{"error":{"message":"This model's maximum context length is 2048 tokens. However, …","type":"BadRequestError","param":"input_tokens","code":400}}"#;
        let openai = r#"{"error":{"message":"too long","code":"context_length_exceeded"}}"#;
        let tokens = r#"{"error":{"message":"max_tokens=999999 cannot be greater than max_model_len=2048.","param":"max_tokens","code":400}}"#;
        assert!(matches!(failure(400, vllm, true), Failure::TooLong(_)));
        assert!(matches!(failure(400, openai, true), Failure::TooLong(_)));
        assert!(matches!(failure(400, tokens, true), Failure::Told(_)));
    }

    #[test]
    fn each_refusal_says_what_can_be_done() {
        let gone = r#"{"error":{"message":"The model `x` does not exist.","type":"NotFoundError","param":"model","code":404}}"#;
        assert!(matches!(failure(404, gone, true), Failure::NoModel(_)));
        for (status, body, with_key, words) in [
            (401, "{}", false, "the server wants a key: give it as SLUICE_API_KEY or --api-key"),
            (401, r#"{"error":"no"}"#, true, "the server does not take this key: no"),
            (
                404,
                r#"{"detail":"Not Found"}"#,
                true,
                "nothing is served at http://h/v1/chat/completions: Not Found (most base URLs end in /v1)",
            ),
            (
                429,
                r#"{"error":{"message":"slow down"}}"#,
                true,
                "too many requests: slow down (again in 12 s)",
            ),
            (502, "<h1>Bad Gateway</h1>", true, "the server answers 502: <h1>Bad Gateway</h1>"),
            (500, "", true, "the server answers 500"),
        ] {
            assert_eq!(failure(status, body, with_key).into_words(), words);
        }
    }
}
