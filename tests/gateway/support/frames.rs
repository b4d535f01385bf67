//! HTTP/2 by hand, frame by frame, for what no client library would send (RFC 9113 and, for headers, RFC 7541).

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::task::JoinSet;

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

/// On HEADERS and DATA: nothing follows on this stream.
pub(crate) const END_STREAM: u8 = 1;
/// On HEADERS and CONTINUATION: the headers are whole.
pub(crate) const END_HEADERS: u8 = 4;

/// The longest payload that everyone takes.
pub(crate) const PAYLOAD_MAX: usize = 16_384;

/// How long a write may wait before it counts as held back.
const HELD_BACK: Duration = Duration::from_secs(2);

/// A frame that came.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    /// The error code of RST_STREAM; `None` for another frame.
    pub(crate) fn reset(&self) -> Option<u32> {
        let code = || self.payload.first_chunk().copied().map(u32::from_be_bytes);
        (self.kind == RST_STREAM).then(code).flatten()
    }

    /// The error code of GOAWAY; `None` for another frame.
    pub(crate) fn goaway(&self) -> Option<u32> {
        let code = || self.payload.get(4..8)?.try_into().ok().map(u32::from_be_bytes);
        (self.kind == GOAWAY).then(code).flatten()
    }
}

/// What became of bytes that were to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    /// They are on their way.
    Yes,
    /// The other side reads no more for now.
    HeldBack,
    /// The other side has closed.
    Cut,
}

/// A connection, whose frames are kept as they come.
pub(crate) struct Frames {
    write: OwnedWriteHalf,
    came: Arc<Mutex<(Vec<Frame>, bool)>>,
    /// Kept open where nobody reads.
    _unread: Option<OwnedReadHalf>,
    _reading: JoinSet<()>,
}

impl Frames {
    /// Connects, and says that it speaks HTTP/2.
    pub(crate) async fn connect(to: SocketAddr) -> Self {
        let (read, write) = TcpStream::connect(to).await.unwrap().into_split();
        let came = Arc::new(Mutex::new((Vec::new(), false)));
        let mut reading = JoinSet::new();
        reading.spawn(collect(read, came.clone()));
        Self { write, came, _unread: None, _reading: reading }.greeted().await
    }

    /// The same, and reads nothing, ever.
    pub(crate) async fn deaf(to: SocketAddr) -> Self {
        let (read, write) = TcpStream::connect(to).await.unwrap().into_split();
        let came = Arc::default();
        Self { write, came, _unread: Some(read), _reading: JoinSet::new() }.greeted().await
    }

    async fn greeted(mut self) -> Self {
        let preface = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &*frame(SETTINGS, 0, 0, &[])].concat();
        assert_eq!(self.send(&preface).await, Sent::Yes);
        self
    }

    /// Writes bytes, all or none of which may be read.
    pub(crate) async fn send(&mut self, bytes: &[u8]) -> Sent {
        match tokio::time::timeout(HELD_BACK, self.write.write_all(bytes)).await {
            Ok(Ok(())) => Sent::Yes,
            Ok(Err(_)) => Sent::Cut,
            Err(_) => Sent::HeldBack,
        }
    }

    /// What has come so far.
    pub(crate) fn came(&self) -> Vec<Frame> {
        self.came.lock().unwrap().0.clone()
    }

    /// The other side takes no stream any more.
    pub(crate) fn is_over(&self) -> bool {
        self.is_closed() || self.came().iter().any(|frame| frame.goaway().is_some())
    }

    /// The other side has closed.
    pub(crate) fn is_closed(&self) -> bool {
        self.came.lock().unwrap().1
    }
}

/// Keeps what comes until nothing does any more.
async fn collect(mut read: OwnedReadHalf, came: Arc<Mutex<(Vec<Frame>, bool)>>) {
    let mut head = [0; 9];
    while read.read_exact(&mut head).await.is_ok() {
        let [a, b, c, kind, _, s, t, u, v] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        if read.read_exact(&mut payload).await.is_err() {
            break;
        }
        let stream = u32::from_be_bytes([s, t, u, v]) & 0x7fff_ffff;
        came.lock().unwrap().0.push(Frame { kind, stream, payload });
    }
    came.lock().unwrap().1 = true;
}

/// One frame.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    assert_eq!(length[0], 0);
    let mut bytes = [&length[1..], &[kind, flags], &stream.to_be_bytes()].concat();
    bytes.extend_from_slice(payload);
    bytes
}

/// A number of HPACK behind a prefix of seven bits, the eighth of which is 0.
fn number(value: usize) -> Vec<u8> {
    const PREFIX: usize = 127;
    if value < PREFIX {
        return vec![value as u8];
    }
    let (mut bytes, mut rest) = (vec![PREFIX as u8], value - PREFIX);
    while rest >= 128 {
        bytes.push((rest % 128 + 128) as u8);
        rest /= 128;
    }
    bytes.push(rest as u8);
    bytes
}

/// A header, literal and never indexed, its strings without Huffman's code.
pub(crate) fn literal(name: &str, value: &str) -> Vec<u8> {
    let text = |text: &str| [number(text.len()), text.as_bytes().to_vec()].concat();
    [vec![0], text(name), text(value)].concat()
}

/// The headers of a request, with its key and more.
pub(crate) fn request(method: &str, path: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let key = format!("Bearer {}", super::KEY);
    let own = [(":method", method), (":scheme", "http"), (":path", path), (":authority", "h")];
    let all = own.into_iter().chain([("authorization", &*key)]).chain(more.iter().copied());
    all.flat_map(|(name, value)| literal(name, value)).collect()
}

/// A whole POST of `body` on `stream`.
pub(crate) fn post(stream: u32, path: &str, body: &[u8]) -> Vec<u8> {
    let headers = frame(HEADERS, END_HEADERS, stream, &request("POST", path, &[]));
    [headers, frame(DATA, END_STREAM, stream, body)].concat()
}

/// Headers in as many frames as they need: `whole` says whether the last one ends them.
pub(crate) fn long_headers(stream: u32, headers: &[u8], whole: bool) -> Vec<u8> {
    let pieces = headers.chunks(PAYLOAD_MAX).count();
    let one = |(number, piece): (usize, &[u8])| {
        let kind = if number == 0 { HEADERS } else { CONTINUATION };
        let ends = whole && number + 1 == pieces;
        let flags = if ends { END_HEADERS } else { 0 } | if number == 0 { END_STREAM } else { 0 };
        frame(kind, flags, stream, piece)
    };
    headers.chunks(PAYLOAD_MAX).enumerate().flat_map(one).collect()
}
