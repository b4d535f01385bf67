//! The file of authorities that certify nodes, and Redis: read once by the checks, as the connections to nodes trust that it is good.

use std::io;
use std::path::Path;

use pingora_core::tls::{RootCertStore, load_ca_file_into_store};

use super::defaults::FILE_BYTES_MAX;
use super::files;
use super::report::Fault;

/// The text of a file that was checked.
///
/// # Errors
/// It cannot be read.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    files::read_bytes(path, FILE_BYTES_MAX)
}

/// Refuses a file that connections to nodes could not be made with.
pub(super) fn check(path: &Path) -> Result<(), Fault> {
    files::read_bytes(path, FILE_BYTES_MAX)
        .map_err(|error| files::describe(&error, FILE_BYTES_MAX))?;
    let mut authorities = RootCertStore::empty();
    let loaded = load_ca_file_into_store(path, &mut authorities);
    match loaded.is_ok() && !authorities.is_empty() {
        true => Ok(()),
        false => Err("this must be a PEM file of certificates, and of nothing else".into()),
    }
}
