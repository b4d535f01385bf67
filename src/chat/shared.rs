//! Sessions in Redis: any gateway goes on with them, and they survive all of them.
//!
//! A request has its session for a lease that its gateway renews: one that was killed holds nobody up for long. What became of a
//! session goes through a queue, as a request's end cannot wait; who comes next waits until it is written. It is written only
//! where nobody else wrote meanwhile.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use parking_lot::Mutex;
use redis::aio::ConnectionManager;
use redis::{Client, RedisError, RedisResult};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::MissedTickBehavior;
use uuid::Uuid;

use super::id::{Hashed, SessionId};
use super::scripts::{Found, Key, Scripts};
use super::session::Session;
use super::store::Untaken;
use super::turn::{Line, Turn};
use crate::access::redis::link::Link;
use crate::metrics::RedisMetrics;

/// How long a session is held for a gateway that is not heard of, and the longest that what became of one waits for Redis.
pub(super) const LEASE: Duration = Duration::from_secs(10);

/// From one renewal to the next: two may be lost.
const RENEW_EVERY: Duration = Duration::from_secs(3);

/// The longest that a request waits for one call: below the 200 ms that it may be kept by a Redis that is away.
const CALL_MAX: Duration = Duration::from_millis(150);

/// From one look at a session that another gateway has to the next.
const LOOK_AGAIN: Duration = Duration::from_millis(25);

/// Calls for other requests than the one that waits, at once.
const CALLS: usize = 256;

/// Ends of requests that wait to be written: what a thousand chats a second leave in some seconds.
const QUEUED_MAX: usize = 4_096;

/// The longest that ends take to be written when the gateway stops.
const LAST_ENDS: Duration = Duration::from_secs(1);

/// What holds while Redis is away, for the log.
const INSTEAD: &str = "requests of sessions are refused";

/// All sessions, as this gateway has to do with them.
pub struct Shared {
    link: Link,
    scripts: Scripts,
    /// Lines before the sessions that are asked for here: others are looked at again and again.
    lines: Mutex<HashMap<Hashed, Weak<Line>>>,
    /// Those that requests here have, with the words by which Redis knows that.
    held: Mutex<HashMap<Hashed, String>>,
    ends: mpsc::Sender<End>,
    /// Ends that are not written yet.
    unwritten: watch::Sender<usize>,
    metrics: RedisMetrics,
}

/// What must run for [`Shared`].
pub struct Work {
    shared: Arc<Shared>,
    ends: mpsc::Receiver<End>,
}

/// A session while one request has it. Dropping it lets the next one have it.
pub struct Held {
    shared: Arc<Shared>,
    hashed: Hashed,
    word: String,
    version: u64,
    /// What became of it.
    new: Option<String>,
    /// Who waits until that is written.
    told: Option<oneshot::Sender<bool>>,
    /// Until the end is written.
    turn: Option<(Turn, Arc<Line>)>,
}

/// The end of a request, to be written.
struct End {
    key: Key,
    word: String,
    version: u64,
    new: Option<String>,
    told: Option<oneshot::Sender<bool>>,
    since: Instant,
    _turn: Option<(Turn, Arc<Line>)>,
}

impl Shared {
    /// Sessions at `client`, which may be away. One is kept for `idle` after its last request.
    ///
    /// # Errors
    /// What the address says cannot be done.
    pub fn new(
        client: Client,
        idle: Duration,
        metrics: RedisMetrics,
    ) -> RedisResult<(Arc<Self>, Work)> {
        let (queue, ends) = mpsc::channel(QUEUED_MAX);
        let shared = Arc::new(Self {
            link: Link::new(client, "sessions", metrics.clone())?,
            scripts: Scripts::new(idle),
            lines: Mutex::default(),
            held: Mutex::default(),
            ends: queue,
            unwritten: watch::Sender::new(0),
            metrics,
        });
        Ok((shared.clone(), Work { shared, ends }))
    }

    /// What is told of Redis.
    pub(super) fn metrics(&self) -> &RedisMetrics {
        &self.metrics
    }

