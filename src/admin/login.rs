//! Who gave their key at the page's door: a random session, known here by its hash alone.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use data_encoding::HEXLOWER;
use http::{HeaderMap, HeaderValue, header};
use parking_lot::Mutex;
use ring::error::Unspecified;
use ring::rand::SecureRandom;
use ring::{digest, rand};

use crate::access::keys::Key;

/// Random bytes of a session's id: nobody guesses it.
const ID_BYTES: usize = 32;

/// How long a session lasts: a shift.
const LASTS: Duration = Duration::from_secs(12 * 60 * 60);

/// Sessions at once: far more than there are operators. Past it the oldest ends.
const SESSIONS_MAX: usize = 1_000;

const COOKIE: &str = "sluice_session";

/// Has a browser forget its cookie.
pub(super) const FORGET: &str = "sluice_session=; Max-Age=0; Path=/; HttpOnly; SameSite=Strict";

type Hash = [u8; digest::SHA256_OUTPUT_LEN];

/// Sessions of operators' browsers.
#[derive(Default)]
pub(super) struct Logins(Mutex<HashMap<Hash, Login>>);

struct Login {
    key: Arc<Key>,
    ends: Instant,
}

impl Logins {
    /// Begins a session of `key`: the cookie that stands for it. It has no `Secure`, as the listener speaks no TLS: with it
    /// no browser would send it back.
    ///
    /// # Errors
    /// The system has no randomness.
    pub(super) fn begin(&self, key: &Arc<Key>, now: Instant) -> Result<HeaderValue, Unspecified> {
        let mut id = [0; ID_BYTES];
        rand::SystemRandom::new().fill(&mut id)?;
        let id = HEXLOWER.encode(&id);
        let mut known = self.0.lock();
        if known.len() >= SESSIONS_MAX {
            known.retain(|_, login| now < login.ends);
        }
        if known.len() >= SESSIONS_MAX {
            let oldest = known.iter().min_by_key(|(_, login)| login.ends).map(|(hash, _)| *hash);
            oldest.and_then(|hash| known.remove(&hash));
        }
        known.insert(hash(&id), Login { key: key.clone(), ends: now + LASTS });
        let lasts = LASTS.as_secs();
        let cookie = format!("{COOKIE}={id}; Max-Age={lasts}; Path=/; HttpOnly; SameSite=Strict");
        HeaderValue::from_str(&cookie).map_err(|_| Unspecified)
    }

    /// The key by which the session of a request began.
    pub(super) fn find(&self, headers: &HeaderMap, now: Instant) -> Option<Arc<Key>> {
        let known = self.0.lock();
        let login = presented(headers).find_map(|id| known.get(&hash(id)))?;
        (now < login.ends).then(|| login.key.clone())
    }

    /// Ends the session of a request.
    pub(super) fn end(&self, headers: &HeaderMap) {
        let mut known = self.0.lock();
        presented(headers).for_each(|id| drop(known.remove(&hash(id))));
    }
}

/// What a request's cookies say of a session. There may be two, as cookies of all ports of a host are one.
fn presented(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let values = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let cookies = values.flat_map(|value| value.split(';'));
    cookies.filter_map(|cookie| cookie.trim().strip_prefix(COOKIE)?.strip_prefix('='))
}

fn hash(id: &str) -> Hash {
    let mut hash = [0; digest::SHA256_OUTPUT_LEN];
    hash.copy_from_slice(digest::digest(&digest::SHA256, id.as_bytes()).as_ref());
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cookie_of(set: &HeaderValue) -> HeaderMap {
        let pair = set.to_str().unwrap().split(';').next().unwrap();
        HeaderMap::from_iter([(header::COOKIE, format!("a=b; {pair}").parse().unwrap())])
    }

    #[test]
    fn a_session_is_found_until_it_ends() {
        let (logins, key, now) = (Logins::default(), Arc::new(Key::anyone()), Instant::now());
        let set = logins.begin(&key, now).unwrap();
        let text = set.to_str().unwrap();
        assert!(text.ends_with("; Max-Age=43200; Path=/; HttpOnly; SameSite=Strict"), "{text}");
        let headers = cookie_of(&set);
        assert!(logins.find(&headers, now).is_some());
        assert!(logins.find(&headers, now + LASTS).is_none());
        assert!(logins.find(&HeaderMap::new(), now).is_none());
        logins.end(&headers);
        assert!(logins.find(&headers, now).is_none() && logins.0.lock().is_empty());
    }

    #[test]
    fn there_are_so_many_at_most() {
        let (logins, key, now) = (Logins::default(), Arc::new(Key::anyone()), Instant::now());
        let first = cookie_of(&logins.begin(&key, now).unwrap());
        let later = now + Duration::from_secs(1);
        let all: Vec<_> =
            (0..SESSIONS_MAX).map(|_| cookie_of(&logins.begin(&key, later).unwrap())).collect();
        assert_eq!(logins.0.lock().len(), SESSIONS_MAX);
        assert!(logins.find(&first, later).is_none());
        assert!(all.iter().all(|headers| logins.find(headers, later).is_some()));
        let next = later + LASTS;
        assert!(logins.find(&cookie_of(&logins.begin(&key, next).unwrap()), next).is_some());
        assert_eq!(logins.0.lock().len(), 1);
    }
}
