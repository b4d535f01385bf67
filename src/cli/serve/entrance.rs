//! The entrance for a successor: a Unix socket by which a new process gets the listening sockets of this one.
//!
//! One connection is one hand-over:
//!
//! 1. this process sends [`OFFER`] and, with it, its listening sockets: the public one, the operators', and the entrance itself;
//! 2. the new one starts, wholly, and says [`READY`]: from then on both accept connections;
//! 3. this one says [`YOURS`], accepts no more, and ends when what it has under way has ended.
//!
//! A new process that goes away before the second step has changed nothing. Where this one is gone before the third, the new one
//! serves all the same.

use std::fs::{self, Permissions};
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::net::TcpListener;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener as Listening;
use std::os::unix::net::UnixStream as Connected;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, Interest};
use tokio::net::{UnixListener, UnixStream};

/// What comes with the sockets: who gives them, and the version of what is said here.
pub(super) const OFFER: &[u8] = b"sluice 1";

/// The successor answers requests.
pub(super) const READY: u8 = b'r';

/// It is alone from now on.
pub(super) const YOURS: u8 = b'y';

/// It took too long.
pub(super) const LATE: u8 = b'l';

/// How many sockets are handed over.
pub(super) const SOCKETS: usize = 3;

/// How long a successor may take to start: it may have to read a tokenizer, and to find Redis.
const START_MAX: Duration = Duration::from_secs(60);

/// How long nothing is accepted after that failed: as where no descriptor is left.
const PAUSE: Duration = Duration::from_secs(1);

/// The socket. Dropping it removes its file, unless that is another process's.
pub(super) struct Entrance {
    listener: UnixListener,
    path: PathBuf,
    own: bool,
}

impl Entrance {
    /// Opens it at `path`, for this user alone. A socket that nobody listens on any more is replaced.
    ///
    /// # Errors
    /// Another gateway listens there, or what the system says.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let listener = match Listening::bind(path) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                remove_stale(path)?;
                Listening::bind(path)?
            }
            bound => bound?,
        };
        // Whoever comes before this is done must be the same user as well: that is asked of each.
        fs::set_permissions(path, Permissions::from_mode(0o600))?;
        let mut entrance = Self::inherited(listener, path)?;
        entrance.keep();
        Ok(entrance)
    }

    /// One that a predecessor has opened, and whose file is its until [`Entrance::keep`].
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn inherited(listener: Listening, path: &Path) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        Ok(Self { listener: UnixListener::from_std(listener)?, path: path.to_owned(), own: false })
    }

    /// Its file is this process's.
    pub(super) fn keep(&mut self) {
        self.own = true;
    }

    /// Waits for a successor, and hands over to it: it is ready, and told that it is alone. Gives the number of its process, where
    /// the system knows it.
    pub(super) async fn successor(&mut self, public: &TcpListener, admin: &TcpListener) -> i32 {
        loop {
            let stream = match self.listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    log::warn!("no successor can come: {error}");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            };
            let sockets = [public.as_fd(), admin.as_fd(), self.listener.as_fd()];
            match hand_over(stream, sockets).await {
                Ok(process) => {
                    self.own = false;
                    return process;
                }
                Err(why) => log::error!("no hand-over, this process serves on: {why}"),
            }
        }
    }
}

impl Drop for Entrance {
    fn drop(&mut self) {
        if self.own {
            let _gone_already = fs::remove_file(&self.path);
        }
    }
}

/// Makes room at `path`, where a process that is gone has left its socket.
fn remove_stale(path: &Path) -> io::Result<()> {
    if !fs::symlink_metadata(path)?.file_type().is_socket() {
        return Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "a file that is no socket is there",
        ));
    }
    match Connected::connect(path) {
        Ok(_) => Err(io::Error::new(
            io::ErrorKind::AddrInUse,
            "another gateway listens there: `sluice serve --upgrade` takes its place",
        )),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) => Err(error),
    }
}

async fn hand_over(mut stream: UnixStream, sockets: [BorrowedFd<'_>; SOCKETS]) -> io::Result<i32> {
    let peer = stream.peer_cred()?;
    let own = rustix::process::geteuid();
    if peer.uid() != own.as_raw() && peer.uid() != 0 {
        return Err(io::Error::other(format!("user {} may not ask for it", peer.uid())));
    }
    send(&stream, sockets).await?;
    match tokio::time::timeout(START_MAX, stream.read_u8()).await {
        Ok(Ok(READY)) => {}
        Ok(_) => return Err(io::Error::other("the successor ended before it was ready")),
        Err(_) => {
            stream.write_u8(LATE).await?;
            return Err(io::Error::other("the successor was not ready in time"));
        }
    }
    stream.write_u8(YOURS).await?;
    // The number 0 is nobody's: it is of a successor whose processes are not counted together with ours.
    Ok(peer.pid().unwrap_or_default())
}

async fn send(stream: &UnixStream, sockets: [BorrowedFd<'_>; SOCKETS]) -> io::Result<()> {
    let send = || {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKETS))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        control.push(SendAncillaryMessage::ScmRights(&sockets));
        Ok(sendmsg(stream, &[IoSlice::new(OFFER)], &mut control, SendFlags::NOSIGNAL)?)
    };
    stream.async_io(Interest::WRITABLE, send).await.map(drop)
}
