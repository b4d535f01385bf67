//! The one wrapper round the client's side of a request: it gives Pingora the saved body, on the first try and on each
//! other one.
//!
//! Pingora 0.9 has no hook that reads a body before a node is chosen: a body that was read in `request_filter` is sent
//! to the node from a retry buffer of 64 KiB only, and a larger one not at all. But the client's session is a public
//! field, and may be of a custom kind. For each try the proxy calls, in this order:
//!
//! `upstream_request_filter` → (writes the head) → `enable_retry_buffering` → `is_body_done` → `get_retry_buffer` →
//! loop { `read_body_or_idle` → `is_body_done` → `request_body_filter` }
//!
//! So at the end of the first hook a stand-in takes the session's place and serves the saved pieces, and with the last
//! piece, in `request_body_filter`, the real session comes back: writing, watching for the client's leaving, keep-alive
//! and HTTP/2 resets are all the real one's. Two rules: at most three pieces (the channel to the node holds four, and
//! were it full when the body ends, nobody would watch the client until the node's first byte), and never a stand-in
//! when a try begins (Pingora checks the Host of a custom session less strictly).
//!
//! This leans on one version's order of calls: pinned in Cargo.toml, held by `tests/gateway/replay.rs`.

use std::mem;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::Stream;
use http::HeaderMap;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::{Error, ErrorType, Result};
use pingora_core::protocols::Digest;
use pingora_core::protocols::http::custom::{CustomMessageWrite, server::Session as CustomSession};
use pingora_core::protocols::http::{HttpTask, ServerSession};
use pingora_core::protocols::l4::socket::SocketAddr;
use pingora_proxy::Session;

use crate::wire::splice::Pieces;

/// Where a dropped stand-in leaves the real session.
type Home = Arc<Mutex<Option<ServerSession>>>;

/// The replay of one request's body. Nothing is installed at first.
#[derive(Default)]
pub(super) struct Replay {
    /// The same for all tries.
    home: Option<Home>,
    installed: bool,
    pieces_left: usize,
}

impl Replay {
    /// Puts a stand-in that serves `pieces` in the session's place. The last act of `upstream_request_filter`.
    pub(super) fn install(&mut self, session: &mut Session, pieces: Pieces) {
        self.remove(session);
        self.pieces_left = pieces.clone().count();
        if self.pieces_left == 0 {
            return;
        }
        let home = self.home.get_or_insert_default().clone();
        // The session is moved, its box stays: nothing is asked of the allocator but room for the stand-in.
        let real = mem::replace(&mut *session.downstream_session, nobody());
        let stand_in = StandIn { real, home, pieces };
        *session.downstream_session = ServerSession::new_custom(Box::new(stand_in));
        self.installed = true;
    }

    /// A piece was taken; after the last one the real session is back. The first act of `request_body_filter`.
    pub(super) fn piece_taken(&mut self, session: &mut Session) {
        self.pieces_left = self.pieces_left.saturating_sub(1);
        if self.pieces_left == 0 {
            self.remove(session);
        }
    }

    /// Brings the real session back, where a stand-in is in its place: the first act of every hook after a failure.
    pub(super) fn remove(&mut self, session: &mut Session) {
        if !mem::take(&mut self.installed) {
            return;
        }
        // Dropping the stand-in sends the real session home.
        drop(mem::replace(&mut *session.downstream_session, nobody()));
        let home = self.home.as_ref();
        let real = home.and_then(|home| home.lock().unwrap_or_else(PoisonError::into_inner).take());
        if let Some(real) = real {
            *session.downstream_session = real;
        }
    }
}

/// A session that nothing is ever asked of: it keeps a place for the length of a move.
fn nobody() -> ServerSession {
    ServerSession::new_custom(Box::new(()))
}

struct StandIn {
    real: ServerSession,
    home: Home,
    pieces: Pieces,
}

impl Drop for StandIn {
    fn drop(&mut self) {
        let real = mem::replace(&mut self.real, nobody());
        *self.home.lock().unwrap_or_else(PoisonError::into_inner) = Some(real);
    }
}

/// A call that the proxy does not make while the stand-in is there.
fn misuse<T>(call: &'static str) -> Result<T> {
    Error::e_explain(ErrorType::InternalError, format!("{call} on a replayed request"))
}

#[async_trait]
impl CustomSession for StandIn {
    // What the proxy asks to read the body.

