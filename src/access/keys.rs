//! The keys that open the gateway: kept as SHA-256, found by it, and never written down.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use http::{HeaderMap, HeaderName, HeaderValue, header};
use ring::rand::SecureRandom;
use ring::{digest, hmac, rand};
use subtle::ConstantTimeEq;

use super::limits::Account;
use crate::config::{KeyConfig, KeyLimits};
use crate::metrics::{KeyReading, KeyTraffic};
use crate::names::KeyName;

/// The headers that may carry a credential, in the order in which they decide (SPEC 3).
static CREDENTIALS: [HeaderName; 4] = [
    HeaderName::from_static("x-proxy-secret"),
    HeaderName::from_static("x-internal-auth"),
    HeaderName::from_static("x-api-key"),
    header::AUTHORIZATION,
];

/// Who a request comes from, and what they may do.
#[derive(Debug)]
pub struct Key {
    /// For the log and the metrics.
    pub name: KeyName,
    /// May use models.
    pub inference: bool,
    /// May operate nodes and see details.
    pub admin: bool,
    /// How often it may ask.
    pub limits: KeyLimits,
    /// How often it did.
    pub account: Arc<Account>,
    /// What came of it.
    pub traffic: Arc<KeyTraffic>,
    sha256: [u8; digest::SHA256_OUTPUT_LEN],
    models: Option<Vec<String>>,
    expires: Option<SystemTime>,
}

impl Key {
    /// Whoever asks, where no key is configured at all: the gateway then listens to this machine only.
    pub fn anyone() -> Self {
        Self {
            name: "anyone".into(),
            inference: true,
            admin: true,
            limits: KeyLimits::default(),
            account: Arc::default(),
            traffic: Arc::default(),
            sha256: [0; digest::SHA256_OUTPUT_LEN],
            models: None,
            expires: None,
        }
    }

    /// Who has a node's own key: what that opens, and no limit. No key of a file can be called so.
    pub fn of_node() -> Self {
        Self { name: "(node key)".into(), admin: false, ..Self::anyone() }
    }

    /// True where the key may use `model`.
    pub fn allows(&self, model: &str) -> bool {
        match &self.models {
            None => true,
            Some(patterns) => patterns.iter().any(|pattern| matches(pattern, model)),
        }
    }

    /// False from the moment on when it has expired.
    pub fn holds(&self, now: SystemTime) -> bool {
        self.expires.is_none_or(|end| now < end)
    }

    /// True where the key may use some models only.
    pub fn is_limited(&self) -> bool {
        self.models.is_some()
    }
}

/// The text of a credential as presented. Its `Debug` shows nothing.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Presented<'r>(&'r [u8]);

impl<'r> Presented<'r> {
    /// A key in the body of a request.
    pub fn in_body(key: &'r str) -> Self {
        Self(key.as_bytes())
    }
}

impl fmt::Debug for Presented<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Presented(***)")
    }
}

/// One of the headers that carry a credential is there twice.
#[derive(Debug, PartialEq, Eq)]
pub struct Twice(pub &'static str);

/// The credential of a request: the first of its headers that is there.
///
/// # Errors
/// [`Twice`]: which of the two counts is anybody's guess.
pub fn presented(headers: &HeaderMap) -> Result<Option<Presented<'_>>, Twice> {
    let mut first = None;
    for name in &CREDENTIALS {
        let mut values = headers.get_all(name).iter();
        let value = values.next();
        if values.next().is_some() {
            return Err(Twice(name.as_str()));
        }
        first = first.or(value.map(|value| Presented(secret_of(name, value))));
    }
    Ok(first)
}

/// True for headers that carry a client's credential: they end at the gateway.
pub fn is_credential(name: &str) -> bool {
    CREDENTIALS.iter().any(|known| known == name)
}

