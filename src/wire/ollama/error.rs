//! Errors: Ollama's are a text, OpenAI's an object.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::quoted;

/// Longest message that is passed on, in bytes. Written with an escape for each byte it is six times as long, and must still be an
/// event that whoever looks for a node's death waits for (16 KiB).
const MESSAGE_BYTES_MAX: usize = 2 * 1024;

/// The object for a node's answer of `status` with this body: in Ollama's words, or those of whatever stands before it.
pub(super) fn of_answer(status: u16, body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Told<'a> {
        #[serde(borrow)]
        error: Cow<'a, str>,
    }
    let told = serde_json::from_slice::<Told<'_>>(body).map(|told| told.error);
    let said = told.unwrap_or_else(|_| String::from_utf8_lossy(body));
    let (kind, code) = match status {
        401 => ("authentication_error", "null"),
        403 => ("permission_error", "null"),
        404 => ("not_found_error", "\"model_not_found\""),
        429 => ("rate_limit_error", "null"),
        400..=499 => ("invalid_request_error", "null"),
        503 => ("api_error", "\"overloaded\""),
        _ => ("api_error", "null"),
    };
    let message = match said.trim() {
        "" => quoted(&format!("The node answered {status} and said nothing.")),
        said => quoted(cut(said)),
    };
    object(&message, kind, code)
}

/// The object for what a node said instead of an answer, or instead of the rest of it.
pub(super) fn of_node(error: &RawValue) -> String {
    let text = serde_json::from_str::<Cow<'_, str>>(error.get());
    of_fault(&text.unwrap_or(error.get().into()))
}

/// The object for a fault of the node's. Its code tells it from what a client did wrong.
pub(super) fn of_fault(message: &str) -> String {
    object(&quoted(cut(message)), "api_error", "500")
}

fn object(message: &str, kind: &str, code: &str) -> String {
    format!(r#"{{"error":{{"message":{message},"type":"{kind}","param":null,"code":{code}}}}}"#)
}

fn cut(text: &str) -> &str {
    let longest = text.len().min(MESSAGE_BYTES_MAX);
    let end = (0..=longest).rev().find(|at| text.is_char_boundary(*at));
    &text[..end.unwrap_or_default()]
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn told(status: u16, body: &str) -> Value {
        let object: Value = serde_json::from_str(&of_answer(status, body.as_bytes())).unwrap();
        object["error"].clone()
    }

    #[test]
    fn a_text_becomes_an_object_of_the_kind_that_its_status_says() {
        for (status, kind, code) in [
            (400, "invalid_request_error", json!(null)),
            (401, "authentication_error", json!(null)),
            (403, "permission_error", json!(null)),
            (404, "not_found_error", json!("model_not_found")),
            (429, "rate_limit_error", json!(null)),
            (499, "invalid_request_error", json!(null)),
            (500, "api_error", json!(null)),
            (503, "api_error", json!("overloaded")),
        ] {
            let wanted =
                json!({"message": "model 'x' <b>", "type": kind, "param": null, "code": code});
            assert_eq!(told(status, r#"{"error":"model 'x' \u003cb\u003e"}"#), wanted);
        }
        let cloud = r#"{"error":"unauthorized","signin_url":"https://ollama.com"}"#;
        assert_eq!(told(401, cloud)["message"], "unauthorized");
    }

    #[test]
    fn whatever_else_an_answer_says_is_the_message_up_to_a_bound() {
        assert_eq!(told(502, "<html>Bad Gateway\n")["message"], "<html>Bad Gateway");
        let other = r#"{"error":{"message":"no"}}"#;
        assert_eq!(told(500, other)["message"], other);
        assert_eq!(told(403, " ")["message"], "The node answered 403 and said nothing.");
        let long = "\u{1f600}\u{7}".repeat(MESSAGE_BYTES_MAX);
        let object = of_fault(&long);
        assert!(object.len() < 6 * MESSAGE_BYTES_MAX, "{}", object.len());
        serde_json::from_str::<Value>(&object).unwrap();
    }
}
