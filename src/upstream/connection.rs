//! Plain connections to nodes, on which the head of a request leaves together with its body.
//!
//! Pingora's own stream writes the two apart: two system calls, two packets, and a node that is woken twice, the first
//! time for nothing. But its HTTP/1.1 client runs on any stream that a connector of a custom protocol hands it. This one
//! keeps what is written until it is flushed, and leaves out the flush that comes right after the head: the body, which
//! is at hand, or the flush that ends a request without one follow at once. Pooling, framing and timeouts stay
//! Pingora's.

use std::io::{self, IoSlice};
use std::mem;
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use pingora::http::ResponseHeader;
use pingora::upstreams::peer::Peer;
use pingora::{Error, ErrorType, OrErr as _, Result};
use pingora_core::connectors::http::custom::{Connection, Connector};
use pingora_core::protocols::l4::socket::SocketAddr;
use pingora_core::protocols::raw_connect::ProxyDigest;
use pingora_core::protocols::tls::CustomALPN;
use pingora_core::protocols::{
    ALPN, Digest, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest,
    Ssl, TimingDigest, UniqueID, UniqueIDType,
};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;

use super::idle::{IdleTime, Owner};

/// Bytes that are kept until a flush. A head is about 500; what is longer than this with its body leaves at once, both in
/// one call, and is not copied.
const KEPT_BYTES_MAX: usize = 16 * 1024;

/// Makes plain connections.
pub struct Connections;

/// What a peer asks for to get one. No node ever sees the name: it is told to nodes by TLS alone.
pub fn protocol() -> ALPN {
    ALPN::Custom(CustomALPN::new(b"plain".to_vec()))
}

#[async_trait]
impl Connector for Connections {
    /// Sessions are Pingora's own, of HTTP/1.1.
    type Session = ();

    async fn get_http_session<P: Peer + Send + Sync + 'static>(
        &self,
        peer: &P,
    ) -> Result<(Connection<()>, bool)> {
        let SocketAddr::Inet(address) = peer.address() else {
            return Error::e_explain(ErrorType::InternalError, "the node has no IP address");
        };
        let limit = peer.connection_timeout().unwrap_or(Duration::MAX);
        let connected = tokio::time::timeout(limit, TcpStream::connect(address)).await;
        let socket = connected
            .or_err(ErrorType::ConnectTimedout, "the node takes no connection")?
            .or_err(ErrorType::ConnectError, "the node takes no connection")?;
        socket.set_nodelay(true).or_err(ErrorType::SocketError, "TCP_NODELAY")?;
        let digest = Arc::new(SocketDigest::from_raw_fd(socket.as_raw_fd()));
        let owner = Arc::<Owner>::default();
        let stream = NodeStream {
            socket,
            kept: Kept::default(),
            phase: Phase::Head,
            digest,
            carried: carrying(&owner),
            owner,
            last_read: None,
        };
        Ok((Connection::Stream(Box::new(stream)), false))
    }

    async fn reused_http_session<P: Peer + Send + Sync + 'static>(&self, _: &P) -> Option<()> {
        None
    }

    async fn release_http_session<P: Peer + Send + Sync + 'static>(
        &self,
        (): (),
        _: &P,
        _: Option<Duration>,
    ) {
    }
}

/// What was written and has not left.
#[derive(Debug, Default)]
struct Kept {
    bytes: Vec<u8>,
    /// How many of them are with the kernel.
    sent: usize,
}

/// How far a request is written, told by its flushes: Pingora flushes after the head and after the body, whose length
/// is always known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The next flush comes after a head.
    Head,
    /// It comes after the body.
    Body,
    /// All is written. The first byte of an answer ends it.
    Written,
}

impl Kept {
    /// Keeps `more`, or sends it behind what is kept.
    fn poll_write<W: AsyncWrite + Unpin>(
        &mut self,
        out: &mut W,
        cx: &mut Context<'_>,
        more: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.sent == 0 && self.bytes.len() + more.len() <= KEPT_BYTES_MAX {
            self.bytes.extend_from_slice(more);
            return Poll::Ready(Ok(more.len()));
        }
        while !self.bytes.is_empty() {
            let both = [IoSlice::new(&self.bytes[self.sent..]), IoSlice::new(more)];
            let written = ready!(Pin::new(&mut *out).poll_write_vectored(cx, &both))?;
            if let Some(of_more) = self.left(written)? {
                if of_more > 0 {
                    return Poll::Ready(Ok(of_more));
                }
                break;
            }
        }
        Pin::new(out).poll_write(cx, more)
    }

