//! What a session is called: 128 random bits for its client alone. What is kept knows it by a hash, from which nobody gets back.

use std::fmt;

use data_encoding::HEXLOWER_PERMISSIVE;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::digest::{SHA256, SHA256_OUTPUT_LEN, digest};
use ring::error::Unspecified;
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq as _;

/// Bytes of an id.
const ID_BYTES: usize = 16;

/// What a session is called by its client. Its `Debug` shows nothing.
#[derive(Clone, PartialEq, Eq)]
pub struct SessionId([u8; ID_BYTES]);

/// What a session is called where it is kept.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Hashed([u8; SHA256_OUTPUT_LEN]);

/// What a key looks like to one session alone: whether it is still the same. Nobody tries keys out by it who has no id.
#[derive(Clone, Serialize, Deserialize)]
pub struct Mark([u8; SHA256_OUTPUT_LEN]);

/// A text that only who knows the session's id can read.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sealed(String);

impl SessionId {
    /// One that nobody knows.
    ///
    /// # Errors
    /// The system has no randomness.
    pub fn fresh() -> Result<Self, Unspecified> {
        let mut id = [0; ID_BYTES];
        SystemRandom::new().fill(&mut id)?;
        Ok(Self(id))
    }

    /// As its client writes it: 32 hex digits.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok()?;
        bytes.try_into().ok().map(Self)
    }

    /// As its client gets it.
    pub fn text(&self) -> String {
        HEXLOWER_PERMISSIVE.encode(&self.0)
    }

    /// What it is called where it is kept.
    pub fn hashed(&self) -> Hashed {
        let mut hash = [0; SHA256_OUTPUT_LEN];
        hash.copy_from_slice(digest(&SHA256, &self.0).as_ref());
        Hashed(hash)
    }

    /// What `key` looks like to this session.
    pub fn mark(&self, key: &str) -> Mark {
        let mut mark = [0; SHA256_OUTPUT_LEN];
        mark.copy_from_slice(hmac::sign(&self.hmac_key(), key.as_bytes()).as_ref());
        Mark(mark)
    }

    /// Seals `text`.
    ///
    /// # Errors
    /// The system has no randomness.
    pub fn seal(&self, text: &str) -> Result<Sealed, Unspecified> {
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce)?;
        let mut sealed = text.as_bytes().to_vec();
        let key = self.key()?;
        key.seal_in_place_append_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::empty(),
            &mut sealed,
        )?;
        Ok(Sealed(HEXLOWER_PERMISSIVE.encode(&[&nonce[..], &sealed].concat())))
    }

    /// The text that was sealed; none where it was sealed by another.
    pub fn open(&self, Sealed(sealed): &Sealed) -> Option<String> {
        let mut bytes = HEXLOWER_PERMISSIVE.decode(sealed.as_bytes()).ok()?;
        let (nonce, sealed) = bytes.split_at_mut_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let text = self.key().ok()?.open_in_place(nonce, Aad::empty(), sealed).ok()?;
        String::from_utf8(text.to_vec()).ok()
    }

    fn key(&self) -> Result<LessSafeKey, Unspecified> {
        let key = hmac::sign(&self.hmac_key(), b"what a session keeps of its node's key");
        UnboundKey::new(&AES_256_GCM, key.as_ref()).map(LessSafeKey::new)
    }

    fn hmac_key(&self) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, &self.0)
    }
}

impl Hashed {
    /// As text.
    pub fn text(&self) -> String {
        HEXLOWER_PERMISSIVE.encode(&self.0)
    }
}

impl Mark {
    /// Whether it is that of the same key, in constant time.
    pub fn is(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionId(***)")
    }
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealed(***)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_as_it_was_written_and_nothing_else_is() {
        let id = SessionId::fresh().unwrap();
        assert_eq!(SessionId::parse(&id.text()), Some(id.clone()));
        assert_eq!(SessionId::parse(&id.text().to_uppercase()), Some(id.clone()));
        for text in ["", "00", &format!("{}00", id.text()), "zz000000000000000000000000000000"] {
            assert_eq!(SessionId::parse(text), None);
        }
        assert_ne!(id.hashed().text(), SessionId::fresh().unwrap().hashed().text());
        assert_eq!(format!("{id:?}"), "SessionId(***)");
    }

    #[test]
    fn a_sealed_text_is_read_by_the_same_session_alone() {
        let (id, other) = (SessionId::fresh().unwrap(), SessionId::fresh().unwrap());
        let sealed = id.seal("sk-node").unwrap();
        assert_eq!(id.open(&sealed).as_deref(), Some("sk-node"));
        assert_eq!(other.open(&sealed), None);
        assert_eq!(id.open(&Sealed("00".into())), None);
        assert!(id.mark("sk-node").is(&id.mark("sk-node")));
        assert!(!id.mark("sk-node").is(&id.mark("sk-nodf")));
        assert!(!id.mark("sk-node").is(&other.mark("sk-node")));
        assert!(!sealed.0.contains("sk-node") && format!("{sealed:?}") == "Sealed(***)");
    }
}
