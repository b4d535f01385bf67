//! The connection to Redis, and whether it is any good: while it is not, nobody waits for it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{Client, RedisError, RedisResult};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use crate::metrics::RedisMetrics;

/// From one look at Redis to the next while it is away, and the longest that a connection, or an answer, is waited for. Together
/// below the second after which it is to be used again.
const LOOK_EVERY: Duration = Duration::from_millis(200);
const ANSWER_MAX: Duration = Duration::from_millis(500);

/// How often it is told that Redis is away.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// Commands on their way to the connection's task. Whoever comes past it waits for a place.
const COMMANDS_MAX: usize = 1_024;

/// One connection, which all requests share.
pub(crate) struct Link {
    client: Client,
    /// Finds its way back by itself where it breaks. Where a server hangs it does not break: then another takes its place.
    manager: ArcSwap<ConnectionManager>,
    up: watch::Sender<bool>,
    /// What failed last.
    why: Mutex<String>,
    /// When it was last told of a call that failed alone.
    told_off: Mutex<Option<Instant>>,
    /// What it is used for, for the log.
    what: &'static str,
    metrics: RedisMetrics,
}

/// What was told of a Redis that is away.
#[derive(Default)]
struct Told {
    /// The last time.
    last: Option<Instant>,
    /// It is not told yet that it is back.
    away: bool,
}

impl Link {
    /// Connects when it is first used.
    pub(crate) fn new(
        client: Client,
        what: &'static str,
        metrics: RedisMetrics,
    ) -> RedisResult<Self> {
        let manager = ArcSwap::from_pointee(connected(&client)?);
        // Until it is known better: the first request must not be counted elsewhere. The series waits for the first look.
        let up = watch::Sender::new(true);
        let (why, told_off) = (Mutex::default(), Mutex::default());
        Ok(Self { client, manager, up, why, told_off, what, metrics })
    }

    /// The connection.
    pub(crate) fn connection(&self) -> ConnectionManager {
        ConnectionManager::clone(&self.manager.load())
    }

    /// Another connection, which is not in use yet.
    pub(crate) fn another(&self) -> RedisResult<ConnectionManager> {
        connected(&self.client)
    }

    /// False from a failure on until a look finds it well.
    pub(crate) fn is_up(&self) -> bool {
        *self.up.borrow()
    }

    /// Nobody waits for it any more.
    pub(crate) fn failed(&self, why: String) {
        self.metrics.errors.inc();
        *self.why.lock() = why;
        self.set(false);
    }

    /// One call failed, and Redis is well.
    pub(crate) fn told_off(&self, error: &RedisError) {
        self.metrics.errors.inc();
        let mut last = self.told_off.lock();
        if last.is_none_or(|last| last.elapsed() >= TELL_EVERY) {
            *last = Some(Instant::now());
            log::error!("{}: Redis refuses a call: {error}", self.what);
        }
    }

    /// It is well, over this connection.
    fn recovered(&self, manager: ConnectionManager, told: &mut Told) {
        self.manager.store(Arc::new(manager));
        self.set(true);
        if std::mem::take(&mut told.away) {
            log::info!("{}: Redis is back", self.what);
        }
    }

    /// Tells that it is away, unless that was told a moment ago. `instead` says what holds meanwhile.
    fn tell(&self, instead: &str, told: &mut Told) {
        if told.last.is_none_or(|last| last.elapsed() >= TELL_EVERY) {
            let why = self.why.lock().clone();
            log::error!("{}: Redis cannot be used, {instead}: {why}", self.what);
            *told = Told { last: Some(Instant::now()), away: true };
        }
    }

    /// Finds out when it is away and when it is back: looks again and again until a `look`, over a connection of its own, finds it well.
    /// Until then holds what `instead` says.
    pub(crate) async fn watch<F>(&self, instead: &str, look: impl Fn() -> F)
    where
        F: Future<Output = RedisResult<ConnectionManager>>,
    {
        let mut told = Told::default();
        let mut looks = tokio::time::interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            match look().await {
                Ok(connection) => {
                    self.recovered(connection, &mut told);
                    self.until(false).await;
                }
                Err(error) => self.failed(error.to_string()),
            }
            self.tell(instead, &mut told);
        }
    }

    /// Waits until it is well, or is not.
    pub(crate) async fn until(&self, up: bool) {
        let mut changes = self.up.subscribe();
        // The sender is ours: it is never gone.
        let _up = changes.wait_for(|now| *now == up).await;
    }

    fn set(&self, up: bool) {
        self.up.send_if_modified(|now| {
            // Here, where nobody else is: the series says what is.
            self.metrics.up.set(up.into());
            std::mem::replace(now, up) != up
        });
    }
}

fn connected(client: &Client) -> RedisResult<ConnectionManager> {
    // Looks try again, not the connection.
    let config = ConnectionManagerConfig::new()
        .set_number_of_retries(0)
        .set_connection_timeout(Some(ANSWER_MAX))
        .set_response_timeout(Some(ANSWER_MAX))
        .set_pipeline_buffer_size(COMMANDS_MAX);
    ConnectionManager::new_lazy_with_config(client.clone(), config)
}
