//! Who asks: the other end of the connection, or, where that is a proxy that is believed, whom it names.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use http::{HeaderMap, HeaderName, HeaderValue, header};
use pingora_proxy::Session;

use crate::config::Networks;
use crate::wire::address::push_ip;
use crate::wire::raw_head::is_host;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// The longest IPv6 address, in letters.
const IP_BYTES_MAX: usize = 45;

/// Proxies that one request came through, at most: more are not looked at.
const PROXIES_MAX: usize = 16;

/// Where a request comes from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Client {
    /// Whose it is. Of one behind a proxy the port is 0: nobody tells it.
    pub(super) address: Option<SocketAddr>,
    /// The other end of the connection is believed.
    by_proxy: bool,
}

impl Client {
    pub(super) fn of(session: &Session, trusted: &Networks) -> Self {
        let peer = session.client_addr().and_then(|address| address.as_inet().copied());
        let by_proxy = peer.is_some_and(|peer| !trusted.is_empty() && trusted.hold(peer.ip()));
        let named = by_proxy.then(|| named(&session.req_header().headers, trusted)).flatten();
        Self { address: named.map(|ip| SocketAddr::new(ip, 0)).or(peer), by_proxy }
    }

    /// For what is counted for each address.
    pub(super) fn ip(&self) -> IpAddr {
        self.address.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |address| address.ip())
    }
}

/// The last address of `X-Forwarded-For` that is no proxy's of ours; what stands before it, anybody may have written.
fn named(headers: &HeaderMap, trusted: &Networks) -> Option<IpAddr> {
    let lines = headers.get_all(FORWARDED_FOR).iter();
    let lines: Vec<&str> = lines.filter_map(|line| line.to_str().ok()).collect();
    let mut nearest = None;
    for text in lines.iter().rev().flat_map(|line| line.rsplit(',')).take(PROXIES_MAX) {
        let Some(address) = address(text.trim()) else { break };
        nearest = Some(address);
        if !trusted.hold(address) {
            break;
        }
    }
    nearest
}

/// Also with a port, as some proxies write it.
fn address(text: &str) -> Option<IpAddr> {
    let with_port = || text.parse().ok().map(|address: SocketAddr| address.ip());
    text.parse().ok().or_else(with_port)
}

/// `X-Forwarded-*` as we know it. What a client claims is passed on only where it is a proxy that is believed.
pub(super) fn say_who_asks(session: &Session, client: Client, headers: &mut HeaderMap) {
    let from = &session.req_header().headers;
    let before = from.get_all(FORWARDED_FOR).iter().filter(|_| client.by_proxy);
    let mut chain = Vec::with_capacity(IP_BYTES_MAX);
    for line in before {
        chain.extend_from_slice(line.as_bytes());
        chain.extend_from_slice(b", ");
    }
    let peer = session.client_addr().and_then(|address| address.as_inet());
    if let Some(peer) = peer {
        push_ip(&mut chain, peer.ip());
        if let Ok(chain) = HeaderValue::from_maybe_shared(bytes::Bytes::from(chain)) {
            headers.insert(FORWARDED_FOR, chain);
        }
    }
    let told = |name: &HeaderName| from.get(name).filter(|_| client.by_proxy);
    let is_tls = session.digest().is_some_and(|digest| digest.ssl_digest.is_some());
    let ours = HeaderValue::from_static(if is_tls { "https" } else { "http" });
    let is_scheme = |value: &&HeaderValue| [&b"http"[..], b"https"].contains(&value.as_bytes());
    let scheme = told(&FORWARDED_PROTO).filter(is_scheme).cloned();
    headers.insert(FORWARDED_PROTO, scheme.unwrap_or(ours));
    let host = told(&FORWARDED_HOST).filter(|value| is_host(value.as_bytes())).cloned();
    let authority = session.req_header().uri.authority();
    let authority = || authority.and_then(|known| HeaderValue::from_str(known.as_str()).ok());
    let host = host.or_else(authority).or_else(|| from.get(header::HOST).cloned());
    if let Some(host) = host {
        headers.insert(FORWARDED_HOST, host);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named_in(lines: &[&str]) -> Option<IpAddr> {
        let trusted = Networks::of(["10.0.0.0/8"].into_iter()).unwrap();
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(FORWARDED_FOR, line.parse().unwrap());
        }
        named(&headers, &trusted)
    }

    #[test]
    fn the_last_address_that_is_no_proxys_is_the_clients() {
        let ip = |text: &str| Some(text.parse().unwrap());
        assert_eq!(named_in(&["1.1.1.1"]), ip("1.1.1.1"));
        assert_eq!(named_in(&["6.6.6.6, 1.1.1.1, 10.0.0.2"]), ip("1.1.1.1"));
        assert_eq!(named_in(&["6.6.6.6", "1.1.1.1:55", "10.0.0.2"]), ip("1.1.1.1"));
        assert_eq!(named_in(&["[2001:db8::1]:4, 10.0.0.1"]), ip("2001:db8::1"));
        assert_eq!(named_in(&["10.0.0.3, 10.0.0.2"]), ip("10.0.0.3"), "all are ours");
        assert_eq!(named_in(&["6.6.6.6, nonsense, 10.0.0.2"]), ip("10.0.0.2"));
        assert_eq!(named_in(&[]), None);
    }
}
