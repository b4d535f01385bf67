//! HTTP/1.1 by hand, for what no client library would send, and for bytes that matter.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::within;

/// Sends `request` and reads until the other side closes.
pub(crate) async fn raw(to: SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(to).await.unwrap();
    // A refused request may be answered, and the connection closed, before all of it was written.
    let _refused_early = stream.write_all(request).await;
    let mut answer = Vec::new();
    let _reset_after_the_answer = within(stream.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}

/// The status of a raw answer; 0 for none.
pub(crate) fn status(answer: &str) -> u16 {
    answer.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok()).unwrap_or(0)
}

/// Reads from `stream` until `text` has come; gives all that came.
pub(crate) async fn read_until(stream: &mut TcpStream, text: &str) -> String {
    let mut seen = Vec::new();
    within(async {
        let mut piece = [0; 4096];
        while !String::from_utf8_lossy(&seen).contains(text) {
            let read = stream.read(&mut piece).await.unwrap();
            assert!(read > 0, "closed before {text:?}: {:?}", String::from_utf8_lossy(&seen));
            seen.extend_from_slice(&piece[..read]);
        }
    })
    .await;
    String::from_utf8_lossy(&seen).into_owned()
}

/// One request over HTTP/2 without TLS, on a connection of its own: what its client library lets through.
pub(crate) async fn http2(
    to: SocketAddr,
    request: http::Request<String>,
) -> (http::response::Parts, String) {
    let stream = TcpStream::connect(to).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http2::handshake(
        hyper_util::rt::TokioExecutor::new(),
        hyper_util::rt::TokioIo::new(stream),
    )
    .await
    .unwrap();
    let mut task = tokio::task::JoinSet::new();
    task.spawn(connection);
    let answer = within(sender.send_request(request)).await.unwrap();
    let (head, body) = answer.into_parts();
    let body = within(http_body_util::BodyExt::collect(body)).await.unwrap().to_bytes();
    (head, String::from_utf8_lossy(&body).into_owned())
}
