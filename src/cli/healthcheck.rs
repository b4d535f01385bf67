//! `sluice healthcheck`: for images without a shell.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use super::{Boot, Failed};

/// Longest wait for each step: less than a container engine's own.
const PATIENCE: Duration = Duration::from_secs(2);

pub(super) fn run(boot: &Boot) -> Result<(), Failed> {
    let (settings, _) = boot.resolve()?;
    let address = reachable(settings.listen);
    match lives(address) {
        Ok(true) => Ok(()),
        Ok(false) => Err(Failed::Runtime(format!("{address} does not answer as a gateway"))),
        Err(error) => Err(Failed::Runtime(format!("{address}: {error}"))),
    }
}

/// A gateway that listens to everybody is asked on this machine's own address.
pub(super) fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

fn lives(address: SocketAddr) -> io::Result<bool> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut status = [0; b"HTTP/1.1 200".len()];
    stream.read_exact(&mut status)?;
    Ok(status == *b"HTTP/1.1 200")
}
