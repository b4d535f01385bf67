//! One question to the gateway on this machine, without a runtime.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// A gateway that listens to everybody is asked on this machine's own address.
pub(super) fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

/// Longest answer that is read, in bytes: far more than the status of a thousand nodes.
const ANSWER_BYTES_MAX: u64 = 64 << 20;

/// `GET path` of who listens on `address`, with `key` if there is one: status and body. All of it may take `patience`.
///
/// # Errors
/// Nobody answers, or what comes is no HTTP.
pub(super) fn get(
    address: SocketAddr,
    path: &str,
    key: Option<&str>,
    patience: Duration,
) -> io::Result<(u16, Vec<u8>)> {
    let until = Instant::now() + patience;
    let mut stream = TcpStream::connect_timeout(&address, patience)?;
    stream.set_write_timeout(Some(patience))?;
    let key = key.map(|key| format!("Authorization: Bearer {key}\r\n")).unwrap_or_default();
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n{key}Connection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let answer = read_all(&mut stream, until)?;
    let no_http = || io::Error::from(io::ErrorKind::InvalidData);
    let end = memchr::memmem::find(&answer, b"\r\n\r\n").ok_or_else(no_http)?;
    let status = answer.strip_prefix(b"HTTP/1.1 ").and_then(|rest| rest.get(..3));
    let status = status.and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
    let status = status.ok_or_else(no_http)?;
    Ok((status, answer.get(end + 4..).unwrap_or_default().to_vec()))
}

/// To its end, which must come in time.
fn read_all(stream: &mut TcpStream, until: Instant) -> io::Result<Vec<u8>> {
    let (mut answer, mut piece) = (Vec::new(), vec![0; 64 << 10]);
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        let read = match stream.read(&mut piece) {
            Ok(0) => return Ok(answer),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error),
        };
        answer.extend_from_slice(piece.get(..read).unwrap_or_default());
        if answer.len() as u64 > ANSWER_BYTES_MAX {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
    }
}
