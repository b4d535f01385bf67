//! `sluice serve`: the gateway, until a signal, or until another process takes its place.

mod entrance;
mod notify;
mod predecessor;
mod signals;
mod successor;

use std::future::pending;
use std::io::{self, IsTerminal};
use std::net::TcpListener;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

pub(super) use self::signals::{Order, Signals};

use self::entrance::Entrance;
use self::notify::Notifier;
use self::predecessor::{Given, Predecessor};
use self::successor::Successor;
use super::{Boot, Failed, bind, logging, runtime, shows_colours};
use crate::config::{Environment, Origin, Problems, Settings, Source};
use crate::gateway::{AccessLog, Format, Writers};
use crate::server::{Server, Start};
use crate::upstream::resolve::SystemResolver;

#[derive(clap::Args)]
pub(super) struct Serve {
    /// Take the place of the gateway that runs here, without a stream being cut: it gives its sockets, and ends when its
    /// streams have. Needs `upgrade_socket`, the same for both.
    #[arg(long)]
    upgrade: bool,
    #[command(flatten)]
    boot: Boot,
}

pub(super) fn run(serve: &Serve) -> Result<(), Failed> {
    let (settings, source) = serve.boot.resolve()?;
    logging::start(&settings);
    let runtime = runtime(settings.threads)?;
    let served = runtime.block_on(serve_until_end(settings, source, serve.upgrade));
    // A name server that does not answer would be waited for without an end.
    runtime.shutdown_timeout(LAST_TASKS);
    served?.into_iter().for_each(Writers::finish);
    Ok(())
}

/// How long requests that are cut may take to let go of what they hold: none of them waits.
const LAST_TASKS: Duration = Duration::from_millis(500);

/// Where connections come from, and a successor.
struct Sockets {
    public: TcpListener,
    admin: TcpListener,
    entrance: Option<Entrance>,
    predecessor: Option<Predecessor>,
}

/// Why this process serves no longer.
enum End {
    /// A signal: true where it is to end at once.
    Signal(bool),
    /// This process serves in its place.
    HandedOver(i32),
}

/// What is to be finished when all requests are gone.
async fn serve_until_end(
    settings: Settings,
    source: Source,
    upgrade: bool,
) -> Result<Option<Writers>, Failed> {
    let notifier = Notifier::of(&source.environment);
    let watched = notify::watchdog(&source.environment, std::process::id());
    let mut signals = Signals::with_upgrade().map_err(runtime_error)?;
    let Sockets { public, admin, mut entrance, predecessor } = sockets(&settings, upgrade).await?;
    let offered = both([&public, &admin].map(TcpListener::try_clone))?;
    let [listens, operators] = both([&public, &admin].map(TcpListener::local_addr))?;
    let (delay, timeout) = (settings.drain_delay, settings.drain_timeout);
    let idle = settings.keepalive_timeout.max(settings.header_timeout);
    let start = Start {
        access_log: access_log(&settings, &source.environment)?,
        public,
        admin,
        source,
        resolver: Arc::new(SystemResolver),
        settings,
    };
    let mut server = Server::start(start)?;
    if let Some(predecessor) = predecessor {
        if let Err(error) = predecessor.relieve().await {
            // What it has accepted already may end.
            stop(server, (Duration::ZERO, timeout), &mut signals).await;
            let why = format!("--upgrade: the other gateway serves on: {error}");
            return Err(Failed::Runtime(why));
        }
        entrance.iter_mut().for_each(Entrance::keep);
    }
    let answers = format!("answers on http://{listens}, operators on http://{operators}");
    log::info!("sluice {} {answers}", env!("CARGO_PKG_VERSION"));
    notifier.ready(&answers);
    let mut chores = JoinSet::new();
    chores.spawn(watch(watched, notifier.clone()));
    let offer = (entrance, offered);
    let end = until_end(&server, &mut signals, offer, (&notifier, &mut chores)).await;
    let writers = server.writers();
    let (delay, timeout) = match end {
        End::Signal(hurry) => {
            notifier.stopping();
            if hurry { (Duration::ZERO, Duration::ZERO) } else { (delay, timeout) }
        }
        End::HandedOver(process) => {
            // What it still tells would be taken for the successor's.
            chores.shutdown().await;
            server.hand_over();
            notifier.handed_over(process);
            log::info!("process {process} has taken over; what is under way here may end");
            let hurry = tokio::select! {
                () = server.last_request(idle) => false,
                hurry = signals.next_stop() => hurry,
            };
            (Duration::ZERO, if hurry { Duration::ZERO } else { timeout })
        }
    };
    log::info!("stopping");
    stop(server, (delay, timeout), &mut signals).await;
    Ok(writers)
}

