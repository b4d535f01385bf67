//! `/docs`, `/redoc` and `/openapi.json`: the API as a description, for people and programs, without a key and without any
//! other host.

mod document;
mod refusals;

use std::io::Read;
use std::sync::OnceLock;

use bytes::Bytes;
use data_encoding::HEXLOWER;
use flate2::read::GzDecoder;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use ring::digest::{SHA256, digest};

use super::Answer;
use crate::wire::negotiated::{has_already, takes_gzip};
pub use document::Document;

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";

/// What the pages may load: what is served here, styles that their scripts write, pictures inside of those. Redoc searches in a
/// thread whose script it keeps in itself.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
     connect-src 'self'; worker-src blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);

/// Asked for again each time, and not sent again: after an update nobody sees the old ones.
const CACHED: HeaderValue = HeaderValue::from_static("no-cache");

/// SHA-256 of what was packed and of what is served packed (scripts/vendor-docs).
const SUMS: &str = include_str!("vendor/SHA256SUMS");

/// A file of the pages.
struct File {
    path: &'static str,
    content_type: &'static str,
    bytes: &'static [u8],
    /// Packed with gzip: its name in [`SUMS`], unpacked.
    packed: Option<&'static str>,
    /// Unpacked, once somebody has asked for it.
    unpacked: OnceLock<Bytes>,
}

const fn plain(path: &'static str, content_type: &'static str, bytes: &'static [u8]) -> File {
    File { path, content_type, bytes, packed: None, unpacked: OnceLock::new() }
}

static FILES: [File; 7] = [
    plain("/docs", HTML, include_bytes!("pages/docs.html")),
    plain("/docs/init.js", SCRIPT, include_bytes!("pages/docs.js")),
    plain("/redoc", HTML, include_bytes!("pages/redoc.html")),
    plain("/docs/redoc-init.js", SCRIPT, include_bytes!("pages/redoc.js")),
    File {
        path: "/docs/swagger-ui-bundle.js",
        content_type: SCRIPT,
        bytes: include_bytes!("vendor/swagger-ui-bundle.js.gz"),
        packed: Some("swagger-ui-bundle.js"),
        unpacked: OnceLock::new(),
    },
    File {
        path: "/docs/swagger-ui.css",
        content_type: STYLE,
        bytes: include_bytes!("vendor/swagger-ui.css.gz"),
        packed: Some("swagger-ui.css"),
        unpacked: OnceLock::new(),
    },
    File {
        path: "/docs/redoc.standalone.js",
        content_type: SCRIPT,
        bytes: include_bytes!("vendor/redoc.standalone.js.gz"),
        packed: Some("redoc.standalone.js"),
        unpacked: OnceLock::new(),
    },
];

/// The answer to a GET of `path` with these `headers`, where that is one of the pages or their files.
pub fn page(path: &str, headers: &HeaderMap) -> Option<Answer> {
    let file = FILES.iter().find(|file| file.path == path)?;
    let Some(name) = file.packed else {
        let mut answer =
            answer(headers, Bytes::from_static(file.bytes), &sum(file.bytes), file.content_type);
        answer.headers.push((header::CONTENT_SECURITY_POLICY, POLICY));
        answer.headers.push((header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")));
        return Some(answer);
    };
    let mut answer = if takes_gzip(headers, true) {
        let sum = sum_of(&format!("{name}.gz"));
        let mut answer = answer(headers, Bytes::from_static(file.bytes), sum, file.content_type);
        answer.headers.push((header::CONTENT_ENCODING, HeaderValue::from_static("gzip")));
        answer
    } else {
        answer(headers, file.unpacked(), sum_of(name), file.content_type)
    };
    answer.headers.push((header::VARY, HeaderValue::from_static("accept-encoding")));
    Some(answer)
}

/// `body`, whose sum is known, or that it is what the client has already (RFC 9110, `If-None-Match`).
fn answer(headers: &HeaderMap, body: Bytes, sum: &str, content_type: &'static str) -> Answer {
    let tag = format!("\"{sum}\"");
    let mut answer = match has_already(headers, &tag) {
        true => Answer::empty(StatusCode::NOT_MODIFIED),
        false => Answer {
            headers: vec![(header::CONTENT_TYPE, HeaderValue::from_static(content_type))],
            ..Answer::json(StatusCode::OK, body)
        },
    };
    let nosniff = HeaderValue::from_static("nosniff");
    answer
        .headers
        .extend([(header::CACHE_CONTROL, CACHED), (header::X_CONTENT_TYPE_OPTIONS, nosniff)]);
    // Hexadecimal digits.
    answer.headers.extend(HeaderValue::from_str(&tag).map(|tag| (header::ETAG, tag)));
    answer
}

fn sum(bytes: &[u8]) -> String {
    HEXLOWER.encode(digest(&SHA256, bytes).as_ref())
}

/// The sum of a vendored file.
fn sum_of(name: &str) -> &'static str {
    let of = |line: &'static str| line.split_once("  ").filter(|(_, file)| *file == name);
    SUMS.lines().find_map(of).map_or("", |(sum, _)| sum)
}

impl File {
    /// Done once: whoever has no key could have it done again and again.
    fn unpacked(&self) -> Bytes {
        let unpack = || {
            let mut unpacked = Vec::new();
            // What is compiled in is whole: a test unpacks all of it.
            let _whole = GzDecoder::new(self.bytes).read_to_end(&mut unpacked);
            unpacked.into()
        };
        self.unpacked.get_or_init(unpack).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::paths;

    #[test]
    fn what_is_served_is_what_the_sums_say() {
        for file in &FILES {
            assert!(paths::open(file.path), "{}", file.path);
            if let Some(name) = file.packed {
                assert_eq!(sum(file.bytes), sum_of(&format!("{name}.gz")), "{name}");
                assert_eq!(sum(&file.unpacked()), sum_of(name), "{name}");
            }
        }
    }

    #[test]
    fn nothing_is_loaded_from_another_host() {
        let redoc = FILES.iter().find(|file| file.path == "/docs/redoc.standalone.js").unwrap();
        assert!(!String::from_utf8_lossy(&redoc.unpacked()).contains("cdn.redoc.ly"));
    }
}
