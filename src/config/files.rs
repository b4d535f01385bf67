//! Reads files with a bound, and says in words of its own what went wrong.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// The bytes of the regular file at `path`.
///
/// # Errors
/// As the system says; `FileTooLarge` past `bytes_max`, `InvalidInput` where it is no file (a pipe would block).
pub(super) fn read_bytes(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    // Asked before opening: opening a pipe already waits for its other end.
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(bytes_max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > bytes_max {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(bytes)
}

/// The text of the file at `path`; nothing where there is none.
///
/// # Errors
/// A message without path and content.
pub(super) fn read_text(path: &Path, bytes_max: u64) -> Result<Option<String>, String> {
    match read_bytes(path, bytes_max) {
        Ok(bytes) => {
            String::from_utf8(bytes).map(Some).map_err(|_| "this is not a UTF-8 text".to_owned())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(describe(&error, bytes_max)),
    }
}

/// What an error of [`read_bytes`] means.
pub(super) fn describe(error: &io::Error, bytes_max: u64) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "there is no such file".to_owned(),
        io::ErrorKind::InvalidInput => "this is not a regular file".to_owned(),
        io::ErrorKind::FileTooLarge => format!("the file is larger than {bytes_max} bytes"),
        kind => format!("the file cannot be read: {kind}"),
    }
}
