//! What a client has already, and in which encoding it takes the rest (RFC 9110, 12.5.3 and 13.1.2).

use http::{HeaderMap, HeaderName, header};

/// True where gzip is taken; `unsaid` where nothing is said of encodings, which means that any is.
pub fn takes_gzip(headers: &HeaderMap, unsaid: bool) -> bool {
    let mut codings = list(headers, header::ACCEPT_ENCODING).peekable();
    let takes = |coding: &str| {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, ""));
        let name = name.trim();
        let known = ["gzip", "x-gzip", "*"].iter().any(|one| name.eq_ignore_ascii_case(one));
        let weight = weight.trim().strip_prefix("q=").map(str::parse::<f32>);
        known && !matches!(weight, Some(Ok(0.0) | Err(_)))
    };
    match codings.peek() {
        None => unsaid && !headers.contains_key(header::ACCEPT_ENCODING),
        Some(_) => codings.any(takes),
    }
}

/// True where `If-None-Match` names `tag`, weak or not, quotes included: the client has that answer.
pub fn has_already(headers: &HeaderMap, tag: &str) -> bool {
    let tag = tag.trim_start_matches("W/");
    list(headers, header::IF_NONE_MATCH)
        .any(|known| known == "*" || known.trim_start_matches("W/") == tag)
}

fn list(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim).filter(|one| !one.is_empty())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn said(name: HeaderName, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_static(value))])
    }

    #[test]
    fn an_encoding_is_taken_as_the_client_says() {
        let takes = |value| takes_gzip(&said(header::ACCEPT_ENCODING, value), true);
        for value in ["gzip", "deflate, GZIP;q=0.5", "br;q=1.0, *", "deflate,x-gzip;q=1.0"] {
            assert!(takes(value), "{value}");
        }
        for value in ["", "identity", "br", "gzip;q=0", "gzip; q=0.0, br", "x-gzipped", "gzip;q=x"]
        {
            assert!(!takes(value), "{value}");
        }
        assert!(takes_gzip(&HeaderMap::new(), true) && !takes_gzip(&HeaderMap::new(), false));
    }

    #[test]
    fn a_tag_is_known_as_it_is_listed() {
        let has = |value| has_already(&said(header::IF_NONE_MATCH, value), "\"a\"");
        assert!(has_already(&said(header::IF_NONE_MATCH, "W/\"a\""), "W/\"a\""));
        assert!(has("\"a\"") && has("\"b\", W/\"a\"") && has("*"));
        assert!(!has("\"b\"") && !has("a") && !has("") && !has_already(&HeaderMap::new(), "\"a\""));
    }
}
