//! TLS of our own listener: a certificate that is exchanged while connections go on.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::server::{ClientHello, ResolvesServerCert};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{self, ServerConfig};

use crate::config::certificate;
use crate::metrics::Metrics;

/// The names of the protocols, as TLS calls them (RFC 7301).
pub(super) const HTTP2: &[u8] = b"h2";
const HTTP1: &[u8] = b"http/1.1";

/// From one look at the files to the next.
const LOOK: Duration = Duration::from_secs(1);

/// What the listener shows to its clients.
pub struct Certificate {
    current: Arc<Current>,
    acceptor: TlsAcceptor,
}

#[derive(Debug)]
struct Current(ArcSwap<CertifiedKey>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

impl Certificate {
    /// Shows `key`, and what takes its place.
    ///
    /// # Errors
    /// TLS cannot be set up.
    pub fn new(key: CertifiedKey) -> Result<Arc<Self>, rustls::Error> {
        let current = Arc::new(Current(ArcSwap::from_pointee(key)));
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(current.clone());
        config.alpn_protocols = vec![HTTP2.to_vec(), HTTP1.to_vec()];
        // A client that comes back needs no whole handshake, and none of our memory.
        config.ticketer = ring::Ticketer::new()?;
        Ok(Arc::new(Self { current, acceptor: TlsAcceptor::from(Arc::new(config)) }))
    }

    pub(super) fn acceptor(&self) -> &TlsAcceptor {
        &self.acceptor
    }
}

/// Takes a new certificate from its files as soon as both fit together: a tool writes one after the other. Until then, and
/// where they are broken, the old one is shown.
pub(super) async fn follow(
    shown: Arc<Certificate>,
    files: (PathBuf, PathBuf),
    metrics: Arc<Metrics>,
) {
    let mut turn = tokio::time::interval(LOOK);
    turn.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let (mut known, mut told) = (certificate::Texts::read(&files).ok(), None);
    loop {
        turn.tick().await;
        let texts = certificate::Texts::read(&files);
        if texts.as_ref().ok() == known.as_ref() {
            told = None;
            continue;
        }
        match texts.and_then(|texts| texts.certified().map(|key| (texts, key))) {
            Ok((texts, key)) => {
                shown.current.0.store(Arc::new(key));
                (known, told) = (Some(texts), None);
                metrics.certificate_exchanged(true);
                log::info!("a new certificate is shown to clients");
            }
            Err(why) if told.as_ref() != Some(&why) => {
                metrics.certificate_exchanged(false);
                log::error!("tls_cert and tls_key: {why}; the certificate before is still shown");
                told = Some(why);
            }
            Err(_) => {}
        }
    }
}
