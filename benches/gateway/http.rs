//! A client that does no more than it must: HTTP/1.1 by hand, one request at a time on a connection.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Bytes read at once.
const READ_BYTES: usize = 64 << 10;

/// A connection.
pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// A POST of JSON, ready to be sent.
pub(crate) fn post(path: &str, authorization: &str, body: &str) -> Vec<u8> {
    format!(
        "POST {path} HTTP/1.1\r\nHost: gateway\r\nAuthorization: {authorization}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

impl Connection {
    /// # Errors
    /// Nobody listens.
    pub(crate) async fn open(to: SocketAddr) -> Result<Self, String> {
        let stream = TcpStream::connect(to).await.map_err(|error| error.to_string())?;
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        Ok(Self { stream, buffer: vec![0; READ_BYTES] })
    }

    /// Sends a request and reads its answer to the end.
    ///
    /// # Errors
    /// The answer is not 200, or breaks off.
    pub(crate) async fn ask(&mut self, request: &[u8]) -> Result<(), String> {
        self.stream.write_all(request).await.map_err(|error| error.to_string())?;
        let mut head = Vec::new();
        let body = loop {
            let bytes = self.read().await?;
            head.extend_from_slice(&self.buffer[..bytes]);
            if let Some(end) = find(&head, b"\r\n\r\n") {
                break head.split_off(end + 4);
            }
        };
        let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
        if !head.starts_with("http/1.1 200") {
            return Err(format!("{head}{}", String::from_utf8_lossy(&body)));
        }
        let length = head.split("\r\n").find_map(|line| line.strip_prefix("content-length: "));
        match length.map(str::parse::<usize>) {
            Some(Ok(length)) => self.read_length(length.saturating_sub(body.len())).await,
            _ => self.read_chunks(body).await,
        }
    }

    async fn read_length(&mut self, mut left: usize) -> Result<(), String> {
        while left > 0 {
            left = left.saturating_sub(self.read().await?);
        }
        Ok(())
    }

    /// Up to the last chunk, which no chunk of events looks like.
    async fn read_chunks(&mut self, mut tail: Vec<u8>) -> Result<(), String> {
        const END: &[u8] = b"\r\n0\r\n\r\n";
        while !tail.ends_with(END) {
            let bytes = self.read().await?;
            tail.extend_from_slice(&self.buffer[..bytes]);
            let spare = tail.len().saturating_sub(END.len());
            tail.drain(..spare);
        }
        Ok(())
    }

    /// Reads what is there: how many bytes of [`Connection::bytes`].
    ///
    /// # Errors
    /// The connection ended.
    pub(crate) async fn read(&mut self) -> Result<usize, String> {
        match self.stream.read(&mut self.buffer).await {
            Ok(0) => Err("the connection ended".to_owned()),
            Ok(bytes) => Ok(bytes),
            Err(error) => Err(error.to_string()),
        }
    }

    /// What the last read left.
    pub(crate) fn bytes(&self, count: usize) -> &[u8] {
        &self.buffer[..count]
    }

    /// Sends a request.
    ///
    /// # Errors
    /// The connection ended.
    pub(crate) async fn send(&mut self, request: &[u8]) -> Result<(), String> {
        self.stream.write_all(request).await.map_err(|error| error.to_string())
    }
}

/// Where `wanted` begins.
pub(crate) fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    memchr::memmem::find(bytes, wanted)
}