    /// Sends what is kept.
    fn poll_send<W: AsyncWrite + Unpin>(
        &mut self,
        out: &mut W,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while !self.bytes.is_empty() {
            let written = ready!(Pin::new(&mut *out).poll_write(cx, &self.bytes[self.sent..]))?;
            self.left(written)?;
        }
        Poll::Ready(Ok(()))
    }

    /// `written` bytes have left. Where all that was kept has, how many were not of it.
    fn left(&mut self, written: usize) -> io::Result<Option<usize>> {
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        let rest = self.bytes.len() - self.sent;
        if written < rest {
            self.sent += written;
            return Ok(None);
        }
        // Streams go on for minutes after their request: their memory is given back.
        drop(mem::take(&mut self.bytes));
        self.sent = 0;
        Ok(Some(written - rest))
    }
}

/// A connection to a node.
#[derive(Debug)]
struct NodeStream<S = TcpStream> {
    socket: S,
    kept: Kept,
    phase: Phase,
    digest: Arc<SocketDigest>,
    owner: Arc<Owner>,
    /// The same, where Pingora hands it on: it asks for it with each request.
    carried: Option<Arc<ProxyDigest>>,
    /// When the last bytes came; none on a connection that has not been used.
    last_read: Option<Instant>,
}

impl<S> NodeStream<S> {
    /// The node closed the connection. Where no request is on it, that tells how long it lets one be idle.
    fn closed(&self) {
        let idle = self.phase == Phase::Head && self.kept.bytes.is_empty();
        if let (true, Some(last), Some(node)) = (idle, self.last_read, self.owner.get()) {
            let now = Instant::now();
            node.closed(now.duration_since(last), now);
        }
    }
}

/// What carries `owner` through Pingora.
fn carrying(owner: &Arc<Owner>) -> Option<Arc<ProxyDigest>> {
    let head = ResponseHeader::build(http::StatusCode::OK, Some(0)).ok()?;
    Some(Arc::new(ProxyDigest::new(Box::new(head), Some(Box::new(owner.clone())))))
}

/// Tells a connection whose it is, where it is one of ours.
pub fn belongs_to(digest: &Digest, idle: &Arc<IdleTime>) {
    let told = digest.proxy_digest.as_ref().and_then(|digest| digest.user_data.as_ref());
    if let Some(owner) = told.and_then(|data| data.downcast_ref::<Arc<Owner>>()) {
        let _already_told = owner.set(idle.clone());
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for NodeStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.socket).poll_read(cx, buffer);
        match &read {
            Poll::Ready(Ok(())) if buffer.filled().len() > before => {
                self.last_read = Some(Instant::now());
                if self.phase == Phase::Written {
                    self.phase = Phase::Head;
                }
            }
            Poll::Ready(_) => self.closed(),
            Poll::Pending => {}
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for NodeStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        this.kept.poll_write(&mut this.socket, cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.phase == Phase::Head {
            // The head waits for the body, or for the flush that ends a request without one.
            this.phase = Phase::Body;
            return Poll::Ready(Ok(()));
        }
        // A socket has nothing of its own to flush.
        ready!(this.kept.poll_send(&mut this.socket, cx))?;
        this.phase = Phase::Written;
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

#[async_trait]
impl Shutdown for NodeStream {
    async fn shutdown(&mut self) {
        // A connection that breaks is as shut as it gets.
        let _broken = self.socket.shutdown().await;
    }
}

impl UniqueID for NodeStream {
    fn id(&self) -> UniqueIDType {
        self.socket.as_raw_fd()
    }
}

impl GetSocketDigest for NodeStream {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        Some(self.digest.clone())
    }
}

impl GetTimingDigest for NodeStream {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        Vec::new()
    }
}

impl GetProxyDigest for NodeStream {
    /// There is no proxy. This is where a connection can carry something of its user's: see [`belongs_to`].
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        self.carried.clone()
    }
}

impl Ssl for NodeStream {}

