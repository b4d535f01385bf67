//! Requests of HTTP/2: many at once on one connection, within its bounds.

use std::sync::Arc;
use std::time::Duration;

use pingora_core::apps::HttpServerApp;
use pingora_core::protocols::http::ServerSession;
use pingora_core::protocols::http::v2::server::{
    H2Accept, H2Options, HttpSession, default_h2_options, handshake,
};
use pingora_core::protocols::{
    Digest, GetProxyDigest as _, GetSocketDigest as _, Ssl as _, Stream,
};
use pingora_core::server::ShutdownWatch;
use tokio::task::JoinSet;

use super::stream::{ClientStream, Transport};
use crate::wire::raw_head::HEAD_BYTES_MAX;

/// Requests at once on one connection: what clients and servers commonly allow (RFC 9113, 6.5.2).
const STREAMS_MAX: u32 = 100;

/// Requests that a client gives up before they are looked at, at once; then the connection ends (CVE-2023-44487).
const RESET_UNSEEN_MAX: usize = 20;

/// Requests of one connection that are no requests; then it ends.
const MALFORMED_MAX: usize = 32;

/// Bytes of an answer that wait for a client's window, for each request.
const SEND_BUFFER_BYTES: usize = 256 * 1024;

fn options() -> H2Options {
    let mut options = default_h2_options();
    options
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(u32::try_from(HEAD_BYTES_MAX).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(RESET_UNSEEN_MAX)
        .max_send_buffer_size(SEND_BUFFER_BYTES);
    options
}

/// Serves a connection until it is closed, or was idle for so long.
pub(super) async fn serve<A, S>(
    app: Arc<A>,
    stream: ClientStream<S>,
    idle: Duration,
    mut shutdown: ShutdownWatch,
) where
    A: HttpServerApp + Send + Sync + 'static,
    S: Transport,
{
    let digest = Arc::new(Digest {
        ssl_digest: stream.get_ssl_digest(),
        timing_digest: Vec::new(),
        proxy_digest: stream.get_proxy_digest(),
        socket_digest: stream.get_socket_digest(),
    });
    let stream: Stream = Box::new(stream);
    let Ok(mut connection) = handshake(stream, Some(options())).await else { return };
    let (mut requests, mut malformed) = (JoinSet::new(), 0);
    let mut stopping = *shutdown.borrow_and_update();
    if stopping {
        connection.graceful_shutdown();
    }
    loop {
        let accepted = tokio::select! {
            biased;
            changed = shutdown.changed(), if !stopping => {
                // Also where nobody is left who could say so.
                stopping = changed.is_err() || *shutdown.borrow();
                if stopping {
                    connection.graceful_shutdown();
                }
                continue;
            }
            Some(_) = requests.join_next(), if !requests.is_empty() => continue,
            accepted = HttpSession::from_h2_conn(&mut connection, digest.clone()) => accepted,
            () = tokio::time::sleep(idle), if requests.is_empty() => break,
        };
        match accepted {
            Ok(Some(H2Accept::Session(session))) => {
                let (app, shutdown) = (app.clone(), shutdown.clone());
                requests.spawn(async move {
                    app.process_new_http(ServerSession::new_http2(session), &shutdown).await;
                });
            }
            Ok(Some(H2Accept::Rejected)) if malformed < MALFORMED_MAX => malformed += 1,
            Ok(_) | Err(_) => break,
        }
    }
    // What is under way finds the connection gone, and tells so where it is counted.
    drop(connection);
    while requests.join_next().await.is_some() {}
}
