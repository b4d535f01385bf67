//! `sluice serve`: the gateway, until a signal.

use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{Boot, Failed, bind, logging, runtime, shows_colours};
use crate::config::{Environment, Settings, Source};
use crate::gateway::{AccessLog, Format, Writers};
use crate::server::{Server, Start};
use crate::upstream::resolve::SystemResolver;

pub(super) fn run(boot: &Boot) -> Result<(), Failed> {
    let (settings, source) = boot.resolve()?;
    logging::start(&settings);
    let runtime = runtime(settings.threads)?;
    let served = runtime.block_on(serve(settings, source));
    // A name server that does not answer would be waited for without an end.
    runtime.shutdown_timeout(LAST_TASKS);
    served?.into_iter().for_each(Writers::finish);
    Ok(())
}

/// How long requests that are cut may take to let go of what they hold: none of them waits.
const LAST_TASKS: Duration = Duration::from_millis(500);

/// What is to be finished when all requests are gone.
async fn serve(settings: Settings, source: Source) -> Result<Option<Writers>, Failed> {
    let public = bind(settings.listen)?;
    let admin = bind(settings.admin_listen)?;
    let mut signals = Signals::new().map_err(|error| Failed::Runtime(error.to_string()))?;
    let address = |socket: &std::net::TcpListener| {
        socket.local_addr().map_err(|error| Failed::Runtime(error.to_string()))
    };
    let (listens, operators) = (address(&public)?, address(&admin)?);
    let (delay, timeout) = (settings.drain_delay, settings.drain_timeout);
    let start = Start {
        access_log: access_log(&settings, &source.environment)?,
        public,
        admin,
        source,
        resolver: Arc::new(SystemResolver),
        settings,
    };
    let mut server = Server::start(start)?;
    log::info!(
        "sluice {} answers on http://{listens}, operators on http://{operators}",
        env!("CARGO_PKG_VERSION"),
    );
    let hurry = loop {
        match signals.next().await {
            Order::Reload => server.reload(),
            Order::Stop => break false,
            Order::StopNow => break true,
        }
    };
    log::info!("stopping");
    let (delay, timeout) = if hurry { (Duration::ZERO, Duration::ZERO) } else { (delay, timeout) };
    let writers = server.writers();
    let stopped = server.stop(delay, timeout);
    tokio::select! {
        finished = stopped => if !finished {
            log::warn!("requests were cut: they took longer than drain_timeout");
        },
        // A second signal ends the waiting.
        () = signals.next_stop() => log::warn!("requests were cut by a second signal"),
    }
    Ok(writers)
}

/// The access log on standard output, where the settings want one.
pub(super) fn access_log(
    settings: &Settings,
    environment: &Environment,
) -> Result<(AccessLog, Option<std::thread::JoinHandle<()>>), Failed> {
    if !settings.access_log {
        return Ok((AccessLog::off(), None));
    }
    let format = match logging::format(settings, io::stdout().is_terminal()) {
        Format::Text if shows_colours(environment) => Format::Colour,
        format => format,
    };
    let started = AccessLog::start(format, io::stdout());
    let (log, writer) = started.map_err(|error| Failed::Runtime(format!("no thread: {error}")))?;
    Ok((log, Some(writer)))
}

/// The signals that the gateway obeys.
pub(super) struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
}

/// What a signal means.
pub(super) enum Order {
    /// SIGHUP.
    Reload,
    /// SIGTERM: let requests end.
    Stop,
    /// SIGINT: at once.
    StopNow,
}

impl Signals {
    /// From now on the signals come here.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    pub(super) async fn next(&mut self) -> Order {
        tokio::select! {
            _ = self.hangup.recv() => Order::Reload,
            _ = self.terminate.recv() => Order::Stop,
            _ = self.interrupt.recv() => Order::StopNow,
        }
    }

    pub(super) async fn next_stop(&mut self) {
        while let Order::Reload = self.next().await {}
    }
}
