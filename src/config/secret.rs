//! A secret that gateways share, in a file of its own.

use std::path::Path;

use super::defaults::KEY_FILE_BYTES_MAX;
use super::files;

/// Shortest secret, in bytes: what nobody guesses.
const BYTES_MIN: usize = 32;

/// The secret in the file at `path`, without the end of its line.
///
/// # Errors
/// A message without path and content.
pub fn read(path: &Path) -> Result<String, String> {
    let text = files::read_text(path, KEY_FILE_BYTES_MAX)?.ok_or("there is no such file")?;
    let secret = text.trim_end_matches(['\r', '\n']);
    match secret.len() >= BYTES_MIN {
        true => Ok(secret.to_owned()),
        false => Err(format!("the secret is shorter than {BYTES_MIN} bytes")),
    }
}