    /// Keeps a new session.
    pub(super) async fn open(&self, id: &SessionId, session: &Session) -> Result<(), Untaken> {
        let text = serde_json::to_string(session).map_err(|_| Untaken::Away)?;
        let key = Key::of(&id.hashed());
        self.call(self.scripts.open(self.link.connection(), &key, &text)).await
    }

    /// Takes a session, when it is this request's turn.
    pub(super) async fn take(
        self: &Arc<Self>,
        id: &SessionId,
        until: Instant,
    ) -> Result<(Session, Held), Untaken> {
        let hashed = id.hashed();
        let line = self.line(hashed);
        let turn = tokio::select! {
            biased;
            () = self.link.until(false) => return Err(Untaken::Away),
            turn = line.wait(until) => turn?,
        };
        let key = Key::of(&hashed);
        let word = Uuid::new_v4().simple().to_string();
        let mut held = Held {
            shared: self.clone(),
            hashed,
            word: word.clone(),
            version: 0,
            new: None,
            told: None,
            // From here on: if this is given up, nobody knows whether it was taken. It is free either way.
            turn: Some((turn, line)),
        };
        loop {
            let found = self.call(self.scripts.take(self.link.connection(), &key, &word)).await?;
            match found {
                Found::Nothing => {
                    held.word.clear();
                    return Err(Untaken::Unknown);
                }
                Found::Taken { version, text } => {
                    held.version = version;
                    let session = serde_json::from_str(&text).map_err(|_| Untaken::Unknown)?;
                    self.held.lock().insert(hashed, word);
                    return Ok((session, held));
                }
                Found::Anothers if Instant::now() + LOOK_AGAIN >= until => {
                    held.word.clear();
                    return Err(Untaken::Late);
                }
                Found::Anothers => tokio::time::sleep(LOOK_AGAIN).await,
            }
        }
    }

    /// Forgets a session.
    pub(super) async fn close(&self, id: &SessionId) -> Result<(), Untaken> {
        let key = Key::of(&id.hashed());
        match self.call(self.scripts.close(self.link.connection(), &key)).await? {
            true => Ok(()),
            false => Err(Untaken::Unknown),
        }
    }

    /// Waits until all ends are written that are there, as far as that can be.
    pub(super) async fn flush(&self) {
        if self.link.is_up() {
            let mut unwritten = self.unwritten.subscribe();
            // The sender is ours: it is never gone.
            let none = unwritten.wait_for(|count| *count == 0);
            let _in_time = tokio::time::timeout(LAST_ENDS, none).await;
        }
    }

    /// What comes of one call, where Redis is not away.
    async fn call<T>(&self, call: impl Future<Output = RedisResult<T>>) -> Result<T, Untaken> {
        if !self.link.is_up() {
            return Err(Untaken::Away);
        }
        match tokio::time::timeout(CALL_MAX, call).await {
            Ok(Ok(found)) => Ok(found),
            Ok(Err(error)) => {
                self.blame(&error);
                Err(Untaken::Away)
            }
            Err(_) => {
                self.link.failed(format!("no answer within {CALL_MAX:?}"));
                Err(Untaken::Away)
            }
        }
    }

    /// A call failed: because of what stands there, or because Redis is away.
    fn blame(&self, error: &RedisError) {
        match error.code() {
            Some(_) if !error.is_unrecoverable_error() => self.link.told_off(error),
            _ => self.link.failed(error.to_string()),
        }
    }

    fn line(&self, hashed: Hashed) -> Arc<Line> {
        let mut lines = self.lines.lock();
        if let Some(line) = lines.get(&hashed).and_then(Weak::upgrade) {
            return line;
        }
        // Now and then: not for each new one.
        if lines.len().is_power_of_two() {
            lines.retain(|_, line| line.strong_count() > 0);
        }
        let line = Arc::default();
        lines.insert(hashed, Arc::downgrade(&line));
        line
    }

    /// Whether Redis is well, over a connection of its own.
    async fn look(&self) -> RedisResult<ConnectionManager> {
        let connection = self.link.another()?;
        redis::cmd("PING").query_async::<()>(&mut connection.clone()).await?;
        Ok(connection)
    }