/// The key in a header's value. In `Authorization` another scheme than Bearer opens nothing.
fn secret_of<'v>(name: &HeaderName, value: &'v HeaderValue) -> &'v [u8] {
    let value = value.as_bytes();
    if *name != header::AUTHORIZATION {
        return value;
    }
    match value.split_at_checked("Bearer ".len()) {
        Some((scheme, key)) if scheme.eq_ignore_ascii_case(b"Bearer ") => key.trim_ascii(),
        _ => b"",
    }
}

/// All keys of one snapshot.
pub struct KeyStore {
    keys: HashMap<[u8; digest::SHA256_OUTPUT_LEN], Arc<Key>>,
    /// See [`Key::anyone`].
    pub anyone: Arc<Key>,
    /// See [`Key::of_node`].
    pub of_node: Arc<Key>,
}

impl KeyStore {
    /// Builds the store. What a key took `before` counts for the key that now has its name.
    pub fn new(keys: &[KeyConfig], before: Option<&Self>) -> Self {
        let of_before: HashMap<&str, &Arc<Key>> = before
            .into_iter()
            .flat_map(|before| before.keys.values())
            .map(|key| (key.name.as_str(), key))
            .collect();
        let account = |config: &KeyConfig| {
            let key = of_before.get(config.name.as_str());
            // What was counted in days of another kind cannot be told in these.
            let kept = key.filter(|key| key.limits.day == config.limits.day);
            kept.map(|key| key.account.clone()).unwrap_or_default()
        };
        let traffic = |config: &KeyConfig| {
            let key = of_before.get(config.name.as_str());
            key.map(|key| key.traffic.clone()).unwrap_or_default()
        };
        let key = |config: &KeyConfig| Key {
            name: config.name.clone(),
            inference: config.inference,
            admin: config.admin,
            limits: config.limits,
            account: account(config),
            traffic: traffic(config),
            sha256: config.sha256,
            models: config.models.clone(),
            expires: config.expires,
        };
        let own = |known: fn(&Self) -> &Arc<Key>, new: fn() -> Key| {
            before.map_or_else(|| Arc::new(new()), |before| known(before).clone())
        };
        Self {
            keys: keys.iter().map(|config| (config.sha256, Arc::new(key(config)))).collect(),
            anyone: own(|before| &before.anyone, Key::anyone),
            of_node: own(|before| &before.of_node, Key::of_node),
        }
    }

    /// No key is configured: the gateway is open, on this machine only.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The key that was presented, unless it is unknown or expired as of `now`.
    ///
    /// What the time of the look-up depends on is the hash of the attempt, which tells nothing about any key; the
    /// comparison of the hashes is in constant time all the same.
    pub fn find(&self, presented: Presented<'_>, now: SystemTime) -> Option<&Arc<Key>> {
        let hash = digest::digest(&digest::SHA256, presented.0);
        let key = self.keys.get(hash.as_ref())?;
        let same = bool::from(key.sha256.as_slice().ct_eq(hash.as_ref()));
        (same && key.holds(now)).then_some(key)
    }

    /// The key that was found before, as it is now: none where it is gone, or has expired.
    pub fn again(&self, known: &Key, now: SystemTime) -> Option<&Arc<Key>> {
        self.keys.get(&known.sha256).filter(|key| key.holds(now))
    }

    /// The key of that name, whether it has expired or not.
    pub fn named(&self, name: &str) -> Option<&Arc<Key>> {
        self.keys.values().find(|key| key.name.as_str() == name)
    }

    /// Lets go of memory in which nothing is counted any more.
    pub fn shrink(&self, now: u64) {
        self.keys.values().for_each(|key| key.account.shrink(&key.limits, now));
    }

    /// Those of the configuration; without any, whoever asks.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Key>> {
        let anyone = self.keys.is_empty().then_some(&self.anyone);
        self.keys.values().chain(anyone)
    }

    /// What came of the requests of each, for the metrics.
    pub fn readings(&self) -> Vec<KeyReading> {
        let reading =
            |key: &Arc<Key>| KeyReading { key: key.name.to_string(), traffic: key.traffic.clone() };
        let of_node = Some(&self.of_node).filter(|key| key.traffic.is_used());
        self.all().chain(of_node).map(reading).collect()
    }

    /// What keys are called, in no order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.keys.values().map(|key| key.name.as_str())
    }
}

