//! TLS of the gateway's own: HTTP/1.1 and HTTP/2, and a certificate that is exchanged while requests go on.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use reqwest::{Certificate, Version};
use sluice::sim::Settings;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::gateway::{Setup, chat, preset};
use crate::support::scripted::Scripted;
use crate::support::tls::Authority;
use crate::support::{DEADLINE, KEY, TestGateway, eventually, node_with, within};

/// A gateway that serves TLS for `localhost`, certified by `authority`.
async fn gateway(authority: &Authority, node: SocketAddr) -> TestGateway {
    let (chain, key) = authority.certify("localhost");
    let set = |flags: &mut sluice::config::SettingsArgs| flags.header_timeout = Some("2s".into());
    let server = "tls_cert: cert.pem\ntls_key: key.pem\n";
    let setup = Setup::routes(&preset(node)).flags(set).file("server.yaml", server);
    setup.file("cert.pem", &chain).file("key.pem", &key).start().await
}

/// A client of nobody but `authority`.
fn client(authority: &Authority) -> reqwest::Client {
    let root = Certificate::from_pem(authority.pem.as_bytes()).unwrap();
    let builder = reqwest::Client::builder().use_rustls_tls().tls_built_in_root_certs(false);
    builder.add_root_certificate(root).timeout(DEADLINE).build().unwrap()
}

fn url(gateway: &TestGateway, path: &str) -> String {
    format!("https://localhost:{}{path}", gateway.addr.port())
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_are_served_over_tls_with_either_version_of_http() {
    let node = Scripted::replying("{}").await;
    let authority = Authority::new();
    let gateway = gateway(&authority, node.addr).await;
    let root = || Certificate::from_pem(authority.pem.as_bytes()).unwrap();
    let old = reqwest::Client::builder().use_rustls_tls().tls_built_in_root_certs(false);
    let old = old.add_root_certificate(root()).http1_only().build().unwrap();
    for (client, version) in [(client(&authority), Version::HTTP_2), (old, Version::HTTP_11)] {
        let url = url(&gateway, "/v1/chat/completions");
        let reply = client.post(url).bearer_auth(KEY).json(&chat("m")).send().await.unwrap();
        assert_eq!((reply.status().as_u16(), reply.version()), (200, version));
        assert_eq!(reply.text().await.unwrap(), "{}");
    }
    for came in node.seen() {
        assert_eq!(came.header("x-forwarded-proto"), Some("https"));
        let host = format!("localhost:{}", gateway.addr.port());
        assert_eq!(came.header("x-forwarded-host"), Some(host.as_str()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_speaks_no_tls_or_too_slowly_is_cut_and_others_are_served() {
    let node = Scripted::replying("{}").await;
    let authority = Authority::new();
    let gateway = gateway(&authority, node.addr).await;
    let mut plain = TcpStream::connect(gateway.addr).await.unwrap();
    plain.write_all(b"GET /livez HTTP/1.1\r\nhost: h\r\n\r\n").await.unwrap();
    let mut silent = TcpStream::connect(gateway.addr).await.unwrap();
    let reply = client(&authority).get(url(&gateway, "/livez")).send().await.unwrap();
    assert_eq!(reply.status(), 200);
    let mut told = Vec::new();
    let _closed = within(plain.read_to_end(&mut told)).await;
    assert!(!told.starts_with(b"HTTP/"), "{:?}", String::from_utf8_lossy(&told));
    assert_eq!(within(silent.read(&mut [0; 1])).await.unwrap_or(0), 0);
    drop(plain);
    eventually(|| async { gateway.series_with("sluice_connections", "public") <= 1.0 }).await;
    // Who does not trust the certificate says so.
    let other = client(&Authority::new()).get(url(&gateway, "/livez")).send().await;
    assert!(other.is_err());
    drop(TcpStream::connect(gateway.addr).await.unwrap());
    let failed = |reason| gateway.series_with("sluice_tls_handshakes_failed_total", reason);
    for reason in ["protocol", "timeout", "alert", "closed"] {
        eventually(|| async { failed(reason) >= 1.0 }).await;
    }
}

/// A new file takes the old one's place at once, as tools do it.
fn replace(path: &Path, text: &str) {
    let beside = path.with_extension("new");
    std::fs::write(&beside, text).unwrap();
    std::fs::rename(&beside, path).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_certificate_is_shown_to_new_clients_and_no_stream_is_cut() {
    let settings = Settings { models: vec!["m".into()], tokens: 40, ..Settings::default() };
    let node = node_with(Settings { token_delay: Duration::from_millis(50), ..settings }).await;
    let (old, new) = (Authority::new(), Authority::new());
    let gateway = gateway(&old, node.addr()).await;
    let mut body = chat("m");
    body["stream"] = true.into();
    let request = client(&old).post(url(&gateway, "/v1/chat/completions")).bearer_auth(KEY);
    let stream = request.json(&body).send().await.unwrap();
    let (chain, key) = new.certify("localhost");
    let changes = |result| gateway.series_with("sluice_tls_certificate_changes_total", result);
    // One without the other fits nothing: the old one is shown on.
    replace(&gateway.file("cert.pem"), &chain);
    eventually(|| async { changes("failed") > 0.0 }).await;
    assert_eq!(client(&old).get(url(&gateway, "/livez")).send().await.unwrap().status(), 200);
    replace(&gateway.file("key.pem"), &key);
    eventually(|| async { changes("ok") > 0.0 }).await;
    assert_eq!(client(&new).get(url(&gateway, "/livez")).send().await.unwrap().status(), 200);
    assert!(client(&old).get(url(&gateway, "/livez")).send().await.is_err());
    assert!(within(stream.text()).await.unwrap().contains("[DONE]"));
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_do_not_fit_are_told_before_anything_is_served() {
    let (chain, key) = Authority::new().certify("localhost");
    let (_, other) = Authority::new().certify("localhost");
    let both = "tls_cert: cert.pem\ntls_key: key.pem\n";
    for (server, cert, key, said) in [
        (both, chain.as_str(), other.as_str(), "tls_key: this is not the key"),
        (both, "nonsense", &key, "tls_cert: this must be a PEM file"),
        (both, &chain, "nonsense", "tls_key: this must be a PEM file"),
        ("tls_cert: cert.pem\n", &chain, &key, "`tls_key` are set together"),
        ("tls_cert: none.pem\ntls_key: key.pem\n", &chain, &key, "there is no such file"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in [("server.yaml", server), ("cert.pem", cert), ("key.pem", key)] {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        let environment = sluice::config::Environment::from_iter::<[(String, String); 0]>([]);
        let none = sluice::config::SettingsArgs::default();
        let problems = sluice::config::Settings::resolve(&none, &environment, dir.path());
        let told = problems.unwrap_err().to_string();
        assert!(told.contains(said) && !told.contains("BEGIN"), "{told}");
    }
}
