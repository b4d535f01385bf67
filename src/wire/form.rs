//! The `model` field of a multipart form (RFC 7578): what uploads of audio send in the place of JSON.

use std::ops::Range;

use bytes::Bytes;
use futures_util::stream;
use memchr::memmem::Finder;
use multer::Multipart;

use super::parameters::Parameters;

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
/// A form that a node's parser might read otherwise is refused: the key's model would stand in one part, and the model
/// that is used in another.
///
/// # Errors
/// [`Unreadable`]: the request is answered with 400.
pub async fn read(content_type: &str, body: &Bytes) -> Result<FormHead, Unreadable> {
    let boundary = boundary_in(content_type).ok_or(Unreadable::Malformed)?;
    let whole = stream::once(std::future::ready(Ok::<_, std::convert::Infallible>(body.clone())));
    let mut form = Multipart::new(whole, boundary.clone());
    let delimiter = format!("\r\n--{boundary}");
    let mut parts = Parts::begin(body, &delimiter).ok_or(Unreadable::Malformed)?;
    let (mut head, mut count) = (FormHead::default(), 0);
    while let Some(field) = form.next_field().await.map_err(|_| Unreadable::Malformed)? {
        let part = parts.next().ok_or(Unreadable::Malformed)?;
        let name = name_in(part.head).ok_or(Unreadable::Malformed)?;
        if count == FIELDS_MAX || field.name().map(str::as_bytes) != Some(name) {
            return Err(Unreadable::Malformed);
        }
        if name == b"model" {
            if head.model.is_some() {
                return Err(Unreadable::Duplicate);
            }
            let value = field.bytes().await.map_err(|_| Unreadable::Malformed)?;
            let text = std::str::from_utf8(&value).map_err(|_| Unreadable::Malformed)?;
            let at = part.content;
            if value.len() > MODEL_BYTES_MAX || body.get(at.clone()) != Some(value.as_ref()) {
                return Err(Unreadable::Malformed);
            }
            head = FormHead { model: Some(text.to_owned()), model_at: Some(at) };
        }
        count += 1;
    }
    if parts.is_over() { Ok(head) } else { Err(Unreadable::Malformed) }
}

/// The boundary of a form whose `Content-Type` has one reading: another charset would make other names of the bytes.
fn boundary_in(content_type: &str) -> Option<String> {
    let read = Parameters::read(content_type.as_bytes())?;
    let utf8 = read.get("charset").is_none_or(|charset| charset.eq_ignore_ascii_case(b"utf-8"));
    let plain = read.value == "multipart/form-data" && read.are_among(&["boundary", "charset"]);
    let boundary = multer::parse_boundary(content_type).ok()?;
    (plain && utf8 && read.get("boundary") == Some(boundary.as_bytes())).then_some(boundary)
}

/// The field's name in a part's head, where it has one reading.
fn name_in(head: &[u8]) -> Option<&[u8]> {
    let mut disposition = None;
    for line in head.strip_prefix(b"\r\n")?.split(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let colon = memchr::memchr(b':', line)?;
        let (name, value) = (&line[..colon], &line[colon + 1..]);
        // A line that begins with a space goes on from the one before it.
        if name.is_empty() || !name.iter().all(|b| b.is_ascii_graphic()) || value.contains(&b'\r') {
            return None;
        }
        if name.eq_ignore_ascii_case(b"content-disposition") && disposition.replace(value).is_some()
        {
            return None;
        }
        let as_it_is = ["7bit", "8bit", "binary"].map(str::as_bytes);
        let encoding = value.trim_ascii().to_ascii_lowercase();
        if name.eq_ignore_ascii_case(b"content-transfer-encoding")
            && !as_it_is.contains(&encoding.as_slice())
        {
            return None;
        }
    }
    let read = Parameters::read(disposition?)?;
    let plain = read.value == "form-data" && read.are_among(&["name", "filename", "filename*"]);
    read.get("name").filter(|_| plain)
}

/// Where the parts of a form stand. The parser does not tell; what is found here is compared with what it read.
struct Parts<'b> {
    body: &'b [u8],
    finder: Finder<'b>,
    /// Behind the last delimiter.
    at: usize,
}

/// One part.
struct Part<'b> {
    /// From behind the delimiter to the blank line.
    head: &'b [u8],
    content: Range<usize>,
}

impl<'b> Parts<'b> {
    fn begin(body: &'b [u8], delimiter: &'b str) -> Option<Self> {
        let (bare, whole) = (&delimiter.as_bytes()[2..], delimiter.as_bytes());
        let at = if body.starts_with(bare) {
            bare.len()
        } else {
            body.starts_with(whole).then_some(whole.len())?
        };
        Some(Self { body, finder: Finder::new(delimiter), at })
    }

    fn next(&mut self) -> Option<Part<'b>> {
        let rest = self.body.get(self.at..)?;
        let blank = memchr::memmem::find(rest, b"\r\n\r\n")?;
        let content = self.at + blank + 4;
        // A part without content: the blank line's end is the delimiter's begin.
        let from = content - 2;
        let end = from + self.finder.find(self.body.get(from..)?)?;
        self.at = end + self.finder.needle().len();
        Some(Part { head: &rest[..blank], content: content.min(end)..end })
    }

    /// The last delimiter was the form's end.
    fn is_over(&self) -> bool {
        self.body.get(self.at..).is_some_and(|rest| rest.starts_with(b"--"))
    }
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
