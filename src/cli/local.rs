//! One question to the gateway on this machine, without a runtime.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

/// A gateway that listens to everybody is asked on this machine's own address.
pub(super) fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

/// `GET path` of who listens on `address`, with `key` if there is one: status and body. Each step may take `patience`.
///
/// # Errors
/// Nobody answers, or what comes is no HTTP.
pub(super) fn get(
    address: SocketAddr,
    path: &str,
    key: Option<&str>,
    patience: Duration,
) -> io::Result<(u16, Vec<u8>)> {
    let mut stream = TcpStream::connect_timeout(&address, patience)?;
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    let key = key.map(|key| format!("Authorization: Bearer {key}\r\n")).unwrap_or_default();
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n{key}Connection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let no_http = || io::Error::from(io::ErrorKind::InvalidData);
    let end = memchr::memmem::find(&answer, b"\r\n\r\n").ok_or_else(no_http)?;
    let status = answer.strip_prefix(b"HTTP/1.1 ").and_then(|rest| rest.get(..3));
    let status = status.and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
    let body = answer.split_off(end + 4);
    Ok((status.ok_or_else(no_http)?, body))
}
