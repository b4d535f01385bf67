//! What a message says: one text, and the images beside it.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::fields::{is_text, read, refused};
use crate::refusal::Refusal;

/// The field that is to blame.
const MESSAGES: &str = "messages";

/// The text of a message.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Said<'a> {
    /// As it stands.
    Whole(&'a RawValue),
    /// Of parts.
    Joined(Cow<'a, str>),
}

/// Text and images of one message.
pub(super) struct Content<'a> {
    pub(super) text: Said<'a>,
    /// In base64.
    pub(super) images: Vec<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Part<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    text: Option<Cow<'a, str>>,
    #[serde(borrow)]
    image_url: Option<Image<'a>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Image<'a> {
    Bare(#[serde(borrow)] Cow<'a, str>),
    Object {
        #[serde(borrow)]
        url: Cow<'a, str>,
    },
}

impl<'a> Content<'a> {
    /// Reads what a message says. Its parts become one text, with a line for each, as vLLM joins them. Ollama's `/v1` makes a
    /// message of each part: there a model sees several turns.
    ///
    /// # Errors
    /// A part is neither text nor an image that came with the request.
    pub(super) fn read(value: Option<&'a RawValue>) -> Result<Self, Refusal> {
        let text = match value {
            None => Said::Joined("".into()),
            Some(value) if is_text(value) => Said::Whole(value),
            Some(value) => return Self::of(read(value, MESSAGES)?),
        };
        Ok(Self { text, images: Vec::new() })
    }

    fn of(parts: Vec<Part<'a>>) -> Result<Self, Refusal> {
        let (mut texts, mut images) = (Vec::new(), Vec::new());
        for part in parts {
            match part {
                Part { kind, text: Some(text), .. } if kind == "text" => texts.push(text),
                Part { kind, image_url: Some(image), .. } if kind == "image_url" => {
                    images.push(image.base64()?);
                }
                Part { kind, .. } => {
                    let message = format!(
                        "A part of type `{kind}` cannot be sent to this model. Send parts of type `text` with a `text`, or `image_url` with an image in base64."
                    );
                    return Err(unsupported(message));
                }
            }
        }
        let text = match texts.len() {
            1 => texts.swap_remove(0),
            _ => texts.join("\n").into(),
        };
        Ok(Self { text: Said::Joined(text), images })
    }
}

impl<'a> Image<'a> {
    /// What its URL holds.
    fn base64(self) -> Result<Cow<'a, str>, Refusal> {
        let (Self::Bare(url) | Self::Object { url }) = self;
        let Some(at) = base64_at(&url) else {
            return Err(unsupported(
                "An image must come with the request: this model fetches none. Send it as `data:image/png;base64,…`.",
            ));
        };
        Ok(match url {
            Cow::Borrowed(url) => url[at..].into(),
            Cow::Owned(url) => url[at..].to_owned().into(),
        })
    }
}

/// Where the data of a `data:` URL begins, if it is base64 (RFC 2397).
fn base64_at(url: &str) -> Option<usize> {
    let is_data = url.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case("data:"));
    let comma = url.find(',').filter(|_| is_data)?;
    url[..comma].ends_with(";base64").then_some(comma + 1)
}

fn unsupported(message: impl Into<Cow<'static, str>>) -> Refusal {
    refused("unsupported_content", MESSAGES, message)
}
