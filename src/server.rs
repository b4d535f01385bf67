//! The assembly: settings and configuration in, running services out. The only file that knows everyone.
//!
//! The services run on the caller's runtime, on sockets that the caller bound: `serve`, `demo` and the tests all start
//! the gateway this way. Pingora's own `Server` is not used: its SIGTERM sleeps for the whole grace period.

mod chats;
mod gateway;
mod listeners;
mod seen;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use futures_util::StreamExt as _;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use crate::access::clock::Clock;
use crate::access::redis::{self, Redis};
use crate::access::store::{Memory, Shared, Store};
use crate::admin::{Admin, Entrance, Seen};
use crate::chat::sessions::Sessions;
use crate::chat::tokens::Unusable;
use crate::config::{RedisUrl, Settings, Source, StoreKind, authorities};
use crate::gateway::{AccessLog, Drain, Snapshot, Streams, Writers};
use crate::ledger::Ledger;
use crate::metrics::Metrics;
use crate::reload::{NotTaken, Reloader};
use crate::upstream::Upstream;
use crate::upstream::client::Client;
use crate::upstream::connection::Pool;
use crate::upstream::node::Registry;
use crate::upstream::probes;
use crate::upstream::refresh::{self, Refresher};
use crate::upstream::resolve::{self, Resolve};
use listeners::Accepting;

/// Connections that wait to be accepted: a burst of a few thousand clients must not be refused by the kernel.
const BACKLOG: u32 = 4_096;

/// Idle connections to nodes, in all.
const NODE_CONNECTIONS_IDLE_MAX: usize = 4_096;

/// What a gateway starts from.
pub struct Start {
    /// Boot settings.
    pub settings: Settings,
    /// Where the configuration is read from.
    pub source: Source,
    /// The public socket, listening.
    pub public: TcpListener,
    /// The operators' socket, listening.
    pub admin: TcpListener,
    /// Names to addresses.
    pub resolver: Arc<dyn Resolve>,
    /// Where access lines go.
    pub access_log: (AccessLog, Option<thread::JoinHandle<()>>),
}

