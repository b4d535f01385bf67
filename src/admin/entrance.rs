//! Who is let in, where a browser on the operator's machine also carries out what pages of strangers tell it.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use subtle::ConstantTimeEq;

use super::login::Logins;
use crate::access::attempts::Attempts;
use crate::access::keys::{self, KeyStore, Presented};
use crate::config::MetricsKey;
use crate::names::KeyName;

/// The door of the operators' listener.
pub struct Entrance {
    /// The listener can be reached from this machine alone: no key is asked for.
    local: bool,
    metrics_key: Option<MetricsKey>,
    logins: Logins,
    attempts: Attempts,
    /// A scrape was refused, and that was told.
    warned: AtomicBool,
}

/// Who was let in. Its `Display` names them in the log.
#[derive(Debug)]
pub(super) enum Visitor {
    /// Somebody on this machine.
    Here,
    /// Who has this key of scope `admin`.
    Key {
        name: KeyName,
        /// Given in the page's form: there is a session to end.
        by_login: bool,
    },
}

impl fmt::Display for Visitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Here => f.write_str("this machine"),
            Self::Key { name, .. } => write!(f, "key {name}"),
        }
    }
}

/// Why somebody is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stranger {
    OtherOrigin,
    OtherHost,
    NoScope,
    NoKey,
    WrongKey,
    /// From an address that gave too many wrong keys.
    MustWait(Duration),
    /// The system has no randomness for a session.
    NoRandomness,
}

impl Stranger {
    pub(super) fn status(self) -> StatusCode {
        match self {
            Self::OtherOrigin | Self::OtherHost | Self::NoScope => StatusCode::FORBIDDEN,
            Self::NoKey | Self::WrongKey => StatusCode::UNAUTHORIZED,
            Self::MustWait(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::NoRandomness => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    pub(super) fn message(self) -> &'static str {
        match self {
            Self::OtherOrigin => "a page of another origin may not ask here",
            Self::OtherHost => "the Host is not a name of this machine",
            Self::NoScope => "the key has no scope `admin`",
            Self::NoKey => "a key of scope `admin` is needed",
            Self::WrongKey => "there is no such key",
            Self::MustWait(_) => "too many wrong keys came from this address: wait a minute",
            Self::NoRandomness => "the system has no randomness",
        }
    }
}

impl Entrance {
    /// The door of a listener on `address`, with the key of `/metrics`.
    pub fn new(address: SocketAddr, metrics_key: Option<MetricsKey>) -> Self {
        Self {
            local: address.ip().is_loopback(),
            metrics_key,
            logins: Logins::default(),
            attempts: Attempts::default(),
            warned: AtomicBool::new(false),
        }
    }

    /// Who sent this request: by a key, or a session that began with one, of scope `admin`; or on this machine.
    ///
    /// # Errors
    /// Why they may not see it.
    pub(super) fn visitor(
        &self,
        (method, headers): (&Method, &HeaderMap),
        keys: &KeyStore,
    ) -> Result<Visitor, Stranger> {
        self.own_page(method, headers)?;
        if self.local {
            return Ok(Visitor::Here);
        }
        let now = SystemTime::now();
        // Two of them are none: which counts is anybody's guess.
        let presented = keys::presented(headers).map_err(|_| Stranger::NoKey)?;
        let (key, by_login) = match presented {
            Some(key) => (keys.find(key, now), false),
            None => {
                let known = self.logins.find(headers, Instant::now());
                (known.and_then(|known| keys.again(&known, now)), true)
            }
        };
        match key {
            Some(key) if key.admin => Ok(Visitor::Key { name: key.name.clone(), by_login }),
            Some(_) => Err(Stranger::NoScope),
            None => Err(Stranger::NoKey),
        }
    }

    /// Nobody gets further from the page of another origin, or by a name that was made to mean this machine.
    pub(super) fn own_page(&self, method: &Method, headers: &HeaderMap) -> Result<(), Stranger> {
        if !is_own_page(headers) || (method == Method::POST && !is_own_fetch(headers)) {
            return Err(Stranger::OtherOrigin);
        }
        match self.local && !is_local_name(headers) {
            true => Err(Stranger::OtherHost),
            false => Ok(()),
        }
    }

    /// Begins a session for who has `key`: its cookie.
    ///
    /// # Errors
    /// It opens nothing, or nothing more from this address for now.
    pub(super) fn login(
        &self,
        key: &str,
        address: IpAddr,
        keys: &KeyStore,
    ) -> Result<HeaderValue, Stranger> {
        let now = Instant::now();
        let attempt = self.attempts.begin(address, now).map_err(Stranger::MustWait)?;
        let Some(key) = keys.find(Presented::in_body(key), SystemTime::now()) else {
            attempt.failed();
            log::warn!("a wrong key was given on the status page, from {address}");
            return Err(Stranger::WrongKey);
        };
        if !key.admin {
            return Err(Stranger::NoScope);
        }
        log::info!("key {} opened the status page, from {address}", key.name);
        self.logins.begin(key, now).map_err(|_| Stranger::NoRandomness)
    }

    /// Ends the session of a request.
    pub(super) fn logout(&self, headers: &HeaderMap) {
        self.logins.end(headers);
    }

    /// Whether `/metrics` may be read. The first who may not is told of in the log: a scraper is silent about it.
    pub(super) fn opens_metrics(&self, headers: &HeaderMap) -> bool {
        let Some(key) = &self.metrics_key else { return true };
        let bearer = headers.get(header::AUTHORIZATION).map(HeaderValue::as_bytes);
        let bearer = bearer.and_then(|value| value.split_at_checked("Bearer ".len()));
        let opens = bearer.is_some_and(|(scheme, given)| {
            scheme.eq_ignore_ascii_case(b"Bearer ")
                && bool::from(given.ct_eq(key.secret().as_bytes()))
        });
        if !opens && !self.warned.swap(true, Ordering::Relaxed) {
            log::warn!(
                "/metrics was refused: it needs `Authorization: Bearer` with the metrics_key"
            );
        }
        opens
    }
}

/// False where the browser says that another site's page sent it (Fetch Metadata, `Sec-Fetch-Site`). Only over TLS, and on
/// this machine, it says so.
fn is_own_fetch(headers: &HeaderMap) -> bool {
    let site = headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
    site.is_none_or(|site| site == b"same-origin" || site == b"none")
}

/// False for a request that a page of another origin sent (WHATWG Fetch, `Origin`).
fn is_own_page(headers: &HeaderMap) -> bool {
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
fn is_local_name(headers: &HeaderMap) -> bool {
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