impl Peek for NodeStream {}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;
    use tokio::io::AsyncReadExt as _;

    use super::*;

    /// A node that notes what each call to the kernel would have carried.
    #[derive(Debug, Default)]
    struct Node {
        calls: Vec<Vec<u8>>,
        /// Bytes that the next calls take; all of them when this is empty.
        takes: VecDeque<usize>,
        answer: &'static [u8],
    }

    impl AsyncRead for Node {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            buffer.put_slice(mem::take(&mut self.answer));
            Poll::Ready(Ok(()))
        }
    }

    impl AsyncWrite for Node {
        fn poll_write(
            self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
        }

        fn poll_write_vectored(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            parts: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            let mut call = parts.iter().flat_map(|part| part.to_vec()).collect::<Vec<u8>>();
            call.truncate(self.takes.pop_front().unwrap_or(usize::MAX));
            let taken = call.len();
            self.calls.push(call);
            Poll::Ready(Ok(taken))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    fn connected() -> NodeStream<Node> {
        let digest = Arc::new(SocketDigest::from_raw_fd(-1));
        NodeStream {
            socket: Node::default(),
            kept: Kept::default(),
            phase: Phase::Head,
            digest,
            owner: Arc::default(),
            carried: None,
            last_read: None,
        }
    }

    /// As Pingora writes a request: a head, a flush, the body in pieces, a flush, and one more that ends the request.
    async fn send(stream: &mut NodeStream<Node>, head: &[u8], pieces: &[&[u8]]) {
        stream.write_all(head).await.unwrap();
        stream.flush().await.unwrap();
        for piece in pieces {
            stream.write_all(piece).await.unwrap();
        }
        if !pieces.is_empty() {
            stream.flush().await.unwrap();
        }
        stream.flush().await.unwrap();
    }

    async fn answer(stream: &mut NodeStream<Node>) {
        stream.socket.answer = b"answer";
        let mut read = [0; 6];
        stream.read_exact(&mut read).await.unwrap();
    }

    #[tokio::test]
    async fn a_head_leaves_with_its_body_request_after_request() {
        let mut stream = connected();
        for _ in 0..2 {
            send(&mut stream, b"head ", &[b"a ", b"spliced ", b"body"]).await;
            assert_eq!(mem::take(&mut stream.socket.calls), [b"head a spliced body"]);
            answer(&mut stream).await;
        }
        send(&mut stream, b"no body", &[]).await;
        assert_eq!(stream.socket.calls, [b"no body"]);
    }

    #[tokio::test]
    async fn a_long_body_is_not_kept() {
        let mut stream = connected();
        let body = vec![b'b'; KEPT_BYTES_MAX];
        send(&mut stream, b"head ", &[&body]).await;
        assert_eq!(stream.socket.calls, [[b"head ", &body[..]].concat()]);
    }

    #[tokio::test]
    async fn an_answer_that_comes_before_the_bodys_end_keeps_nothing_back() {
        let mut stream = connected();
        stream.write_all(b"head ").await.unwrap();
        stream.flush().await.unwrap();
        answer(&mut stream).await;
        stream.write_all(b"body").await.unwrap();
        stream.flush().await.unwrap();
        assert_eq!(stream.socket.calls.concat(), b"head body");
        // Its next request may leave in two pieces, but leaves.
        send(&mut stream, b" head ", &[b"body"]).await;
        assert_eq!(stream.socket.calls.concat(), b"head body head body");
    }

    #[tokio::test]
    async fn a_node_that_takes_nothing_is_an_error() {
        let mut stream = connected();
        stream.socket.takes = [0].into();
        stream.write_all(b"head").await.unwrap();
        stream.flush().await.unwrap();
        let error = stream.flush().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WriteZero);
    }

    proptest! {
        #[test]
        fn whatever_is_written_arrives_in_order(
            writes in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20_000), 1..8),
            takes in prop::collection::vec(1_usize..30_000, 0..20),
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let mut stream = connected();
            stream.socket.takes = takes.into();
            let pieces: Vec<&[u8]> = writes.iter().map(Vec::as_slice).collect();
            runtime.block_on(send(&mut stream, b"head", &pieces));
            let arrived = stream.socket.calls.concat();
            prop_assert_eq!(arrived, [b"head".to_vec(), writes.concat()].concat());
        }
    }
}
