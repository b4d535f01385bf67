//! TLS of our own listener: a certificate that is exchanged while connections go on.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use pingora_core::protocols::Stream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::server::{ClientHello, ResolvesServerCert};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{self, ServerConfig};
use tokio_rustls::server::TlsStream;

use crate::config::certificate::Texts;
use crate::metrics::{Metrics, Unshaken};

/// The names of the protocols, as TLS calls them (RFC 7301).
pub(super) const HTTP2: &[u8] = b"h2";
const HTTP1: &[u8] = b"http/1.1";

/// From one look at the files to the next.
const LOOK: Duration = Duration::from_secs(1);

/// What the listener shows to its clients.
pub struct Certificate {
    current: Arc<Current>,
    acceptor: TlsAcceptor,
    /// What it was made of: the files may be others by the time that they are looked at.
    first: Arc<Texts>,
}

#[derive(Debug)]
struct Current(ArcSwap<CertifiedKey>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

impl Certificate {
    /// Shows what is in `texts`, and what takes its place.
    ///
    /// # Errors
    /// They are no certificate and its key, or TLS cannot be set up.
    pub fn new(texts: Texts) -> Result<Arc<Self>, String> {
        let key = texts.certified()?;
        Self::showing(key, texts).map_err(|error| error.to_string())
    }

    fn showing(key: CertifiedKey, texts: Texts) -> Result<Arc<Self>, rustls::Error> {
        let current = Arc::new(Current(ArcSwap::from_pointee(key)));
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(current.clone());
        config.alpn_protocols = vec![HTTP2.to_vec(), HTTP1.to_vec()];
        // A client that comes back needs no whole handshake, and none of our memory.
        config.ticketer = ring::Ticketer::new()?;
        let acceptor = TlsAcceptor::from(Arc::new(config));
        Ok(Arc::new(Self { current, acceptor, first: Arc::new(texts) }))
    }

    /// Agrees on TLS with the client at `socket`.
    ///
    /// # Errors
    /// It came to nothing.
    pub(super) async fn accept(
        &self,
        socket: Stream,
        limit: Duration,
    ) -> Result<TlsStream<Stream>, Unshaken> {
        match tokio::time::timeout(limit, self.acceptor.accept(socket)).await {
            Ok(Ok(agreed)) => Ok(agreed),
            Ok(Err(error)) => {
                log::debug!("a TLS handshake failed: {error}");
                Err(why(&error))
            }
            Err(_) => {
                log::debug!("a TLS handshake took too long");
                Err(Unshaken::Timeout)
            }
        }
    }
}

fn why(error: &io::Error) -> Unshaken {
    let of_tls = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>());
    match of_tls {
        Some(rustls::Error::AlertReceived(_)) => Unshaken::Alert,
        Some(_) => Unshaken::Protocol,
        None => Unshaken::Closed,
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
    let (mut known, mut told) = (shown.first.clone(), None);
    loop {
        turn.tick().await;
        let there = files.clone();
        let read = tokio::task::spawn_blocking(move || Texts::read(&there)).await;
        let Ok(texts) = read else { continue };
        if texts.as_ref().ok() == Some(&*known) {
            told = None;
            continue;
        }
        match texts.and_then(|texts| texts.certified().map(|key| (texts, key))) {
            Ok((texts, key)) => {
                shown.current.0.store(Arc::new(key));
                (known, told) = (Arc::new(texts), None);
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
