//! What is written of a request and has not left: its head waits for its body.

use std::io::{self, IoSlice};
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::AsyncWrite;

/// Bytes that are kept until a flush. A head is about 500; what is longer than this with its body leaves at once, both in
/// one call, and is not copied.
const KEPT_BYTES_MAX: usize = 16 * 1024;

/// How far a request is written, told by its flushes: Pingora flushes after the head and after the body, whose length
/// is always known.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The next flush comes after a head.
    #[default]
    Head,
    /// It comes after the body.
    Body,
    /// All is written. The first byte of an answer ends it.
    Written,
}

/// What was written and has not left.
#[derive(Debug, Default)]
pub(super) struct Kept {
    phase: Phase,
    bytes: Vec<u8>,
    /// How many of them are with the kernel.
    sent: usize,
}

impl Kept {
    /// No request is on the connection, of which anything could be answered.
    pub(super) fn is_between_requests(&self) -> bool {
        self.phase == Phase::Head && self.bytes.is_empty()
    }

    /// Bytes of an answer came.
    pub(super) fn answered(&mut self) {
        if self.phase == Phase::Written {
            self.phase = Phase::Head;
        }
    }

    /// Keeps `more`, or sends it behind what is kept.
    pub(super) fn poll_write<W: AsyncWrite + Unpin>(
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

    /// Sends what is kept, but for a head.
    pub(super) fn poll_flush<W: AsyncWrite + Unpin>(
        &mut self,
        out: &mut W,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        if self.phase == Phase::Head {
            // It waits for the body, or for the flush that ends a request without one.
            self.phase = Phase::Body;
            return Poll::Ready(Ok(()));
        }
        // A socket has nothing of its own to flush.
        ready!(self.poll_send(out, cx))?;
        self.phase = Phase::Written;
        Poll::Ready(Ok(()))
    }

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

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    /// A node that notes what each call to the kernel would have carried.
    #[derive(Debug, Default)]
    struct Node {
        calls: Vec<Vec<u8>>,
        /// Bytes that the next calls take; all of them when this is empty.
        takes: VecDeque<usize>,
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

    /// A connection to it.
    #[derive(Debug, Default)]
    struct Stream {
        node: Node,
        kept: Kept,
    }

    impl AsyncWrite for Stream {
        fn poll_write(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            let this = &mut *self;
            this.kept.poll_write(&mut this.node, cx, bytes)
        }

        fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            let this = &mut *self;
            this.kept.poll_flush(&mut this.node, cx)
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    /// As Pingora writes a request: a head, a flush, the body in pieces, a flush, and one more that ends the request.
    async fn send(stream: &mut Stream, head: &[u8], pieces: &[&[u8]]) {
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

    #[tokio::test]
    async fn a_head_leaves_with_its_body_request_after_request() {
        let mut stream = Stream::default();
        for _ in 0..2 {
            send(&mut stream, b"head ", &[b"a ", b"spliced ", b"body"]).await;
            assert_eq!(mem::take(&mut stream.node.calls), [b"head a spliced body"]);
            stream.kept.answered();
        }
        send(&mut stream, b"no body", &[]).await;
        assert_eq!(stream.node.calls, [b"no body"]);
    }

    #[tokio::test]
    async fn a_long_body_is_not_kept() {
        let mut stream = Stream::default();
        let body = vec![b'b'; KEPT_BYTES_MAX];
        send(&mut stream, b"head ", &[&body]).await;
        assert_eq!(stream.node.calls, [[b"head ", &body[..]].concat()]);
    }

    #[tokio::test]
    async fn an_answer_that_comes_before_the_bodys_end_keeps_nothing_back() {
        let mut stream = Stream::default();
        stream.write_all(b"head ").await.unwrap();
        stream.flush().await.unwrap();
        stream.kept.answered();
        stream.write_all(b"body").await.unwrap();
        stream.flush().await.unwrap();
        assert_eq!(stream.node.calls.concat(), b"head body");
        // Its next request may leave in two pieces, but leaves.
        send(&mut stream, b" head ", &[b"body"]).await;
        assert_eq!(stream.node.calls.concat(), b"head body head body");
    }

    #[tokio::test]
    async fn a_node_that_takes_nothing_is_an_error() {
        let mut stream = Stream::default();
        stream.node.takes = [0].into();
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
            let mut stream = Stream::default();
            stream.node.takes = takes.into();
            let pieces: Vec<&[u8]> = writes.iter().map(Vec::as_slice).collect();
            runtime.block_on(send(&mut stream, b"head", &pieces));
            let arrived = stream.node.calls.concat();
            prop_assert_eq!(arrived, [b"head".to_vec(), writes.concat()].concat());
        }
    }
}
