//! A client's connection as a stream of our own below Pingora's session: it bounds heads in bytes and in time, and says
//! in our words what is wrong with one that Pingora cannot read.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::{Buf as _, BytesMut};
use pingora_core::protocols::raw_connect::ProxyDigest;
use pingora_core::protocols::tls::SslDigest;
use pingora_core::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, Stream,
    TimingDigest, UniqueID, UniqueIDType,
};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::Sleep;
use tokio_rustls::server::TlsStream;

use super::Listener;
use super::broken::{self, Farewell};
use super::framing::Framing;
use super::link::Link;
use crate::metrics::Metrics;
use crate::refusal::Refusal;
use crate::wire::chunked::Broken;
use crate::wire::raw_head::{HEAD_BYTES_MAX, HEADERS_MAX};

/// What a client of HTTP/2 sends first (RFC 9113, 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Bytes that a client of HTTP/2 may send beyond what its requests, and our answers, account for: settings, pings, windows.
/// nginx has as much.
const HTTP2_SPARE_BYTES: u64 = 1024 * 1024;

/// Bytes of answers for each byte that a client sends because of them: a window is opened in 26, for an event of 100 and more.
const SENT_FOR_ONE: u64 = 4;

/// What carries a connection: a socket, or TLS on one.
pub(super) trait Transport:
    AsyncRead + AsyncWrite + Unpin + Send + Sync + std::fmt::Debug + 'static
{
    fn socket(&self) -> &Stream;
}

impl Transport for Stream {
    fn socket(&self) -> &Stream {
        self
    }
}

impl Transport for TlsStream<Stream> {
    fn socket(&self) -> &Stream {
        self.get_ref().0
    }
}

/// The connection.
pub(super) struct ClientStream<S> {
    io: S,
    /// Read to see what it speaks, and not handed on yet.
    ahead: BytesMut,
    link: Arc<Link>,
    carried: Option<Arc<ProxyDigest>>,
    tls: Option<Arc<SslDigest>>,
    head: Head,
    /// Of HTTP/1: the request that is read.
    framing: Framing,
    /// Bytes that came, of HTTP/2, and that were sent.
    came: u64,
    sent: u64,
    header_timeout: Duration,
    metrics: Arc<Metrics>,
    farewell: Option<Farewell>,
}

/// The head that is waited for, as far as it has come.
#[derive(Default)]
struct Head {
    turn: u32,
    bytes: usize,
    /// Rings when it takes too long: from the first byte on, of the first one from the connection on.
    alarm: Option<Pin<Box<Sleep>>>,
    /// Until when it must be whole.
    until: Option<Instant>,
    /// What its client is told.
    refusal: Option<Refusal>,
}

impl ClientStream<Stream> {
    pub(super) fn plain(socket: Stream, listener: &Listener) -> Self {
        Self::new(socket, false, None, listener)
    }
}

impl ClientStream<TlsStream<Stream>> {
    pub(super) fn tls(socket: TlsStream<Stream>, listener: &Listener) -> Self {
        let connection = socket.get_ref().1;
        let http2 = connection.alpn_protocol() == Some(super::tls::HTTP2);
        let version = match connection.protocol_version() {
            Some(tokio_rustls::rustls::ProtocolVersion::TLSv1_3) => "TLSv1.3",
            _ => "TLSv1.2",
        };
        let digest = SslDigest::new("", version, None, None, Vec::new());
        Self::new(socket, http2, Some(Arc::new(digest)), listener)
    }
}

impl<S: Transport> ClientStream<S> {
    fn new(io: S, http2: bool, tls: Option<Arc<SslDigest>>, listener: &Listener) -> Self {
        let link = Link::new(http2);
        let header_timeout = listener.bounds.header_timeout;
        Self {
            io,
            ahead: BytesMut::new(),
            carried: link.carried(),
            link,
            tls,
            head: Head { until: Some(Instant::now() + header_timeout), ..Head::default() },
            framing: Framing::default(),
            came: 0,
            sent: 0,
            header_timeout,
            metrics: listener.metrics.clone(),
            farewell: None,
        }
    }

    pub(super) fn link(&self) -> &Arc<Link> {
        &self.link
    }

    /// Whether the first bytes are those of HTTP/2. They are read again.
    ///
    /// # Errors
    /// They do not come in time, or the connection breaks.
    pub(super) async fn begins_http2(&mut self) -> io::Result<bool> {
        let mut ahead = BytesMut::with_capacity(PREFACE.len());
        while ahead.len() < PREFACE.len() && PREFACE.starts_with(&ahead) {
            if self.read_buf(&mut ahead).await? == 0 {
                break;
            }
        }
        let http2 = ahead.starts_with(PREFACE);
        self.ahead = ahead;
        if http2 {
            self.link = Link::new(true);
            self.carried = self.link.carried();
        }
        Ok(http2)
    }

