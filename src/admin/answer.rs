//! What is answered to operators, with the headers that all of it has.

use std::io::Write;

use data_encoding::HEXLOWER;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header};
use ring::digest;

use super::page::Html;
use crate::wire::negotiated::{has_already, takes_gzip};

/// A page may load its own script and style, ask its own listener, and nothing else.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

/// On every answer. Strangers are not told from where a link was followed; with `no-referrer` browsers would send our own
/// forms with `Origin: null`, as from anywhere (WHATWG Fetch, "append a request Origin header").
const EVERYWHERE: [(&str, &str); 4] = [
    ("content-security-policy", POLICY),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "same-origin"),
    ("cross-origin-opener-policy", "same-origin"),
];

/// Shortest text that is compressed, in bytes: below it fits in the packet of the head.
const GZIP_BYTES_MIN: usize = 1_024;

pub(super) const HTML: &str = "text/html; charset=utf-8";

pub(super) const TEXT: &str = "text/plain; charset=utf-8";

const JSON: &str = "application/json";

/// A file of the page.
pub(super) struct Asset {
    pub(super) content_type: &'static str,
    pub(super) text: &'static str,
}

/// One answer.
pub(super) struct Answer {
    status: StatusCode,
    content_type: &'static str,
    body: Vec<u8>,
    /// Besides those of every answer.
    headers: HeaderMap,
    /// Known by its content: a browser may keep it.
    tag: Option<HeaderValue>,
}

impl Answer {
    pub(super) fn new(status: StatusCode, content_type: &'static str, body: Vec<u8>) -> Self {
        Self { status, content_type, body, headers: HeaderMap::new(), tag: None }
    }

    pub(super) fn json(body: Vec<u8>) -> Self {
        Self::new(StatusCode::OK, JSON, body)
    }

    pub(super) fn html(status: StatusCode, page: Html) -> Self {
        Self::new(status, HTML, page.into_bytes())
    }

    pub(super) fn error(status: StatusCode, message: &str) -> Self {
        let body = serde_json::json!({ "error": { "message": message } });
        Self::new(status, JSON, body.to_string().into_bytes())
    }

    pub(super) fn asset(asset: &Asset) -> Self {
        let hash = digest::digest(&digest::SHA256, asset.text.as_bytes());
        // Weak, as it stands for the compressed form, too.
        let tag = format!("W/\"{}\"", HEXLOWER.encode(&hash.as_ref()[..8]));
        let tag = HeaderValue::from_str(&tag).ok();
        let body = asset.text.as_bytes().to_vec();
        Self { tag, ..Self::new(StatusCode::OK, asset.content_type, body) }
    }

    /// To the page, from a form.
    pub(super) fn to_the_page() -> Self {
        Self::new(StatusCode::SEE_OTHER, TEXT, Vec::new())
            .with(header::LOCATION, HeaderValue::from_static("/"))
    }

    pub(super) fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// As the client of this request shall get it.
    pub(super) fn finish(mut self, method: &Method, asked: &HeaderMap) -> Response<Vec<u8>> {
        let tag = self.tag.as_ref().and_then(|tag| tag.to_str().ok());
        if tag.is_some_and(|tag| has_already(asked, tag)) {
            self.status = StatusCode::NOT_MODIFIED;
            self.body.clear();
        }
        let mut response = Response::new(Vec::new());
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        for (name, value) in EVERYWHERE {
            headers.insert(name, HeaderValue::from_static(value));
        }
        headers.extend(self.headers);
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(self.content_type));
        let kept = if self.tag.is_some() { "no-cache" } else { "no-store" };
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(kept));
        if self.tag.is_some() || self.content_type == HTML {
            headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
            let wanted = self.body.len() >= GZIP_BYTES_MIN && takes_gzip(asked, false);
            if let Some(packed) = wanted.then(|| packed(&self.body)).flatten() {
                headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
                self.body = packed;
            }
        }
        if let Some(tag) = self.tag {
            headers.insert(header::ETAG, tag);
        }
        if self.status != StatusCode::NOT_MODIFIED {
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(self.body.len()));
        }
        if method != Method::HEAD {
            *response.body_mut() = self.body;
        }
        response
    }
}

fn packed(body: &[u8]) -> Option<Vec<u8>> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    gzip.write_all(body).ok()?;
    gzip.finish().ok()
}
