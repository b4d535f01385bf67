//! `sluice keys`: a fresh key, and the hash of one for `keys.yaml`.

use std::io::{self, IsTerminal, Read};

use clap::Subcommand;
use ring::digest;
use ring::rand::{SecureRandom, SystemRandom};

use super::{Failed, complain, say};
use crate::config::{check_key, defaults::KEY_BYTES_MAX};

/// What to do with keys.
#[derive(Subcommand)]
pub(super) enum Keys {
    /// Print a fresh key and its hash.
    New,
    /// Read a key from standard input and print its hash.
    Hash,
}

pub(super) fn run(keys: &Keys) -> Result<(), Failed> {
    match keys {
        Keys::New => {
            let key = fresh()?;
            say(&format!("key:        {key}\nkey_sha256: {}", hash(key.as_bytes())));
            complain(
                "The key goes to its user, key_sha256 into keys.yaml; the key is shown this once.",
            );
        }
        Keys::Hash => {
            let input = io::stdin();
            if input.is_terminal() {
                complain("Type or paste the key, then Enter:");
            }
            say(&format!("key_sha256: {}", hash(read_line(input.lock())?.as_bytes())));
        }
    }
    Ok(())
}

/// The key on the first line of `input`, which is all there may be.
fn read_line(input: impl Read) -> Result<String, Failed> {
    let failed = |why: String| Failed::Runtime(format!("no key on standard input: {why}"));
    let (mut line, mut byte) = (Vec::new(), [0]);
    // Past the longest key and its line end, to tell that it is too long.
    let mut input = io::BufReader::new(input.take(KEY_BYTES_MAX as u64 + 3));
    while input.read(&mut byte).map_err(|error| failed(error.to_string()))? > 0 && byte != *b"\n" {
        line.extend(byte);
    }
    let key = line.strip_suffix(b"\r").unwrap_or(&line);
    let key = str::from_utf8(key).map_err(|_| failed("it is no UTF-8 text".to_owned()))?;
    check_key(key).map_err(failed)?;
    Ok(key.to_owned())
}

/// A key of 192 random bits.
pub(super) fn fresh() -> Result<String, Failed> {
    let mut bits = [0_u8; 24];
    let filled = SystemRandom::new().fill(&mut bits);
    filled.map_err(|_| Failed::Runtime("the system has no randomness".to_owned()))?;
    Ok(format!("sk-{}", hex(&bits)))
}

/// As `key_sha256` of `keys.yaml`.
pub(super) fn hash(key: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, key).as_ref())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
