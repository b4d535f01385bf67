//! The signals that the gateway obeys.

use std::future::pending;
use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// They come here from the moment on when this is made.
pub(in crate::cli) struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
    /// Where nobody asks for it, it ends the process, as it does any other.
    quit: Option<Signal>,
}

/// What a signal means.
pub(in crate::cli) enum Order {
    /// SIGHUP.
    Reload,
    /// SIGQUIT: start a successor.
    Upgrade,
    /// SIGTERM: let requests end.
    Stop,
    /// SIGINT: at once.
    StopNow,
}

impl Signals {
    /// All but SIGQUIT.
    ///
    /// # Errors
    /// What the system says.
    pub(in crate::cli) fn new() -> io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: None,
        })
    }

    /// SIGQUIT, too.
    ///
    /// # Errors
    /// What the system says.
    pub(in crate::cli) fn with_upgrade() -> io::Result<Self> {
        Ok(Self { quit: Some(signal(SignalKind::quit())?), ..Self::new()? })
    }

    pub(in crate::cli) async fn next(&mut self) -> Order {
        let quit = async {
            match &mut self.quit {
                Some(quit) => quit.recv().await,
                None => pending().await,
            }
        };
        tokio::select! {
            _ = self.hangup.recv() => Order::Reload,
            _ = self.terminate.recv() => Order::Stop,
            _ = self.interrupt.recv() => Order::StopNow,
            _ = quit => Order::Upgrade,
        }
    }

    /// The next that ends the process: true where it is to end at once.
    pub(in crate::cli) async fn next_stop(&mut self) -> bool {
        loop {
            match self.next().await {
                Order::Stop => return false,
                Order::StopNow => return true,
                Order::Reload | Order::Upgrade => {}
            }
        }
    }
}
