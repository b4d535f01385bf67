//! Plain connections to nodes, on which the head of a request leaves together with its body, and which are kept for the
//! next request.
//!
//! Pingora's own stream writes head and body apart: two system calls, two packets, and a node that is woken twice, the
//! first time for nothing. But its HTTP/1.1 client runs on any stream that a connector of a custom protocol hands it.
//! This one keeps what is written until it is flushed, and leaves out the flush that comes right after the head: the
//! body, which is at hand, or the flush that ends a request without one follow at once. Framing and timeouts stay
//! Pingora's.

mod kept;
mod pool;

use std::io;
use std::os::fd::AsRawFd as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
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
use kept::Kept;
use pool::Link;

pub use pool::Pool;

/// Hands out plain connections.
pub struct Connections(pub Arc<Pool>);

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
        let (key, limit) = (peer.reuse_hash(), peer.idle_timeout().unwrap_or_default());
        let link = match self.0.take(key, limit) {
            Some(link) => link,
            None => {
                let socket = connect(peer).await?;
                let digest = SocketDigest::from_raw_fd(socket.as_raw_fd());
                self.0.link(socket, digest, limit)
            }
        };
        let home = (self.0.clone(), key);
        let stream = NodeStream { link: Some(link), kept: Kept::default(), home };
        // Whether it was used before, its owner tells: nobody listens to what is said here.
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

async fn connect<P: Peer>(peer: &P) -> Result<TcpStream> {
    let SocketAddr::Inet(address) = peer.address() else {
        return Error::e_explain(ErrorType::InternalError, "the node has no IP address");
    };
    let limit = peer.connection_timeout().unwrap_or(Duration::MAX);
    let connected = tokio::time::timeout(limit, TcpStream::connect(address)).await;
    let socket = connected
        .or_err(ErrorType::ConnectTimedout, "the node takes no connection")?
        .or_err(ErrorType::ConnectError, "the node takes no connection")?;
    socket.set_nodelay(true).or_err(ErrorType::SocketError, "TCP_NODELAY")?;
    Ok(socket)
}

/// A connection to a node, as long as it is in Pingora's hands.
#[derive(Debug)]
struct NodeStream {
    /// None when it is back in the pool.
    link: Option<Link>,
    kept: Kept,
    /// The pool, and the peer's name there.
    home: (Arc<Pool>, u64),
}

impl NodeStream {
    fn link(&mut self) -> io::Result<(&mut Link, &mut Kept)> {
        let link = self.link.as_mut().ok_or(io::ErrorKind::NotConnected)?;
        Ok((link, &mut self.kept))
    }

    /// Takes the connection out of Pingora's hands, where no request is on it.
    fn go_home(&mut self) {
        let (pool, peer) = &self.home;
        if self.kept.is_between_requests()
            && let Some(link) = self.link.take_if(|link| link.last_read.is_some())
        {
            pool.put(*peer, link);
        }
    }
}

/// What carries `owner` through Pingora.
fn carrying(owner: &Arc<Owner>) -> Option<Arc<ProxyDigest>> {
    let head = ResponseHeader::build(http::StatusCode::OK, Some(0)).ok()?;
    Some(Arc::new(ProxyDigest::new(Box::new(head), Some(Box::new(owner.clone())))))
}

/// Tells a connection whose it is, where it is one of ours. True where it knew: it was used before.
pub fn belongs_to(digest: &Digest, idle: &Arc<IdleTime>) -> bool {
    let told = digest.proxy_digest.as_ref().and_then(|digest| digest.user_data.as_ref());
    let owner = told.and_then(|data| data.downcast_ref::<Arc<Owner>>());
    owner.is_some_and(|owner| owner.set(idle.clone()).is_err())
}

/// True for a read that nobody waits for and that wants a byte: so, and only so, Pingora asks whether a connection on
/// which a request was answered can be kept.
fn asks_to_be_kept(cx: &Context<'_>, buffer: &ReadBuf<'_>) -> bool {
    buffer.remaining() == 1 && cx.waker().data().is_null()
}

