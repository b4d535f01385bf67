//! `sluice keys`: a fresh key, and the hash of one for `keys.yaml`.

use std::io::Read;

use clap::Subcommand;
use ring::digest;
use ring::rand::{SecureRandom, SystemRandom};

use super::{Failed, say};

/// Longest key that is read from standard input, in bytes.
const KEY_BYTES_MAX: u64 = 4_096;

/// What to do with keys.
#[derive(Subcommand)]
pub(super) enum Keys {
    /// Print a fresh key and its hash.
    New,
    /// Read a key from standard input and print its hash.
    Hash,
}

pub(super) fn run(keys: Keys) -> Result<(), Failed> {
    match keys {
        Keys::New => {
            let key = fresh()?;
            say(&format!("key:        {key}\nkey_sha256: {}", hash(key.as_bytes())));
        }
        Keys::Hash => {
            let mut key = Vec::new();
            let read = std::io::stdin().lock().take(KEY_BYTES_MAX).read_to_end(&mut key);
            read.map_err(|error| Failed::Runtime(error.to_string()))?;
            let key = key.strip_suffix(b"\n").unwrap_or(&key);
            if key.is_empty() {
                return Err(Failed::Runtime("no key on standard input".to_owned()));
            }
            say(&format!("key_sha256: {}", hash(key)));
        }
    }
    Ok(())
}

/// A key of 192 random bits.
pub(super) fn fresh() -> Result<String, Failed> {
    let mut bits = [0_u8; 24];
    let filled = SystemRandom::new().fill(&mut bits);
    filled.map_err(|_| Failed::Runtime("the system has no randomness".to_owned()))?;
    Ok(format!("sk-{}", hex(&bits)))
}

fn hash(key: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, key).as_ref())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
