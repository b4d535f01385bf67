//! The TCP side of a connection, which can also end as no HTTP server ends it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// What `garbage` sends.
const GARBAGE: &[u8] = b"\x16\x03\x01 this is not HTTP\r\n\r\n";

/// How a connection ends when it is let go.
#[derive(Clone, Copy)]
#[repr(u8)]
pub(super) enum Ending {
    /// FIN.
    Close = 0,
    /// RST.
    Reset = 1,
    /// Bytes that are not HTTP, then FIN.
    Garbage = 2,
}

/// Lets the answer to a request say how its connection ends.
pub(super) struct Line(AtomicU8);

impl Line {
    /// A connection that ends as usual.
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self(AtomicU8::new(Ending::Close as u8)))
    }

    /// From now on the connection ends so.
    pub(super) fn will_end(&self, ending: Ending) {
        self.0.store(ending as u8, Ordering::Relaxed);
    }
}

/// A TCP stream that ends as its [`Line`] says.
pub(super) struct Wire {
    stream: TcpStream,
    line: Arc<Line>,
}

impl Wire {
    /// The two halves of one connection.
    pub(super) fn new(stream: TcpStream, line: Arc<Line>) -> Self {
        Self { stream, line }
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        let ending = self.line.0.load(Ordering::Relaxed);
        // Neither can fail but when the client has gone, and then nobody is left to see it.
        if ending == Ending::Reset as u8 {
            let _ = self.stream.set_zero_linger();
        } else if ending == Ending::Garbage as u8 {
            let _ = self.stream.try_write(GARBAGE);
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