    /// Reads bytes of a head, or waits for the first ones.
    fn poll_head(
        &mut self,
        turn: u32,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.head.turn != turn {
            let alarm = self.head.alarm.take();
            self.head = Head { turn, alarm, ..Head::default() };
            self.framing = Framing::default();
            self.link.forget_chunks();
        }
        let http2 = self.link.is_http2();
        if self.link.is_broken() {
            self.head.refusal = Some(Broken.into());
            return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
        }
        if self.head.bytes >= HEAD_BYTES_MAX && !http2 {
            self.head.refusal = Some(Refusal::HeadTooLarge);
            return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
        }
        let before = buffer.filled().len();
        if let Poll::Ready(read) = Pin::new(&mut self.io).poll_read(cx, buffer) {
            let came = buffer.filled().len() - before;
            if came > 0 && self.head.until.is_none() {
                self.head.until = Some(Instant::now() + self.header_timeout);
            }
            self.head.bytes += came;
            if !http2 {
                self.framing.push(&buffer.filled()[before..], &self.link);
            }
            return Poll::Ready(read);
        }
        let Some(until) = self.head.until else { return Poll::Pending };
        // An alarm of an earlier head rings too early: it is set anew then, and not for each head.
        let alarm =
            self.head.alarm.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until.into())));
        loop {
            ready!(alarm.as_mut().poll(cx));
            if Instant::now() >= until {
                break;
            }
            alarm.as_mut().reset(until.into());
        }
        if self.head.bytes == 0 {
            // Nobody asked anything: the connection ends as if its client had closed it.
            return Poll::Ready(Ok(()));
        }
        self.head.refusal = (!http2).then_some(Refusal::HeadTooSlow);
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    /// Reads bytes of a body: in chunks that are none, nothing more of it.
    fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        if !self.link.is_broken() {
            ready!(Pin::new(&mut self.io).poll_read(cx, buffer))?;
            if !self.framing.is_chunked() {
                return Poll::Ready(Ok(()));
            }
            self.framing.push(&buffer.filled()[before..], &self.link);
        }
        if self.link.is_broken() {
            buffer.set_filled(before);
            return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
        }
        Poll::Ready(Ok(()))
    }

    /// True where a client of HTTP/2 sends more than it has a reason to: floods of settings, pings, empty frames.
    fn is_flooded(&self) -> bool {
        let reasons = self.link.accounted() + self.sent / SENT_FOR_ONE;
        self.came > HTTP2_SPARE_BYTES + reasons
    }

    /// True where Pingora writes, though it has read a part of a head and no more: it says that it cannot be read.
    fn is_refusal(&self) -> bool {
        !self.link.is_http2()
            && self.head.bytes > 0
            && self.link.awaited_head() == Some(self.head.turn)
    }
}

impl<S: Transport> AsyncRead for ClientStream<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.ahead.is_empty() {
            let bytes = this.ahead.len().min(buffer.remaining());
            buffer.put_slice(&this.ahead[..bytes]);
            this.ahead.advance(bytes);
            return Poll::Ready(Ok(()));
        }
        if !this.link.is_http2() {
            return match this.link.awaited_head() {
                Some(turn) => this.poll_head(turn, cx, buffer),
                None => this.poll_body(cx, buffer),
            };
        }
        if this.link.is_cut() || this.is_flooded() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        let before = buffer.filled().len();
        let read = match this.link.awaited_head() {
            Some(turn) => this.poll_head(turn, cx, buffer),
            None => Pin::new(&mut this.io).poll_read(cx, buffer),
        };
        this.came += (buffer.filled().len() - before) as u64;
        read
    }
}

impl<S: Transport> AsyncWrite for ClientStream<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.is_refusal() {
            let refusal = match this.framing.lines() > HEADERS_MAX {
                true => Refusal::HeadTooLarge,
                false => broken::of_status(broken::status_of(bytes)),
            };
            this.head.refusal.get_or_insert(refusal);
            return Poll::Ready(Ok(bytes.len()));
        }
        let written = ready!(Pin::new(&mut this.io).poll_write(cx, bytes))?;
        this.sent += written as u64;
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.is_refusal() {
            let first = pieces.iter().find(|piece| !piece.is_empty());
            return Pin::new(this).poll_write(cx, first.map_or(&[], |piece| piece));
        }
        let written = ready!(Pin::new(&mut this.io).poll_write_vectored(cx, pieces))?;
        this.sent += written as u64;
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    /// Not before the client was told what is wrong with its head, if anything is, and had time to hear what is with its body.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let farewell = this.farewell.get_or_insert_with(|| {
            let refusal = this.head.refusal.take();
            if let Some(refusal) = &refusal {
                this.metrics.refused(refusal.code());
                log::debug!("a head was refused: {}", refusal.code());
            }
            match &refusal {
                None if this.link.is_broken() => Farewell::of_told(),
                refusal => Farewell::new(refusal.as_ref()),
            }
        });
        farewell.poll(&mut this.io, cx)
    }
}

#[async_trait]
impl<S: Transport> Shutdown for ClientStream<S> {
    async fn shutdown(&mut self) {
        // A connection that breaks is as shut as it gets.
        let _broken = AsyncWriteExt::shutdown(self).await;
    }
}

impl<S: Transport> UniqueID for ClientStream<S> {
    fn id(&self) -> UniqueIDType {
        self.io.socket().id()
    }
}

impl<S: Transport> GetSocketDigest for ClientStream<S> {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        self.io.socket().get_socket_digest()
    }
}

impl<S: Transport> GetTimingDigest for ClientStream<S> {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        Vec::new()
    }
}

impl<S: Transport> GetProxyDigest for ClientStream<S> {
    /// See [`Link::of`].
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        self.carried.clone()
    }
}

impl<S: Transport> Ssl for ClientStream<S> {
    fn get_ssl_digest(&self) -> Option<Arc<SslDigest>> {
        self.tls.clone()
    }
}

impl<S: Transport> Peek for ClientStream<S> {}

impl<S: Transport> std::fmt::Debug for ClientStream<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientStream").field("io", &self.io).finish_non_exhaustive()
    }
}
