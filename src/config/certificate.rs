//! The certificate of the gateway's own listener: its chain and its key, in two PEM files that must fit together.

use std::path::{Path, PathBuf};

use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::sign::CertifiedKey;

use super::defaults::KEY_FILE_BYTES_MAX;
use super::files;
use super::report::Fault;

/// `tls_cert` and `tls_key`.
pub type Files = (PathBuf, PathBuf);

/// The texts of both files. It has no `Debug`: one of them is a private key.
#[derive(PartialEq, Eq)]
pub struct Texts {
    chain: Vec<u8>,
    key: Vec<u8>,
}

impl Texts {
    /// Reads both.
    ///
    /// # Errors
    /// A message without content.
    pub fn read((chain, key): &Files) -> Result<Self, String> {
        Ok(Self { chain: bytes("tls_cert", chain)?, key: bytes("tls_key", key)? })
    }

    /// What a listener can show.
    ///
    /// # Errors
    /// One of them is no PEM file of its kind, or they do not belong together: a message without content.
    pub fn certified(&self) -> Result<CertifiedKey, String> {
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&self.chain).collect();
        let chain = chain.ok().filter(|chain| !chain.is_empty());
        let chain = chain.ok_or("tls_cert: this must be a PEM file of certificates, ours first")?;
        let key = PrivateKeyDer::from_pem_slice(&self.key)
            .map_err(|_| "tls_key: this must be a PEM file of a private key without a password")?;
        CertifiedKey::from_der(chain, key, &ring::default_provider())
            .map_err(|_| "tls_key: this is not the key of the certificate in tls_cert".to_owned())
    }
}

/// Refuses files that no listener could be made with.
pub(super) fn check(files: &Files) -> Result<(), Fault> {
    Texts::read(files)?.certified()?;
    Ok(())
}

fn bytes(setting: &str, path: &Path) -> Result<Vec<u8>, String> {
    files::read_bytes(path, KEY_FILE_BYTES_MAX)
        .map_err(|error| format!("{setting}: {}", files::describe(&error, KEY_FILE_BYTES_MAX)))
}
