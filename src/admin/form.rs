//! What the forms of the page send.

use std::time::Duration;

use http::StatusCode;
use pingora_core::protocols::http::ServerSession;

use crate::wire::query;

/// Longest form, in bytes: a key of the longest, escaped, and some.
const BYTES_MAX: usize = 16 * 1024;

/// Longest wait for all of it.
const PATIENCE: Duration = Duration::from_secs(10);

/// Fields and values as they were sent (WHATWG URL, `application/x-www-form-urlencoded`).
pub(super) struct Form(String);

/// Why a form could not be read.
#[derive(Debug, Clone, Copy)]
pub(super) enum Unread {
    TooLong,
    Broken,
}

impl Unread {
    pub(super) fn status(self) -> StatusCode {
        match self {
            Self::TooLong => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Broken => StatusCode::BAD_REQUEST,
        }
    }

    pub(super) fn message(self) -> &'static str {
        match self {
            Self::TooLong => "the form is too long",
            Self::Broken => "the form did not come whole",
        }
    }
}

/// The form in the body of a request.
///
/// # Errors
/// [`Unread`].
pub(super) async fn read(session: &mut ServerSession) -> Result<Form, Unread> {
    let whole = async {
        let mut form = Vec::new();
        while let Some(piece) = session.read_request_body().await.map_err(|_| Unread::Broken)? {
            if form.len() + piece.len() > BYTES_MAX {
                return Err(Unread::TooLong);
            }
            form.extend_from_slice(&piece);
        }
        String::from_utf8(form).map(Form).map_err(|_| Unread::Broken)
    };
    tokio::time::timeout(PATIENCE, whole).await.unwrap_or(Err(Unread::Broken))
}

impl Form {
    /// The value of a field; none where it is not there once.
    pub(super) fn field(&self, name: &str) -> Option<String> {
        let (_, value) = query::take(Some(&self.0), &format!("{name}=")).ok()?;
        query::decoded(&value?.replace('+', " "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_there_once() {
        let form = Form("key=a%2Bb+c&node=http%3A%2F%2Fh&twice=1&twice=2&bad=%zz".to_owned());
        assert_eq!(form.field("key").as_deref(), Some("a+b c"));
        assert_eq!(form.field("node").as_deref(), Some("http://h"));
        for name in ["twice", "bad", "none", "ke"] {
            assert_eq!(form.field(name), None, "{name}");
        }
    }
}
