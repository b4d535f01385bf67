//! What stands in the real session's place: it replays the body, watches the client and the clock while the node is
//! waited for, and keeps a head back until there is something to send after it.

mod sorting;

use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::Stream;
use http::HeaderMap;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::{Error, ErrorSource, ErrorType, Result};
use pingora_core::protocols::Digest;
use pingora_core::protocols::http::custom::{CustomMessageWrite, server::Session as CustomSession};
use pingora_core::protocols::http::{HttpTask, ServerSession};
use pingora_core::protocols::l4::socket::SocketAddr;
use tokio::time::Sleep;

use super::super::drain::{Due, due};
use super::clock::{self, Clock, Limits, Ring};
use super::{Farewell, Shared, has_begun, nobody};
use crate::wire::events::Tail;
use crate::wire::splice::Pieces;

/// The stand-in of one try.
pub(super) struct StandIn {
    real: ServerSession,
    shared: Arc<Shared>,
    /// What is left of the body.
    pieces: Pieces,
    /// False where the body is empty: the real session says so itself.
    replays: bool,
    clock: Clock,
    /// Rings at [`Clock::next`] of some time ago.
    alarm: Pin<Box<Sleep>>,
    /// A head that is kept back.
    head: Option<Box<ResponseHeader>>,
    /// What the client has of the stream.
    tail: Tail,
    /// It is a stream to which an event of ours can be added: one without a length.
    open_ended: bool,
    farewell: Farewell,
    cut: Option<Due>,
    broke: Option<Box<Error>>,
    /// The next question whether the body is done is about a comment.
    comment: bool,
    left_at: Option<Instant>,
}

impl Drop for StandIn {
    fn drop(&mut self) {
        let mut home = self.shared.home.lock();
        home.session = Some(mem::replace(&mut self.real, nobody()));
        home.left_at = home.left_at.or(self.left_at);
        home.broke = self.broke.take();
    }
}

impl StandIn {
    /// Stands in for `real`, which goes home to `shared` when it is dropped.
    pub(super) fn new(
        (real, shared): (ServerSession, Arc<Shared>),
        pieces: Option<Pieces>,
        (limits, now): (Limits, Instant),
        farewell: Farewell,
    ) -> Self {
        let begun = has_begun(real.response_written());
        let clock = Clock::new(limits, now, begun);
        Self {
            alarm: Box::pin(tokio::time::sleep_until(clock.next().into())),
            replays: pieces.as_ref().is_some_and(|pieces| !pieces.is_empty()),
            pieces: pieces.unwrap_or_default(),
            real,
            shared,
            clock,
            head: None,
            tail: Tail::default(),
            open_ended: begun,
            cut: Some(farewell.cut.clone().begin()),
            farewell,
            broke: None,
            comment: false,
            left_at: None,
        }
    }

    fn set_alarm(&mut self) {
        self.alarm.as_mut().reset(self.clock.next().into());
    }

    /// An alarm that rings too early looks at the clock; one that would ring too late is set anew.
    fn keep_alarm_early(&mut self) {
        if self.alarm.deadline() > self.clock.next().into() {
            self.set_alarm();
        }
    }

    /// Before a head is written, which says so.
    fn end_connection_where_due(&mut self) {
        if self.shared.last.load(Relaxed) {
            self.real.set_keepalive(None);
        }
    }

    /// The client is gone, if it was the client's side that failed.
    fn note_error<T>(&mut self, result: Result<T>) -> Result<T> {
        if result.as_ref().is_err_and(|error| *error.esource() != ErrorSource::Upstream) {
            self.left_at.get_or_insert_with(Instant::now);
        }
        result
    }
}

/// A call that the proxy does not make while the stand-in is there.
fn misuse<T>(call: &'static str) -> Result<T> {
    Error::e_explain(ErrorType::InternalError, format!("{call} on a stand-in"))
}

#[async_trait]
impl CustomSession for StandIn {
    // What the proxy asks to read the body.

    fn is_body_empty(&mut self) -> bool {
        !self.replays && self.real.is_body_empty()
    }
    fn is_body_done(&mut self) -> bool {
        if mem::take(&mut self.comment) {
            // Once: the proxy then takes the way of a body, out of its `select!`, and comes by `request_body_filter`.
            return false;
        }
        self.pieces.is_empty() && (self.replays || self.real.is_body_done())
    }
    async fn read_body_or_idle(&mut self, _no_body_expected: bool) -> Result<Option<Bytes>> {
        // Ready at once, so that a `select!` cannot drop a piece on its way.
        if let Some(piece) = self.pieces.next() {
            return Ok(Some(piece));
        }
        self.shared.replayed.store(true, Relaxed);
        loop {
            tokio::select! {
                biased;
                left = self.real.read_body_or_idle(true) => return self.note_error(left),
                cut = due(&mut self.cut) => {
                    self.cut = None;
                    return Err(cut);
                }
                () = self.alarm.as_mut() => {}
            }
            let ring = self.clock.ring(Instant::now(), self.tail.between_events());
            self.set_alarm();
            match ring {
                Ring::Wait => {}
                Ring::Over(limit) => return Err(clock::over(limit)),
                // Its length is told, or the client has all of it, or knows that it broke.
                Ring::Comment if !self.open_ended || self.shared.settled.load(Relaxed) => {}
                Ring::Comment => {
                    self.comment = true;
                    self.shared.comment_due.store(true, Relaxed);
                    return Ok(Some(Bytes::new()));
                }
            }
        }
    }
    fn enable_retry_buffering(&mut self) {
        if !self.replays {
            self.real.enable_retry_buffering();
        }
    }
    fn get_retry_buffer(&self) -> Option<Bytes> {
        if self.replays { None } else { self.real.get_retry_buffer() }
    }
    fn retry_buffer_truncated(&self) -> bool {
        !self.replays && self.real.retry_buffer_truncated()
    }

    // The answer.

    async fn response_duplex_vec(&mut self, tasks: Vec<HttpTask>) -> Result<bool> {
        let (tasks, bytes) = self.sort(tasks)?;
        if tasks.is_empty() {
            return Ok(false);
        }
        if bytes {
            self.shared.written.store(true, Relaxed);
        }
        self.end_connection_where_due();
        self.shared.torn.store(true, Relaxed);
        let written = self.real.response_duplex_vec(tasks).await;
        self.shared.torn.store(false, Relaxed);
        if bytes {
            self.clock.wrote(Instant::now());
            self.keep_alarm_early();
        }
        self.note_error(written)
    }
    /// A comment; it takes a head along that is kept back.
    async fn write_body(&mut self, comment: Bytes, _: bool) -> Result<()> {
        let began = Instant::now();
        self.end_connection_where_due();
        self.shared.torn.store(true, Relaxed);
        let head = self.head.take();
        let written = async {
            if let Some(head) = head {
                self.real.write_response_header(head).await?;
            }
            self.real.write_response_body(comment, false).await
        };
        let written = written.await;
        self.note_error(written)?;
        self.shared.torn.store(false, Relaxed);
        self.clock.commented(began, Instant::now());
        Ok(())
    }
    async fn finish(&mut self) -> Result<()> {
        if self.head.is_some() {
            return Error::e_explain(ErrorType::InternalError, "an answer that ended in its head");
        }
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