/// Names unknown keys in the log: the same attempt has the same name while this process runs, and nobody can turn the
/// name back.
pub struct Fingerprints(hmac::Key);

impl Fingerprints {
    /// A fresh secret.
    ///
    /// # Errors
    /// The system has no randomness.
    pub fn new() -> Result<Self, ring::error::Unspecified> {
        let mut secret = [0; 32];
        rand::SystemRandom::new().fill(&mut secret)?;
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, &secret)))
    }

    /// 8 hex digits.
    pub fn of(&self, presented: Presented<'_>) -> String {
        let tag = hmac::sign(&self.0, presented.0);
        tag.as_ref().iter().take(4).map(|byte| format!("{byte:02x}")).collect()
    }
}

/// `*` stands for any text, also none; everything else for itself.
fn matches(pattern: &str, text: &str) -> bool {
    let mut pieces = pattern.split('*');
    let Some(mut rest) = pieces.next().and_then(|first| text.strip_prefix(first)) else {
        return false;
    };
    let Some(last) = pieces.next_back() else { return rest.is_empty() };
    for piece in pieces {
        match rest.find(piece) {
            Some(at) => rest = &rest[at + piece.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::Declared;

    fn headers(list: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in list {
            headers.append(*name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    fn store(expires: Option<SystemTime>) -> KeyStore {
        let hash = digest::digest(&digest::SHA256, b"secret");
        KeyStore::new(
            &[KeyConfig {
                name: "team".into(),
                sha256: hash.as_ref().try_into().unwrap(),
                models: Some(vec!["llama-*".into()]),
                inference: true,
                admin: false,
                expires,
                limits: KeyLimits::default(),
                declared: Declared::Entry(0),
            }],
            None,
        )
    }

    #[test]
    fn the_first_header_that_is_there_decides() {
        let both = headers(&[("authorization", "Bearer a"), ("x-proxy-secret", "b")]);
        assert_eq!(presented(&both), Ok(Some(Presented(b"b"))));
        let scheme = headers(&[("authorization", "bEARER a")]);
        assert_eq!(presented(&scheme), Ok(Some(Presented(b"a"))));
        let basic = headers(&[("authorization", "Basic YTpi")]);
        assert_eq!(presented(&basic), Ok(Some(Presented(b""))));
        let twice = headers(&[("x-api-key", "a"), ("x-api-key", "a")]);
        assert_eq!(presented(&twice), Err(Twice("x-api-key")));
        assert_eq!(presented(&HeaderMap::new()), Ok(None));
    }

    #[test]
    fn a_key_opens_until_it_expires() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(100);
        assert!(store(None).find(Presented(b"secret"), now).is_some());
        assert!(store(None).find(Presented(b"Secret"), now).is_none());
        assert!(store(Some(now)).find(Presented(b"secret"), now).is_none());
        let before = now - Duration::from_secs(1);
        assert!(store(Some(now)).find(Presented(b"secret"), before).is_some());
    }

    #[test]
    fn a_star_stands_for_any_text() {
        for (pattern, text) in
            [("a", "a"), ("*", ""), ("a*", "ab"), ("*b", "ab"), ("a*c*e", "abcde")]
        {
            assert!(matches(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in
            [("a", "ab"), ("a*", "b"), ("a*a", "a"), ("a*c*e", "abde"), ("", "a")]
        {
            assert!(!matches(pattern, text), "{pattern} {text}");
        }
    }

    #[test]
    fn an_unknown_key_has_a_name_that_tells_nothing() {
        let (one, two) = (Fingerprints::new().unwrap(), Fingerprints::new().unwrap());
        assert_eq!(one.of(Presented(b"a")), one.of(Presented(b"a")));
        assert_ne!(one.of(Presented(b"a")), two.of(Presented(b"a")));
        assert_eq!(one.of(Presented(b"a")).len(), 8);
    }
}
