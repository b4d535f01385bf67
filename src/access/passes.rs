//! Passes: a request that `/internal/authz` counted brings one, and is not counted again (SPEC 5.4).
//!
//! A pass is `<expiry>.<nonce>.<mac>`, in milliseconds since 1970 and hexadecimal digits; the mac is an HMAC-SHA-256 over
//! the key's name, the path, expiry and nonce. Each is good once.

use std::collections::{HashSet, VecDeque};

use data_encoding::HEXLOWER;
use parking_lot::Mutex;
use ring::rand::SecureRandom;
use ring::{hmac, rand};

use crate::names::KeyName;

/// How long a pass is good, in milliseconds: far longer than nginx takes from its question to its request.
const GOOD: u64 = 60_000;

/// How much the clock of another gateway may be ahead, in milliseconds.
const SKEW: u64 = 60_000;

/// Passes that were used and would still be good: 4,096 requests a second. Past it, who comes is counted twice rather than
/// never.
const USED_MAX: usize = 250_000;

const NONCE_BYTES: usize = 16;

type Nonce = [u8; NONCE_BYTES];

/// Gives passes out, and takes each back once.
pub struct Passes {
    secret: hmac::Key,
    random: rand::SystemRandom,
    used: Mutex<Used>,
}

/// The nonces of passes that were used and are not expired.
#[derive(Default)]
struct Used {
    nonces: HashSet<Nonce>,
    /// With their expiries, in the order of use.
    order: VecDeque<(u64, Nonce)>,
}

impl Passes {
    /// With a secret that other gateways have as well, or one of this process's own.
    ///
    /// # Errors
    /// The system has no randomness.
    pub fn new(shared: Option<&[u8]>) -> Result<Self, ring::error::Unspecified> {
        let random = rand::SystemRandom::new();
        let mut own = [0; 32];
        random.fill(&mut own)?;
        let secret = hmac::Key::new(hmac::HMAC_SHA256, shared.unwrap_or(&own));
        Ok(Self { secret, random, used: Mutex::default() })
    }

    /// A pass for one request of `key` on `path`; `now` in milliseconds since 1970. None where the system has no randomness.
    pub fn issue(&self, key: &KeyName, path: &str, now: u64) -> Option<String> {
        let mut nonce: Nonce = [0; NONCE_BYTES];
        self.random.fill(&mut nonce).ok()?;
        let expiry = now + GOOD;
        let mac = hmac::sign(&self.secret, &signed(key, path, expiry, nonce));
        Some(format!("{expiry}.{}.{}", HEXLOWER.encode(&nonce), HEXLOWER.encode(mac.as_ref())))
    }

    /// Takes a pass: the moment when it was given out, unless it is another's, forged, expired, or was used before.
    pub fn take(&self, pass: &str, key: &KeyName, path: &str, now: u64) -> Option<u64> {
        let mut parts = pass.splitn(3, '.');
        let (expiry, nonce, mac) = (parts.next()?, parts.next()?, parts.next()?);
        let expiry: u64 = expiry.parse().ok()?;
        let nonce: Nonce = HEXLOWER.decode(nonce.as_bytes()).ok()?.try_into().ok()?;
        let signed = signed(key, path, expiry, nonce);
        hmac::verify(&self.secret, &signed, &HEXLOWER.decode(mac.as_bytes()).ok()?).ok()?;
        let good = now < expiry && expiry <= now + GOOD + SKEW;
        let taken = good && self.used.lock().note(expiry, nonce, now);
        taken.then(|| expiry.saturating_sub(GOOD))
    }
}

impl Used {
    /// True where it is new.
    fn note(&mut self, expiry: u64, nonce: Nonce, now: u64) -> bool {
        while let Some((expiry, nonce)) = self.order.front().copied()
            && expiry <= now
        {
            self.order.pop_front();
            self.nonces.remove(&nonce);
        }
        if self.nonces.len() >= USED_MAX || !self.nonces.insert(nonce) {
            return false;
        }
        self.order.push_back((expiry, nonce));
        true
    }
}

/// What the mac is over. No two requests have the same: neither names nor paths hold line ends.
fn signed(key: &KeyName, path: &str, expiry: u64, nonce: Nonce) -> Vec<u8> {
    format!("{key}\n{path}\n{expiry}\n{}", HEXLOWER.encode(&nonce)).into_bytes()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: u64 = 1_800_000_000_000;
    const PATH: &str = "/v1/chat/completions";

    fn team() -> KeyName {
        "team".into()
    }

    #[test]
    fn a_pass_is_good_once_for_its_key_and_path_until_it_expires() {
        let passes = Passes::new(None).unwrap();
        let issue = || passes.issue(&team(), PATH, NOW).unwrap();
        let pass = issue();
        assert_eq!(passes.take(&pass, &team(), PATH, NOW + 5), Some(NOW));
        assert_eq!(passes.take(&pass, &team(), PATH, NOW + 5), None, "it was used");
        let pass = issue();
        assert_eq!(passes.take(&pass, &"other".into(), PATH, NOW), None);
        assert_eq!(passes.take(&pass, &team(), "/v1/completions", NOW), None);
        assert_eq!(passes.take(&pass, &team(), PATH, NOW + GOOD), None, "it has expired");
        assert_eq!(Passes::new(None).unwrap().take(&pass, &team(), PATH, NOW), None);
        assert_eq!(passes.take(&pass, &team(), PATH, NOW + GOOD - 1), Some(NOW));
    }

    #[test]
    fn gateways_with_one_secret_take_each_others_passes() {
        let [one, two] =
            [Passes::new(Some(b"shared")).unwrap(), Passes::new(Some(b"shared")).unwrap()];
        let pass = one.issue(&team(), PATH, NOW).unwrap();
        assert_eq!(two.take(&pass, &team(), PATH, NOW), Some(NOW));
    }

    #[test]
    fn what_has_expired_is_forgotten() {
        let passes = Passes::new(None).unwrap();
        for second in 0..200 {
            let now = NOW + second * 1_000;
            let pass = passes.issue(&team(), PATH, now).unwrap();
            assert!(passes.take(&pass, &team(), PATH, now).is_some());
        }
        assert_eq!(passes.used.lock().nonces.len(), 60);
    }

    proptest! {
        #[test]
        fn no_text_is_a_pass(at in 0..120_usize, put in "\\PC", text in "\\PC*") {
            let passes = Passes::new(None).unwrap();
            prop_assert_eq!(passes.take(&text, &team(), PATH, NOW), None);
            let pass = passes.issue(&team(), PATH, NOW).unwrap();
            let at = at.min(pass.len() - 1);
            let changed = format!("{}{put}{}", &pass[..at], &pass[at + 1..]);
            if changed != pass {
                prop_assert_eq!(passes.take(&changed, &team(), PATH, NOW), None);
            }
        }
    }
}
