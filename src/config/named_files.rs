//! Files that the configuration names: read with a bound, and remembered, as their change means a reload.

use std::io;
use std::path::{Path, PathBuf};

use super::authorities::Authorities;
use super::defaults::{FILE_BYTES_MAX, KEY_FILE_BYTES_MAX};
use super::files;
use super::report::Fault;

/// What reads a file that the configuration names, given the path as written: at most
/// [`FILE_BYTES_MAX`] bytes.
pub type ReadFile<'a> = dyn Fn(&Path) -> io::Result<Vec<u8>> + 'a;

/// Reads them.
pub(super) struct NamedFiles<'a> {
    pub(super) read: &'a ReadFile<'a>,
    /// As written, also those that could not be read.
    pub(super) seen: Vec<PathBuf>,
}

impl NamedFiles<'_> {
    /// The key in the file at `path`, without the line end that editors add.
    pub(super) fn key(&mut self, path: &str) -> Result<String, Fault> {
        let bytes = self.bytes(path, KEY_FILE_BYTES_MAX)?;
        let text = String::from_utf8(bytes).map_err(|_| "the file is not a UTF-8 text")?;
        let line = text.strip_suffix('\n').unwrap_or(&text);
        Ok(line.strip_suffix('\r').unwrap_or(line).to_owned())
    }

    /// The authorities in the file at `path`.
    pub(super) fn authorities(&mut self, path: &str) -> Result<Authorities, Fault> {
        Authorities::of_file(path, &self.bytes(path, FILE_BYTES_MAX)?)
    }

    fn bytes(&mut self, path: &str, bytes_max: u64) -> Result<Vec<u8>, Fault> {
        let path = Path::new(path);
        self.seen.push(path.to_owned());
        let bytes = (self.read)(path).map_err(|error| files::describe(&error, bytes_max))?;
        if bytes.len() as u64 > bytes_max {
            let error = io::ErrorKind::FileTooLarge.into();
            return Err(files::describe(&error, bytes_max).into());
        }
        Ok(bytes)
    }
}
