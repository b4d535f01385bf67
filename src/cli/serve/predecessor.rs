//! The gateway whose place this process takes: its listening sockets, and the moment when it lets go of them.

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::Duration;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, Interest};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::entrance::{Entrance, LATE, OFFER, READY, SOCKETS};

/// How long it may take to answer: it does nothing for it but that.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// A connection to it.
pub(super) struct Predecessor(UnixStream);

/// What it gives.
pub(super) struct Given {
    pub(super) public: TcpListener,
    pub(super) admin: TcpListener,
    pub(super) entrance: Entrance,
    pub(super) predecessor: Predecessor,
}

impl Predecessor {
    /// Asks the gateway at `path` for its sockets.
    ///
    /// # Errors
    /// Nobody listens there, or whoever does gives none.
    pub(super) async fn ask(path: &Path) -> io::Result<Given> {
        let asked = async {
            let stream = UnixStream::connect(path).await?;
            let sockets = receive(&stream).await?;
            Ok::<_, io::Error>((stream, sockets))
        };
        let (stream, [public, admin, entrance]) = timeout(ANSWER_MAX, asked).await??;
        let entrance = Entrance::inherited(UnixListener::from(entrance), path)?;
        let predecessor = Self(stream);
        Ok(Given { public: public.into(), admin: admin.into(), entrance, predecessor })
    }

    /// Tells it that requests are answered here. When this returns well, it accepts no more.
    ///
    /// # Errors
    /// It does not let go.
    pub(super) async fn relieve(mut self) -> io::Result<()> {
        let told = async {
            self.0.write_u8(READY).await?;
            self.0.read_u8().await
        };
        match timeout(ANSWER_MAX, told).await? {
            Ok(LATE) => Err(io::Error::other("the start took longer than it waits")),
            // Without a word it is gone, and nobody but this process serves.
            Ok(_) | Err(_) => Ok(()),
        }
    }
}

/// True where the socket at `inherited` is what `wanted` asks for.
pub(super) fn is_at(wanted: SocketAddr, inherited: SocketAddr) -> bool {
    wanted == inherited || (wanted.ip() == inherited.ip() && wanted.port() == 0)
}

async fn receive(stream: &UnixStream) -> io::Result<[OwnedFd; SOCKETS]> {
    let receive = || {
        let mut text = [0; OFFER.len()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKETS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let into = &mut [IoSliceMut::new(&mut text)];
        let came = recvmsg(stream, into, &mut control, RecvFlags::CMSG_CLOEXEC)?;
        let mut sockets = Vec::with_capacity(SOCKETS);
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(given) = message {
                sockets.extend(given);
            }
        }
        let known = came.bytes == OFFER.len() && text == OFFER;
        let sockets = <[OwnedFd; SOCKETS]>::try_from(sockets).ok().filter(|_| known);
        sockets.ok_or_else(|| io::Error::other("what answers is no gateway of this kind"))
    };
    stream.async_io(Interest::READABLE, receive).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_port_is_the_one_that_is_there() {
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        assert!(is_at(at("127.0.0.1:80"), at("127.0.0.1:80")));
        assert!(is_at(at("127.0.0.1:0"), at("127.0.0.1:80")));
        assert!(!is_at(at("127.0.0.1:81"), at("127.0.0.1:80")));
        assert!(!is_at(at("0.0.0.0:0"), at("127.0.0.1:80")));
    }
}
