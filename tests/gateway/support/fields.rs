//! HTTP/2 by hand: frames and fields that no client library would send.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::within;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// A field of a head: no byte of either is looked at.
pub(crate) type Field = (Vec<u8>, Vec<u8>);

/// Sends one request on a connection of its own: a head, a body where there is one, and trailers where there are any. Gives
/// the body of the answer; none where the stream or the connection was broken off instead.
pub(crate) async fn ask(
    to: SocketAddr,
    head: &[Field],
    body: Option<&[u8]>,
    trailers: &[Field],
) -> Option<String> {
    let mut stream = TcpStream::connect(to).await.unwrap();
    let mut sent = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
    let last = |is_last: bool| if is_last { END_STREAM } else { 0 };
    let (alone, no_trailers) = (body.is_none() && trailers.is_empty(), trailers.is_empty());
    frame(&mut sent, (HEADERS, END_HEADERS | last(alone)), &packed(head));
    if let Some(body) = body {
        frame(&mut sent, (DATA, last(no_trailers)), body);
    }
    if !no_trailers {
        frame(&mut sent, (HEADERS, END_HEADERS | END_STREAM), &packed(trailers));
    }
    let _broken_off_early = stream.write_all(&sent).await;
    within(answer(&mut stream)).await
}

/// On the first stream of a client's.
fn frame(sent: &mut Vec<u8>, (kind, flags): (u8, u8), payload: &[u8]) {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    sent.extend_from_slice(&length[1..]);
    sent.extend_from_slice(&[kind, flags, 0, 0, 0, 1]);
    sent.extend_from_slice(payload);
}

/// Literals without indexing and without Huffman's code (RFC 7541, 6.2.2).
fn packed(fields: &[Field]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            length(&mut block, text.len());
            block.extend_from_slice(text);
        }
    }
    block
}

/// A number with a prefix of seven bits (RFC 7541, 5.1).
fn length(block: &mut Vec<u8>, length: usize) {
    let Some(mut rest) = length.checked_sub(127) else {
        return block.push(u8::try_from(length).unwrap());
    };
    block.push(127);
    while rest >= 128 {
        block.push(u8::try_from(rest % 128).unwrap() | 128);
        rest /= 128;
    }
    block.push(u8::try_from(rest).unwrap());
}

async fn answer(stream: &mut TcpStream) -> Option<String> {
    let mut body = Vec::new();
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await.ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        stream.read_exact(&mut payload).await.ok()?;
        let (kind, flags, ours) = (head[3], head[4], head[8] == 1);
        match kind {
            RESET | GOAWAY => return None,
            DATA => body.extend_from_slice(&payload),
            _ => {}
        }
        if ours && [DATA, HEADERS].contains(&kind) && flags & END_STREAM != 0 {
            return Some(String::from_utf8_lossy(&body).into_owned());
        }
    }
}