    fn is_body_empty(&mut self) -> bool {
        false
    }
    fn is_body_done(&mut self) -> bool {
        self.pieces.is_empty()
    }
    async fn read_body_or_idle(&mut self, _no_body_expected: bool) -> Result<Option<Bytes>> {
        // Ready at once, so that a `select!` cannot drop a piece on its way.
        match self.pieces.next() {
            Some(piece) => Ok(Some(piece)),
            None => misuse("read_body_or_idle"),
        }
    }
    fn enable_retry_buffering(&mut self) {}
    fn get_retry_buffer(&self) -> Option<Bytes> {
        None
    }
    fn retry_buffer_truncated(&self) -> bool {
        false
    }

    // A node that answers before it has read the request.

    async fn response_duplex_vec(&mut self, tasks: Vec<HttpTask>) -> Result<bool> {
        self.real.response_duplex_vec(tasks).await
    }
    async fn finish(&mut self) -> Result<()> {
        self.real.finish_body().await.map(drop)
    }

    // Handed through: asked on the way of an error, and for logs.

    fn req_header(&self) -> &RequestHeader {
        self.real.req_header()
    }
    fn req_header_mut(&mut self) -> &mut RequestHeader {
        self.real.req_header_mut()
    }
    fn request_summary(&self) -> String {
        self.real.request_summary()
    }
    fn response_written(&self) -> Option<&ResponseHeader> {
        self.real.response_written()
    }
    fn body_bytes_sent(&self) -> usize {
        self.real.body_bytes_sent()
    }
    fn body_bytes_read(&self) -> usize {
        self.real.body_bytes_read()
    }
    fn digest(&self) -> Option<&Digest> {
        self.real.digest()
    }
    fn digest_mut(&mut self) -> Option<&mut Digest> {
        self.real.digest_mut()
    }
    fn client_addr(&self) -> Option<&SocketAddr> {
        self.real.client_addr()
    }
    fn server_addr(&self) -> Option<&SocketAddr> {
        self.real.server_addr()
    }
    fn is_upgrade_req(&self) -> bool {
        self.real.is_upgrade_req()
    }
    fn was_upgraded(&self) -> bool {
        self.real.was_upgraded()
    }
    fn set_read_timeout(&mut self, timeout: Option<Duration>) {
        self.real.set_read_timeout(timeout);
    }
    fn get_read_timeout(&self) -> Option<Duration> {
        self.real.get_read_timeout()
    }
    fn set_write_timeout(&mut self, timeout: Option<Duration>) {
        self.real.set_write_timeout(timeout);
    }
    fn get_write_timeout(&self) -> Option<Duration> {
        self.real.get_write_timeout()
    }
    fn set_total_drain_timeout(&mut self, timeout: Option<Duration>) {
        self.real.set_total_drain_timeout(timeout);
    }
    fn get_total_drain_timeout(&self) -> Option<Duration> {
        self.real.get_total_drain_timeout()
    }
    fn pseudo_raw_h1_request_header(&self) -> Bytes {
        self.real.to_h1_raw()
    }
    async fn shutdown(&mut self, _code: u32, _ctx: &str) {
        self.real.shutdown().await;
    }

    // Never asked while the stand-in is there.

    async fn read_body_bytes(&mut self) -> Result<Option<Bytes>> {
        misuse("read_body_bytes")
    }
    async fn drain_request_body(&mut self) -> Result<()> {
        misuse("drain_request_body")
    }
    async fn write_response_header(&mut self, _: Box<ResponseHeader>, _: bool) -> Result<()> {
        misuse("write_response_header")
    }
    async fn write_response_header_ref(&mut self, _: &ResponseHeader, _: bool) -> Result<()> {
        misuse("write_response_header_ref")
    }
    async fn write_body(&mut self, _: Bytes, _: bool) -> Result<()> {
        misuse("write_body")
    }
    async fn write_trailers(&mut self, _: HeaderMap) -> Result<()> {
        misuse("write_trailers")
    }
    async fn finish_custom(&mut self) -> Result<()> {
        Ok(())
    }
    fn take_custom_message_reader(
        &mut self,
    ) -> Option<Box<dyn Stream<Item = Result<Bytes>> + Unpin + Send + Sync + 'static>> {
        None
    }
    fn restore_custom_message_reader(
        &mut self,
        _: Box<dyn Stream<Item = Result<Bytes>> + Unpin + Send + Sync + 'static>,
    ) -> Result<()> {
        Ok(())
    }
    fn take_custom_message_writer(&mut self) -> Option<Box<dyn CustomMessageWrite>> {
        None
    }
    fn restore_custom_message_writer(&mut self, _: Box<dyn CustomMessageWrite>) -> Result<()> {
        Ok(())
    }
}
