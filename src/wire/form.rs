//! The `model` field of a multipart form (RFC 7578): what `/v1/audio/*` sends in the place of JSON.

use std::ops::Range;

use bytes::Bytes;
use futures_util::stream;
use multer::Multipart;

/// Fields of one form: a transcription of vLLM 0.32 has about 25.
const FIELDS_MAX: usize = 1_024;

/// Longest name of a model, in bytes: the value is copied.
const MODEL_BYTES_MAX: usize = 4_096;

/// The part of a form that the gateway looks at.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct FormHead {
    /// The model's name.
    pub model: Option<String>,
    /// Where the name stands in the body.
    pub model_at: Option<Range<usize>>,
}

/// Why a form cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unreadable {
    /// No form, or a broken one.
    Malformed,
    /// `model` is there twice.
    Duplicate,
}

/// Reads the head of a form. A form is copied once on the way: the parser keeps a buffer of its own.
///
/// # Errors
/// [`Unreadable`]: the request is answered with 400.
pub async fn read(content_type: &str, body: &Bytes) -> Result<FormHead, Unreadable> {
    let boundary = multer::parse_boundary(content_type).map_err(|_| Unreadable::Malformed)?;
    let whole = stream::once(std::future::ready(Ok::<_, std::convert::Infallible>(body.clone())));
    let mut form = Multipart::new(whole, boundary.clone());
    let (mut head, mut index) = (FormHead::default(), 0);
    while let Some(field) = form.next_field().await.map_err(|_| Unreadable::Malformed)? {
        if index == FIELDS_MAX {
            return Err(Unreadable::Malformed);
        }
        if field.name() == Some("model") {
            if head.model.is_some() {
                return Err(Unreadable::Duplicate);
            }
            let value = field.bytes().await.map_err(|_| Unreadable::Malformed)?;
            let text = std::str::from_utf8(&value).map_err(|_| Unreadable::Malformed)?;
            let at = content_of_part(body, &boundary, index).ok_or(Unreadable::Malformed)?;
            if value.len() > MODEL_BYTES_MAX || body.get(at.clone()) != Some(value.as_ref()) {
                return Err(Unreadable::Malformed);
            }
            head = FormHead { model: Some(text.to_owned()), model_at: Some(at) };
        }
        index += 1;
    }
    Ok(head)
}

/// Where the content of part `index` stands: from the blank line after its headers to the next delimiter. The parser
/// does not tell; what is found here is compared with what it read.
fn content_of_part(body: &[u8], boundary: &str, index: usize) -> Option<Range<usize>> {
    let delimiter = format!("\r\n--{boundary}");
    let finder = memchr::memmem::Finder::new(&delimiter);
    let first = if body.starts_with(&delimiter.as_bytes()[2..]) {
        delimiter.len() - 2
    } else {
        finder.find(body)? + delimiter.len()
    };
    let mut start = first;
    for _ in 0..index {
        start += finder.find(body.get(start..)?)? + delimiter.len();
    }
    let content = start + memchr::memmem::find(body.get(start..)?, b"\r\n\r\n")? + 4;
    // A part without content: the blank line's end is the delimiter's begin.
    let from = content - 2;
    let end = from + finder.find(body.get(from..)?)?;
    Some(content.min(end)..end)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn form(fields: &[(&str, &str)]) -> Bytes {
        let mut body = String::new();
        for (name, value) in fields {
            body += &format!(
                "--XX\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n"
            );
        }
        (body + "--XX--\r\n").into()
    }

    fn read_now(content_type: &str, body: &Bytes) -> Result<FormHead, Unreadable> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(read(content_type, body))
    }

    #[test]
    fn the_model_is_found_and_where_it_stands() {
        let body = form(&[("file", "name=\"model\"\r\n\r\nx"), ("model", "whisper"), ("n", "")]);
        let head = read_now("multipart/form-data; boundary=XX", &body).unwrap();
        assert_eq!(head.model.as_deref(), Some("whisper"));
        assert_eq!(&body[head.model_at.unwrap()], b"whisper");
    }

    #[test]
    fn two_models_and_broken_forms_are_refused() {
        let of = |body: &Bytes| read_now("multipart/form-data; boundary=XX", body);
        assert_eq!(of(&form(&[("model", "a"), ("model", "b")])), Err(Unreadable::Duplicate));
        assert_eq!(of(&Bytes::from_static(b"--XX\r\nContent-Disp")), Err(Unreadable::Malformed));
        assert_eq!(read_now("application/json", &form(&[])), Err(Unreadable::Malformed));
    }

    proptest! {
        #[test]
        fn whatever_stands_around_it(before in "[ -~\r\n]{0,40}", model in "[a-z/.-]{0,9}", after in "[ -~]{0,40}") {
            let body = form(&[("file", &before), ("model", &model), ("prompt", &after)]);
            if let Ok(head) = read_now("multipart/form-data; boundary=XX", &body)
                && let Some(at) = head.model_at
            {
                prop_assert_eq!(std::str::from_utf8(&body[at]).unwrap(), head.model.unwrap());
            }
        }
    }
}