/// Lets requests end, or cuts them.
async fn stop(server: Server, (delay, timeout): (Duration, Duration), signals: &mut Signals) {
    tokio::select! {
        finished = server.stop(delay, timeout) => if !finished {
            log::warn!("requests were cut: they took longer than drain_timeout");
        },
        // A second signal ends the waiting.
        _ = signals.next_stop() => log::warn!("requests were cut by a second signal"),
    }
}

/// Sockets of this process's own, or those of the gateway whose place it takes.
async fn sockets(settings: &Settings, upgrade: bool) -> Result<Sockets, Failed> {
    let path = settings.upgrade_socket.as_deref();
    if !upgrade {
        let (public, admin) = (bind(settings.listen)?, bind(settings.admin_listen)?);
        let entrance = path.map(Entrance::open).transpose();
        let entrance =
            entrance.map_err(|error| Failed::Runtime(format!("upgrade_socket: {error}")))?;
        return Ok(Sockets { public, admin, entrance, predecessor: None });
    }
    let wrong = |message: String| Failed::Config(Problems::one(Origin::CommandLine, message));
    let path = path.ok_or_else(|| wrong("--upgrade: this needs `upgrade_socket`".into()))?;
    let given = Predecessor::ask(path).await.map_err(|error| {
        let path = path.display();
        Failed::Runtime(format!("--upgrade: no gateway at {path} gives its sockets: {error}"))
    })?;
    let Given { public, admin, entrance, predecessor } = given;
    for (name, wanted, socket) in
        [("listen", settings.listen, &public), ("admin_listen", settings.admin_listen, &admin)]
    {
        let there = socket.local_addr().map_err(runtime_error)?;
        if !predecessor::is_at(wanted, there) {
            return Err(wrong(format!(
                "--upgrade: `{name}` is {wanted}, but the gateway that runs listens on {there}: \
                 another address needs a restart"
            )));
        }
    }
    Ok(Sockets { public, admin, entrance: Some(entrance), predecessor: Some(predecessor) })
}

/// Obeys until this process is to serve no longer. What is offered to a successor is let go of then.
async fn until_end(
    server: &Server,
    signals: &mut Signals,
    (mut entrance, [public, admin]): (Option<Entrance>, [TcpListener; 2]),
    (notifier, chores): (&Notifier, &mut JoinSet<()>),
) -> End {
    let can_upgrade = entrance.is_some();
    let mut handed_over = pin!(async {
        match &mut entrance {
            Some(entrance) => entrance.successor(&public, &admin).await,
            None => pending().await,
        }
    });
    let mut successor = Successor::default();
    loop {
        tokio::select! {
            process = &mut handed_over => return End::HandedOver(process),
            order = signals.next() => match order {
                Order::Reload => {
                    notifier.reloading();
                    let (done, notifier) = (server.reload(), notifier.clone());
                    chores.spawn(async move {
                        let _or_many_wait = done.await;
                        notifier.reloaded();
                    });
                }
                Order::Upgrade if can_upgrade => successor.start(),
                Order::Upgrade => log::error!("SIGQUIT: an upgrade needs `upgrade_socket`"),
                Order::Stop => return End::Signal(false),
                Order::StopNow => return End::Signal(true),
            },
            ended = successor.ended() => {
                let how = ended.map_or_else(|error| error.to_string(), |how| how.to_string());
                log::error!("no upgrade, this process serves on: the successor ended: {how}");
            }
            Some(_) = chores.join_next(), if !chores.is_empty() => {}
        }
    }
}

/// Tells that this process lives, from a task like those of requests: where none of them gets on, nor does it.
async fn watch(every: Option<Duration>, notifier: Notifier) {
    let Some(every) = every else { return };
    let mut turn = tokio::time::interval(every);
    turn.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        turn.tick().await;
        notifier.alive();
    }
}

fn runtime_error(error: io::Error) -> Failed {
    Failed::Runtime(error.to_string())
}

fn both<T>([one, other]: [io::Result<T>; 2]) -> Result<[T; 2], Failed> {
    Ok([one.map_err(runtime_error)?, other.map_err(runtime_error)?])
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
