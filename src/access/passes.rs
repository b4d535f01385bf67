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

/// The longest that any pass is still good.
pub(super) const LONGEST: u64 = GOOD + SKEW;

/// Passes that were used and would still be good: 4,096 requests a second. Past it, who comes is counted twice rather than
/// never.
const USED_MAX: usize = 250_000;

/// Nobody meets the same twice.
pub(super) const NONCE_BYTES: usize = 16;

type Nonce = [u8; NONCE_BYTES];

/// Gives passes out, and knows them again.
pub struct Passes {
    secret: hmac::Key,
    random: rand::SystemRandom,
}

/// A pass that is ours, or that of a gateway with the same secret. Whether it is good still, who keeps the count knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pass {
    expiry: u64,
    nonce: Nonce,
}

/// Passes that were used here and are not expired.
#[derive(Default)]
pub struct Used(Mutex<Nonces>);

#[derive(Default)]
struct Nonces {
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
        Ok(Self { secret, random })
    }

    /// A pass for one request of `key` on `path`, which was counted at `moment`, in milliseconds since 1970. None where the
    /// system has no randomness.
    pub fn issue(&self, key: &KeyName, path: &str, moment: u64) -> Option<String> {
        let mut nonce: Nonce = [0; NONCE_BYTES];
        self.random.fill(&mut nonce).ok()?;
        let expiry = moment + GOOD;
        let mac = hmac::sign(&self.secret, &signed(key, path, expiry, nonce));
        Some(format!("{expiry}.{}.{}", HEXLOWER.encode(&nonce), HEXLOWER.encode(mac.as_ref())))
    }

    /// What `pass` says, unless it is another's or forged.
    pub fn read(&self, pass: &str, key: &KeyName, path: &str) -> Option<Pass> {
        let mut parts = pass.splitn(3, '.');
        let (expiry, nonce, mac) = (parts.next()?, parts.next()?, parts.next()?);
        let expiry: u64 = expiry.parse().ok()?;
        let nonce: Nonce = HEXLOWER.decode(nonce.as_bytes()).ok()?.try_into().ok()?;
        let signed = signed(key, path, expiry, nonce);
        hmac::verify(&self.secret, &signed, &HEXLOWER.decode(mac.as_bytes()).ok()?).ok()?;
        Some(Pass { expiry, nonce })
    }
}

impl Pass {
    /// The one with this nonce, for what was counted at `moment`.
    pub fn of(moment: u64, nonce: [u8; NONCE_BYTES]) -> Self {
        Self { expiry: moment + GOOD, nonce }
    }

    /// When its request was counted.
    pub fn moment(&self) -> u64 {
        self.expiry.saturating_sub(GOOD)
    }

    /// When it is good no more.
    pub(super) fn expiry(&self) -> u64 {
        self.expiry
    }

    /// What it alone has, in hexadecimal digits.
    pub(super) fn nonce(&self) -> String {
        HEXLOWER.encode(&self.nonce)
    }
}

impl Used {
    /// Notes that `pass` is used; false where it has expired at `now`, or was used before.
    pub fn note(&self, pass: &Pass, now: u64) -> bool {
        let Pass { expiry, nonce } = *pass;
        let good = now < expiry && expiry <= now + LONGEST;
        good && self.0.lock().note(expiry, nonce, now)
    }
}

impl Nonces {
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
        let (passes, used) = (Passes::new(None).unwrap(), Used::default());
        let issued = || {
            let pass = passes.issue(&team(), PATH, NOW).unwrap();
            passes.read(&pass, &team(), PATH).unwrap()
        };
        let pass = issued();
        assert_eq!(pass.moment(), NOW);
        assert!(used.note(&pass, NOW + 5));
        assert!(!used.note(&pass, NOW + 5), "it was used");
        let pass = issued();
        assert!(!used.note(&pass, NOW + GOOD), "it has expired");
        assert!(!used.note(&pass, NOW - SKEW - 1), "nobody's clock is so far ahead");
        assert!(used.note(&pass, NOW + GOOD - 1));
        let pass = passes.issue(&team(), PATH, NOW).unwrap();
        assert_eq!(passes.read(&pass, &"other".into(), PATH), None);
        assert_eq!(passes.read(&pass, &team(), "/v1/completions"), None);
        assert_eq!(Passes::new(None).unwrap().read(&pass, &team(), PATH), None);
    }

    #[test]
    fn gateways_with_one_secret_know_each_others_passes() {
        let [one, two] =
            [Passes::new(Some(b"shared")).unwrap(), Passes::new(Some(b"shared")).unwrap()];
        let pass = one.issue(&team(), PATH, NOW).unwrap();
        assert_eq!(two.read(&pass, &team(), PATH).map(|pass| pass.moment()), Some(NOW));
    }

    #[test]
    fn what_has_expired_is_forgotten() {
        let used = Used::default();
        for second in 0..200_u8 {
            let now = NOW + u64::from(second) * 1_000;
            assert!(used.note(&Pass::of(now, [second; NONCE_BYTES]), now));
        }
        assert_eq!(used.0.lock().nonces.len(), 60);
    }

    proptest! {
        #[test]
        fn no_text_is_a_pass(at in 0..120_usize, put in "\\PC", text in "\\PC*") {
            let passes = Passes::new(None).unwrap();
            prop_assert_eq!(passes.read(&text, &team(), PATH), None);
            let pass = passes.issue(&team(), PATH, NOW).unwrap();
            let at = at.min(pass.len() - 1);
            let changed = format!("{}{put}{}", &pass[..at], &pass[at + 1..]);
            if changed != pass {
                prop_assert_eq!(passes.read(&changed, &team(), PATH), None);
            }
        }
    }
}
