//! Answers as HTTP: heads like uvicorn's, and bodies that may break off.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, SERVER, VARY};
use http::{HeaderValue, Response, StatusCode};
use hyper::body::{Frame, SizeHint};

use super::engine::Flight;
use super::events::Events;
use super::wire::{Ending, Line};

/// The connection ends here, on purpose.
#[derive(Debug, thiserror::Error)]
#[error("a fault was asked for")]
pub(super) struct Broken;

/// How an answer stops before its end.
pub(super) enum Break {
    /// No byte more, and no end.
    Stall,
    /// The connection goes, in this way.
    End(Arc<Line>, Ending),
    /// It goes as soon as what was sent before is on the wire.
    EndSoon,
    /// It goes at once.
    EndNow,
}

impl Break {
    /// The error that makes hyper let go of the connection, once it is time.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Broken> {
        match self {
            Self::Stall => Poll::Pending,
            Self::End(line, ending) => {
                line.will_end(*ending);
                *self = Self::EndSoon;
                self.poll(cx)
            }
            Self::EndSoon => {
                *self = Self::EndNow;
                // hyper writes out what it holds only when the body pauses.
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Self::EndNow => Poll::Ready(Broken),
        }
    }
}

/// Events that are made elsewhere.
pub(super) trait Feed: Send {
    /// The next event; none after the last.
    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Broken>>>;
}

/// The body of an answer.
pub(super) enum Body {
    /// All of it at once.
    Whole(Bytes),
    /// A stream, each event one HTTP chunk.
    Events(Box<Events>),
    /// The same, of events that are made elsewhere.
    Feed(Box<dyn Feed>),
    /// The first part of a body that never becomes whole.
    Torn {
        /// What is sent of it.
        part: Bytes,
        /// What comes then.
        then: Break,
        /// Still counted as running.
        _flight: Flight,
    },
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match &mut *self {
            Self::Events(events) => {
                events.poll_event(cx).map(|event| Some(event?.map(Frame::data)))
            }
            Self::Feed(feed) => feed.poll_event(cx).map(|event| Some(event?.map(Frame::data))),
            Self::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Torn { part, then, .. } if part.is_empty() => {
                then.poll(cx).map(|broken| Some(Err(broken)))
            }
            Self::Whole(bytes) | Self::Torn { part: bytes, .. } => {
                Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes)))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(bytes) if bytes.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Events(_) | Self::Feed(_) | Self::Torn { .. } => SizeHint::default(),
        }
    }
}

/// An answer of the node.
pub(super) type Reply = Response<Body>;

/// An answer without a body.
pub(super) fn empty(status: StatusCode) -> Reply {
    headed(status, None, Body::Whole(Bytes::new()))
}

/// An answer in JSON.
pub(super) fn json(status: StatusCode, body: impl Into<Bytes>) -> Reply {
    typed(status, HeaderValue::from_static("application/json"), body.into())
}

/// An answer of this `content-type`.
pub(super) fn typed(status: StatusCode, content_type: HeaderValue, body: Bytes) -> Reply {
    headed(status, Some(content_type), Body::Whole(body))
}

/// A stream of events.
pub(super) fn stream(events: Events) -> Reply {
    stream_of("text/event-stream; charset=utf-8", events)
}

/// The same of this `content-type`.
pub(super) fn stream_of(content_type: &'static str, events: Events) -> Reply {
    streaming(content_type, Body::Events(Box::new(events)))
}

/// A stream of events that are made elsewhere.
pub(super) fn feed(feed: impl Feed + 'static) -> Reply {
    streaming("text/event-stream; charset=utf-8", Body::Feed(Box::new(feed)))
}

fn streaming(content_type: &'static str, body: Body) -> Reply {
    headed(StatusCode::OK, Some(HeaderValue::from_static(content_type)), body)
}

/// Half of a JSON body under a head that promises all of it.
pub(super) fn torn(mut body: Bytes, then: Break, flight: Flight) -> Reply {
    let length = body.len();
    body.truncate(length / 2);
    let torn = Body::Torn { part: body, then, _flight: flight };
    let mut reply =
        headed(StatusCode::OK, Some(HeaderValue::from_static("application/json")), torn);
    reply.headers_mut().insert(CONTENT_LENGTH, length.into());
    reply
}

fn headed(status: StatusCode, content_type: Option<HeaderValue>, body: Body) -> Reply {
    let mut reply = Response::new(body);
    *reply.status_mut() = status;
    let headers = reply.headers_mut();
    headers.insert(SERVER, HeaderValue::from_static("uvicorn"));
    headers.insert(VARY, HeaderValue::from_static("Origin"));
    if let Some(content_type) = content_type {
        headers.insert(CONTENT_TYPE, content_type);
    }
    reply
}
