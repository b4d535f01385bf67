//! An https node: TLS with a certificate of the test's own authority, in front of a plain one; and the other way round.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// A listening TLS server for the name `localhost`.
pub(crate) struct Tls {
    pub(crate) port: u16,
    dir: tempfile::TempDir,
    /// Of each connection that was agreed on: the name that the client asked for.
    asked_for: Arc<Mutex<Vec<Option<String>>>>,
    _task: JoinSet<()>,
}

impl Tls {
    /// Hands what comes in over TLS on to `node`.
    pub(crate) async fn before(node: SocketAddr) -> Self {
        Self::speaking(b"http/1.1", node).await
    }

    /// The same; its clients are told that `protocol` is spoken there.
    pub(crate) async fn speaking(protocol: &[u8], node: SocketAddr) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (authority, mut certified) = certificates();
        certified.alpn_protocols = vec![protocol.to_vec()];
        std::fs::write(dir.path().join("ca.pem"), authority).unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(certified));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked_for = Arc::<Mutex<Vec<_>>>::default();
        let names = asked_for.clone();
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (accepting, names) = (acceptor.accept(stream), names.clone());
                connections.spawn(async move {
                    // A client that does not trust the authority leaves here.
                    let Ok(mut client) = accepting.await else { return };
                    let name = client.get_ref().1.server_name().map(str::to_owned);
                    names.lock().unwrap().push(name);
                    let mut plain = TcpStream::connect(node).await.unwrap();
                    let _either_left = tokio::io::copy_bidirectional(&mut client, &mut plain).await;
                });
            }
        });
        Self { port, dir, asked_for, _task: task }
    }

    /// The names that clients asked for, one of each connection that was agreed on.
    pub(crate) fn asked_for(&self) -> Vec<Option<String>> {
        self.asked_for.lock().unwrap().clone()
    }

    /// The authority's certificate.
    pub(crate) fn ca_file(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }
}

/// A plain listener in front of a TLS server that is called `localhost`: for a client that speaks none.
pub(crate) struct Tunnel {
    pub(crate) addr: SocketAddr,
    _task: JoinSet<()>,
}

impl Tunnel {
    /// To `server`, which has this certificate.
    pub(crate) async fn to(server: SocketAddr, certificate: CertificateDer<'static>) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(certificate).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let connector = TlsConnector::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (mut client, _) = listener.accept().await.unwrap();
                let connector = connector.clone();
                connections.spawn(async move {
                    // Its client sees that nobody is there.
                    let Ok(plain) = TcpStream::connect(server).await else { return };
                    let name = "localhost".try_into().unwrap();
                    let mut server = connector.connect(name, plain).await.unwrap();
                    let _either_left =
                        tokio::io::copy_bidirectional(&mut client, &mut server).await;
                });
            }
        });
        Self { addr, _task: task }
    }
}

/// Certifies servers.
pub(crate) struct Authority {
    /// Its own certificate.
    pub(crate) pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    /// The certificate of the server `name`, and its key, as PEM.
    pub(crate) fn certify(&self, name: &str) -> (String, String) {
        let (certificate, key) = self.certified(name);
        (certificate.pem(), key.serialize_pem())
    }

    fn certified(&self, name: &str) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }
}

/// An authority as PEM, and a server that it certifies.
fn certificates() -> (String, ServerConfig) {
    let authority = Authority::new();
    let (certificate, key) = authority.certified("localhost");
    let private = PrivatePkcs8KeyDer::from(key.serialize_der());
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], private.into())
        .unwrap();
    (authority.pem, config)
}