/// Why a gateway does not start.
#[derive(Debug, thiserror::Error)]
pub enum CannotStart {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] NotTaken),
    /// A socket.
    #[error("a socket cannot be used: {0}")]
    Socket(#[from] io::Error),
    /// The metrics.
    #[error("the metrics cannot be registered: {0}")]
    Metrics(#[from] prometheus::Error),
    /// The secret of `authz_secret_file`.
    #[error("authz_secret_file: {0}")]
    Secret(String),
    /// The files of `tls_cert` and `tls_key`.
    #[error("{0}")]
    Certificate(String),
    /// The file of `ledger`.
    #[error("ledger: {}: {error}", path.display())]
    Ledger {
        /// Where it should be.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// The tokenizer of `session_model`.
    #[error("session_model: {0}")]
    Tokenizer(#[from] Unusable),
    /// A store.
    #[error("redis_url: {0}")]
    Redis(#[from] ::redis::RedisError),
    /// No randomness.
    #[error("the system has no randomness")]
    Randomness,
}

/// A running gateway. Dropping it stops it at once; [`Server::stop`] lets requests end.
pub struct Server {
    /// What is served.
    pub live: Arc<ArcSwap<Snapshot>>,
    /// Every series.
    pub metrics: Arc<Metrics>,
    /// What is under way.
    pub drain: Arc<Drain>,
    store: Arc<Store>,
    sessions: Option<Arc<Sessions>>,
    reload: mpsc::Sender<oneshot::Sender<()>>,
    accepting: Accepting,
    tasks: JoinSet<()>,
    writers: Option<Writers>,
}

/// A listening socket on `address`.
///
/// # Errors
/// The address is taken, or not ours.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => tokio::net::TcpSocket::new_v4()?,
        SocketAddr::V6(_) => tokio::net::TcpSocket::new_v6()?,
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)?.into_std()
}

impl Server {
    /// Starts everything. When this returns, requests are answered.
    ///
    /// # Errors
    /// [`CannotStart`].
    pub fn start(start: Start) -> Result<Self, CannotStart> {
        let Start { settings, source, public, admin, resolver, access_log } = start;
        let metrics = Arc::new(Metrics::new()?);
        let keys_needed = !public.local_addr()?.ip().is_loopback();
        let registry = Arc::new(Registry::new(resolver, settings.max_prefix_bytes));
        let reloader = Reloader::start(source, registry.clone(), metrics.clone(), keys_needed)?;
        let live = reloader.live();
        let client = Arc::new(Client::new(ca_file(&settings)));
        let (refresher, refreshes) = Refresher::new();
        let drain = Drain::new(metrics.in_flight.clone());
        let clock = Clock::start();
        access_log.0.count_dropped(&metrics);
        let (ledger, ledger_writer) = ledger(&settings, &metrics)?;
        let (store, redis_work) = store(&settings, clock, &metrics)?;
        let chats = chats::start(&settings, &metrics, &live.load())?;
        let sessions = chats.as_ref().map(|(sessions, _)| sessions.clone());
        let seen = Seen {
            metrics: metrics.clone(),
            store: store.clone(),
            streams: Streams::new(metrics.live_streams.clone()),
            errors: Arc::default(),
            sessions,
        };
        let parts = gateway::Parts {
            live: live.clone(),
            client: client.clone(),
            refresher,
            drain: drain.clone(),
            access_log: access_log.0.clone(),
            ledger: ledger.clone(),
        };
        let gateway = gateway::assemble(&settings, &seen, parts)?;
        let (reload, asked) = mpsc::channel(RELOADS_ASKED);
        let mut tasks = JoinSet::new();
        let pool = Pool::new(NODE_CONNECTIONS_IDLE_MAX);
        metrics.read_by(seen::readings(registry.clone(), live.clone()));
        let pages = Admin {
            live: live.clone(),
            registry,
            drain: drain.clone(),
            began: Instant::now(),
            failed_reload: reloader.failed(),
            seen,
            entrance: Entrance::new(admin.local_addr()?, settings.metrics_key.clone()),
        };
        let served = (gateway, pool.clone(), pages);
        let accepting = Accepting::start(&settings, served, (public, admin), &mut tasks)?;
        tasks.spawn(pool.watch());
        tasks.spawn(reloader.run(asked));
        tasks.spawn(refresh::run(refreshes, client.clone()));
        let probed = live.clone();
        tasks.spawn(probes::run(move || probed.load().upstreams.clone(), client));
        tasks.spawn(follow_names(live.clone()));
        tasks.spawn(forget_idle_keys(live.clone(), clock));
        tasks.spawn(seen::follow(metrics.clone()));
        redis_work.into_iter().for_each(|work| drop(tasks.spawn(work.run())));
        let sessions = chats.map(|(sessions, work)| {
            tasks.spawn(work.run());
            sessions
        });
        let (access_log, log_writer) = access_log;
        let threads = log_writer.into_iter().chain(ledger_writer).collect();
        let writers = Some(Writers { log: access_log, ledger, threads });
        Ok(Self { live, metrics, drain, store, sessions, reload, accepting, tasks, writers })
    }

    /// Reads the configuration anew, soon. What it gives is ready when that is done, well or not.
    pub fn reload(&self) -> oneshot::Receiver<()> {
        let (done, wait) = oneshot::channel();
        let _enough_wait_already = self.reload.try_send(done);
        wait
    }

    /// Another process accepts connections now, on the same sockets: this one ends what it has. A connection that is idle is
    /// answered once more, and told to close: its client may be asking already.
    pub fn hand_over(&self) {
        self.drain.hand_over();
        self.accepting.end_and_let_idle_ones_be();
    }

    /// Returns when nobody is connected, or, at the latest, when nothing is under way after `idle`: what was idle is closed then.
    pub async fn last_request(&self, idle: Duration) {
        tokio::select! {
            () = self.last_client() => {}
            () = tokio::time::sleep(idle) => self.drain.finished().await,
        }
    }

    /// A client that was accepted a moment ago takes its place a moment later.
    async fn last_client(&self) {
        loop {
            self.accepting.places.all_free().await;
            tokio::time::sleep(LAST_FRAMES).await;
            if self.accepting.places.are_free() {
                return;
            }
        }
    }

    /// A request of HTTP/2 has ended when its last frame is handed to its connection, which has yet to write it; and who has an
    /// answer may ask again meanwhile.
    async fn drain_to_the_last_frame(&self) {
        loop {
            self.drain.finished().await;
            tokio::time::sleep(LAST_FRAMES).await;
            if self.drain.is_idle() {
                return;
            }
        }
    }

    /// What writes the access log and the ledger, for whoever can wait until even requests that are cut are noted: until the
    /// runtime is gone. Only the first call gets it.
    pub fn writers(&mut self) -> Option<Writers> {
        self.writers.take()
    }

    /// Not ready from now on, unless another process is; after `delay` no new connection; done when the last request is, or after `timeout`: clients of
    /// requests that are under way then are told so, as far as they can be, within two seconds.
    /// True where every request came to its end.
    pub async fn stop(mut self, delay: Duration, timeout: Duration) -> bool {
        self.drain.begin();
        tokio::time::sleep(delay).await;
        self.accepting.end();
        let ended = self.drain_to_the_last_frame();
        let finished = tokio::time::timeout(timeout + LAST_FRAMES, ended).await.is_ok();
        if !finished {
            self.drain.cut();
            let _told = tokio::time::timeout(LAST_WORDS, self.drain.finished()).await;
        }
        if !finished {
            tokio::time::sleep(LAST_FRAMES).await;
        }
        self.store.flush().await;
        if let Some(sessions) = &self.sessions {
            sessions.store.flush().await;
        }
        self.tasks.shutdown().await;
        if let Some(writers) = self.writers.take() {
            let _written = tokio::task::spawn_blocking(|| writers.finish()).await;
        }
        finished
    }
}

/// How long clients may take to be told that they are not waited for any longer. Who does not read is cut without a word.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Reloads that wait to be done, all by the next one: more are not noted.
const RELOADS_ASKED: usize = 16;

/// How long connections may write what they were handed: a round trip to a client far away, and some.
const LAST_FRAMES: Duration = Duration::from_millis(250);

fn ledger(
    settings: &Settings,
    metrics: &Metrics,
) -> Result<(Ledger, Option<thread::JoinHandle<()>>), CannotStart> {
    let Some(path) = &settings.ledger else { return Ok((Ledger::off(), None)) };
    let started = Ledger::start(path, settings.ledger_file_bytes as u64, metrics.ledger.clone());
    let cannot = |error| CannotStart::Ledger { path: path.clone(), error };
    let (ledger, writer) = started.map_err(cannot)?;
    Ok((ledger, Some(writer)))
}

/// Where limits are counted, and, if that is Redis, what must run for it.
fn store(
    settings: &Settings,
    clock: Clock,
    metrics: &Metrics,
) -> Result<(Arc<Store>, Option<redis::Work>), CannotStart> {
    let memory = Memory::new(clock);
    let url = match (settings.rate_limit_store, &settings.redis_url) {
        (StoreKind::Redis, Some(url)) => url,
        _ => return Ok((Arc::new(Store::Memory(memory)), None)),
    };
    let client = redis_client(settings, url)?;
    let metrics = metrics.of_limit_store()?;
    let instead = (settings.on_store_error, settings.replicas);
    let (redis, work) = Redis::new(client, metrics.redis.clone(), instead.0.word())?;
    let store = Store::Shared(Shared::new(redis.clone(), instead, memory, metrics));
    Ok((Arc::new(store), Some(work)))
}

fn redis_client(settings: &Settings, url: &RedisUrl) -> Result<::redis::Client, CannotStart> {
    let authorities = settings.ca_file.as_deref().map(authorities::read).transpose()?;
    Ok(redis::client(url, authorities)?)
}

/// As Pingora wants it.
fn ca_file(settings: &Settings) -> Option<String> {
    settings.ca_file.as_ref().map(|path| path.to_string_lossy().into_owned())
}

/// How often memory of keys that ask no more is let go of.
const IDLE_KEYS: Duration = Duration::from_secs(15 * 60);

/// Lets go of memory in which nothing of a key's is counted any more.
async fn forget_idle_keys(live: Arc<ArcSwap<Snapshot>>, clock: Clock) {
    loop {
        tokio::time::sleep(IDLE_KEYS).await;
        live.load_full().keys.shrink(clock.at(Instant::now()));
    }
}

/// Looks the names of nodes in use up again and again, and forgets habits of theirs that were not seen for long.
async fn follow_names(live: Arc<ArcSwap<Snapshot>>) {
    let mut turn = tokio::time::interval(resolve::REFRESH);
    turn.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        turn.tick().await;
        let snapshot = live.load_full();
        let look_up = |upstream: Arc<Upstream>| async move {
            if let Err(error) = upstream.look_up().await {
                log::debug!("upstream `{}`: name not found: {error}", upstream.name);
            }
        };
        for member in snapshot.upstreams.iter().flat_map(|one| one.members().to_vec()) {
            member.node.idle.forget_old(Instant::now());
        }
        let upstreams = futures_util::stream::iter(snapshot.upstreams.iter().cloned());
        upstreams.for_each_concurrent(resolve::AT_ONCE, look_up).await;
    }
}
