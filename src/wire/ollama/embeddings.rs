//! Vectors: as the node wrote them, or in base64, as OpenAI's SDKs ask for them unless they are told otherwise.

use std::fmt::Write;

use bytes::{BufMut, BytesMut};
use data_encoding::BASE64;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::line::Text;

/// What `/api/embed` answers.
#[derive(Deserialize)]
struct Told<'a> {
    #[serde(borrow)]
    model: Option<Text<'a>>,
    #[serde(borrow)]
    embeddings: Vec<&'a RawValue>,
    #[serde(default)]
    prompt_eval_count: u64,
}

/// Appends the answer in `body` as OpenAI's API has it; `model` is for one that does not name it.
///
/// # Errors
/// It is no such answer; nothing was appended that is of use.
pub(super) fn put(
    body: &[u8],
    model: &str,
    base64: bool,
    out: &mut BytesMut,
) -> Result<(), serde_json::Error> {
    let told: Told<'_> = serde_json::from_slice(body)?;
    out.put_slice(b"{\"object\":\"list\",\"data\":[");
    for (index, vector) in told.embeddings.iter().enumerate() {
        let comma = if index == 0 { "" } else { "," };
        // Memory grows as needed, so writing cannot fail; the same holds below.
        let _ = write!(out, r#"{comma}{{"object":"embedding","index":{index},"embedding":"#);
        if base64 {
            let numbers: Vec<f32> = serde_json::from_str(vector.get())?;
            let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
            let _ = write!(out, "\"{}\"}}", BASE64.encode(&bytes));
        } else {
            let _ = write!(out, "{vector}}}");
        }
    }
    let (model, tokens) = (told.model.map_or(model, Text::json), told.prompt_eval_count);
    let _ = write!(
        out,
        r#"],"model":{model},"usage":{{"prompt_tokens":{tokens},"total_tokens":{tokens}}}}}"#
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOLD: &[u8] = br#"{"model":"m:latest","embeddings":[[0.25,-1e-7],[1,2]],"total_duration":5,"prompt_eval_count":3}"#;

    fn told(body: &[u8], base64: bool) -> Option<String> {
        let mut out = BytesMut::new();
        put(body, "\"asked\"", base64, &mut out).ok()?;
        String::from_utf8(out.to_vec()).ok()
    }

    #[test]
    fn numbers_stay_as_the_node_wrote_them() {
        let wanted = r#"{"object":"list","data":[{"object":"embedding","index":0,"embedding":[0.25,-1e-7]},{"object":"embedding","index":1,"embedding":[1,2]}],"model":"m:latest","usage":{"prompt_tokens":3,"total_tokens":3}}"#;
        assert_eq!(told(TOLD, false).as_deref(), Some(wanted));
        let none = r#"{"object":"list","data":[],"model":"asked","usage":{"prompt_tokens":0,"total_tokens":0}}"#;
        assert_eq!(told(br#"{"embeddings":[]}"#, true).as_deref(), Some(none));
    }

    #[test]
    fn base64_is_of_numbers_of_32_bits_the_lowest_byte_first() {
        let told = told(TOLD, true).unwrap();
        let vectors = told.split("\"embedding\":\"").skip(1).map(|rest| {
            let (base64, _) = rest.split_once('"').unwrap();
            BASE64.decode(base64.as_bytes()).unwrap()
        });
        let bytes = |numbers: [f32; 2]| numbers.map(f32::to_le_bytes).concat();
        assert_eq!(vectors.collect::<Vec<_>>(), [bytes([0.25, -1e-7]), bytes([1.0, 2.0])]);
    }

    #[test]
    fn what_is_no_answer_is_told_apart() {
        for body in [&b"{}"[..], b"[]", br#"{"embeddings":[["a"]]}"#] {
            assert_eq!(told(body, true), None);
        }
    }
}
