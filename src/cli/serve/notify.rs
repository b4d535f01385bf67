//! What a supervisor is told: systemd's protocol, a datagram for each message (sd_notify(3)).

use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::config::Environment;

/// Tells a supervisor, where there is one.
#[derive(Clone)]
pub(super) struct Notifier(Option<Arc<Socket>>);

struct Socket {
    socket: UnixDatagram,
    address: SocketAddr,
}

impl Notifier {
    /// The supervisor that the environment names.
    pub(super) fn of(environment: &Environment) -> Self {
        let Some(named) = environment.get("NOTIFY_SOCKET") else { return Self(None) };
        match Socket::to(named) {
            Ok(socket) => Self(Some(Arc::new(socket))),
            Err(error) => {
                log::warn!("NOTIFY_SOCKET: {named} cannot be used: {error}");
                Self(None)
            }
        }
    }

    /// Requests are answered.
    pub(super) fn ready(&self, status: &str) {
        self.tell(&format!("READY=1\nSTATUS={status}"));
    }

    /// The configuration is read anew; [`Notifier::reloaded`] follows.
    pub(super) fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        let micros = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1_000;
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={micros}"));
    }

    /// That is over.
    pub(super) fn reloaded(&self) {
        self.tell("READY=1");
    }

    /// Requests that are under way end; no others are taken.
    pub(super) fn stopping(&self) {
        self.tell("STOPPING=1\nSTATUS=stopping: requests under way may end");
    }

    /// Another process is the one to watch.
    pub(super) fn handed_over(&self, successor: i32) {
        if successor > 0 {
            self.tell(&format!("MAINPID={successor}"));
        }
    }

    /// Still alive.
    pub(super) fn alive(&self) {
        self.tell("WATCHDOG=1");
    }

    fn tell(&self, message: &str) {
        let Some(socket) = &self.0 else { return };
        if let Err(error) = socket.socket.send_to_addr(message.as_bytes(), &socket.address) {
            log::warn!("the supervisor cannot be told: {error}");
        }
    }
}

impl Socket {
    /// `named`: a path, or `@` and a name without a file.
    fn to(named: &str) -> io::Result<Self> {
        let address = match named.strip_prefix('@') {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None => SocketAddr::from_pathname(named)?,
        };
        let socket = UnixDatagram::unbound()?;
        // A supervisor that reads nothing must not keep the gateway from its work.
        socket.set_nonblocking(true)?;
        Ok(Self { socket, address })
    }
}

/// How often this process is to tell that it lives: twice in the time that the supervisor waits (sd_watchdog_enabled(3)). None
/// where it does not, or watches another process.
pub(super) fn watchdog(environment: &Environment, process: u32) -> Option<Duration> {
    let number = |name| environment.get(name).map(str::parse::<u64>);
    match number("WATCHDOG_PID") {
        None => {}
        Some(Ok(watched)) if watched == u64::from(process) => {}
        Some(_) => return None,
    }
    let micros = number("WATCHDOG_USEC")?.ok().filter(|micros| *micros > 1)?;
    Some(Duration::from_micros(micros / 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_not_watched_tells_nothing() {
        let half = Some(Duration::from_secs(1));
        for (variables, every) in [
            (vec![], None),
            (vec![("WATCHDOG_USEC", "2000000")], half),
            (vec![("WATCHDOG_USEC", "2000000"), ("WATCHDOG_PID", "7")], half),
            (vec![("WATCHDOG_USEC", "2000000"), ("WATCHDOG_PID", "8")], None),
            (vec![("WATCHDOG_USEC", "2000000"), ("WATCHDOG_PID", "x")], None),
            (vec![("WATCHDOG_USEC", "soon")], None),
            (vec![("WATCHDOG_USEC", "0")], None),
        ] {
            let environment = Environment::from_iter(variables.clone());
            assert_eq!(watchdog(&environment, 7), every, "{variables:?}");
        }
    }
}