impl AsyncRead for NodeStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if asks_to_be_kept(cx, buffer) {
            self.go_home();
            // No byte: to Pingora it is closed.
            return Poll::Ready(Ok(()));
        }
        let (link, kept) = self.link()?;
        let before = buffer.filled().len();
        let read = Pin::new(&mut link.socket).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            link.last_read = Some(Instant::now());
            kept.answered();
        }
        read
    }
}

impl AsyncWrite for NodeStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let (link, kept) = self.link()?;
        kept.poll_write(&mut link.socket, cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let (link, kept) = self.link()?;
        kept.poll_flush(&mut link.socket, cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let (link, _) = self.link()?;
        Pin::new(&mut link.socket).poll_shutdown(cx)
    }
}

#[async_trait]
impl Shutdown for NodeStream {
    async fn shutdown(&mut self) {
        // A connection that breaks is as shut as it gets.
        if let Some(link) = &mut self.link {
            let _broken = link.socket.shutdown().await;
        }
    }
}

impl UniqueID for NodeStream {
    fn id(&self) -> UniqueIDType {
        self.link.as_ref().map_or(-1, |link| link.socket.as_raw_fd())
    }
}

impl GetSocketDigest for NodeStream {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        self.link.as_ref().map(|link| link.digest.clone())
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
        self.link.as_ref()?.carried.clone()
    }
}

impl Ssl for NodeStream {}

impl Peek for NodeStream {}

#[cfg(test)]
mod tests {
    use pingora::http::RequestHeader;
    use pingora::upstreams::peer::HttpPeer;
    use pingora_core::connectors::http;
    use tokio::io::AsyncReadExt as _;
    use tokio::net::TcpListener;

    use super::*;

    /// Answers up to two requests, on the first connection only; how many came.
    async fn node(listener: TcpListener, answer: &'static [u8]) -> (usize, TcpStream) {
        let (mut socket, _) = listener.accept().await.unwrap();
        let (mut heard, mut read) = (Vec::new(), [0; 1024]);
        for asked in 1..=2 {
            while heard.windows(4).filter(|bytes| bytes == b"\r\n\r\n").count() < asked {
                match socket.read(&mut read).await.unwrap() {
                    0 => return (asked - 1, socket),
                    bytes => heard.extend_from_slice(&read[..bytes]),
                }
            }
            socket.write_all(answer).await.unwrap();
        }
        (2, socket)
    }

    /// One request and its answer.
    async fn ask(connector: &http::Connector<Connections>, peer: &HttpPeer) -> Result<()> {
        let (mut session, _) = connector.get_http_session(peer).await?;
        let head = RequestHeader::build("GET", b"/", None)?;
        session.write_request_header(Box::new(head)).await?;
        session.finish_request_body().await?;
        session.read_response_header().await?;
        while session.read_response_body().await?.is_some() {}
        connector.release_http_session(session, peer, None).await;
        Ok(())
    }

    /// Asks twice, one after the other; how often on the node's first connection.
    async fn asked_on_one_connection(answer: &'static [u8]) -> usize {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut peer = HttpPeer::new(listener.local_addr().unwrap(), false, String::new());
        peer.options.alpn = protocol();
        peer.options.idle_timeout = Some(Duration::from_secs(60));
        peer.options.read_timeout = Some(Duration::from_secs(10));
        let pool = Pool::new(8);
        let connector = http::Connector::new_custom(None, Connections(pool.clone()));
        let asking = async {
            ask(&connector, &peer).await.unwrap();
            // On another connection, nobody answers.
            ask(&connector, &peer).await.is_ok()
        };
        let ((asked, _open), answered) = tokio::join!(node(listener, answer), asking);
        assert_eq!(answered, asked == 2);
        // It is not in Pingora's pool.
        assert_eq!(pool.len(), usize::from(answered));
        asked
    }

    #[tokio::test]
    async fn pingora_gives_back_what_can_be_used_again() {
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
        assert_eq!(asked_on_one_connection(answer).await, 2);
        let answer = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n";
        assert_eq!(asked_on_one_connection(answer).await, 2);
        let last = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok";
        assert_eq!(asked_on_one_connection(last).await, 1);
        let more = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok and more";
        assert_eq!(asked_on_one_connection(more).await, 1);
    }
}