    /// Writes ends, some at once: two of one session never are.
    async fn write(&self, mut ends: mpsc::Receiver<End>) {
        let mut batch = Vec::with_capacity(CALLS);
        // The sender is ours: it is never gone.
        loop {
            let count = ends.recv_many(&mut batch, CALLS).await;
            let written = futures_util::stream::iter(batch.drain(..));
            written.for_each_concurrent(CALLS, |end| self.write_one(end)).await;
            self.unwritten.send_modify(|unwritten| *unwritten -= count);
        }
    }

    async fn write_one(&self, mut end: End) {
        let last = tokio::time::Instant::from_std(end.since + LEASE);
        let written = tokio::time::timeout_at(last, async {
            loop {
                self.link.until(true).await;
                let connection = self.link.connection();
                let of_end = (end.word.as_str(), end.version);
                match self.scripts.end(connection, &end.key, of_end, end.new.as_deref()).await {
                    // Again, when Redis is back: what was written once is not written twice.
                    Err(error) if error.is_unrecoverable_error() => self.blame(&error),
                    written => return written,
                }
            }
        });
        let is_written = match written.await {
            Ok(Ok(is_written)) => is_written,
            Ok(Err(error)) => {
                self.blame(&error);
                false
            }
            Err(_) => false,
        };
        if let Some(told) = end.told.take() {
            let _nobody_waits = told.send(is_written);
        }
        if !is_written {
            self.lost(&end);
        }
    }

    /// What became of a session is not known to Redis, unless nothing did.
    fn lost(&self, end: &End) {
        if end.new.is_some() {
            self.metrics.dropped.inc();
            log::warn!(
                "sessions: an answer could not be written to Redis: its session goes on without it"
            );
        }
    }

    /// Holds what requests have, again and again.
    async fn hold(&self) {
        let mut renewal = tokio::time::interval(RENEW_EVERY);
        renewal.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            renewal.tick().await;
            let held: Vec<(Hashed, String)> =
                self.held.lock().iter().map(|(hashed, word)| (*hashed, word.clone())).collect();
            let renewed = futures_util::stream::iter(held);
            let renewed = renewed.for_each_concurrent(CALLS, |(hashed, word)| async move {
                let (connection, key) = (self.link.connection(), Key::of(&hashed));
                let _away = self.call(self.scripts.renew(connection, &key, &word)).await;
            });
            renewed.await;
            // So nobody closes a connection that seems to be idle, and a Redis that is gone is found out about before somebody asks.
            let mut connection = self.link.connection();
            let _away = self.call(redis::cmd("PING").query_async::<()>(&mut connection)).await;
        }
    }
}

impl Work {
    /// Writes what becomes of sessions, holds those that requests have, and finds out when Redis is away and when it is back. Until
    /// the task is dropped.
    pub async fn run(self) {
        let shared = &self.shared;
        let watch = shared.link.watch(INSTEAD, || shared.look());
        tokio::join!(watch, shared.hold(), shared.write(self.ends));
    }
}

impl Held {
    /// Keeps what became of the session, unless it was ended meanwhile.
    pub(super) fn keep(mut self, session: &Session) {
        self.new = serde_json::to_string(session).ok();
    }

    /// The same, and waits until it is written.
    pub(super) async fn keep_now(mut self, session: &Session) -> Result<(), Untaken> {
        self.new = serde_json::to_string(session).ok();
        let (told, written) = oneshot::channel();
        self.told = Some(told);
        drop(self);
        match tokio::time::timeout(CALL_MAX, written).await {
            Ok(Ok(true)) => Ok(()),
            _ => Err(Untaken::Away),
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.word.is_empty() {
            return;
        }
        let end = End {
            key: Key::of(&self.hashed),
            word: std::mem::take(&mut self.word),
            version: self.version,
            new: self.new.take(),
            told: self.told.take(),
            since: Instant::now(),
            _turn: self.turn.take(),
        };
        let mut held = self.shared.held.lock();
        if held.get(&self.hashed) == Some(&end.word) {
            held.remove(&self.hashed);
        }
        drop(held);
        self.shared.unwritten.send_modify(|count| *count += 1);
        if let Err(unsent) = self.shared.ends.try_send(end) {
            self.shared.unwritten.send_modify(|count| *count -= 1);
            self.shared.lost(&unsent.into_inner());
        }
    }
}
