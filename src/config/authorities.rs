//! Files of authorities that certify nodes, and Redis: checked before anything connects, as Pingora trusts that they are good.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

use pingora_core::tls::{RootCertStore, load_ca_file_into_store};
use pingora_core::utils::tls::WrappedX509;
use ring::digest::{Context, SHA256};
use tokio_rustls::rustls::pki_types::pem::{PemObject as _, SectionKind};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;

use super::defaults::FILE_BYTES_MAX;
use super::files;
use super::report::Fault;

/// What is wrong with any such file.
const NO_AUTHORITIES: &str = "this must be a PEM file of certificates, and of nothing else";

/// The authorities of one upstream's nodes, ready for connections.
#[derive(Clone)]
pub struct Authorities {
    /// The file that they come from, as written.
    pub file: String,
    /// At least one. Shared by all connections that trust them.
    pub certificates: Arc<[WrappedX509]>,
    sha256: [u8; 32],
}

impl Authorities {
    /// Those of a file that holds `pem`.
    pub(super) fn of_file(file: &str, pem: &[u8]) -> Result<Self, Fault> {
        let mut anchors = RootCertStore::empty();
        let mut context = Context::new(&SHA256);
        let mut certificates = Vec::new();
        for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(pem) {
            let Ok((SectionKind::Certificate, der)) = section else {
                return Err(NO_AUTHORITIES.into());
            };
            // As each connection will do; and Pingora's own parser panics on what it cannot read.
            anchors.add(der.as_slice().into()).map_err(|_| NO_AUTHORITIES)?;
            context.update(&der);
            let parsed = WrappedX509::try_new(der, |der| {
                X509Certificate::from_der(der).map(|(_, certificate)| certificate)
            });
            certificates.push(parsed.map_err(|_| NO_AUTHORITIES)?);
        }
        if certificates.is_empty() {
            return Err(NO_AUTHORITIES.into());
        }
        let mut sha256 = [0; 32];
        sha256.copy_from_slice(context.finish().as_ref());
        Ok(Self { file: file.to_owned(), certificates: certificates.into(), sha256 })
    }

    /// Tells connections apart that were made in different trust: the same for the same certificates, for no others.
    pub fn mark(&self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.sha256;
        u64::from_be_bytes([a, b, c, d, e, f, g, h])
    }
}

impl PartialEq for Authorities {
    fn eq(&self, other: &Self) -> bool {
        (&self.file, self.sha256) == (&other.file, other.sha256)
    }
}

impl Eq for Authorities {}

impl fmt::Debug for Authorities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Authorities({}: {})", self.file, self.certificates.len())
    }
}

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
        false => Err(NO_AUTHORITIES.into()),
    }
}
