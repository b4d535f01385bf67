//! Who is let in where no key is asked for: a browser on the operator's machine also carries out what pages of strangers
//! tell it.

use std::net::IpAddr;

use http::{HeaderMap, Uri, header};

/// False for a request that a page of another origin sent (WHATWG Fetch, `Origin`).
pub(super) fn is_own_page(headers: &HeaderMap) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else { return true };
    let authority = |text: &str| text.parse::<Uri>().ok()?.authority().cloned();
    let origin = origin.to_str().ok().and_then(authority);
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    match (origin, host) {
        (Some(origin), Some(host)) => origin.as_str().eq_ignore_ascii_case(host),
        _ => false,
    }
}

/// True where `Host` is an address or `localhost`: a name of a stranger's that was made to mean this machine (DNS
/// rebinding) is neither.
pub(super) fn is_local_name(headers: &HeaderMap) -> bool {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let Some(authority) = host.and_then(|host| host.parse::<http::uri::Authority>().ok()) else {
        return false;
    };
    let host = authority.host();
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    host.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(header::HeaderName, &'static str)]) -> HeaderMap {
        let value = http::HeaderValue::from_static;
        pairs.iter().map(|(name, text)| (name.clone(), value(text))).collect()
    }

    #[test]
    fn pages_of_strangers_are_told_from_our_own() {
        let own =
            |origin, host| is_own_page(&headers(&[(header::ORIGIN, origin), (header::HOST, host)]));
        assert!(is_own_page(&headers(&[(header::HOST, "h")])));
        assert!(own("http://127.0.0.1:9464", "127.0.0.1:9464"));
        assert!(!own("http://evil.example", "127.0.0.1:9464"));
        assert!(!own("null", "127.0.0.1:9464"));
    }

    #[test]
    fn names_of_strangers_are_not_this_machine() {
        let local = |host| is_local_name(&headers(&[(header::HOST, host)]));
        for host in ["localhost:9464", "LOCALHOST", "127.0.0.1", "127.0.0.1:9464", "[::1]:9464"] {
            assert!(local(host), "{host}");
        }
        for host in ["evil.example", "evil.example:9464", "localhost.evil.example", ""] {
            assert!(!local(host), "{host}");
        }
    }
}
